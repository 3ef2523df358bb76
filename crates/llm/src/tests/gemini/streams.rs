//! Streams: what they become, however they are cut into pieces.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::translated;
use crate::{Call, Dialect, FrameKind, Tap, Translator, Usage, sse::Splitter};

/// The client's stream for these pieces of the provider's, which ends as its body does.
fn relayed(from: Dialect, into: Dialect, pieces: &[&[u8]]) -> String {
    let mut splitter = Splitter::new();
    let call = Call { model: "m".to_owned(), now_s: 7, include_usage: true, ..Call::default() };
    let mut translator = Translator::new(from, into, &call);
    let (mut tap, mut out) = (Tap::new(from, 1), BytesMut::new());
    for piece in pieces {
        splitter.feed(Bytes::copy_from_slice(piece));
        while let Some(event) = splitter.next_event().unwrap() {
            tap.observe(&event);
            if let Err(error) = translator.event(&event, &mut out) {
                out.extend_from_slice(&translator.fail(&error));
                return String::from_utf8(out.to_vec()).unwrap();
            }
        }
    }
    out.extend_from_slice(&translator.end(tap.usage().unwrap_or_default()));
    String::from_utf8(out.to_vec()).unwrap()
}

fn data(stream: &str) -> Vec<Value> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it reads better where it is called")]
fn chunk(parts: Value, finish: Option<&str>) -> String {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    let chunk = json!({"candidates": [candidate], "modelVersion": "gemini-3", "responseId": "r1", "usageMetadata":
        {"promptTokenCount": 9, "cachedContentTokenCount": 2, "candidatesTokenCount": 4, "thoughtsTokenCount": 1}});
    format!("data: {chunk}\r\n\r\n")
}

fn gemini_stream() -> String {
    [
        chunk(json!([{"text": "h", "thought": true}]), None),
        chunk(json!([{"text": "m", "thought": true}]), None),
        chunk(json!([{"text": "Hello "}]), None),
        chunk(json!([{"text": "\u{1f30d}\n"}]), None),
        chunk(
            json!([{"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "AAAA"},
                {"functionCall": {"id": "own", "name": "g", "args": {}}}]),
            None,
        ),
        chunk(json!([{"text": ""}]), Some("STOP")),
    ]
    .concat()
}

#[test]
fn chunks_of_gemini_become_each_dialects_stream() {
    let stream = relayed(Dialect::Gemini, Dialect::OpenAi, &[gemini_stream().as_bytes()]);
    assert!(stream.ends_with("data: [DONE]\n\n"));
    let chunks = data(&stream);
    let said = |member: &str| -> String {
        chunks.iter().filter_map(|c| c["choices"][0]["delta"][member].as_str()).collect()
    };
    assert_eq!((said("reasoning_content").as_str(), said("content").as_str()), ("hm", "Hello \u{1f30d}\n"));
    let calls: Vec<_> = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    let ids: Vec<_> = calls.iter().filter_map(|c| Some((c["index"].as_u64()?, c["id"].as_str()?))).collect();
    assert_eq!(ids, [(0, "call_r1_1"), (1, "own")]);
    let finishes: Vec<_> = chunks.iter().filter_map(|c| c["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(finishes, ["tool_calls"]);
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(9), &json!(5)));

    let stream = relayed(Dialect::Gemini, Dialect::Anthropic, &[gemini_stream().as_bytes()]);
    let events = data(&stream);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 7);
    let mut kinds: Vec<_> = events.iter().filter_map(|e| e["content_block"]["type"].as_str()).collect();
    // What carries the signature.
    kinds.retain(|kind| *kind != "redacted_thinking");
    assert_eq!(kinds, ["thinking", "text", "tool_use", "tool_use"]);
    assert!(stream.contains("\"stop_reason\":\"tool_use\"") && stream.contains("event: message_stop"));
}

fn anthropic_stream() -> String {
    let events = [
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude", "content": [], "usage": {"input_tokens": 7, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "h"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s+/="}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "r=="}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "Hello "}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "\u{1f30d}\n"}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "toolu_a", "name": "f", "input": {}}}),
        json!({"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": "{\"z\": 1.0,"}}),
        json!({"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": "\"a\":2}"}}),
        json!({"type": "content_block_stop", "index": 3}),
        json!({"type": "content_block_start", "index": 4, "content_block": {"type": "tool_use", "id": "toolu_b", "name": "g", "input": {}}}),
        json!({"type": "content_block_stop", "index": 4}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 4}}),
        json!({"type": "message_stop"}),
    ];
    let event = |e: &Value| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap());
    events.iter().map(event).collect()
}

