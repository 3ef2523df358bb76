//! The Responses dialect, against the others.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use weir_error::{Code, Error};

use crate::{
    Call, Dialect, Follower, FrameKind, Tap, Target, Translator, Usage,
    canonical::Losses,
    sse::{self, Splitter},
};

mod ends;
mod streams;
mod tools;

const CLIENTS: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Responses];

fn call(request: &Value) -> Call {
    Call { model: "m".to_owned(), now_s: 7, request: request.to_string().into(), ..Call::default() }
}

/// A request in another dialect, and what was lost.
fn asked(from: Dialect, into: Dialect, model: &str, body: &Value) -> (Value, String) {
    let mut losses = Losses::default();
    let request = from.decode_request(body.to_string().as_bytes(), &mut losses).unwrap();
    let target = Target { model, max_output: Some(64_000), adaptive_thinking: false, fixed_sampling: false };
    let body = into.encode_request(&request, &target, &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.header())
}

fn answered(from: Dialect, into: Dialect, body: &Value, call: &Call) -> Value {
    let body = body.to_string();
    let usage = from.provider().usage_of_answer(body.as_bytes()).unwrap_or_default();
    let answer = from.translate_answer(body.as_bytes(), into, usage, call).unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// The client's stream for these pieces of the provider's, with its end.
fn relayed(from: Dialect, into: Dialect, pieces: &[&[u8]], call: &Call) -> String {
    let mut splitter = Splitter::new();
    let mut translator = Translator::new(from, into, call);
    let mut tap = Tap::new(from, 1);
    let (mut out, mut ended) = (BytesMut::new(), false);
    for piece in pieces {
        splitter.feed(Bytes::copy_from_slice(piece));
        while let Some(event) = splitter.next_event().unwrap() {
            if ended {
                break;
            }
            let kind = tap.observe(&event);
            if let Err(error) = translator.event(&event, &mut out) {
                out.extend_from_slice(&translator.fail(&error));
                ended = true;
            } else if kind == FrameKind::Done {
                out.extend_from_slice(&translator.end(tap.usage().unwrap_or_default()));
                ended = true;
            }
        }
    }
    String::from_utf8(out.to_vec()).unwrap()
}

/// Events' data; their lines say the same type, and their numbers rise by one.
fn events(stream: &str) -> Vec<Value> {
    let events = stream.split_terminator("\n\n").map(|event| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        data
    });
    let events: Vec<Value> = events.collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
    }
    events
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect()
}

fn event(number: &mut u64, name: &str, data: Value) -> String {
    let mut data = data;
    data["type"] = name.into();
    data["sequence_number"] = (*number).into();
    *number += 1;
    format!("event: {name}\ndata: {data}\n\n")
}

/// A whole answer of OpenAI's.
fn finished() -> Value {
    json!({"id": "resp_1", "object": "response", "created_at": 5, "status": "completed", "model": "gpt-5", "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}, {"type": "summary_text", "text": "so"}], "encrypted_content": "gAAA+/=="},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": "Hello \u{1f30d}\n", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "id": "fc_2", "call_id": "call_a", "name": "f", "arguments": "{\"a\":1}", "status": "completed"},
        {"type": "function_call", "id": "fc_3", "call_id": "call_b", "name": "g", "arguments": "{}", "status": "completed"}],
        "usage": {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13,
            "input_tokens_details": {"cached_tokens": 2}, "output_tokens_details": {"reasoning_tokens": 1}}})
}

#[test]
fn a_full_request_becomes_every_provider_s() {
    let schema = json!({"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}},
        "required": ["z", "a"], "additionalProperties": false});
    let body = json!({
        "model": "m", "stream": true, "instructions": "Be kind.", "store": true, "metadata": {"a": "b"}, "truncation": "disabled",
        "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Look:"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}]},
            {"type": "message", "id": "msg_0", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "I see.", "annotations": [{"type": "x"}], "logprobs": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{\"z\": 1.0}", "status": "completed"},
            {"type": "function_call", "id": "fc_2", "call_id": "call_2", "name": "g", "arguments": ""},
            {"type": "function_call_output", "call_id": "call_1", "output": "one"},
            {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "two"}]},
            {"role": "user", "content": "And?"}],
        "tools": [{"type": "function", "name": "f", "description": "d", "parameters": schema, "strict": true},
            {"type": "web_search"}, {"type": "local_shell"}],
        "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": false,
        "max_output_tokens": 100, "temperature": 0.5, "safety_identifier": "u", "service_tier": "default", "x_sim": {"tokens": 3},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": true}, "verbosity": "low"},
        "include": ["reasoning.encrypted_content"], "max_tool_calls": 3,
    });
    let lost =
        "dropped;max_tool_calls, dropped;tools.local_shell, dropped;tools.web_search, dropped;verbosity";
    let (chat, losses) = asked(Dialect::Responses, Dialect::OpenAi, "gpt-4o", &body);
    assert_eq!(losses, lost);
    let roles: Vec<_> =
        chat["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "system", "user", "assistant", "tool", "tool", "user"]);
    assert_eq!(chat["messages"][3]["tool_calls"][0]["function"]["arguments"], "{\"z\": 1.0}");
    assert_eq!(chat["messages"][3]["content"], "I see.");
    assert_eq!(chat["messages"][2]["content"][1]["image_url"]["url"], "data:image/png;base64,AAAA");
    assert_eq!(chat["tool_choice"], json!({"type": "function", "function": {"name": "f"}}));
    assert_eq!((&chat["max_tokens"], &chat["parallel_tool_calls"]), (&json!(100), &json!(false)));
    assert_eq!(
        (&chat["response_format"]["json_schema"]["name"], &chat["x_sim"]),
        (&json!("n"), &json!({"tokens": 3}))
    );

    let (messages, losses) = asked(Dialect::Responses, Dialect::Anthropic, "claude", &body);
    assert_eq!(losses, lost);
    assert_eq!(
        messages["system"],
        json!([{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}])
    );
    let said = &messages["messages"][1]["content"];
    assert_eq!(
        said,
        &json!([{"type": "text", "text": "I see."}, {"type": "tool_use", "id": "call_1", "name": "f", "input": {"z": 1.0}},
            {"type": "tool_use", "id": "call_2", "name": "g", "input": {}}])
    );
    assert_eq!(messages["messages"][2]["content"].as_array().unwrap().len(), 3);
}

