//! What only Google's dialect lets clients and models say, with everybody else.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::translated;
use crate::{
    Call, Dialect, Names, Translator, Usage,
    canonical::{Finish, Losses},
    schema::Check,
};

const OTHERS: [(Dialect, &str); 6] = [
    (Dialect::OpenAi, "gpt-4o"),
    (Dialect::Responses, "gpt-4o"),
    (Dialect::Anthropic, "claude-sonnet-4-5"),
    (Dialect::Mistral, "mistral-large-latest"),
    (Dialect::Ollama, "llava"),
    (Dialect::Bedrock, "anthropic.claude-sonnet-4-5-20250929-v1:0"),
];

#[test]
fn bytes_in_either_alphabet_reach_others_in_the_standard_one() {
    // As google-genai for Python writes `fb ff fe`.
    let body = json!({"contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": "-__-Zg"}}, {"text": "?"}]}]});
    for (dialect, model) in OTHERS {
        let (out, _) = translated(Dialect::Gemini, dialect, &body, model);
        let out = out.to_string();
        assert!(out.contains("+//+Zg==") && !out.contains("-__-"), "{dialect:?}: {out}");
    }
}

fn calling(name: &str) -> Value {
    json!({
        "contents": [
            {"role": "user", "parts": [{"text": "x"}]},
            {"role": "model", "parts": [{"functionCall": {"id": "c1", "name": name, "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": "c1", "name": name, "response": {"output": "1"}}}]}],
        "tools": [{"functionDeclarations": [{"name": name}, {"name": "db_query"}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}}})
}

#[test]
fn functions_have_names_that_each_provider_takes_and_come_back_with_their_own() {
    let body = calling("db.query");
    let request =
        Dialect::Gemini.decode_request(body.to_string().as_bytes(), &mut Losses::default()).unwrap();
    for (dialect, model) in OTHERS.into_iter().filter(|(dialect, _)| *dialect != Dialect::Ollama) {
        let (out, _) = translated(Dialect::Gemini, dialect, &body, model);
        let out = out.to_string();
        assert!(!out.contains("db.query") && out.matches("\"db_query_").count() >= 3, "{dialect:?}: {out}");
        assert!(!Names::of(&request, dialect).eq(&Names::default()));
    }
    let names = Names::of(&request, Dialect::OpenAi);
    let (out, _) = translated(Dialect::Gemini, Dialect::OpenAi, &body, "gpt-4o");
    let told = out["tools"][0]["function"]["name"].as_str().unwrap();
    let call = Call { model: "m".to_owned(), names, ..Call::default() };
    let calls =
        json!([{"index": 0, "id": "1", "type": "function", "function": {"name": told, "arguments": "{}"}}]);
    let answer = json!({"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": null, "tool_calls": calls}}]});
    let body = Dialect::OpenAi
        .translate_answer(answer.to_string().as_bytes(), Dialect::Gemini, Usage::default(), &call)
        .unwrap();
    assert!(String::from_utf8_lossy(&body).contains(r#""name":"db.query""#), "{body:?}");
    let chunk = json!({"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": calls}}]});
    let (mut translator, mut out) =
        (Translator::new(Dialect::OpenAi, Dialect::Gemini, &call), BytesMut::new());
    translator.event(format!("data: {chunk}\n\n").as_bytes(), &mut out).unwrap();
    let end = translator.end(Usage::default());
    let text = String::from_utf8([&out[..], &end[..]].concat()).unwrap();
    assert!(text.contains(r#""name":"db.query""#), "{text}");
}

#[test]
fn names_that_everybody_takes_stay() {
    let body = calling("db_query2");
    for (dialect, model) in OTHERS {
        let (out, _) = translated(Dialect::Gemini, dialect, &body, model);
        assert!(out.to_string().contains("\"db_query2\""), "{dialect:?}");
    }
}

#[test]
fn one_of_several_words_is_asked_for_and_comes_bare() {
    let body = json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"responseMimeType": "text/x.enum",
        "responseSchema": {"type": "STRING", "enum": ["Red", "Green"]}}});
    for (dialect, model) in OTHERS {
        let (out, losses) = translated(Dialect::Gemini, dialect, &body, model);
        let out = out.to_string();
        assert!(out.contains("Green") && out.contains("value"), "{dialect:?}: {out}");
        assert!(losses.contains("emulated;response_format"), "{losses}");
    }
    let request =
        Dialect::Gemini.decode_request(body.to_string().as_bytes(), &mut Losses::default()).unwrap();
    let check = Check::of(&request).unwrap();
    for said in [r#"{"value":"Red"}"#, r#""Red""#, "```json\n{\"value\": \"Red\"}\n```", " Red\n"] {
        assert_eq!(check.answer(said).unwrap().as_deref(), Some("Red"), "{said}");
    }
    assert_eq!(check.answer("Red"), Ok(None));
    for wrong in ["Blue", r#"{"value":"Blue"}"#, "{}", "The answer is Red."] {
        assert!(check.answer(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_google_keeps_is_not_left_out_silently() {
    let body = json!({"contents": [{"parts": [{"text": "x"}]}], "cachedContent": "cachedContents/abc"});
    let refused =
        Dialect::Gemini.decode_request(body.to_string().as_bytes(), &mut Losses::default()).unwrap_err();
    assert_eq!(refused.param(), Some("cachedContent"));
}

#[test]
fn results_hold_bytes_beside_their_text_and_nothing_else() {
    let result = json!([{"type": "text", "text": "a"},
        {"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "DOC"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]);
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": result}]}]});
    let (out, _) = translated(Dialect::Anthropic, Dialect::Gemini, &body, "gemini-3-pro-preview");
    let parts = &out["contents"][2]["parts"];
    let response = &parts[0]["functionResponse"];
    assert!(response["response"]["output"].as_str().unwrap().contains("DOC"), "{out}");
    assert_eq!(response["parts"], json!([{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]));
    assert_eq!(parts[1]["fileData"]["fileUri"], "https://x/y.png");
}

#[test]
fn gemma_is_instructed_by_the_user_and_signs_nothing() {
    let body = json!({"model": "m", "reasoning_effort": "low", "response_format": {"type": "json_object"}, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}]});
    let (out, losses) = translated(Dialect::OpenAi, Dialect::Gemini, &body, "gemma-3-27b-it");
    assert!(out.get("systemInstruction").is_none() && out.get("generationConfig").is_none(), "{out}");
    assert_eq!(out["contents"][0]["parts"][0]["text"], "Be brief.");
    assert_eq!(out["contents"][0]["parts"].as_array().unwrap().last().unwrap()["text"], "x");
    assert_eq!(losses, "altered;messages.role.system, dropped;reasoning_effort, emulated;response_format");
    let (out, _) = translated(
        Dialect::Anthropic,
        Dialect::Gemini,
        &json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "1"}]}]}),
        "gemma-3-27b-it",
    );
    assert!(!out.to_string().contains("thoughtSignature"), "{out}");
}