#[test]
fn a_stream_for_gemini_s_clients_ends_with_its_finish_and_its_usage() {
    let stream = relayed(Dialect::Anthropic, Dialect::Gemini, &[anthropic_stream().as_bytes()]);
    let chunks = data(&stream);
    assert!(chunks.iter().all(|c| c["responseId"] == "msg_1" && c["modelVersion"] == "claude"));
    let candidates: Vec<_> = chunks.iter().map(|c| &c["candidates"][0]).collect();
    // A chunk without parts is taken for a failure.
    assert!(
        candidates.iter().all(|c| c["content"]["role"] == "model" && !c["content"]["parts"][0].is_null())
    );
    let finishes: Vec<_> = candidates.iter().filter_map(|c| c["finishReason"].as_str()).collect();
    assert_eq!(
        (finishes.as_slice(), &candidates.last().unwrap()["finishReason"]),
        (&["STOP"][..], &json!("STOP"))
    );
    let usages: Vec<_> = chunks.iter().filter(|c| c.get("usageMetadata").is_some()).collect();
    assert_eq!(usages.len(), 1);
    assert_eq!(usages[0]["usageMetadata"]["totalTokenCount"], 11);
    let calls: Vec<_> =
        candidates.iter().filter_map(|c| c["content"]["parts"][0].get("functionCall")).collect();
    assert_eq!(
        calls,
        [
            &json!({"id": "toolu_a", "name": "f", "args": {"z": 1.0, "a": 2}}),
            &json!({"id": "toolu_b", "name": "g", "args": {}})
        ]
    );
    // A client that keeps the chunks as they came has all that the provider wants back.
    let mut contents = vec![json!({"role": "user", "parts": [{"text": "x"}]})];
    contents.extend(candidates.iter().map(|c| c["content"].clone()));
    contents.push(json!({"role": "user", "parts": [
        {"functionResponse": {"name": "f", "response": {"output": "1"}}}, {"functionResponse": {"name": "g", "response": {"output": "2"}}}]}));
    let (back, _) = translated(Dialect::Gemini, Dialect::Anthropic, &json!({"contents": contents}), "claude");
    assert_eq!(
        back["messages"][1]["content"],
        json!([{"type": "thinking", "thinking": "hm", "signature": "s+/="}, {"type": "redacted_thinking", "data": "r=="},
            {"type": "text", "text": "Hello \u{1f30d}\n"},
            {"type": "tool_use", "id": "toolu_a", "name": "f", "input": {"z": 1.0, "a": 2}},
            {"type": "tool_use", "id": "toolu_b", "name": "g", "input": {}}])
    );
    assert_eq!(back["messages"][2]["content"][1]["tool_use_id"], "toolu_b");
}

#[test]
fn every_cut_gives_the_same_stream() {
    for (from, into, stream) in [
        (Dialect::Gemini, Dialect::OpenAi, gemini_stream()),
        (Dialect::Gemini, Dialect::Anthropic, gemini_stream()),
        (Dialect::Gemini, Dialect::Gemini, gemini_stream()),
        (Dialect::Anthropic, Dialect::Gemini, anthropic_stream()),
    ] {
        let whole = relayed(from, into, &[stream.as_bytes()]);
        for at in 0..=stream.len() {
            let (a, b) = stream.as_bytes().split_at(at);
            assert_eq!(relayed(from, into, &[a, b]), whole, "cut at {at}");
        }
        let bytes: Vec<_> = stream.as_bytes().chunks(1).collect();
        assert_eq!(relayed(from, into, &bytes), whole);
    }
}

