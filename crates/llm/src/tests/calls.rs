//! Tool calls, however providers number, name and cut them: what clients get is always the same.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::{Call, Dialect, Translator, Usage, sse::Splitter};

/// A stream of these deltas' calls, as a client's dialect has it.
fn relayed(deltas: &[Value], finish: &str, into: Dialect) -> Vec<Value> {
    let mut stream: String = deltas
        .iter()
        .map(|calls| {
            let chunk = json!({"id": "chatcmpl-9", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": calls}}]});
            format!("data: {chunk}\n\n")
        })
        .collect();
    let end = json!({"id": "chatcmpl-9", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]});
    stream.push_str(&format!("data: {end}\n\ndata: [DONE]\n\n"));
    let mut splitter = Splitter::new();
    splitter.feed(Bytes::from(stream));
    let mut translator = Translator::new(Dialect::OpenAi, into, &Call::default());
    let mut out = BytesMut::new();
    while let Some(event) = splitter.next_event().unwrap() {
        translator.event(&event, &mut out).unwrap();
    }
    out.extend_from_slice(&translator.end(Usage::default()));
    let text = String::from_utf8(out.to_vec()).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// Calls of a chat client's stream, by the rules that strict clients hold it to.
fn of_chunks(chunks: &[Value]) -> Vec<(String, String, String)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    let mut finishes = Vec::new();
    for chunk in chunks {
        let choice = &chunk["choices"][0];
        finishes.extend(choice["finish_reason"].as_str());
        let Some(pieces) = choice["delta"].get("tool_calls") else { continue };
        for piece in pieces.as_array().unwrap() {
            let index = usize::try_from(piece["index"].as_u64().unwrap()).unwrap();
            let function = &piece["function"];
            if index == calls.len() {
                assert_eq!(piece["type"], "function", "{piece}");
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                calls.push((text(&piece["id"]), text(&function["name"]), String::new()));
            } else {
                // Only the last one goes on, and says no more than its arguments.
                assert_eq!(index + 1, calls.len(), "{piece}");
                assert!(
                    piece.get("id").is_none()
                        && piece.get("type").is_none()
                        && function.get("name").is_none()
                );
            }
            calls.last_mut().unwrap().2.push_str(function["arguments"].as_str().unwrap());
        }
    }
    assert_eq!(finishes, ["tool_calls"]);
    calls
}

/// The same of an Anthropic client's.
fn of_events(events: &[Value]) -> Vec<(String, String, String)> {
    let (mut calls, mut open) = (Vec::new(), None);
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(open.replace(event["index"].clone()), None, "blocks don't overlap");
                let block = &event["content_block"];
                let text = |name: &str| block[name].as_str().unwrap().to_owned();
                calls.push((text("id"), text("name"), String::new()));
            }
            "content_block_delta" => {
                assert_eq!(open.as_ref(), Some(&event["index"]));
                calls.last_mut().unwrap().2.push_str(event["delta"]["partial_json"].as_str().unwrap());
            }
            "content_block_stop" => assert_eq!(open.take().as_ref(), Some(&event["index"])),
            "message_delta" => assert_eq!(event["delta"]["stop_reason"], "tool_use"),
            _ => {}
        }
    }
    assert_eq!(open, None);
    calls
}

