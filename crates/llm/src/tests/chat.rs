//! Chat completions as clients write them and want them told.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use crate::{
    Call, Dialect, FrameKind, Tap, Target, Translator, Usage,
    canonical::{Collector, Content, Losses, Message, Part, Request, Role, ToolResult, ToolUse},
};

fn sent(from: Dialect, into: Dialect, model: &str, body: &Value) -> (Value, String) {
    let mut losses = Losses::default();
    let request = from.decode_request(body.to_string().as_bytes(), &mut losses).unwrap();
    let body = into.encode_request(&request, &Target::known(model), &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.header())
}

fn refused(body: &Value) -> String {
    let error = Dialect::OpenAi.decode_request(body.to_string().as_bytes(), &mut Losses::default());
    error.unwrap_err().param().unwrap().to_owned()
}

fn asking(request: &Value) -> Call {
    Call { request: Bytes::from(request.to_string()), ..Call::default() }
}

/// A client's chunks of these events of a provider.
fn streamed(from: Dialect, into: Dialect, events: &[Value], call: &Call) -> (Vec<Value>, String) {
    let (mut translator, mut out) = (Translator::new(from, into, call), BytesMut::new());
    for event in events {
        let name = event["type"].as_str().unwrap_or("x");
        translator.event(format!("event: {name}\ndata: {event}\n\n").as_bytes(), &mut out).unwrap();
    }
    let text = String::from_utf8(out.to_vec()).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    (data.map(|data| serde_json::from_str(data).unwrap()).collect(), translator.losses().header())
}

