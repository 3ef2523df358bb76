//! Requests, answers and errors.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::translated;
use crate::{
    Call, Dialect, FrameKind, Tap, Usage,
    canonical::{Content, Finish, Losses, Opaque, Vendor},
};

const SKIP: &str = "skip_thought_signature_validator";

fn answered(from: Dialect, into: Dialect, body: &Value) -> Value {
    let call = Call { model: "m".to_owned(), now_s: 7, ..Call::default() };
    let usage = from.provider().usage_of_answer(body.to_string().as_bytes()).unwrap_or_default();
    let body = from.translate_answer(body.to_string().as_bytes(), into, usage, &call).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_full_openai_request_becomes_a_gemini_request() {
    let schema = json!({"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}});
    let (body, losses) = translated(
        Dialect::OpenAi,
        Dialect::Gemini,
        &json!({
            "model": "m", "stream": true,
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "image_url", "image_url": {"url": "https://x/y.webp?z"}},
                    {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "wav"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1.0, \"a\":2}"}},
                    {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "one"},
                {"role": "tool", "tool_call_id": "call_2", "content": "{\"b\": 1, \"a\": 2}"}],
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
            "max_completion_tokens": 100, "stop": ["END"], "temperature": 0.5, "top_p": 0.9, "seed": 4,
            "presence_penalty": 0.5, "reasoning_effort": "low",
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}},
            "x_sim": {"tokens": 3}, "logit_bias": {"1": 1}, "user": "u"
        }),
        "gemini-3-flash",
    );
    assert_eq!(
        body,
        json!({
            "systemInstruction": {"parts": [{"text": "Be kind."}]},
            "contents": [
                {"role": "user", "parts": [
                    {"text": "Look:"},
                    {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                    {"fileData": {"mimeType": "image/webp", "fileUri": "https://x/y.webp?z"}},
                    {"inlineData": {"mimeType": "audio/wav", "data": "CCCC"}},
                    {"inlineData": {"mimeType": "application/pdf", "data": "BBBB"}}]},
                {"role": "model", "parts": [
                    {"functionCall": {"id": "call_1", "name": "f", "args": {"z": 1.0, "a": 2}}, "thoughtSignature": SKIP},
                    {"functionCall": {"id": "call_2", "name": "g", "args": {}}}]},
                {"role": "user", "parts": [
                    {"functionResponse": {"id": "call_1", "name": "f", "response": {"output": "one"}}},
                    {"functionResponse": {"id": "call_2", "name": "g", "response": {"a": 2, "b": 1}}}]}],
            "tools": [{"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": schema}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            "generationConfig": {"maxOutputTokens": 100, "stopSequences": ["END"], "temperature": 0.5, "topP": 0.9,
                "seed": 4, "presencePenalty": 0.5, "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": true},
                "responseMimeType": "application/json", "responseJsonSchema": schema},
            "x_sim": {"tokens": 3}
        })
    );
    assert_eq!(
        losses,
        "altered;thought_signature, dropped;logit_bias, dropped;parallel_tool_calls, dropped;user"
    );
    assert!(body.to_string().contains(r#""args":{"a""#) || body.to_string().contains(r#""args":{"z""#));
}

fn full_request() -> Value {
    json!({
        "system_instruction": {"parts": [{"text": "Be kind."}]},
        "contents": [
            {"parts": [{"text": "Look:"}, {"inline_data": {"mime_type": "image/png", "data": "AAAA"}},
                {"fileData": {"mimeType": "image/png", "fileUri": "https://x/y.png"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "BBBB"}}]},
            {"role": "model", "parts": [{"text": "Cal"}]},
            {"role": "model", "parts": [{"text": "ling."}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"z": 1.0}}},
                {"functionCall": {"name": "g", "args": {}}}, {"functionCall": {"name": "f"}}]},
            {"role": "function", "parts": [
                {"functionResponse": {"name": "g", "response": {"error": "no"}}},
                {"functionResponse": {"name": "f", "response": {"output": "one"}}},
                {"functionResponse": {"name": "f", "response": {"b": 2, "a": 1}}}]},
            {"role": "user", "parts": [{"text": "And?"}]}],
        "tools": [{"functionDeclarations": [
            {"name": "f", "description": "d", "parameters": {"type": "OBJECT", "properties": {"z": {"type": "NUMBER", "nullable": true}}}},
            {"name": "g", "parametersJsonSchema": {"type": "object"}}]}, {"googleSearch": {}}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {"maxOutputTokens": 9, "temperature": 0.5, "topP": 0.8, "topK": 40.0, "candidateCount": 1,
            "stopSequences": ["END"], "responseMimeType": "application/json",
            "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}, "responseModalities": ["TEXT"]},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}], "x_sim": {"tokens": 3}
    })
}

#[test]
fn a_full_gemini_request_becomes_a_chat_completion_request() {
    let (body, losses) = translated(Dialect::Gemini, Dialect::OpenAi, &full_request(), "gpt-4o");
    let id = |at: usize| body["messages"][2]["tool_calls"][at]["id"].clone();
    assert!(id(0) != id(2) && id(0).as_str().unwrap().starts_with("call_"));
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                {"type": "file", "file": {"filename": "document", "file_data": "data:application/pdf;base64,BBBB"}}]},
            {"role": "assistant", "content": "Calling.", "tool_calls": [
                {"id": id(0), "type": "function", "function": {"name": "f", "arguments": "{\"z\":1.0}"}},
                {"id": id(1), "type": "function", "function": {"name": "g", "arguments": "{}"}},
                {"id": id(2), "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": id(1), "content": "no"},
            {"role": "tool", "tool_call_id": id(0), "content": "one"},
            {"role": "tool", "tool_call_id": id(2), "content": "{\"a\":1,\"b\":2}"},
            {"role": "user", "content": "And?"}])
    );
    assert_eq!(
        body["tools"][0]["function"]["parameters"]["properties"]["z"]["type"],
        json!(["number", "null"])
    );
    assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "f"}}));
    assert!(
        body["response_format"]["json_schema"]["schema"]["properties"]["a"]
            .to_string()
            .contains("\"string\"")
    );
    assert_eq!(
        (&body["max_tokens"], &body["stop"], &body["x_sim"]),
        (&json!(9), &json!(["END"]), &json!({"tokens": 3}))
    );
    for lost in ["dropped;safetySettings", "dropped;tools.googleSearch", "dropped;top_k"] {
        assert!(losses.contains(lost), "{lost} not in {losses}");
    }
    // The same in the next turn's request.
    let (again, _) = translated(Dialect::Gemini, Dialect::OpenAi, &full_request(), "gpt-4o");
    assert_eq!(again, body);
}

