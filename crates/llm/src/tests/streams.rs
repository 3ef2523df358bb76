//! Streams: what they become, however they are cut into pieces.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Call, Dialect, FrameKind, Tap, Translator, Usage, sse::Splitter};

/// The client's stream for these pieces of the provider's, with its end.
fn relayed(from: Dialect, into: Dialect, pieces: &[&[u8]]) -> String {
    let mut splitter = Splitter::new();
    let call = Call { model: "m".to_owned(), now_s: 7, include_usage: true, ..Call::default() };
    let mut translator = Translator::new(from, into, &call);
    let mut tap = Tap::new(from, 1);
    let mut out = BytesMut::new();
    for piece in pieces {
        splitter.feed(Bytes::copy_from_slice(piece));
        while let Some(event) = splitter.next_event().unwrap() {
            let kind = tap.observe(&event);
            if let Err(error) = translator.event(&event, &mut out) {
                out.extend_from_slice(&translator.fail(&error));
            } else if kind == FrameKind::Done {
                out.extend_from_slice(&translator.end(tap.usage().unwrap_or_default()));
            }
        }
    }
    String::from_utf8(out.to_vec()).unwrap()
}

/// Events' data.
fn data(stream: &str) -> Vec<Value> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it reads better where it is called")]
fn chunk(delta: Value, finish: Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "gpt",
        "choices": [choice], "usage": null});
    format!("data: {chunk}\n\n")
}