#[test]
fn a_chat_request_becomes_a_responses_request() {
    let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
    let body = json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}}]},
            {"role": "assistant", "content": "So:", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1.0}"}},
                {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "one"},
            {"role": "tool", "tool_call_id": "call_2", "content": "two"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}], "tool_choice": "required",
        "max_completion_tokens": 5, "stop": ["END"], "seed": 4, "reasoning_effort": "high", "user": "u",
        "response_format": {"type": "json_object"}
    });
    let (body, losses) = asked(Dialect::OpenAi, Dialect::Responses, "gpt-5", &body);
    assert_eq!(
        body,
        json!({
            "model": "gpt-5", "stream": true, "store": false, "include": ["reasoning.encrypted_content"],
            "input": [
                {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be kind."}]},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look:"},
                    {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                    {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So:", "annotations": []}]},
                {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{\"z\": 1.0}"},
                {"type": "function_call", "call_id": "call_2", "name": "g", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "one"},
                {"type": "function_call_output", "call_id": "call_2", "output": "two"}],
            "tools": [{"type": "function", "name": "f", "parameters": schema, "strict": false}], "tool_choice": "required",
            "max_output_tokens": 16, "reasoning": {"effort": "high", "summary": "auto"}, "user": "u",
            "text": {"format": {"type": "json_object"}}
        })
    );
    assert_eq!(losses, "altered;max_tokens, dropped;seed, dropped;stop");
}

#[test]
fn custom_tools_are_functions_of_one_text_to_others() {
    let body = json!({"model": "m", "input": [
            {"role": "user", "content": "patch it"},
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** \"a\"\n"},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"}],
        "tools": [{"type": "custom", "name": "apply_patch", "description": "d",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}}],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "apply_patch"}]}});
    let (chat, losses) = asked(Dialect::Responses, Dialect::OpenAi, "gpt-4o", &body);
    assert_eq!((losses.as_str(), &chat["tool_choice"]), ("emulated;tools.custom", &json!("required")));
    let function = &chat["tools"][0]["function"];
    assert_eq!(function["parameters"]["required"], json!(["input"]));
    assert!(
        function["parameters"]["properties"]["input"]["description"].as_str().unwrap().contains("start: x")
    );
    let arguments = chat["messages"][1]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(arguments).unwrap(), json!({"input": "*** \"a\"\n"}));

    let answer = json!({"id": "chatcmpl-1", "created": 1, "model": "gpt", "choices": [{"message": {"role": "assistant",
        "tool_calls": [{"id": "c2", "type": "function", "function": {"name": "apply_patch", "arguments": arguments}}]}, "finish_reason": "tool_calls"}]});
    let response = answered(Dialect::OpenAi, Dialect::Responses, &answer, &call(&body));
    let item = &response["output"][0];
    assert_eq!(
        (&item["type"], &item["call_id"], &item["input"]),
        (&json!("custom_tool_call"), &json!("c2"), &json!("*** \"a\"\n"))
    );

    let delta =
        |delta: Value| format!("data: {}\n\n", json!({"id": "1", "choices": [{"index": 0, "delta": delta}]}));
    let half = arguments.len() / 2;
    let stream = [
        delta(json!({"tool_calls": [{"index": 0, "id": "c2", "function": {"name": "apply_patch", "arguments": &arguments[..half]}}]})),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": &arguments[half..]}}]})),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n".to_owned(),
    ]
    .concat();
    let events = events(&relayed(Dialect::OpenAi, Dialect::Responses, &[stream.as_bytes()], &call(&body)));
    assert_eq!(
        types(&events)[2..],
        [
            "output_item.added",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
            "output_item.done",
            "completed"
        ]
    );
    assert_eq!(events[4]["input"], "*** \"a\"\n");
}