#[test]
fn a_full_gemini_request_becomes_a_messages_request() {
    let (body, _) = translated(Dialect::Gemini, Dialect::Anthropic, &full_request(), "claude");
    let messages = &body["messages"];
    assert_eq!(body["system"], json!([{"type": "text", "text": "Be kind."}]));
    let calls: Vec<_> =
        messages[1]["content"].as_array().unwrap().iter().filter(|b| b["type"] == "tool_use").collect();
    let results = messages[2]["content"].as_array().unwrap();
    assert_eq!((calls.len(), results.len()), (3, 4));
    assert_eq!((&results[0]["tool_use_id"], &results[0]["is_error"]), (&calls[1]["id"], &json!(true)));
    assert_eq!((&results[1]["tool_use_id"], &results[2]["tool_use_id"]), (&calls[0]["id"], &calls[2]["id"]));
    assert_eq!((&body["top_k"], &body["tool_choice"]["name"]), (&json!(40), &json!("f")));
}

#[test]
fn what_is_chosen_among_tools_is_said_both_ways() {
    let ask = |config: Value| {
        json!({"contents": [{"parts": [{"text": "x"}]}], "toolConfig": {"functionCallingConfig": config},
            "tools": [{"functionDeclarations": [{"name": "f"}, {"name": "g"}, {"name": "h"}]}]})
    };
    for (config, choice, back, tools, lost) in [
        (json!({"mode": "AUTO"}), json!("auto"), json!("AUTO"), 3, ""),
        (json!({"mode": "NONE"}), json!("none"), json!("NONE"), 3, ""),
        (json!({"mode": "ANY"}), json!("required"), json!("ANY"), 3, ""),
        (
            json!({"mode": "any", "allowedFunctionNames": ["f", "g"]}),
            json!("required"),
            json!("ANY"),
            2,
            "emulated;toolConfig.functionCallingConfig.allowedFunctionNames",
        ),
        (json!({"mode": "VALIDATED"}), json!("auto"), json!("VALIDATED"), 3, ""),
    ] {
        let (body, losses) = translated(Dialect::Gemini, Dialect::OpenAi, &ask(config.clone()), "gpt-4o");
        assert_eq!((&body["tool_choice"], losses.as_str()), (&choice, lost), "{config}");
        assert_eq!(body["tools"].as_array().unwrap().len(), tools);
        let (same, _) = translated(Dialect::Gemini, Dialect::Gemini, &ask(config.clone()), "gemini-3");
        assert_eq!(same["toolConfig"]["functionCallingConfig"]["mode"], back, "{config}");
    }
}

