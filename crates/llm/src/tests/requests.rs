//! Requests, answers and errors.

use serde_json::{Value, json};

use crate::{Call, Dialect, Target, Usage, canonical::Losses};

fn target(model: &str) -> Target<'_> {
    Target { model, max_output: Some(64_000), adaptive_thinking: false, fixed_sampling: false }
}

/// A request of one dialect in the other, and what was lost.
fn translated(from: Dialect, body: &Value, target: &Target<'_>) -> (Value, String) {
    let into = if from == Dialect::OpenAi { Dialect::Anthropic } else { Dialect::OpenAi };
    let mut losses = Losses::default();
    let request = from.decode_request(body.to_string().as_bytes(), &mut losses).unwrap();
    let body = into.encode_request(&request, target, &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.header())
}

fn to_anthropic(body: &Value) -> (Value, String) {
    translated(Dialect::OpenAi, body, &target("claude"))
}

fn to_openai(body: &Value) -> (Value, String) {
    translated(Dialect::Anthropic, body, &target("gpt-4o"))
}

#[test]
fn a_full_openai_request_becomes_a_messages_request() {
    let schema = json!({"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}, "additionalProperties": false});
    let (body, losses) = to_anthropic(&json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "developer", "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "auto"}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1.0, \"a\":2}"}},
                {"id": "call.2", "type": "function", "function": {"name": "g", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "one"},
            {"role": "tool", "tool_call_id": "call.2", "content": [{"type": "text", "text": "two"}]},
            {"role": "user", "content": "And?"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
        "max_completion_tokens": 100, "stop": ["END", "\n"], "temperature": 0.5, "user": "u", "service_tier": "default",
        "x_sim": {"tokens": 3}, "n": 1, "store": false, "logit_bias": {"1": 1}, "seed": 4, "metadata": {"a": "b"}
    }));
    assert_eq!(
        body,
        json!({
            "model": "claude", "stream": true, "max_tokens": 100,
            "system": [{"type": "text", "text": "Be kind."},
                {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                    {"type": "document", "title": "a.pdf",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "call_1", "name": "f", "input": {"z": 1.0, "a": 2}},
                    {"type": "tool_use", "id": "call_2", "name": "g", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "one"}]},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "two"}]},
                    {"type": "text", "text": "And?"}]}],
            "tools": [{"name": "f", "description": "d", "input_schema": schema, "strict": true}],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
            "stop_sequences": ["END"], "temperature": 0.5, "metadata": {"user_id": "u"},
            "service_tier": "standard_only", "x_sim": {"tokens": 3}
        })
    );
    assert_eq!(losses, "altered;stop, dropped;logit_bias, dropped;metadata, dropped;seed");
}

#[test]
fn a_full_messages_request_becomes_a_chat_completion_request() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let (body, losses) = to_openai(&json!({
        "model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s=="},
                {"type": "text", "text": "Calling."},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"z": 1.0}},
                {"type": "tool_use", "id": "toolu_2", "name": "f", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true, "content": [
                    {"type": "text", "text": "two"},
                    {"type": "image", "source": {"type": "url", "url": "https://x"}}]},
                {"type": "text", "text": "And?"}]}],
        "tools": [{"name": "f", "input_schema": schema}, {"type": "web_search_20250305", "name": "web_search"}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "stop_sequences": ["a", "b", "c", "d", "e"], "temperature": 1, "top_k": 5,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
        "metadata": {"user_id": "u"}, "service_tier": "auto", "x_sim": {}, "speed": "fast"
    }));
    assert_eq!(
        body,
        json!({
            "model": "gpt-4o", "max_tokens": 9,
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "text", "text": "words"}]},
                {"role": "assistant", "content": "Calling.", "tool_calls": [
                    {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{\"z\":1.0}"}},
                    {"id": "toolu_2", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "toolu_1", "content": "one"},
                {"role": "tool", "tool_call_id": "toolu_2", "content": "two"},
                {"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": "https://x"}}, {"type": "text", "text": "And?"}]}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}],
            "tool_choice": "required", "parallel_tool_calls": false,
            "stop": ["a", "b", "c", "d"], "temperature": 1.0,
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}},
            "user": "u", "x_sim": {}, "service_tier": "auto"
        })
    );
    assert_eq!(
        losses,
        "altered;stop_sequences, dropped;messages.content.is_error, dropped;speed, dropped;thinking, \
         dropped;tools.web_search_20250305, dropped;top_k, emulated;messages.content.document, \
         emulated;messages.content.tool_result"
    );
}