#[test]
fn whatever_a_provider_sends_clients_get_whole_calls_one_after_another() {
    let f = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
    let (one, two) = (("call_a", "f", r#"{"a":"}\"{"}"#), ("call_b", "g", "{}"));
    for (what, deltas, expected) in [
        (
            "as OpenAI",
            vec![
                json!([{"index": 0, "id": "call_a", "type": "function", "function": f("f", "".into())}]),
                json!([{"index": 0, "function": {"arguments": "{\"a\":\"}"}}]),
                json!([{"index": 0, "function": {"arguments": "\\\"{\"}"}}]),
                json!([{"index": 1, "id": "call_b", "type": "function", "function": f("g", "{}".into())}]),
            ],
            vec![one, two],
        ),
        (
            "without an index",
            vec![
                json!([{"id": "call_a", "type": "function", "function": f("f", "{\"a\":\"}".into())}]),
                json!([{"function": {"arguments": "\\\"{\"}"}}]),
                json!([{"id": "call_b", "function": f("g", "{}".into())}]),
            ],
            vec![one, two],
        ),
        (
            "the id, the name and a type of null with every piece",
            vec![
                json!([{"index": 0, "id": "call_a", "type": null, "function": f("f", "{\"a\":\"}".into())}]),
                json!([{"index": 0, "id": "call_a", "type": null, "function": f("f", "\\\"{\"}".into())}]),
                json!([{"index": 1, "id": "call_b", "type": null, "function": f("g", "{".into())}]),
                json!([{"index": 1, "id": "call_b", "type": null, "function": f("", "}".into())}]),
            ],
            vec![one, two],
        ),
        (
            "pieces in turns",
            vec![
                json!([{"index": 0, "id": "call_a", "function": f("f", "{\"a\":".into())}, {"index": 1, "id": "call_b", "function": f("g", "".into())}]),
                json!([{"index": 1, "function": {"arguments": "{"}}, {"index": 0, "function": {"arguments": "\"}\\\"{\""}}]),
                json!([{"index": 1, "function": {"arguments": "}"}}]),
                json!([{"index": 0, "function": {"arguments": "}"}}]),
            ],
            vec![one, two],
        ),
        (
            "all in one chunk, all with index 0",
            vec![
                json!([{"index": 0, "id": "call_a", "function": f("f", "{\"a\":\"}\\\"{\"}".into())}, {"index": 0, "id": "call_b", "function": f("g", "{}".into())}]),
            ],
            vec![one, two],
        ),
        (
            "counted from one, arguments as an object",
            vec![
                json!([{"index": 1, "id": "call_a", "function": f("f", json!({"a": "}\"{"}))}]),
                json!([{"index": 2, "id": "call_b", "function": f("g", json!({}))}]),
            ],
            vec![one, two],
        ),
        (
            "the name late",
            vec![
                json!([{"index": 0, "id": "call_a"}]),
                json!([{"index": 0, "function": {"name": "f", "arguments": null}}]),
                json!([{"index": 0, "function": f("", "{\"a\":\"}\\\"{\"}".into())}]),
                json!([{"index": 1, "id": "call_b", "function": f("g", "{}".into())}]),
            ],
            vec![one, two],
        ),
        (
            "an id of its own for each piece",
            vec![
                json!([{"index": 0, "id": "call_a", "function": f("f", "".into())}]),
                json!([{"index": 0, "id": "call_x", "function": {"arguments": "{\"a\":\"}\\\"{\"}"}}]),
                json!([{"index": 1, "id": "call_b", "function": f("g", "{}".into())}]),
            ],
            vec![one, two],
        ),
        (
            "neither index nor id",
            vec![
                json!([{"function": f("f", "{}".into())}, {"function": f("f", "{}".into())}]),
                json!([{"function": f("g", "{}".into())}]),
            ],
            vec![
                ("call_chatcmpl9_0", "f", "{}"),
                ("call_chatcmpl9_1", "f", "{}"),
                ("call_chatcmpl9_2", "g", "{}"),
            ],
        ),
        (
            "none for the first, all for the second",
            vec![
                json!([{"index": 0, "id": "call_a", "function": {"name": "f", "arguments": ""}}]),
                json!([{"index": 1, "id": "call_b", "function": f("g", "{}".into())}]),
            ],
            vec![("call_a", "f", ""), two],
        ),
        (
            "no arguments at all",
            vec![json!([{"index": 0, "id": "call_a", "function": {"name": "f"}}])],
            vec![("call_a", "f", "")],
        ),
    ] {
        let expected: Vec<_> =
            expected.into_iter().map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).collect();
        for finish in ["tool_calls", "stop", "function_call"] {
            assert_eq!(of_chunks(&relayed(&deltas, finish, Dialect::OpenAi)), expected, "{what}");
            assert_eq!(of_events(&relayed(&deltas, finish, Dialect::Anthropic)), expected, "{what}");
        }
    }
}

#[test]
fn whole_answers_have_whole_calls_too() {
    let call = json!({"function": {"name": "f", "arguments": {"a": 1}}});
    let body = json!({"id": "chatcmpl-9", "choices": [{"message": {"content": null, "tool_calls": [call]}, "finish_reason": "stop"}]});
    let body = body.to_string();
    let back = Dialect::OpenAi.translate_answer(
        body.as_bytes(),
        Dialect::OpenAi,
        Usage::default(),
        &Call::default(),
    );
    let back: Value = serde_json::from_slice(&back.unwrap()).unwrap();
    let choice = &back["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(
        choice["message"]["tool_calls"],
        json!([{"id": "call_chatcmpl9_0", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}])
    );
}