#[test]
fn only_allowed_tools_are_told_of() {
    let tool = |name: &str| json!({"type": "function", "name": name});
    let body = json!({"model": "m", "input": "x", "tools": [tool("a"), tool("b")],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [tool("b")]}});
    let (chat, losses) = asked(Dialect::Responses, Dialect::OpenAi, "gpt-4o", &body);
    assert_eq!(
        (chat["tools"].as_array().unwrap().len(), losses.as_str()),
        (1, "emulated;tool_choice.allowed_tools")
    );
    assert_eq!((&chat["tools"][0]["function"]["name"], &chat["tool_choice"]), (&json!("b"), &json!("auto")));
}

#[test]
fn another_vendor_s_thoughts_come_back_byte_for_byte() {
    let content = json!([{"type": "thinking", "thinking": "hm\n\u{1f914}", "signature": "EqQB+/é=="},
        {"type": "thinking", "thinking": "", "signature": "Eq2"},
        {"type": "redacted_thinking", "data": "opaque=="}, {"type": "text", "text": "ok"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1, "a": [1.50]}}]);
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "content": content, "usage": {"input_tokens": 3, "output_tokens": 4}});
    let request = json!({"model": "m", "input": "x"});
    let response = answered(Dialect::Anthropic, Dialect::Responses, &answer, &call(&request));
    let mut input = vec![json!({"role": "user", "content": "x"})];
    input.extend(response["output"].as_array().unwrap().clone());
    input.push(json!({"type": "function_call_output", "call_id": "toolu_1", "output": "y"}));
    let body = json!({"model": "m", "input": input, "reasoning": {"effort": "low"}, "tools": [{"type": "function", "name": "f"}]});
    let (back, _) = asked(Dialect::Responses, Dialect::Anthropic, "claude", &body);
    assert_eq!(back["messages"][1]["content"], content);

    // Nothing of it reaches OpenAI, in either of its dialects.
    let (chat, _) = asked(Dialect::Responses, Dialect::OpenAi, "gpt-5", &body);
    let (there, _) = asked(Dialect::Responses, Dialect::Responses, "gpt-5", &body);
    for body in [chat.to_string(), there.to_string()] {
        assert!(!body.contains("weir1") && !body.contains("EqQB"), "{body}");
    }
}

#[test]
fn openai_s_reasoning_comes_back_byte_for_byte_through_anthropic_s_clients() {
    let request = json!({"model": "m"});
    let message = answered(Dialect::Responses, Dialect::Anthropic, &finished(), &call(&request));
    let next = json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "x"},
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_a", "content": "y"}]}]});
    let (body, _) = asked(Dialect::Anthropic, Dialect::Responses, "gpt-5", &next);
    assert_eq!(
        body["input"][1],
        json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm\n\nso"}], "encrypted_content": "gAAA+/=="})
    );
}

#[test]
fn an_answer_has_every_member_that_clients_types_ask_for() {
    let request = json!({"model": "m", "input": "x", "temperature": 0.5, "metadata": {"k": "v"},
        "tools": [{"type": "function", "name": "f", "parameters": {}}]});
    let chat = json!({"id": "chatcmpl-9", "created": 3, "model": "gpt", "choices": [{"message": {"content": "hi"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}});
    let response = answered(Dialect::OpenAi, Dialect::Responses, &chat, &call(&request));
    assert_eq!(
        (&response["id"], &response["object"], &response["created_at"]),
        (&json!("resp_9"), &json!("response"), &json!(3))
    );
    assert_eq!(
        (&response["status"], &response["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert_eq!(
        response["usage"],
        json!({"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0}, "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15})
    );
    for member in [
        "completed_at",
        "error",
        "instructions",
        "max_output_tokens",
        "metadata",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "service_tier",
        "store",
        "background",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_p",
        "truncation",
        "user",
    ] {
        assert!(response.get(member).is_some(), "{member}");
    }
    let ours = Call { id: Some("resp_ours".to_owned()), ..call(&request) };
    let response = answered(Dialect::OpenAi, Dialect::Responses, &chat, &ours);
    assert_eq!((&response["id"], &response["output"][0]["id"]), (&json!("resp_ours"), &json!("msg_ours_0")));
}

#[test]
fn what_is_wrong_in_a_body_is_named_by_its_path() {
    for (body, param) in [
        (json!({"input": [{"role": "tool", "content": "x"}]}), "input[0].role"),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
            "input[0].content[0].image_url",
        ),
        (json!({"input": [{"type": "function_call_output", "output": "x"}]}), "input[0].call_id"),
        (json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), "input[0]"),
        (json!({"input": "x", "tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"input": "x", "tool_choice": "maybe"}), "tool_choice"),
        (json!({"input": {}}), "input"),
        (json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
        (
            json!({"input": "x", "tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]}),
            "tools[0].tools[0].name",
        ),
        (
            json!({"input": [{"type": "additional_tools", "tools": [{"type": "custom"}]}]}),
            "input[0].tools[0].name",
        ),
    ] {
        let decoded = Dialect::Responses.decode_request(body.to_string().as_bytes(), &mut Losses::default());
        assert_eq!(decoded.unwrap_err().param(), Some(param), "{body}");
    }
}