fn chunk(delta: &Value, finish: &Value) -> Value {
    json!({"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

#[test]
fn lists_that_clients_write_cost_what_they_are_long() {
    let details = vec![json!({}); 200_000];
    let calls: Vec<Value> = (0..20_000)
        .map(|n| json!({"id": n.to_string(), "type": "function", "function": {"name": "f"}}))
        .collect();
    let states: Vec<Value> = (0..20_000)
        .map(|n| json!({"id": n.to_string(), "format": "google-gemini-v1", "data": "YQ=="}))
        .collect();
    let names: Vec<Value> =
        (0..20_000).map(|n| json!({"type": "function", "function": {"name": n.to_string()}})).collect();
    let answers: Vec<Value> =
        (0..20_000).map(|n| json!({"role": "tool", "tool_call_id": n.to_string(), "content": "x"})).collect();
    let mut messages = vec![
        json!({"role": "assistant", "content": "x", "reasoning_details": details}),
        json!({"role": "assistant", "content": "x", "tool_calls": calls, "reasoning_details": states}),
    ];
    messages.extend(answers);
    let body = json!({"messages": messages, "tools": names, "tool_choice": {"type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": names}}});
    let (back, losses) = sent(Dialect::OpenAi, Dialect::OpenAi, "google/gemini-3-pro", &body);
    assert_eq!(back["messages"].as_array().unwrap().len(), 20_002);
    assert_eq!(back["messages"][1]["tool_calls"][9]["extra_content"]["google"]["thought_signature"], "YQ==");
    assert_eq!(losses, "");
}

#[test]
fn results_stand_right_behind_their_calls() {
    let image = json!({"type": "input_image", "image_url": "https://x/y.png"});
    let body = json!({"model": "m", "input": [
        {"role": "user", "content": "go"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{}"},
        {"role": "developer", "content": "soon"},
        {"type": "function_call_output", "call_id": "a", "output": [image]},
        {"type": "function_call_output", "call_id": "b", "output": "done"}]});
    let (back, losses) = sent(Dialect::Responses, Dialect::OpenAi, "m", &body);
    let roles: Vec<_> =
        back["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "system", "user"]);
    assert_eq!(back["messages"][5]["content"][0]["image_url"]["url"], "https://x/y.png");
    assert_eq!(losses, "emulated;messages.content.tool_result");
}

fn said() -> impl Strategy<Value = Message> {
    let call = |id: u8| {
        Content::ToolUse(ToolUse { id: id.to_string(), name: "f".to_owned(), arguments: String::new() })
            .into()
    };
    let result = |id: u8| {
        let parts = vec![Part::text("r")];
        Content::ToolResult(ToolResult { id: id.to_string(), parts, is_error: false }).into()
    };
    let parts = |part: fn(u8) -> Part| vec((0..4_u8).prop_map(part), 1..3);
    prop_oneof![
        Just(Message { role: Role::System, parts: vec![Part::text("s")] }),
        Just(Message { role: Role::User, parts: vec![Part::text("u")] }),
        Just(Message { role: Role::Assistant, parts: vec![Part::text("a")] }),
        parts(call).prop_map(|parts| Message { role: Role::Assistant, parts }),
        parts(result).prop_map(|parts| Message { role: Role::User, parts }),
    ]
}

proptest! {
    /// Whatever comes: nothing is lost, all else keeps its order, and each result of a call stands with no more than
    /// results between.
    #[test]
    fn whatever_comes_results_follow_their_calls(messages in vec(said(), 0..12)) {
        let request = Request { messages: messages.clone(), ..Request::default() };
        let body = Dialect::OpenAi.encode_request(&request, &Target::known("m"), &mut Losses::default());
        let body: Value = serde_json::from_slice(&body).unwrap();
        let wire = body["messages"].as_array().unwrap();
        let count = |role: Role| messages.iter().filter(|m| m.role == role).count();
        let (mut assistants, mut results) = (0, 0);
        let (mut open, mut ever): (Vec<String>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
        for message in wire {
            match message["role"].as_str().unwrap() {
                "assistant" => {
                    assistants += 1;
                    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
                    open = calls.iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect();
                    for id in &open {
                        *ever.entry(id.clone()).or_default() += 1;
                    }
                }
                "tool" => {
                    results += 1;
                    let id = message["tool_call_id"].as_str().unwrap().to_owned();
                    prop_assert!(open.contains(&id) || !ever.contains_key(&id), "{} is late", id);
                }
                _ => open.clear(),
            }
        }
        prop_assert_eq!(assistants, count(Role::Assistant));
        let answered = messages.iter().flat_map(|m| &m.parts);
        prop_assert_eq!(results, answered.filter(|p| matches!(p.content, Content::ToolResult(_))).count());
    }
}

#[test]
fn what_other_dialects_and_older_clients_write_is_read() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let body = json!({"max_tokens": 9, "messages": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                {"type": "image_url", "image_url": "https://x/y.png"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "ok", "annotations": []}]},
            {"role": "user", "content": "go"}],
        "tools": [{"name": "a", "description": "d", "input_schema": schema},
            {"type": "function", "name": "b", "parameters": schema},
            {"type": "custom", "name": "c", "input_schema": schema}],
        "tool_choice": {"type": "any"}});
    let (back, losses) = sent(Dialect::OpenAi, Dialect::Anthropic, "claude", &body);
    assert_eq!(losses, "");
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}});
    let other = json!({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}});
    assert_eq!(back["messages"][0]["content"], json!([{"type": "text", "text": "hi"}, image, other]));
    assert_eq!(back["messages"][1]["content"], json!([{"type": "text", "text": "ok"}]));
    assert_eq!(
        back["tools"],
        json!([{"name": "a", "description": "d", "input_schema": schema},
        {"name": "b", "input_schema": schema}, {"name": "c", "input_schema": schema}])
    );
    assert_eq!(back["tool_choice"]["type"], "any");

    let older = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "go"},
            {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{\"a\":\"b\"}"}},
            {"role": "function", "name": "f", "content": "done"}],
        "functions": [{"name": "f", "parameters": schema}], "function_call": {"name": "f"}});
    let (back, losses) = sent(Dialect::OpenAi, Dialect::Anthropic, "claude", &older);
    assert_eq!(losses, "");
    assert_eq!(back["tools"], json!([{"name": "f", "input_schema": schema}]));
    assert_eq!(back["tool_choice"], json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true}));
    let id = &back["messages"][1]["content"][0]["id"];
    assert!(id.is_string() && back["messages"][2]["content"][0]["tool_use_id"] == *id, "{back}");
}

