//! Streams of dialects that only providers speak.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::{Call, Dialect, FrameKind, Framing, Tap, Translator, Usage, aws_frames, framing::Splitter};

/// The client's stream for these pieces of the provider's, with its end, as the orchestrator relays it.
fn relayed(from: Dialect, into: Dialect, pieces: &[&[u8]]) -> (String, Option<Usage>) {
    let mut splitter = Splitter::of(from.provider().framing());
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
                assert!(tap.finished());
                out.extend_from_slice(&translator.end(tap.usage().unwrap_or_default()));
            }
        }
    }
    (nameless(std::str::from_utf8(&out).unwrap()), tap.usage())
}

/// Without the ids of answers, which are made here where a provider gives none.
fn nameless(stream: &str) -> String {
    let mut out = String::new();
    let mut rest = stream;
    while let Some(at) =
        ["\"id\":\"chatcmpl-", "\"id\":\"msg_"].iter().filter_map(|mark| rest.find(mark)).min()
    {
        let (before, id) = rest.split_at(at + 6);
        out.push_str(before);
        rest = id.trim_start_matches(|c: char| c != '"');
    }
    out + rest
}

fn data(stream: &str) -> Vec<Value> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn frames(events: &[(&str, Value)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, payload) in events {
        let (kind, name_of) = match name.ends_with("Exception") {
            true => ("exception", ":exception-type"),
            false => ("event", ":event-type"),
        };
        let headers = [(name_of, *name), (":content-type", "application/json"), (":message-type", kind)];
        aws_frames::write(&headers, payload.to_string().as_bytes(), &mut out);
    }
    out
}

fn bedrock_stream() -> Vec<u8> {
    let delta = |index: u64, delta: Value| json!({"contentBlockIndex": index, "delta": delta, "p": "abcd"});
    let stop = |index: u64| json!({"contentBlockIndex": index});
    frames(&[
        ("messageStart", json!({"role": "assistant", "p": "ab"})),
        ("contentBlockDelta", delta(0, json!({"reasoningContent": {"text": "h\u{e9}"}}))),
        ("contentBlockDelta", delta(0, json!({"reasoningContent": {"signature": "EqQB=="}}))),
        ("contentBlockStop", stop(0)),
        ("contentBlockDelta", delta(1, json!({"reasoningContent": {"redactedContent": "Emw="}}))),
        ("contentBlockStop", stop(1)),
        ("contentBlockDelta", delta(2, json!({"text": "Hello "}))),
        ("contentBlockDelta", delta(2, json!({"text": "\u{1f30d}"}))),
        ("contentBlockStop", stop(2)),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t1", "name": "f"}}}),
        ),
        ("contentBlockDelta", delta(3, json!({"toolUse": {"input": "{\"a\":"}}))),
        ("contentBlockDelta", delta(3, json!({"toolUse": {"input": "1}"}}))),
        ("contentBlockStop", stop(3)),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 4, "start": {"toolUse": {"toolUseId": "t2", "name": "g"}}}),
        ),
        ("contentBlockStop", stop(4)),
        ("inventedEvent", json!({"x": 1})),
        ("messageStop", json!({"stopReason": "tool_use"})),
        (
            "metadata",
            json!({"usage": {"inputTokens": 5, "outputTokens": 9, "totalTokens": 16, "cacheReadInputTokens": 2},
            "metrics": {"latencyMs": 1}}),
        ),
    ])
}

fn ollama_stream() -> Vec<u8> {
    let line = |message: Value| json!({"model": "llama3", "created_at": "2025-01-01T00:00:00Z", "message": message, "done": false});
    let said = |name: &str, text: &str| line(json!({"role": "assistant", "content": "", name: text}));
    let call = |name: &str, arguments: Value| {
        line(
            json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}),
        )
    };
    let lines = [
        said("thinking", "h\u{e9}"),
        said("content", "Hello "),
        said("content", "\u{1f30d}"),
        call("f", json!({"a": 1})),
        call("g", json!({})),
        json!({"model": "llama3", "created_at": "2025-01-01T00:00:01Z", "message": {"role": "assistant", "content": ""},
            "done": true, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 9, "total_duration": 1}),
    ];
    lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

fn mistral_stream() -> Vec<u8> {
    let chunk = |delta: Value, finish: Value, usage: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let mut chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "magistral", "choices": [choice]});
        if !usage.is_null() {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n")
    };
    let plain = |delta: Value| chunk(delta, Value::Null, Value::Null);
    let thinking = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "h\u{e9}"}]}]);
    let calls = json!({"tool_calls": [
        {"id": "D681PevKs", "function": {"name": "f", "arguments": "{\"a\":1}"}, "index": 0},
        {"id": "E681PevKs", "function": {"name": "g", "arguments": {}}, "index": 1}]});
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16, "prompt_tokens_details": {"cached_tokens": 2}});
    [
        plain(json!({"role": "assistant", "content": ""})),
        plain(json!({"content": thinking})),
        plain(json!({"content": [{"type": "text", "text": "Hello "}]})),
        plain(json!({"content": "\u{1f30d}"})),
        chunk(calls, json!("tool_calls"), usage),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat()
    .into_bytes()
}