#[test]
fn reasoning_is_said_as_each_side_takes_it() {
    let ask = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let adaptive = Target { adaptive_thinking: true, ..target("claude") };
    let (body, losses) = translated(Dialect::OpenAi, &ask(json!({"reasoning_effort": "high"})), &adaptive);
    assert_eq!(
        (&body["thinking"]["type"], &body["output_config"]["effort"]),
        (&json!("adaptive"), &json!("high"))
    );
    assert_eq!(losses, "");
    let newest = Target { fixed_sampling: true, ..target("claude") };
    let (body, losses) = translated(Dialect::OpenAi, &ask(json!({"temperature": 0.2, "top_p": 1})), &newest);
    assert_eq!(
        (body.get("temperature"), body.get("top_p"), losses.as_str()),
        (None, None, "dropped;temperature")
    );
    let (body, losses) = to_anthropic(&ask(json!({"reasoning_effort": "low", "temperature": 0.2})));
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 1024}));
    assert_eq!(
        (body.get("temperature"), losses.as_str()),
        (None, "altered;reasoning_effort, dropped;temperature")
    );
    // Too little room to think in, a forced call, and calls whose thoughts the client lost.
    for refused in [
        json!({"reasoning_effort": "low", "max_completion_tokens": 500}),
        json!({"reasoning_effort": "low", "tool_choice": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}),
        json!({"reasoning_effort": "low", "tools": [{"type": "function", "function": {"name": "f"}}], "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "y"}]}),
    ] {
        let (body, losses) = to_anthropic(&ask(refused));
        assert_eq!((body.get("thinking"), losses.as_str()), (None, "dropped;reasoning_effort"), "{body}");
    }
    let thinking = ask(json!({"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 8000}}));
    let (body, losses) = translated(Dialect::Anthropic, &thinking, &target("openai/o3-mini"));
    assert_eq!((&body["reasoning_effort"], &body["max_completion_tokens"]), (&json!("medium"), &json!(9000)));
    assert_eq!(losses, "altered;thinking.budget_tokens");
}

#[test]
fn json_is_asked_for_in_words_and_schemas_as_schemas() {
    let ask = |format: Value| json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": format});
    let (body, losses) = to_anthropic(&ask(json!({"type": "json_object"})));
    assert!(body["system"][0]["text"].as_str().unwrap().contains("JSON"), "{body}");
    assert_eq!(losses, "emulated;response_format");
    let closed = json!({"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}},
        "required": ["b", "a"], "additionalProperties": false});
    let named = |schema: &Value| json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}});
    let (body, losses) = to_anthropic(&ask(named(&closed)));
    assert_eq!(body["output_config"], json!({"format": {"type": "json_schema", "schema": closed}}));
    assert_eq!(losses, "");
    let bounded =
        json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]});
    let (body, losses) = to_anthropic(&ask(named(&bounded)));
    assert_eq!(body["output_config"]["format"]["schema"]["properties"]["a"]["description"], "{minimum: 1}");
    assert_eq!(losses, "altered;response_format");
    // Of any names: Anthropic would refuse it.
    let map = json!({"type": "object", "additionalProperties": {"type": "integer"}});
    let (body, losses) = to_anthropic(&ask(named(&map)));
    assert!(
        body["system"][0]["text"].as_str().unwrap().contains(&map.to_string())
            && body.get("output_config").is_none()
    );
    assert_eq!(losses, "emulated;response_format");
    let anthropic = |schema: &Value| {
        json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}],
        "output_config": {"format": {"type": "json_schema", "schema": schema}}})
    };
    let (body, losses) = to_openai(&anthropic(&closed));
    assert_eq!(
        body["response_format"]["json_schema"],
        json!({"name": "answer", "schema": closed, "strict": true})
    );
    assert_eq!(losses, "");
    let (body, losses) = to_openai(&anthropic(&json!({"type": "array", "items": {"type": "string"}})));
    assert_eq!(body["response_format"]["json_schema"]["schema"]["required"], json!(["value"]));
    assert_eq!(losses, "altered;response_format");
    let (body, losses) = to_openai(&anthropic(&map));
    assert_eq!(
        body["response_format"]["json_schema"],
        json!({"name": "answer", "schema": map, "strict": false})
    );
    assert_eq!(losses, "altered;response_format");
}