#[test]
fn what_can_t_be_left_out_is_refused() {
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    assert_eq!(
        refused(&user(json!([{"type": "text", "text": "a"}, {"type": "video_url"}]))),
        "messages[0].content[1].type"
    );
    let call = json!({"id": "a", "type": "mystery", "mystery": {}});
    assert_eq!(
        refused(&json!({"messages": [{"role": "assistant", "tool_calls": [call]}]})),
        "messages[0].tool_calls[0].type"
    );
    assert_eq!(
        refused(&json!({"messages": [{"role": "function", "name": "f", "content": "x"}]})),
        "messages[0].name"
    );
    assert_eq!(refused(&json!({"messages": [], "tools": [{"name": "f"}]})), "tools[0].type");
}

#[test]
fn tools_that_may_not_be_called_are_not_told_of() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let body = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "tools": [tool("a"), tool("b"), tool("c")],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("a"), tool("c")]}}});
    let (back, losses) = sent(Dialect::OpenAi, Dialect::Anthropic, "claude", &body);
    let names: Vec<_> = back["tools"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
    assert_eq!((names, &back["tool_choice"]["type"]), (vec![json!("a"), json!("c")], &json!("any")));
    assert_eq!(losses, "emulated;tool_choice.allowed_tools");
}

#[test]
fn what_both_of_openai_s_dialects_have_is_kept_for_openai_alone() {
    let grammar = json!({"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: \"a\""}});
    let body = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": "a \"b\""}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "ok"}],
        "tools": [{"type": "custom", "custom": {"name": "patch", "description": "d", "format": grammar}}],
        "tool_choice": {"type": "custom", "custom": {"name": "patch"}},
        "service_tier": "flex", "verbosity": "low", "prompt_cache_key": "k", "metadata": {"a": "b"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "description": "d", "strict": true,
            "schema": {"type": "object", "properties": {}, "additionalProperties": false, "required": []}}}});
    let (mut back, losses) = sent(Dialect::OpenAi, Dialect::OpenAi, "gpt-5", &body);
    assert_eq!(losses, "");
    let mut expected = body.clone();
    let bound = expected.as_object_mut().unwrap().remove("max_tokens").unwrap();
    expected["max_completion_tokens"] = bound;
    expected["model"] = json!("gpt-5");
    assert_eq!(back["messages"][1].as_object_mut().unwrap().remove("content"), Some(Value::Null));
    assert_eq!(back, expected);

    let (back, losses) = sent(Dialect::OpenAi, Dialect::OpenAi, "some-model", &body);
    assert_eq!(losses, "dropped;verbosity, emulated;tools.custom");
    assert_eq!(back["messages"][1]["tool_calls"][0]["function"]["arguments"], r#"{"input":"a \"b\""}"#);
    assert_eq!(
        (&back["tools"][0]["type"], &back["tool_choice"]["type"]),
        (&json!("function"), &json!("function"))
    );

    let (back, losses) = sent(Dialect::OpenAi, Dialect::Anthropic, "claude", &body);
    assert_eq!(
        losses,
        "dropped;metadata, dropped;response_format.json_schema.description, dropped;service_tier, \
         dropped;verbosity, emulated;tools.custom"
    );
    assert_eq!(back["messages"][1]["content"][0]["input"], json!({"input": "a \"b\""}));
    assert_eq!(back["messages"][2]["content"][0]["tool_use_id"], "call_1");
}