fn ended(parts: &Value, reason: &str) -> Value {
    json!({"candidates": [{"content": {"parts": parts}, "finishReason": reason}]})
}

#[test]
fn answers_that_google_held_back_or_cut_do_not_look_whole() {
    let call = Call::default();
    let some = json!([{"text": "a"}]);
    for (parts, reason, meant) in [
        (&json!([]), "ESCALATION", Finish::Refusal),
        (&json!([]), "PUP_LIMITED_DISABLED", Finish::Refusal),
        (&some, "CONTINUATION", Finish::MaxTokens),
        (&some, "SOMETHING_NEW", Finish::MaxTokens),
    ] {
        let body = ended(parts, reason).to_string();
        assert_eq!(
            *Dialect::Gemini.decode_answer(body.as_bytes(), &call).unwrap().finish(),
            meant,
            "{reason}"
        );
        let (mut translator, mut out) =
            (Translator::new(Dialect::Gemini, Dialect::OpenAi, &call), BytesMut::new());
        translator.event(format!("data: {body}\n\n").as_bytes(), &mut out).unwrap();
        let end = translator.end(Usage::default());
        let text = String::from_utf8([&out[..], &end[..]].concat()).unwrap();
        assert!(!text.contains(r#""finish_reason":"stop""#), "{reason}: {text}");
    }
    for reason in ["SOMETHING_NEW", "MALFORMED_FUNCTION_CALL"] {
        for parts in [json!([]), json!([{"text": "hm", "thought": true}])] {
            let body = ended(&parts, reason).to_string();
            assert!(Dialect::Gemini.decode_answer(body.as_bytes(), &call).is_none());
            assert!(Dialect::Gemini.failed(body.as_bytes()).unwrap().message.contains(reason));
            let mut translator = Translator::new(Dialect::Gemini, Dialect::OpenAi, &call);
            let event = Bytes::from(format!("data: {body}\n\n"));
            let error = translator.event(&event, &mut BytesMut::new()).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}

/// Types of the blocks that a client of Messages has in the end.
fn blocks(parts: &Value) -> Vec<String> {
    let chunk =
        json!({"responseId": "r", "candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]});
    let (mut translator, mut out) =
        (Translator::new(Dialect::Gemini, Dialect::Anthropic, &Call::default()), BytesMut::new());
    translator.event(format!("data: {chunk}\n\n").as_bytes(), &mut out).unwrap();
    out.extend_from_slice(&translator.end(Usage::default()));
    let text = String::from_utf8(out.to_vec()).unwrap();
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = events.map(|data| serde_json::from_str::<Value>(data).unwrap());
    let starts = events.filter(|event| event["type"] == "content_block_start");
    starts.map(|event| event["content_block"]["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_streamed_message_ends_in_what_it_says_and_not_in_state() {
    let text = json!({"text": "a", "thoughtSignature": "CiQB"});
    let call =
        json!({"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "CiQC"});
    assert_eq!(blocks(&json!([text])), ["text"]);
    assert_eq!(blocks(&json!([call])), ["redacted_thinking", "tool_use"]);
    assert_eq!(
        blocks(&json!([text, call, {"functionCall": {"id": "2", "name": "g"}}])),
        ["text", "redacted_thinking", "redacted_thinking", "tool_use", "tool_use"]
    );
    assert_eq!(
        blocks(&json!([{"text": "hm", "thought": true}, call])),
        ["thinking", "redacted_thinking", "tool_use"]
    );
}