fn openai_stream() -> String {
    let call = |index: usize, id: &str, name: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
    let piece =
        |index: usize, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    let usage = json!({"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 2}}});
    [
        ": hello\n\n".to_owned(),
        chunk(json!({"role": "assistant", "content": ""}), Value::Null),
        chunk(json!({"reasoning_content": "hm"}), Value::Null),
        chunk(json!({"content": "Hello "}), Value::Null),
        chunk(json!({"content": "\u{1f30d}\n"}), Value::Null),
        chunk(call(0, "call_a", "f"), Value::Null),
        chunk(piece(0, "{\"a\":"), Value::Null),
        chunk(piece(0, "1}"), Value::Null),
        chunk(call(1, "call_b", "g"), Value::Null),
        chunk(piece(1, "{}"), Value::Null),
        chunk(json!({}), json!("tool_calls")),
        format!("data: {usage}\n\ndata: [DONE]\n\n"),
    ]
    .concat()
}

fn event(name: &str, data: Value) -> String {
    let mut data = data;
    data["type"] = name.into();
    format!("event: {name}\ndata: {data}\n\n")
}

fn anthropic_stream() -> String {
    let block = |index: usize, block: Value| {
        event("content_block_start", json!({"index": index, "content_block": block}))
    };
    let delta =
        |index: usize, delta: Value| event("content_block_delta", json!({"index": index, "delta": delta}));
    let stop = |index: usize| event("content_block_stop", json!({"index": index}));
    [
        event("message_start", json!({"message": {"id": "msg_1", "model": "claude", "content": [],
            "usage": {"input_tokens": 7, "cache_read_input_tokens": 2, "output_tokens": 1}}})),
        event("ping", json!({})),
        block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        delta(0, json!({"type": "signature_delta", "signature": "s=="})),
        stop(0),
        block(1, json!({"type": "text", "text": ""})),
        delta(1, json!({"type": "text_delta", "text": "Hello "})),
        delta(1, json!({"type": "text_delta", "text": "\u{1f30d}\n"})),
        stop(1),
        block(2, json!({"type": "tool_use", "id": "toolu_a", "name": "f", "input": {}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{\"a\":"})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "1}"})),
        stop(2),
        block(3, json!({"type": "tool_use", "id": "toolu_b", "name": "g", "input": {}})),
        delta(3, json!({"type": "input_json_delta", "partial_json": "{}"})),
        stop(3),
        event("message_delta", json!({"delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 4}})),
        event("message_stop", json!({})),
    ]
    .concat()
}

#[test]
fn chunks_become_events() {
    let stream = relayed(Dialect::OpenAi, Dialect::Anthropic, &[openai_stream().as_bytes()]);
    let names: Vec<_> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let (start, delta, stop) = ("content_block_start", "content_block_delta", "content_block_stop");
    assert_eq!(
        names,
        [
            "message_start",
            start,
            delta,
            stop,
            start,
            delta,
            delta,
            stop,
            start,
            delta,
            delta,
            stop,
            start,
            delta,
            stop,
            "message_delta",
            "message_stop"
        ]
    );
    let data = data(&stream);
    let starts: Vec<_> = data.iter().filter(|d| d["type"] == start).map(|d| &d["content_block"]).collect();
    assert_eq!(starts[0]["type"], "thinking");
    assert_eq!(starts[1], &json!({"type": "text", "text": ""}));
    assert_eq!(starts[2], &json!({"type": "tool_use", "id": "call_a", "name": "f", "input": {}}));
    let last = &data[data.len() - 2];
    assert_eq!(last["delta"], json!({"stop_reason": "tool_use", "stop_sequence": null}));
    assert_eq!(
        last["usage"],
        json!({"input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 2, "output_tokens": 4})
    );
    let indices: Vec<_> = data.iter().filter_map(|d| d["index"].as_u64()).collect();
    assert!(indices.is_sorted(), "{indices:?}");
}

#[test]
fn events_become_chunks() {
    let stream = relayed(Dialect::Anthropic, Dialect::OpenAi, &[anthropic_stream().as_bytes()]);
    assert!(stream.ends_with("data: [DONE]\n\n"));
    let chunks = data(&stream);
    assert!(chunks.iter().all(|c| c["id"] == "chatcmpl-1" && c["created"] == 7 && c["model"] == "claude"));
    let (usage, chunks) = chunks.split_last().unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["prompt_tokens"]), (&json!([]), &json!(9)));
    assert_eq!(usage["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
    assert!(chunks.iter().all(|c| c["usage"].is_null() && c.as_object().unwrap().contains_key("usage")));
    let choices: Vec<_> = chunks.iter().map(|c| &c["choices"][0]).collect();
    let finishes: Vec<_> = choices.iter().filter_map(|c| c["finish_reason"].as_str()).collect();
    assert_eq!(finishes, ["tool_calls"]);
    let text: String = choices.iter().filter_map(|c| c["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Hello \u{1f30d}\n");
    let calls: Vec<_> = choices.iter().filter_map(|c| c["delta"]["tool_calls"].get(0)).collect();
    let arguments = |index: u64| -> String {
        let of = calls.iter().filter(|c| c["index"] == index);
        of.filter_map(|c| c["function"]["arguments"].as_str()).collect()
    };
    assert_eq!((arguments(0).as_str(), arguments(1).as_str()), ("{\"a\":1}", "{}"));
    assert_eq!((&calls[0]["id"], &calls[0]["type"]), (&json!("toolu_a"), &json!("function")));
    assert!(calls[1].get("id").is_none() && calls[1].get("type").is_none());
    let signed: Vec<_> = choices.iter().filter_map(|c| c["delta"]["thinking_blocks"].get(0)).collect();
    assert_eq!(signed.last().unwrap()["signature"], "s==");
    // No key where there is nothing to say.
    assert!(choices.iter().all(|c| !c["delta"].as_object().unwrap().values().any(Value::is_null)));
}

#[test]
fn every_cut_gives_the_same_stream() {
    for (from, into, stream) in [
        (Dialect::OpenAi, Dialect::Anthropic, openai_stream()),
        (Dialect::Anthropic, Dialect::OpenAi, anthropic_stream()),
        (Dialect::Anthropic, Dialect::Anthropic, anthropic_stream()),
    ] {
        let whole = relayed(from, into, &[stream.as_bytes()]);
        for at in 0..=stream.len() {
            let (a, b) = stream.as_bytes().split_at(at);
            assert_eq!(relayed(from, into, &[a, b]), whole, "cut at {at}");
        }
        let bytes: Vec<_> = stream.as_bytes().chunks(1).collect();
        assert_eq!(relayed(from, into, &bytes), whole);
        let crlf = stream.replace('\n', "\r\n");
        assert_eq!(relayed(from, into, &[crlf.as_bytes()]), whole);
    }
}

#[test]
fn there_and_back_nothing_is_lost() {
    let there = relayed(Dialect::OpenAi, Dialect::Anthropic, &[openai_stream().as_bytes()]);
    let back = relayed(Dialect::Anthropic, Dialect::OpenAi, &[there.as_bytes()]);
    let said = |stream: &str, member: &str| -> String {
        data(stream)
            .iter()
            .filter_map(|c| c["choices"][0]["delta"][member].as_str().map(str::to_owned))
            .collect()
    };
    for member in ["content", "reasoning_content"] {
        assert_eq!(said(&back, member), said(&openai_stream(), member), "{member}");
    }
    let calls = |stream: &str| -> Vec<Value> {
        data(stream).iter().filter_map(|c| c["choices"][0]["delta"]["tool_calls"].get(0).cloned()).collect()
    };
    assert_eq!(calls(&back), calls(&openai_stream()));
}

#[test]
fn an_error_in_the_middle_ends_each_dialect_as_its_clients_expect() {
    let begun = anthropic_stream();
    let begun = &begun[..begun.find("Hello").unwrap() + 30];
    let begun = &begun[..begun.rfind("\n\n").unwrap() + 2];
    let failed = format!(
        "{begun}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}}}\n\n"
    );
    let stream = relayed(Dialect::Anthropic, Dialect::OpenAi, &[failed.as_bytes()]);
    let last = data(&stream).pop().unwrap();
    assert_eq!(
        (&last["error"]["message"], &last["error"]["code"]),
        (&json!("Overloaded"), &json!("overloaded"))
    );
    assert!(stream.ends_with("data: [DONE]\n\n"));

    let amiss = json!({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "MALFORMED_FUNCTION_CALL"}]});
    let ended = chunk(json!({"content": ""}), json!("error"));
    for (from, failed) in [
        (Dialect::Gemini, format!("data: {amiss}\n\n")),
        (Dialect::OpenAi, ended.replacen('{', "{\"error\":{\"code\":502,\"message\":\"gone\"},", 1)),
        (Dialect::OpenAi, ended),
    ] {
        let stream = relayed(from, Dialect::OpenAi, &[failed.as_bytes()]);
        assert!(data(&stream).pop().unwrap()["error"]["message"].is_string(), "{stream}");
        assert!(!stream.contains("finish_reason\":\""), "{stream}");
    }

    let begun = chunk(json!({"role": "assistant", "content": "Hel"}), Value::Null);
    let failed = format!("{begun}data: {{\"error\":{{\"message\":\"gone\",\"type\":\"server_error\"}}}}\n\n");
    let stream = relayed(Dialect::OpenAi, Dialect::Anthropic, &[failed.as_bytes()]);
    let names: Vec<_> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names[3..], ["content_block_stop", "error", "message_stop"]);
    assert_eq!(data(&stream)[4]["error"], json!({"type": "api_error", "message": "gone"}));
}

#[test]
fn calls_without_an_index_are_told_apart() {
    let call = |id: Option<&str>, text: &str| {
        chunk(
            json!({"tool_calls": [{"id": id, "function": {"name": id.map(|_| "f"), "arguments": text}}]}),
            Value::Null,
        )
    };
    let stream =
        [call(Some("a"), "{"), call(None, "}"), call(Some("b"), "{}"), chunk(json!({}), json!("stop"))]
            .concat();
    let stream = relayed(Dialect::OpenAi, Dialect::Anthropic, &[stream.as_bytes(), b"data: [DONE]\n\n"]);
    let ids: Vec<_> =
        data(&stream).iter().filter_map(|d| d["content_block"]["id"].as_str().map(str::to_owned)).collect();
    assert_eq!(ids, ["a", "b"]);
    assert!(stream.contains("\"stop_reason\":\"tool_use\""));
}

#[test]
fn what_a_block_begins_with_is_said() {
    let start = |index: usize, block: Value| {
        event("content_block_start", json!({"index": index, "content_block": block}))
    };
    let stop = |index: usize| event("content_block_stop", json!({"index": index}));
    let stream = [
        event("message_start", json!({"message": {"id": "msg_1", "model": "claude", "content": []}})),
        start(0, json!({"type": "thinking", "thinking": "hm"})),
        stop(0),
        start(1, json!({"type": "text", "text": "Hi"})),
        event("content_block_delta", json!({"index": 1, "delta": {"type": "text_delta", "text": " there"}})),
        stop(1),
        start(2, json!({"type": "tool_use", "id": "toolu_a", "name": "f", "input": {"a": 1}})),
        stop(2),
        event("message_delta", json!({"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}})),
        event("message_stop", json!({})),
    ]
    .concat();
    let out = data(&relayed(Dialect::Anthropic, Dialect::OpenAi, &[stream.as_bytes()]));
    let said = |path: &str| -> String { out.iter().filter_map(|d| d.pointer(path)?.as_str()).collect() };
    assert_eq!(said("/choices/0/delta/reasoning_content"), "hm");
    assert_eq!(said("/choices/0/delta/content"), "Hi there");
    assert_eq!(said("/choices/0/delta/tool_calls/0/function/arguments"), r#"{"a":1}"#);
    let mut tap = Tap::new(Dialect::Anthropic, 1);
    for event in stream.split_inclusive("\n\n") {
        tap.observe(event.as_bytes());
    }
    assert_eq!(tap.count_output(), crate::tokens::count_text("Hi theref"));
}

#[test]
fn anthropic_s_tap_knows_what_passed() {
    let stream = anthropic_stream();
    let mut tap = Tap::new(Dialect::Anthropic, 1);
    let events: Vec<_> = stream.split_inclusive("\n\n").collect();
    let kinds: Vec<_> = events.iter().map(|event| tap.observe(event.as_bytes())).collect();
    assert_eq!(kinds.last(), Some(&FrameKind::Done));
    assert!(tap.finished());
    assert_eq!(
        tap.usage(),
        Some(Usage { input_tokens: 9, output_tokens: 4, cache_read_tokens: 2, ..Usage::default() })
    );
    assert_eq!(tap.count_output(), crate::tokens::count_text("hmHello \u{1f30d}\nf{\"a\":1}g{}"));
    let mut cut = Tap::new(Dialect::Anthropic, 1);
    for event in &events[..8] {
        cut.observe(event.as_bytes());
    }
    assert!(!cut.finished());
}

proptest! {
    #[test]
    fn nothing_a_provider_sends_breaks_a_translator(
        lines in prop::collection::vec("(event: [a-z_]{0,8}\n)?data: (\\[DONE\\]|\\{\"[a-z]{0,9}\":[\\[\\]{}0-9\"a-z:,]{0,20}|[a-z{}\"]{0,8})", 0..8),
        whole in any::<bool>(),
    ) {
        let mut stream: String = lines.iter().map(|line| format!("{line}\n\n")).collect();
        if whole {
            stream.push_str(&openai_stream());
            stream.push_str(&anthropic_stream());
        }
        for from in [Dialect::OpenAi, Dialect::Anthropic] {
            for into in [Dialect::OpenAi, Dialect::Anthropic] {
                relayed(from, into, &[stream.as_bytes()]);
            }
        }
    }
}

/// What is written of a stream that is held back, and what is still held after it.
fn held_back(chunks: impl Iterator<Item = Value>) -> (BytesMut, Translator) {
    let mut translator = Translator::new(Dialect::OpenAi, Dialect::OpenAi, &Call::default()).holding();
    let mut out = BytesMut::new();
    for choice in chunks {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]});
        translator.event(format!("data: {chunk}\n\n").as_bytes(), &mut out).unwrap();
    }
    (out, translator)
}

#[test]
fn what_is_held_back_is_one_piece_within_bounds() {
    let says = |choice: usize, text: &str| json!({"index": choice, "delta": {"content": text}, "finish_reason": null});
    let (mut out, mut translator) = held_back((0..20_000).map(|_| says(0, "ab")));
    assert!(!translator.overflown());
    for held in translator.held() {
        assert_eq!(held.text(), "ab".repeat(20_000));
        translator.release(held, None, &mut out);
    }
    let out = String::from_utf8(out.to_vec()).unwrap();
    let texts: Vec<_> = data(&out)
        .into_iter()
        .filter(|d| d["choices"][0]["delta"]["content"] == "ab".repeat(20_000))
        .collect();
    assert_eq!(texts.len(), 1);
    assert!(data(&out).len() < 4, "{}", data(&out).len());

    // Over all choices; and with all that comes with a text.
    let (_, translator) = held_back((0..40_000).map(|n| says(n % 4, "ab")));
    assert!(translator.overflown());
    let top: Vec<_> = (0..20).map(|_| json!({"token": "ab", "logprob": -1.0, "bytes": [97, 98]})).collect();
    let token = json!({"token": "ab", "logprob": -0.5, "bytes": [97, 98], "top_logprobs": top});
    let tells = |n: usize| json!({"index": 0, "delta": {"content": "ab"}, "logprobs": {"content": vec![token.clone(); n]}, "finish_reason": null});
    assert!(!held_back((0..10).map(|_| tells(1))).1.overflown());
    let (out, mut translator) = held_back((0..100).map(|_| tells(1)));
    assert!(translator.overflown() && translator.held().is_empty());
    let said: usize = data(std::str::from_utf8(&out).unwrap())
        .iter()
        .filter_map(|d| d["choices"][0]["logprobs"]["content"].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(said, 100);
}

#[test]
fn what_a_stream_s_client_is_not_told_is_named() {
    let sse = |events: &[&str]| events.iter().map(|e| format!("data: {e}\n\n")).collect::<Vec<_>>();
    let search =
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s"}}"#;
    let cited = r#"{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"url":"u"}}}"#;
    let grounded =
        r#"{"candidates":[{"content":{"parts":[]},"groundingMetadata":{"webSearchQueries":["q"]}}]}"#;
    let annotated = r#"{"choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation"}]}}]}"#;
    let noted = r#"{"type":"response.output_text.annotation.added","annotation":{}}"#;
    let plain = r#"{"choices":[{"index":0,"delta":{"content":"hi","annotations":[]}}]}"#;
    for (from, events, named) in [
        (
            Dialect::Anthropic,
            sse(&[search, cited]),
            "dropped;answer.citations, dropped;answer.server_tool_use",
        ),
        (Dialect::Gemini, sse(&[grounded]), "dropped;answer.citations"),
        (Dialect::OpenAi, sse(&[annotated, annotated]), "dropped;answer.citations"),
        (Dialect::Responses, sse(&[noted]), "dropped;answer.citations"),
        (Dialect::OpenAi, sse(&[plain]), ""),
    ] {
        for client in [Dialect::OpenAi, Dialect::Responses, Dialect::Anthropic, Dialect::Gemini] {
            let mut translator = Translator::new(from, client, &Call::default());
            for event in &events {
                translator.event(event.as_bytes(), &mut BytesMut::new()).unwrap();
            }
            assert_eq!(translator.losses().header(), named, "{from:?} to {client:?}");
        }
    }
}