#[test]
fn schemas_are_said_as_each_generation_takes_them() {
    let schema = json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]);
    let ask = |format: &Value, tools: Option<&Value>| {
        let mut body =
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": format});
        if let Some(tools) = tools {
            body["tools"] = tools.clone();
        }
        body
    };
    let to = |body: &Value, model: &str| translated(Dialect::OpenAi, Dialect::Gemini, body, model);
    let (body, losses) = to(&ask(&format, None), "gemini-2.5-flash");
    assert_eq!((&body["generationConfig"]["responseJsonSchema"], losses.as_str()), (&schema, ""));
    let (body, _) = to(&ask(&format, Some(&tools)), "gemini-2.0-flash");
    let parameters = &body["tools"][0]["functionDeclarations"][0]["parameters"];
    assert_eq!(
        (&parameters["type"], &parameters["properties"]["a"]["nullable"]),
        (&json!("OBJECT"), &json!(true))
    );
    let (body, _) = to(&ask(&format, None), "gemini-2.0-flash");
    assert_eq!(body["generationConfig"]["responseSchema"]["type"], "OBJECT");
    // Calls and JSON together, only the third generation does.
    let (body, losses) = to(&ask(&format, Some(&tools)), "gemini-2.5-flash");
    assert_eq!((body.get("generationConfig"), losses.as_str()), (None, "emulated;response_format"));
    assert!(body["systemInstruction"]["parts"][0]["text"].as_str().unwrap().contains("\"properties\""));
    let (body, losses) = to(&ask(&json!({"type": "json_object"}), Some(&tools)), "gemini-3-flash");
    assert_eq!(
        (&body["generationConfig"]["responseMimeType"], losses.as_str()),
        (&json!("application/json"), "")
    );
}

#[test]
fn signatures_are_asked_for_where_gemini_asks_for_them() {
    let call = |id: &str| json!({"role": "assistant", "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "x"});
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "a"}, call("1"), result("1"), {"role": "assistant", "content": "done"},
        {"role": "user", "content": "b"}, call("2"), result("2"), call("3"), result("3")]});
    let signed = |model: &str| -> (Vec<bool>, String) {
        let (body, losses) = translated(Dialect::OpenAi, Dialect::Gemini, &body, model);
        let parts = body["contents"].as_array().unwrap().iter().map(|c| &c["parts"][0]);
        let calls = parts.filter(|part| part.get("functionCall").is_some());
        (calls.map(|part| part["thoughtSignature"] == SKIP).collect(), losses)
    };
    assert_eq!(
        signed("gemini-3-pro-preview"),
        (vec![false, true, true], "altered;thought_signature".to_owned())
    );
    assert_eq!(signed("gemini-2.5-pro"), (vec![false; 3], String::new()));
}

#[test]
fn anothers_thoughts_travel_with_gemini_s_clients_and_come_back_byte_for_byte() {
    let signature = "EqQBCkYIBxgCKkB+/é==";
    let content = json!([{"type": "thinking", "thinking": "hm\n\u{1f914}", "signature": signature},
        {"type": "redacted_thinking", "data": "opaque+/"}, {"type": "thinking", "thinking": "", "signature": "second"},
        {"type": "text", "text": "ok"}, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1, "a": [1.50]}}]);
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "content": content, "usage": {"input_tokens": 3, "output_tokens": 4}});
    let gemini = answered(Dialect::Anthropic, Dialect::Gemini, &answer);
    let said = &gemini["candidates"][0]["content"];
    assert_eq!(gemini["candidates"][0]["finishReason"], "STOP");
    assert_eq!(
        (&said["parts"][0]["thought"], &said["parts"][0]["text"]),
        (&json!(true), &json!("hm\n\u{1f914}"))
    );
    let next = |said: &Value| {
        json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}, said,
        {"role": "user", "parts": [{"functionResponse": {"id": "toolu_1", "name": "f", "response": {"output": "y"}}}]}],
        "tools": [{"functionDeclarations": [{"name": "f"}]}], "generationConfig": {"thinkingConfig": {"includeThoughts": true}}})
    };
    let (back, _) = translated(Dialect::Gemini, Dialect::Anthropic, &next(said), "claude");
    assert_eq!(back["messages"][1]["content"], content);
    assert!(back["thinking"].is_object());
    // SDKs hold the bytes, and write them in the alphabet for URLs.
    let mut url_safe = said.clone();
    for part in url_safe["parts"].as_array_mut().unwrap() {
        if let Some(signature) = part["thoughtSignature"].as_str() {
            part["thoughtSignature"] = signature.replace('+', "-").replace('/', "_").into();
        }
    }
    let (back, _) = translated(Dialect::Gemini, Dialect::Anthropic, &next(&url_safe), "claude");
    assert_eq!(back["messages"][1]["content"], content);
}