#[test]
fn an_error_in_the_middle_is_the_last_that_comes() {
    let begun = chunk(json!([{"text": "Hel"}]), None);
    let failed = format!(
        "{begun}data: {{\"error\": {{\"code\": 503, \"message\": \"Overloaded\", \"status\": \"UNAVAILABLE\"}}}}\n\n"
    );
    let stream = relayed(Dialect::Gemini, Dialect::Anthropic, &[failed.as_bytes()]);
    let names: Vec<_> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names[3..], ["content_block_stop", "error", "message_stop"]);
    let mut tap = Tap::new(Dialect::Gemini, 1);
    let at = failed.find("data: {\"error\"").unwrap();
    let kinds = [&failed[..at], &failed[at..]].map(|event| tap.observe(event.as_bytes()));
    assert_eq!((kinds, tap.failed(), tap.finished()), ([FrameKind::Delta, FrameKind::Error], true, false));

    let begun = anthropic_stream();
    let begun = &begun[..begun.find("event: message_delta").unwrap()];
    let failed = format!(
        "{begun}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}}}\n\n"
    );
    let stream = relayed(Dialect::Anthropic, Dialect::Gemini, &[failed.as_bytes()]);
    let last = stream.trim_end().rsplit("\n\n").next().unwrap();
    // As Google's SDKs look for it.
    assert!(last.starts_with("data: {\"error\":{\"code\":429,"), "{last}");
    assert!(!stream.contains("finishReason"));
}

#[test]
fn the_tap_knows_what_passed() {
    let mut tap = Tap::new(Dialect::Gemini, 1);
    let stream = gemini_stream();
    let events: Vec<_> = stream.split_inclusive("\r\n\r\n").collect();
    let kinds: Vec<_> = events.iter().map(|event| tap.observe(event.as_bytes())).collect();
    assert!(tap.finished() && kinds[0] == FrameKind::Delta);
    let usage = Usage {
        input_tokens: 9,
        output_tokens: 5,
        cache_read_tokens: 2,
        reasoning_tokens: 1,
        ..Usage::default()
    };
    assert_eq!(tap.usage(), Some(usage));
    let mut cut = Tap::new(Dialect::Gemini, 1);
    for event in &events[..5] {
        cut.observe(event.as_bytes());
    }
    assert!(!cut.finished());
}

#[test]
fn every_candidate_has_its_finish_at_the_end() {
    let chunk = |index: u64, finish: Value| {
        let choice = json!({"index": index, "delta": {"content": "Hi"}, "finish_reason": finish});
        format!("data: {}\n\n", json!({"id": "chatcmpl-1", "model": "m", "choices": [choice]}))
    };
    // Of the second nobody says why it ended.
    let stream = chunk(0, json!("length")) + &chunk(1, Value::Null) + "data: [DONE]\n\n";
    let told = data(&relayed(Dialect::OpenAi, Dialect::Gemini, &[stream.as_bytes()]));
    let last = told.last().unwrap()["candidates"].as_array().unwrap();
    let ends: Vec<_> = last.iter().map(|c| (c["index"].as_u64(), c["finishReason"].as_str())).collect();
    assert_eq!(ends, [(Some(0), Some("MAX_TOKENS")), (Some(1), Some("STOP"))]);
}

#[test]
fn what_has_to_be_kept_is_bounded() {
    let call = json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]});
    let chunk = |delta: &Value| {
        format!("data: {}\n\n", json!({"id": "c", "choices": [{"index": 0, "delta": delta}]}))
    };
    let piece =
        chunk(&json!({"tool_calls": [{"index": 0, "function": {"arguments": "x".repeat(256 * 1024)}}]}));
    for (into, fits, too_many) in [(Dialect::Gemini, 4, 5), (Dialect::Responses, 64, 65)] {
        let stream = |pieces: usize| {
            let mut all = vec![chunk(&call)];
            all.resize(pieces + 1, piece.clone());
            let all: Vec<&[u8]> = all.iter().map(|piece| piece.as_bytes()).collect();
            relayed(Dialect::OpenAi, into, &all)
        };
        let failed = |stream: &str| stream.contains("too long to be translated");
        assert!(!failed(&stream(fits)) && failed(&stream(too_many)), "{into:?}");
    }
}

proptest! {
    #[test]
    fn nothing_a_provider_sends_breaks_a_translator(
        lines in prop::collection::vec("data: (\\{\"(candidates|error|[a-z]{0,9})\":[\\[\\]{}0-9\"a-z:,]{0,20}|[a-z{}\"]{0,8})", 0..8),
    ) {
        let stream: String = lines.iter().map(|line| format!("{line}\n\n")).collect::<String>() + &gemini_stream();
        for into in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
            relayed(Dialect::Gemini, into, &[stream.as_bytes()]);
        }
    }
}