#[test]
fn calls_are_told_as_the_client_declared_what_it_has_called() {
    let custom = json!({"tools": [{"type": "custom", "custom": {"name": "patch"}}]});
    let older = json!({"functions": [{"name": "patch"}]});
    let input = json!({"input": "a \"b\"\n"});
    let message = json!({"id": "1", "model": "m", "stop_reason": "tool_use", "content": [
        {"type": "tool_use", "id": "t", "name": "patch", "input": input}]});
    let told = |request: &Value| {
        let body = message.to_string();
        let chat = Dialect::Anthropic.translate_answer(
            body.as_bytes(),
            Dialect::OpenAi,
            Usage::default(),
            &asking(request),
        );
        serde_json::from_slice::<Value>(&chat.unwrap()).unwrap()["choices"][0].clone()
    };
    let choice = told(&custom);
    let call = json!({"id": "t", "type": "custom", "custom": {"name": "patch", "input": "a \"b\"\n"}});
    assert_eq!(
        (&choice["message"]["tool_calls"], &choice["finish_reason"]),
        (&json!([call]), &json!("tool_calls"))
    );
    let choice = told(&older);
    let call = json!({"name": "patch", "arguments": input.to_string()});
    assert_eq!(
        (&choice["message"]["function_call"], &choice["finish_reason"]),
        (&call, &json!("function_call"))
    );
    assert!(choice["message"].get("tool_calls").is_none());

    let piece = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": text}});
    let text = input.to_string();
    let (first, last) = text.split_at(12);
    let events = [
        json!({"type": "message_start", "message": {"id": "1", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "patch", "input": {}}}),
        piece(first),
        piece(last),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}}),
    ];
    let deltas = |request: &Value| {
        let (chunks, _) = streamed(Dialect::Anthropic, Dialect::OpenAi, &events, &asking(request));
        let finish = chunks.last().unwrap()["choices"][0]["finish_reason"].clone();
        let deltas: Vec<Value> = chunks.iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect();
        (deltas, finish)
    };
    let (said, finish) = deltas(&custom);
    assert_eq!(
        said[1]["tool_calls"],
        json!([{"index": 0, "id": "t", "type": "custom", "custom": {"name": "patch", "input": ""}}])
    );
    assert_eq!(said[2]["tool_calls"], json!([{"index": 0, "custom": {"input": "a \"b\"\n"}}]));
    assert_eq!((said.len(), finish), (4, json!("tool_calls")));
    let (said, finish) = deltas(&older);
    let arguments: String = said.iter().filter_map(|d| d["function_call"]["arguments"].as_str()).collect();
    assert_eq!((&said[1]["function_call"]["name"], arguments), (&json!("patch"), text.clone()));
    assert_eq!(finish, "function_call");
}