#[test]
fn gemini_s_own_state_stays_what_it_is() {
    let answer = json!({"responseId": "r-1", "modelVersion": "gemini-3", "candidates": [{"index": 0, "finishReason": "STOP",
        "content": {"role": "model", "parts": [{"text": "hm", "thought": true}, {"text": "Hello", "thoughtSignature": "c2ln+/8="},
            {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "AAAA"}]}}]});
    let decoded = Dialect::Gemini.provider().decode_answer(answer.to_string().as_bytes()).unwrap();
    let states: Vec<_> = decoded.parts().iter().map(|part| part.opaque.clone()).collect();
    let own = |data: &str| Some(Opaque::new(Vendor::Google, data));
    assert_eq!(states, [None, own("c2ln+/8="), own("AAAA")]);
    assert_eq!(decoded.finish(), &Finish::ToolUse);
    let chat = answered(Dialect::Gemini, Dialect::OpenAi, &answer);
    let message = &chat["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Hello"), &json!("hm")));
    assert_eq!(message["tool_calls"][0]["id"], "call_r-1_1");
}

#[test]
fn several_answers_their_ends_and_their_likelihoods_come_over() {
    let answer = json!({"responseId": "r", "modelVersion": "g", "candidates": [
        {"index": 1, "finishReason": "MAX_TOKENS", "content": {"parts": [{"text": "b"}]}},
        {"index": 0, "finishReason": "STOP", "content": {"parts": [{"text": "a"}]}, "logprobsResult": {
            "chosenCandidates": [{"token": "a", "logProbability": -0.5}],
            "topCandidates": [{"candidates": [{"token": "a", "logProbability": -0.5}, {"token": "b", "logProbability": -1.5}]}]}}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "thoughtsTokenCount": 4, "totalTokenCount": 9}});
    let chat = answered(Dialect::Gemini, Dialect::OpenAi, &answer);
    let finishes: Vec<_> =
        chat["choices"].as_array().unwrap().iter().map(|c| c["finish_reason"].clone()).collect();
    assert_eq!(finishes, ["stop", "length"]);
    assert_eq!(chat["usage"]["completion_tokens"], 6);
    let same = answered(Dialect::Gemini, Dialect::Gemini, &answer);
    assert_eq!(same["candidates"][0]["logprobsResult"], answer["candidates"][1]["logprobsResult"]);
    assert_eq!(same["candidates"][1]["finishReason"], "MAX_TOKENS");
    assert_eq!(same["usageMetadata"]["thoughtsTokenCount"], 4);
}

#[test]
fn a_blocked_prompt_is_a_refusal() {
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}});
    let chat = answered(Dialect::Gemini, Dialect::OpenAi, &blocked);
    let choice = &chat["choices"][0];
    assert!(choice["message"]["refusal"].is_string() && choice["finish_reason"] == "stop", "{choice}");
    let message = answered(Dialect::Gemini, Dialect::Anthropic, &blocked);
    assert_eq!(
        (&message["stop_reason"], message["content"].as_array().unwrap().len()),
        (&json!("refusal"), 1)
    );
    for nothing in ["", "[]", "{}", "null", r#"{"candidates":[]}"#, r#"{"error":{"code":500}}"#] {
        assert!(Dialect::Gemini.provider().decode_answer(nothing.as_bytes()).is_none(), "{nothing}");
    }
    let mut tap = Tap::new(Dialect::Gemini, 3);
    assert_eq!(tap.observe(format!("data: {blocked}\n\n").as_bytes()), FrameKind::Done);
}