#[test]
fn thoughts_travel_with_openai_s_clients_and_come_back_byte_for_byte() {
    let signature = "EqQBCkYIBxgCKkB+/é==";
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "content": [{"type": "thinking", "thinking": "hm\n\u{1f914}", "signature": signature},
            {"type": "redacted_thinking", "data": "opaque"}, {"type": "text", "text": "ok"},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1, "a": [1.50]}}],
        "usage": {"input_tokens": 3, "output_tokens": 4}});
    let usage = Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() };
    let body = answer.to_string();
    let chat = Dialect::Anthropic.translate_answer(body.as_bytes(), Dialect::OpenAi, usage, &at(7)).unwrap();
    let chat: Value = serde_json::from_slice(&chat).unwrap();
    assert_eq!((&chat["id"], &chat["created"]), (&json!("chatcmpl-1"), &json!(7)));
    let message = &chat["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "hm\n\u{1f914}");
    assert_eq!(chat["choices"][0]["finish_reason"], "tool_calls");
    let next = json!({"model": "m", "messages": [{"role": "user", "content": "x"}, message,
        {"role": "tool", "tool_call_id": "toolu_1", "content": "y"}],
        "tools": [{"type": "function", "function": {"name": "f"}}], "reasoning_effort": "low"});
    let (back, _) = to_anthropic(&next);
    assert_eq!(back["messages"][1]["content"], answer["content"]);
    assert!(back["thinking"].is_object());
    // Without their signatures they are worth nothing.
    let unsigned = next.to_string().replace(signature, "");
    let (back, _) = to_anthropic(&serde_json::from_str(&unsigned).unwrap());
    assert_eq!(back["messages"][1]["content"][0]["type"], "redacted_thinking");
}

#[test]
fn answers_keep_their_meaning_both_ways() {
    let usage = Usage {
        input_tokens: 10,
        output_tokens: 5,
        cache_read_tokens: 4,
        cache_write_tokens: 3,
        reasoning_tokens: 2,
        ..Usage::default()
    };
    let chat = json!({"id": "chatcmpl-9", "object": "chat.completion", "created": 1, "model": "gpt", "choices": [{"index": 0,
        "message": {"role": "assistant", "content": "hi", "refusal": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
        "finish_reason": "stop"}]})
    .to_string();
    let message =
        Dialect::OpenAi.translate_answer(chat.as_bytes(), Dialect::Anthropic, usage, &at(0)).unwrap();
    let message: Value = serde_json::from_slice(&message).unwrap();
    assert_eq!(
        message,
        json!({"id": "msg_9", "type": "message", "role": "assistant", "model": "gpt", "stop_reason": "tool_use",
            "stop_sequence": null, "content": [{"type": "text", "text": "hi"},
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}}],
            "usage": {"input_tokens": 3, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4,
                "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 2}}})
    );
    for (reason, stop) in [("length", "max_tokens"), ("content_filter", "refusal"), ("odd", "end_turn")] {
        let chat = json!({"id": "1", "model": "m", "choices": [{"message": {"content": "x"}, "finish_reason": reason}]});
        let chat = chat.to_string();
        let message =
            Dialect::OpenAi.translate_answer(chat.as_bytes(), Dialect::Anthropic, usage, &at(0)).unwrap();
        let message: Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(message["stop_reason"], stop, "{reason}");
    }
    for (stop, reason) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
    ] {
        let message = json!({"id": "1", "model": "m", "content": [], "stop_reason": stop}).to_string();
        let chat =
            Dialect::Anthropic.translate_answer(message.as_bytes(), Dialect::OpenAi, usage, &at(0)).unwrap();
        let chat: Value = serde_json::from_slice(&chat).unwrap();
        assert_eq!(chat["choices"][0]["finish_reason"], reason, "{stop}");
    }
    for nothing in ["", "[]", "{}", "null", "{\"choices\":[]}"] {
        for from in [Dialect::OpenAi, Dialect::Anthropic] {
            assert!(
                from.translate_answer(nothing.as_bytes(), Dialect::OpenAi, usage, &at(0)).is_none(),
                "{nothing}"
            );
        }
    }
}

#[test]
fn refusals_say_the_same_in_the_other_s_words() {
    let (status, body) = Dialect::Anthropic.translate_error(
        529,
        br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        Dialect::OpenAi,
        None,
    );
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &body["error"]["message"], &body["error"]["type"]),
        (503, &json!("Overloaded"), &json!("server_error"))
    );
    let refused = br#"{"error":{"message":"Too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
    let (status, body) = Dialect::OpenAi.translate_error(400, refused, Dialect::Anthropic, Some("req_1"));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({"type": "error", "error": {"type": "invalid_request_error", "message": "Too long"}, "request_id": "req_1"})
    );
    let (status, body) = Dialect::OpenAi.translate_error(500, b"<html>", Dialect::Anthropic, None);
    assert!(status == 500 && String::from_utf8_lossy(&body).contains("answered 500"));
}