#[test]
fn their_streams_become_chat_completions_however_they_are_cut() {
    for (dialect, stream, cached) in [
        (Dialect::Bedrock, bedrock_stream(), 2),
        (Dialect::Ollama, ollama_stream(), 0),
        (Dialect::Mistral, mistral_stream(), 2),
    ] {
        let (whole, usage) = relayed(dialect, Dialect::OpenAi, &[&stream]);
        let events = data(&whole);
        assert!(whole.ends_with("data: [DONE]\n\n"));
        let said = |name: &str| -> String {
            events.iter().filter_map(|e| e["choices"][0]["delta"][name].as_str()).collect()
        };
        assert_eq!(said("content"), "Hello \u{1f30d}", "{dialect:?}");
        assert_eq!(said("reasoning_content"), "h\u{e9}");
        let mut calls = vec![(String::new(), String::new()); 2];
        for call in events.iter().filter_map(|e| e["choices"][0]["delta"]["tool_calls"].as_array()).flatten()
        {
            let entry = &mut calls[usize::try_from(call["index"].as_u64().unwrap()).unwrap()];
            entry.0.push_str(call["function"]["name"].as_str().unwrap_or_default());
            entry.1.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
        assert_eq!(calls, [("f".into(), r#"{"a":1}"#.into()), ("g".into(), "{}".into())], "{dialect:?}");
        let finishes: Vec<_> =
            events.iter().filter_map(|e| e["choices"][0]["finish_reason"].as_str()).collect();
        assert_eq!(finishes, ["tool_calls"]);
        let usage = usage.unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.cache_read_tokens), (7, 9, cached));
        assert_eq!(events.last().unwrap()["usage"]["prompt_tokens"], 7);
        for into in [Dialect::OpenAi, Dialect::Anthropic] {
            let whole = relayed(dialect, into, &[&stream]).0;
            for at in 0..=stream.len() {
                let (a, b) = stream.split_at(at);
                assert_eq!(relayed(dialect, into, &[a, b]).0, whole, "{dialect:?} split at {at}");
            }
            let bytes: Vec<_> = stream.chunks(1).collect();
            assert_eq!(relayed(dialect, into, &bytes).0, whole);
        }
    }
}

#[test]
fn bedrock_s_state_streams_through_to_anthropic_s_clients() {
    let (stream, _) = relayed(Dialect::Bedrock, Dialect::Anthropic, &[&bedrock_stream()]);
    let events = data(&stream);
    let kinds: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"message_start"), Some(&"message_stop")));
    let delta = |kind: &str, name: &str| -> String {
        let fits = |e: &&Value| e["delta"]["type"] == kind;
        events.iter().filter(fits).filter_map(|e| e["delta"][name].as_str()).collect()
    };
    assert_eq!(delta("signature_delta", "signature"), "EqQB==");
    let redacted: Vec<_> =
        events.iter().filter(|e| e["content_block"]["type"] == "redacted_thinking").collect();
    assert_eq!(redacted[0]["content_block"]["data"], "Emw=");
    let starts = kinds.iter().filter(|kind| **kind == "content_block_start").count();
    assert_eq!((starts, kinds.iter().filter(|kind| **kind == "content_block_stop").count()), (5, 5));
}

#[test]
fn errors_in_the_middle_end_their_streams() {
    let begun = |stream: &[u8], framing: Framing| {
        let mut splitter = Splitter::of(framing);
        splitter.feed(Bytes::copy_from_slice(stream));
        splitter.next_event().unwrap().unwrap().to_vec()
    };
    let exception = frames(&[("throttlingException", json!({"message": "slow down"}))]);
    for (dialect, first, error) in [
        (Dialect::Bedrock, begun(&bedrock_stream(), Framing::AwsFrames), exception),
        (Dialect::Ollama, begun(&ollama_stream(), Framing::Lines), b"{\"error\":\"slow down\"}\n".to_vec()),
        (
            Dialect::Mistral,
            begun(&mistral_stream(), Framing::Sse),
            b"data: {\"object\":\"error\",\"message\":\"slow down\",\"type\":\"rate_limited\",\"raw_status_code\":429}\n\n".to_vec(),
        ),
    ] {
        let mut tap = Tap::new(dialect, 1);
        tap.observe(&first);
        assert_eq!(tap.observe(&error), FrameKind::Error, "{dialect:?}");
        assert!(tap.failed() && !tap.finished());
        let (stream, _) = relayed(dialect, Dialect::OpenAi, &[&first, &error]);
        assert!(stream.contains("slow down") && stream.ends_with("data: [DONE]\n\n"), "{stream}");
    }
}