#[test]
fn what_an_answer_loses_is_named() {
    let drawn = json!({"responseId": "r", "candidates": [{"finishReason": "STOP",
        "content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}, {"executableCode": {"code": "1"}}]},
        "groundingMetadata": {"webSearchQueries": ["q"]}}]});
    let losses = |into: Dialect| {
        let call = Call::default();
        let answer = Dialect::Gemini.decode_answer(drawn.to_string().as_bytes(), &call).unwrap();
        let mut losses = Losses::default();
        let body = into.client().encode_answer(&answer, Usage::default(), &call, &mut losses);
        (serde_json::from_slice::<Value>(&body).unwrap(), losses.header())
    };
    let named = "dropped;answer.citations, dropped;answer.executableCode";
    let (chat, told) = losses(Dialect::OpenAi);
    assert_eq!(
        (&chat["choices"][0]["message"]["images"], told.as_str()),
        (&json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]), named)
    );
    let back = Dialect::OpenAi.decode_answer(chat.to_string().as_bytes(), &Call::default()).unwrap();
    assert!(back.parts().iter().any(|part| matches!(part.content, Content::Image(_))), "{back:?}");
    assert_eq!(losses(Dialect::Anthropic).1, format!("{named}, dropped;answer.image"));
    for into in [Dialect::Gemini, Dialect::Responses] {
        assert_eq!(losses(into).1, named, "{into:?}");
    }
}

#[test]
fn citations_are_named_whosever_they_are() {
    let messages = json!({"id": "m", "model": "c", "stop_reason": "end_turn", "content":
        [{"type": "text", "text": "a", "citations": [{"type": "char_location"}]}, {"type": "text", "text": "b", "citations": null}]});
    let response = json!({"id": "r", "status": "completed", "output": [{"type": "message", "role": "assistant",
        "content": [{"type": "output_text", "text": "a", "annotations": [{"type": "url_citation"}]}]}]});
    let chat = json!({"id": "c", "choices": [{"message": {"content": "a", "annotations": [{"type": "url_citation"}]}}]});
    for (from, body) in
        [(Dialect::Anthropic, messages), (Dialect::Responses, response), (Dialect::OpenAi, chat)]
    {
        let answer = from.decode_answer(body.to_string().as_bytes(), &Call::default()).unwrap();
        let mut losses = Losses::default();
        Dialect::Gemini.client().encode_answer(&answer, Usage::default(), &Call::default(), &mut losses);
        assert_eq!(losses.header(), "dropped;answer.citations", "{from:?}");
    }
}

#[test]
fn refusals_say_the_same_in_the_other_s_words() {
    let refused =
        br#"{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[]}}"#;
    let (status, body) = Dialect::Gemini.translate_error(429, refused, Dialect::OpenAi, None);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["error"]["message"]), (429, &json!("Quota exceeded")));
    let overloaded = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let (status, body) = Dialect::Anthropic.translate_error(529, overloaded, Dialect::Gemini, None);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, body),
        (503, json!({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}))
    );
}

proptest! {
    /// What is said in Google's dialect comes back the same from its canonical form.
    #[test]
    fn a_request_survives_its_canonical_form(
        texts in prop::collection::vec(("[a-z\"\\\\ \u{e9}]{1,9}", prop::option::of("[A-Za-z0-9+/]{4}"), any::<bool>()), 1..6),
        max in prop::option::of(1u64..9), temperature in prop::option::of(0u8..20), top_k in prop::option::of(1u64..50),
    ) {
        let mut contents = Vec::new();
        for (text, signature, called) in texts {
            contents.push(json!({"role": "user", "parts": [{"text": text}]}));
            let signature = signature.unwrap_or_else(|| "AAAA".to_owned());
            let said = json!({"text": text, "thought": true, "thoughtSignature": signature});
            if called {
                contents.push(json!({"role": "model", "parts": [said, {"functionCall": {"id": "1", "name": "f", "args": {"t": text}}, "thoughtSignature": signature}]}));
                contents.push(json!({"role": "user", "parts": [{"functionResponse": {"id": "1", "name": "f", "response": {"output": text}}}]}));
                contents.push(json!({"role": "model", "parts": [{"text": text, "thoughtSignature": signature}]}));
            } else {
                contents.push(json!({"role": "model", "parts": [said, {"text": text}]}));
            }
        }
        let mut config = json!({"maxOutputTokens": max, "temperature": temperature.map(|t| f64::from(t) / 10.0), "topK": top_k});
        config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let mut body = json!({"contents": contents, "generationConfig": config,
            "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}]});
        if body["generationConfig"] == json!({}) {
            body.as_object_mut().unwrap().remove("generationConfig");
        }
        let (back, losses) = translated(Dialect::Gemini, Dialect::Gemini, &body, "gemini-3-flash");
        prop_assert_eq!(back, body);
        prop_assert_eq!(losses, "");
    }
}