#[test]
fn what_is_wrong_in_a_body_is_named_by_its_path() {
    for (from, body, param) in [
        (
            Dialect::OpenAi,
            json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
            "messages[0].content[0].text",
        ),
        (
            Dialect::OpenAi,
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].tool_call_id",
        ),
        (Dialect::OpenAi, json!({"messages": [{"role": "function", "content": "x"}]}), "messages[0].name"),
        (
            Dialect::Anthropic,
            json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
            "messages.0.content.0.source",
        ),
        (Dialect::Anthropic, json!({"messages": [], "tools": [{"name": "f"}]}), "tools.0.input_schema"),
    ] {
        let error = from.decode_request(body.to_string().as_bytes(), &mut Losses::default()).unwrap_err();
        assert_eq!(error.param(), Some(param), "{body}");
    }
}

#[test]
fn without_a_bound_the_model_s_own_is_asked_for() {
    let ask = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    let (body, losses) = to_anthropic(&ask);
    assert_eq!((&body["max_tokens"], losses.as_str()), (&json!(64_000), ""));
    let unknown = Target { max_output: None, ..target("claude") };
    let (body, losses) = translated(Dialect::OpenAi, &ask, &unknown);
    assert_eq!((&body["max_tokens"], losses.as_str()), (&json!(4_096), "altered;max_tokens"));
}

fn at(now_s: i64) -> Call {
    Call { now_s, ..Call::default() }
}

#[test]
fn no_more_than_four_marks_for_the_cache() {
    let mark = json!({"type": "ephemeral"});
    let part = |text: &str| json!({"type": "text", "text": text, "cache_control": mark});
    let (body, losses) = to_anthropic(&json!({"model": "m", "max_tokens": 1, "messages": [
        {"role": "system", "content": [part("a"), part("b")]},
        {"role": "user", "content": [part("c"), part("d")]}],
        "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": mark}]}));
    assert_eq!(body.to_string().matches("cache_control").count(), 4);
    assert!(body["tools"][0].get("cache_control").is_none());
    assert_eq!(losses, "altered;cache_control");
}