#[test]
fn calls_of_custom_tools_are_read_whole_and_in_pieces() {
    let custom = |index: u64, of: Value| json!({"tool_calls": [{"index": index, "id": format!("c{index}"), "type": "custom", "custom": of}]});
    let more = |index: u64, text: &str| json!({"tool_calls": [{"index": index, "custom": {"input": text}}]});
    let deltas = [
        custom(0, json!({"name": "patch", "input": ""})),
        more(0, "a \""),
        more(0, "b\"\n"),
        custom(1, json!({"name": "patch", "input": "c"})),
        json!({"tool_calls": [{"index": 2, "id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
    ];
    let mut decoder = Dialect::OpenAi.provider().decoder();
    let mut steps = Vec::new();
    for delta in &deltas {
        decoder.decode(format!("data: {}\n\n", chunk(delta, &Value::Null)).as_bytes(), &mut steps);
    }
    decoder.decode(format!("data: {}\n\n", chunk(&json!({}), &json!("tool_calls"))).as_bytes(), &mut steps);
    let mut collector = Collector::new(4096);
    steps.iter().for_each(|step| collector.take(step));
    let whole = json!({"id": "1", "choices": [{"finish_reason": "tool_calls", "message": {"content": null, "tool_calls": [
        {"id": "c0", "type": "custom", "custom": {"name": "patch", "input": "a \"b\"\n"}},
        {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "c"}},
        {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}]});
    let answer = Dialect::OpenAi.decode_answer(whole.to_string().as_bytes(), &Call::default()).unwrap();
    for parts in [collector.choices().remove(0), answer.parts().to_vec()] {
        let calls: Vec<_> = parts
            .iter()
            .map(|part| match &part.content {
                Content::ToolUse(call) => (call.id.as_str(), call.name.as_str(), call.arguments.as_str()),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            ("c0", "patch", r#"{"input":"a \"b\"\n"}"#),
            ("c1", "patch", r#"{"input":"c"}"#),
            ("c2", "f", "{}"),
        ];
        assert_eq!(calls, expected);
    }
}

#[test]
fn images_that_a_model_draws_are_streamed() {
    let drawn = json!({"responseId": "r", "candidates": [{"content": {"parts": [{"text": "here"},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}, "finishReason": "STOP"}]});
    let (chunks, losses) = streamed(Dialect::Gemini, Dialect::OpenAi, &[drawn], &Call::default());
    let images: Vec<_> = chunks.iter().filter_map(|c| c["choices"][0]["delta"].get("images")).collect();
    let image =
        json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "index": 0}]);
    assert_eq!((images, losses.as_str()), (vec![&image], ""));

    let chunks = [
        chunk(&json!({"content": "here", "images": image}), &Value::Null),
        chunk(&json!({}), &json!("stop")),
    ];
    let (back, losses) = streamed(Dialect::OpenAi, Dialect::Gemini, &chunks, &Call::default());
    let blobs: Vec<_> =
        back.iter().filter_map(|c| c["candidates"][0]["content"]["parts"][0].get("inlineData")).collect();
    assert_eq!((blobs, losses.as_str()), (vec![&json!({"mimeType": "image/png", "data": "AAAA"})], ""));
    let (_, losses) = streamed(Dialect::OpenAi, Dialect::Anthropic, &chunks, &Call::default());
    assert_eq!(losses, "dropped;answer.image");
    let mut tap = Tap::new(Dialect::OpenAi, 1);
    let only = chunk(&json!({"content": "", "images": image}), &Value::Null);
    assert_eq!(tap.observe(format!("data: {only}\n\n").as_bytes()), FrameKind::Delta);
}

#[test]
fn what_a_model_would_not_say_is_no_filter_s_doing() {
    let refused = json!({"id": "1", "status": "completed", "output": [{"type": "message", "id": "m", "role": "assistant",
        "content": [{"type": "refusal", "refusal": "no"}]}]});
    let body = refused.to_string();
    let chat = Dialect::Responses.translate_answer(
        body.as_bytes(),
        Dialect::OpenAi,
        Usage::default(),
        &Call::default(),
    );
    let choice = serde_json::from_slice::<Value>(&chat.unwrap()).unwrap()["choices"][0].clone();
    assert_eq!((&choice["message"]["refusal"], &choice["finish_reason"]), (&json!("no"), &json!("stop")));

    let events = [
        json!({"type": "response.created", "response": {"id": "resp_1", "model": "m"}}),
        json!({"type": "response.refusal.delta", "output_index": 0, "content_index": 0, "item_id": "m", "delta": "no"}),
        json!({"type": "response.completed", "response": refused}),
    ];
    let (chunks, _) = streamed(Dialect::Responses, Dialect::OpenAi, &events, &Call::default());
    assert!(chunks.iter().any(|c| c["choices"][0]["delta"]["refusal"] == "no"), "{chunks:?}");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_stream_that_ends_without_a_reason_was_cut() {
    let said = format!("data: {}\n\n", chunk(&json!({"content": "half an ans"}), &Value::Null));
    let whole = format!("data: {}\n\n", chunk(&json!({}), &json!("stop")));
    let done = b"data: [DONE]\n\n";
    for client in [Dialect::Responses, Dialect::Anthropic, Dialect::Gemini] {
        let mut translator = Translator::new(Dialect::OpenAi, client, &Call::default());
        translator.event(said.as_bytes(), &mut BytesMut::new()).unwrap();
        assert!(translator.event(done, &mut BytesMut::new()).is_err(), "{client:?}");
        let mut translator = Translator::new(Dialect::OpenAi, client, &Call::default());
        translator.event(whole.as_bytes(), &mut BytesMut::new()).unwrap();
        assert!(translator.event(done, &mut BytesMut::new()).is_ok(), "{client:?}");
    }
    for (events, failed) in [(vec![&said], true), (vec![&said, &whole], false)] {
        let mut tap = Tap::new(Dialect::OpenAi, 1);
        for event in events {
            tap.observe(event.as_bytes());
        }
        assert_eq!(tap.observe(done), FrameKind::Done);
        assert_eq!((tap.failed(), tap.finished()), (failed, !failed));
    }
}