#[test]
fn what_is_wrong_is_the_same_in_every_dialect() {
    let openai = |code: &str| json!({"error": {"message": "Sorry.", "type": "invalid_request_error", "param": null, "code": code}});
    let anthropic =
        |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}});
    let translate = |from: Dialect, status: u16, body: &Value, into: Dialect| -> (u16, Value) {
        let (status, body) = from.translate_error(status, body.to_string().as_bytes(), into, None);
        (status, serde_json::from_slice(&body).unwrap())
    };
    for (status, kind, message, expected) in [
        (
            400,
            "invalid_request_error",
            "prompt is too long: 9 tokens > 8 maximum",
            (400, "context_length_exceeded"),
        ),
        (400, "invalid_request_error", "Your credit balance is too low", (429, "insufficient_quota")),
        (402, "billing_error", "x", (429, "insufficient_quota")),
        (404, "not_found_error", "model: claude-9", (404, "model_not_found")),
        (429, "rate_limit_error", "x", (429, "rate_limit_exceeded")),
        (413, "request_too_large", "x", (413, "request_too_large")),
        (529, "overloaded_error", "x", (503, "overloaded")),
        (400, "invalid_request_error", "x", (400, "invalid_value")),
    ] {
        let (status, body) =
            translate(Dialect::Anthropic, status, &anthropic(kind, message), Dialect::OpenAi);
        assert_eq!((status, body["error"]["code"].as_str().unwrap()), expected, "{kind} {message}");
    }
    for (status, code, expected) in [
        (400, "context_length_exceeded", (400, "invalid_request_error", "prompt is too long: Sorry.")),
        (429, "insufficient_quota", (402, "billing_error", "Sorry.")),
        (429, "rate_limit_exceeded", (429, "rate_limit_error", "Sorry.")),
        (404, "model_not_found", (404, "not_found_error", "Sorry.")),
        (503, "overloaded", (529, "overloaded_error", "Sorry.")),
    ] {
        let (status, body) = translate(Dialect::OpenAi, status, &openai(code), Dialect::Anthropic);
        let error = &body["error"];
        let got = (status, error["type"].as_str().unwrap(), error["message"].as_str().unwrap());
        assert_eq!(got, expected, "{code}");
    }
    let (status, body) = translate(Dialect::OpenAi, 400, &openai("unsupported_value"), Dialect::OpenAi);
    assert_eq!((status, &body["error"]["code"]), (400, &json!("unsupported_value")));
}

#[test]
fn nothing_is_lost_without_a_name() {
    let named = |from: Dialect, into: Dialect, body: &Value| {
        let mut losses = Losses::default();
        let request = from.decode_request(body.to_string().as_bytes(), &mut losses).unwrap();
        let body = into.encode_request(&request, &target("m"), &mut losses);
        (serde_json::from_slice::<Value>(&body).unwrap(), losses.header())
    };
    let hi = json!([{"role": "user", "content": "Hi"}]);
    let (_, losses) = to_openai(
        &json!({"model": "m", "max_tokens": 9, "messages": hi, "metadata": {"user_id": "u", "a": 1},
        "thinking": {"type": "disabled", "display": "omitted"}, "output_config": {"verbosity": "low"}}),
    );
    assert_eq!(losses, "dropped;metadata.a, dropped;output_config.verbosity, dropped;thinking.display");
    let drawn = json!({"model": "m", "x_a": false, "messages": [{"role": "user", "content": "Hi"},
        {"role": "system", "content": [{"type": "text", "text": "s"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]});
    let thought = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s=="}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"}]});
    for into in [Dialect::Anthropic, Dialect::Gemini, Dialect::Mistral, Dialect::Bedrock, Dialect::Ollama] {
        let (body, losses) = named(Dialect::OpenAi, into, &drawn);
        assert!(losses.contains("dropped;messages.content.image"), "{into:?}: {losses}");
        assert!(!body.to_string().contains("y.png") && body["x_a"] == json!(false), "{into:?}: {body}");
        let (_, losses) = named(Dialect::Anthropic, into, &thought);
        assert_eq!(losses.contains("dropped;thinking"), into != Dialect::Anthropic, "{into:?}: {losses}");
    }
}

#[test]
fn a_mark_for_the_cache_on_the_whole_is_one_on_the_last_block() {
    let mark = json!({"type": "ephemeral"});
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "cache_control": mark});
    let mut losses = Losses::default();
    let request = Dialect::Anthropic.decode_request(body.to_string().as_bytes(), &mut losses).unwrap();
    let body = Dialect::Anthropic.encode_request(&request, &target("claude"), &mut losses);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["messages"][0]["content"][0]["cache_control"], losses.is_empty()), (&mark, true));
    // It changes what an answer costs, not what it says.
    let body = json!({"model": "m", "max_tokens": 9, "cache_control": mark,
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": mark}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": mark}]}]});
    for into in [Dialect::OpenAi, Dialect::Gemini, Dialect::Bedrock, Dialect::Mistral, Dialect::Ollama] {
        let mut losses = Losses::default();
        let request = Dialect::Anthropic.decode_request(body.to_string().as_bytes(), &mut losses).unwrap();
        let _ = into.encode_request(&request, &target("m"), &mut losses);
        assert_eq!(losses.header(), "", "{into:?}");
    }
}
