//! Streams of the Responses dialect.

use proptest::prelude::*;

use super::*;

/// Reasoning in two paragraphs, a text, and two calls whose arguments come interleaved.
fn openai_stream() -> String {
    let n = &mut 0;
    let output = finished();
    let item = |at: usize| output["output"][at].clone();
    let begun = |mut item: Value| {
        for member in ["arguments", "content", "summary", "encrypted_content"] {
            match item.get(member) {
                Some(Value::String(_)) => item[member] = "".into(),
                Some(_) => item[member] = json!([]),
                None => {}
            }
        }
        item
    };
    let head = json!({"id": "resp_1", "object": "response", "created_at": 5, "status": "in_progress", "model": "gpt-5", "output": [], "usage": null});
    let summary = |index: u64, text: &str| json!({"item_id": "rs_1", "output_index": 0, "summary_index": index, "delta": text});
    let part = |index: u64| json!({"item_id": "rs_1", "output_index": 0, "summary_index": index, "part": {"type": "summary_text", "text": ""}});
    let text = |text: &str| json!({"item_id": "msg_1", "output_index": 1, "content_index": 0, "delta": text, "logprobs": [], "obfuscation": "x\"delta\":"});
    let arguments =
        |at: u64, text: &str| json!({"item_id": format!("fc_{at}"), "output_index": at, "delta": text});
    let mut out = String::from(": hello\n\n");
    for (name, data) in [
        ("response.created", json!({"response": head})),
        ("response.in_progress", json!({"response": head})),
        ("response.output_item.added", json!({"output_index": 0, "item": begun(item(0))})),
        ("response.reasoning_summary_part.added", part(0)),
        ("response.reasoning_summary_text.delta", summary(0, "hm")),
        ("response.reasoning_summary_part.added", part(1)),
        ("response.reasoning_summary_text.delta", summary(1, "so")),
        ("response.output_item.done", json!({"output_index": 0, "item": item(0)})),
        ("response.output_item.added", json!({"output_index": 1, "item": begun(item(1))})),
        (
            "response.content_part.added",
            json!({"item_id": "msg_1", "output_index": 1, "content_index": 0,
            "part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []}}),
        ),
        ("response.output_text.delta", text("Hello ")),
        ("response.output_text.delta", text("\u{1f30d}\n")),
        (
            "response.output_text.done",
            json!({"item_id": "msg_1", "output_index": 1, "content_index": 0, "text": "Hello \u{1f30d}\n"}),
        ),
        (
            "response.content_part.done",
            json!({"item_id": "msg_1", "output_index": 1, "content_index": 0, "part": item(1)["content"][0]}),
        ),
        ("response.output_item.done", json!({"output_index": 1, "item": item(1)})),
        ("response.output_item.added", json!({"output_index": 2, "item": begun(item(2))})),
        ("response.output_item.added", json!({"output_index": 3, "item": begun(item(3))})),
        ("response.function_call_arguments.delta", arguments(2, "{\"a\":")),
        ("response.function_call_arguments.delta", arguments(3, "{}")),
        ("response.function_call_arguments.delta", arguments(2, "1}")),
        (
            "response.function_call_arguments.done",
            json!({"item_id": "fc_2", "output_index": 2, "arguments": "{\"a\":1}"}),
        ),
        ("response.output_item.done", json!({"output_index": 2, "item": item(2)})),
        ("response.output_item.done", json!({"output_index": 3, "item": item(3)})),
        ("response.completed", json!({"response": output})),
    ] {
        out.push_str(&event(n, name, data));
    }
    out
}

#[test]
fn a_stream_tells_all_in_its_order() {
    let chunk = |delta: Value, finish: Value| {
        format!(
            "data: {}\n\n",
            json!({"id": "chatcmpl-1", "created": 5, "model": "gpt", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        )
    };
    let stream = [
        chunk(json!({"role": "assistant", "content": ""}), Value::Null),
        chunk(json!({"reasoning_content": "hm"}), Value::Null),
        chunk(json!({"content": "Hello "}), Value::Null),
        chunk(json!({"content": "you"}), Value::Null),
        chunk(
            json!({"tool_calls": [{"index": 0, "id": "call_a", "function": {"name": "f", "arguments": ""}}]}),
            Value::Null,
        ),
        chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}), Value::Null),
        chunk(
            json!({"tool_calls": [{"index": 1, "id": "call_b", "function": {"name": "g", "arguments": ""}}]}),
            Value::Null,
        ),
        chunk(json!({}), json!("tool_calls")),
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n"
            .to_owned(),
    ]
    .concat();
    let events = events(&relayed(
        Dialect::OpenAi,
        Dialect::Responses,
        &[stream.as_bytes()],
        &call(&json!({"model": "m"})),
    ));
    let call = [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ];
    let expected = [
        &["created", "in_progress"][..],
        &[
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
        ],
        &[
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
        ],
        &call,
        &call,
        &["completed"],
    ];
    assert_eq!(types(&events), expected.concat());
    let last = &events.last().unwrap()["response"];
    assert_eq!((&last["status"], &last["usage"]["total_tokens"]), (&json!("completed"), &json!(13)));
    let kinds: Vec<_> =
        last["output"].as_array().unwrap().iter().map(|i| i["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "function_call"]);
    assert_eq!(last["output"][3]["arguments"], "{}");
    // What was said at an item's end is what the response has.
    let done: Vec<_> = events
        .iter()
        .filter(|e| e["type"] == "response.output_item.done")
        .map(|e| e["item"].clone())
        .collect();
    assert_eq!(&Value::from(done), &last["output"]);
    assert!(events[0]["response"]["completed_at"].is_null() && last["completed_at"].is_number());
}

#[test]
fn what_a_provider_streams_is_what_it_answers_whole() {
    let request = json!({"model": "m"});
    for into in [Dialect::OpenAi, Dialect::Anthropic] {
        let stream = relayed(Dialect::Responses, into, &[openai_stream().as_bytes()], &call(&request));
        let whole = answered(Dialect::Responses, into, &finished(), &call(&request));
        let back = decoded(into, &stream);
        assert_eq!(back, said(into, &whole), "{into:?}");
    }
    let stream =
        relayed(Dialect::Responses, Dialect::Responses, &[openai_stream().as_bytes()], &call(&request));
    let last = events(&stream).pop().unwrap()["response"]["output"].clone();
    assert_eq!(
        last,
        answered(Dialect::Responses, Dialect::Responses, &finished(), &call(&request))["output"]
            .as_array()
            .map(|items| {
                let mut items = items.clone();
                // Its own id is known too late in a stream.
                items[0]["id"] = last[0]["id"].clone();
                Value::from(items)
            })
            .unwrap()
    );
}

/// Text, thoughts and calls of a stream, as its dialect's whole answer would have them.
fn decoded(dialect: Dialect, stream: &str) -> Value {
    let mut decoder = dialect.provider().decoder();
    let (mut steps, mut parts) = (Vec::new(), std::collections::BTreeMap::<usize, String>::new());
    for event in stream.split_inclusive("\n\n") {
        steps.clear();
        decoder.decode(event.as_bytes(), &mut steps);
        for step in &steps {
            use crate::canonical::{Delta, Event, PartStart};
            match step {
                Event::PartStart { index, part: PartStart::ToolUse { id, name }, .. } => {
                    parts.entry(*index).or_default().push_str(&format!("{id} {name} "));
                }
                Event::PartDelta {
                    index,
                    delta: Delta::Text(t) | Delta::Thinking(t) | Delta::Arguments(t),
                } => {
                    parts.entry(*index).or_default().push_str(t);
                }
                _ => {}
            }
        }
    }
    parts.into_values().collect::<Vec<_>>().into()
}

fn said(dialect: Dialect, answer: &Value) -> Value {
    use crate::canonical::Content;
    let answer = dialect.provider().decode_answer(answer.to_string().as_bytes()).unwrap();
    let parts = answer.parts().iter().filter_map(|part| match &part.content {
        Content::Text(text) | Content::Thinking(text) => Some(text.clone()),
        Content::ToolUse(call) => Some(format!("{} {} {}", call.id, call.name, call.arguments)),
        _ => None,
    });
    parts.collect::<Vec<_>>().into()
}

#[test]
fn every_cut_gives_the_same_stream() {
    let stream = openai_stream();
    let call = call(&json!({"model": "m", "input": "x"}));
    for into in CLIENTS {
        let whole = relayed(Dialect::Responses, into, &[stream.as_bytes()], &call);
        for at in 0..=stream.len() {
            let (a, b) = stream.as_bytes().split_at(at);
            assert_eq!(relayed(Dialect::Responses, into, &[a, b], &call), whole, "cut at {at}");
        }
        let bytes: Vec<_> = stream.as_bytes().chunks(1).collect();
        assert_eq!(relayed(Dialect::Responses, into, &bytes, &call), whole);
        let crlf = stream.replace('\n', "\r\n");
        assert_eq!(relayed(Dialect::Responses, into, &[crlf.as_bytes()], &call), whole);
    }
}

#[test]
fn those_who_send_no_pieces_say_the_same() {
    let mut n = 0;
    let head = json!({"id": "resp_1", "created_at": 5, "model": "gpt-5", "status": "in_progress"});
    let bare = event(&mut n, "response.created", json!({"response": head}))
        + &event(&mut n, "response.completed", json!({"response": finished()}));
    let mut n = 0;
    let mut items = event(&mut n, "response.created", json!({"response": head}));
    for (at, item) in finished()["output"].as_array().unwrap().iter().enumerate() {
        items += &event(&mut n, "response.output_item.done", json!({"output_index": at, "item": item}));
    }
    items += &event(&mut n, "response.completed", json!({"response": finished()}));
    let call = call(&json!({"model": "m"}));
    let whole = decoded(
        Dialect::Anthropic,
        &relayed(Dialect::Responses, Dialect::Anthropic, &[openai_stream().as_bytes()], &call),
    );
    for stream in [bare.replace("event: response.created\n", ""), items] {
        let stream = relayed(Dialect::Responses, Dialect::Anthropic, &[stream.as_bytes()], &call);
        assert_eq!(decoded(Dialect::Anthropic, &stream), whole);
        assert!(stream.contains("weir1.openai."), "{stream}");
    }
}

#[test]
fn an_error_in_the_middle_ends_each_dialect_as_its_clients_expect() {
    let stream = openai_stream();
    let begun = &stream[..stream.find("\"delta\":\"Hello ").unwrap()];
    let begun = &begun[..begun.rfind("\n\n").unwrap() + 2];
    let mut n = 10;
    let error =
        event(&mut n, "error", json!({"code": "rate_limit_exceeded", "message": "slow", "param": null}));
    let failed = event(
        &mut n,
        "response.failed",
        json!({"response": {"id": "resp_1", "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow"}}}),
    );
    for end in [&error, &failed] {
        let stream = format!("{begun}{end}");
        let call = call(&json!({"model": "m"}));
        let chat = relayed(Dialect::Responses, Dialect::OpenAi, &[stream.as_bytes()], &call);
        assert!(chat.contains("\"slow\"") && chat.ends_with("data: [DONE]\n\n"), "{chat}");
        let events = events(&relayed(Dialect::Responses, Dialect::Responses, &[stream.as_bytes()], &call));
        let last = events.last().unwrap();
        assert_eq!(
            (&last["type"], &last["response"]["status"]),
            (&json!("response.failed"), &json!("failed"))
        );
        assert_eq!(last["response"]["error"], json!({"code": "rate_limit_exceeded", "message": "slow"}));
        assert_eq!(
            types(&events).iter().filter(|t| matches!(**t, "failed" | "completed" | "incomplete")).count(),
            1
        );
        let mut tap = Tap::new(Dialect::Responses, 1);
        stream.split_inclusive("\n\n").for_each(|event| {
            tap.observe(event.as_bytes());
        });
        assert!(tap.failed() && !tap.finished());
    }
}

#[test]
fn a_relay_ends_a_cut_stream_under_the_next_number() {
    let stream = openai_stream();
    let all: Vec<&str> = stream.split_inclusive("\n\n").collect();
    let error = Error::new(Code::UpstreamFailed, "gone");
    for cut in 0..all.len() {
        let mut follower = Follower::new(Dialect::Responses);
        // As they come, and at once.
        all[..cut / 2].iter().for_each(|event| follower.observe(event.as_bytes()));
        follower.observe(all[cut / 2..cut].concat().as_bytes());
        let ended = all[1..cut.max(1)].concat() + std::str::from_utf8(&follower.fail(&error)).unwrap();
        let events = events(&ended);
        assert_eq!(types(&events).first(), Some(&"created"), "{cut}");
        let last = events.last().unwrap();
        assert_eq!(last["type"], "response.failed");
        assert_eq!(last["response"]["error"], json!({"code": "server_error", "message": "gone"}));
        assert_eq!(last["response"]["status"], "failed");
        if cut > 1 {
            assert_eq!(
                (&last["response"]["id"], &last["response"]["model"]),
                (&json!("resp_1"), &json!("gpt-5"))
            );
        }
    }
    let mut follower = Follower::new(Dialect::Responses);
    follower.observe(stream.as_bytes());
    assert!(follower.fail(&error).is_empty());

    let mut follower = Follower::new(Dialect::Responses);
    all[..4].iter().for_each(|event| follower.observe(event.as_bytes()));
    let own = event(&mut 3, "error", json!({"code": "server_error", "message": "theirs"}));
    let end = String::from_utf8(follower.end_with(&own.clone().into()).to_vec()).unwrap();
    assert!(end.starts_with(&own));
    let last: Value = serde_json::from_slice(&sse::data(&end.as_bytes()[own.len()..]).unwrap()).unwrap();
    assert_eq!(
        (&last["sequence_number"], &last["response"]["error"]["message"]),
        (&json!(4), &json!("theirs"))
    );
}

#[test]
fn the_tap_knows_what_passed() {
    let stream = openai_stream();
    let events: Vec<_> = stream.split_inclusive("\n\n").collect();
    let mut tap = Tap::new(Dialect::Responses, 1);
    let kinds: Vec<_> = events.iter().map(|event| tap.observe(event.as_bytes())).collect();
    assert_eq!((kinds[1], kinds.last()), (FrameKind::Other, Some(&FrameKind::Done)));
    assert_eq!(kinds.iter().filter(|k| **k == FrameKind::Delta).count(), 9);
    assert!(tap.finished());
    let usage = Usage {
        input_tokens: 9,
        output_tokens: 4,
        cache_read_tokens: 2,
        reasoning_tokens: 1,
        ..Usage::default()
    };
    assert_eq!(tap.usage(), Some(usage));
    assert_eq!(tap.count_output(), crate::tokens::count_text("hmsoHello \u{1f30d}\nfg{\"a\":{}1}"));
    let mut cut = Tap::new(Dialect::Responses, 1);
    events[..12].iter().for_each(|event| {
        cut.observe(event.as_bytes());
    });
    assert!(!cut.finished() && !cut.failed());
}

proptest! {
    #[test]
    fn nothing_a_provider_sends_breaks_anything(
        lines in prop::collection::vec("(event: (response\\.)?[a-z_.]{0,20}\n)?data: (\\[DONE\\]|\\{\"[a-z_]{0,12}\":[\\[\\]{}0-9\"a-z:,_]{0,30}|[a-z{}\"]{0,8})", 0..8),
        order in prop::collection::vec(0usize..26, 0..30),
    ) {
        let stream = openai_stream();
        let events: Vec<&str> = stream.split_inclusive("\n\n").collect();
        let mut mixed: String = lines.iter().map(|line| format!("{line}\n\n")).collect();
        order.iter().filter_map(|at| events.get(*at)).for_each(|event| mixed.push_str(event));
        let call = call(&json!({"model": "m", "input": "x"}));
        for into in CLIENTS {
            let out = relayed(Dialect::Responses, into, &[mixed.as_bytes()], &call);
            if into == Dialect::Responses {
                let terminal = self::events(&out).iter().filter(|e| matches!(e["type"].as_str(), Some("response.completed" | "response.failed" | "response.incomplete"))).count();
                prop_assert!(terminal <= 1);
            }
        }
        let mut follower = Follower::new(Dialect::Responses);
        follower.observe(mixed.as_bytes());
        drop(follower.fail(&Error::new(Code::UpstreamFailed, "x")));
    }

    #[test]
    fn text_and_calls_survive_the_way_there_and_back(
        texts in prop::collection::vec("\\PC{1,12}", 1..4),
        inputs in prop::collection::vec("\\PC{0,12}", 0..3),
    ) {
        let mut content: Vec<Value> = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
        content.extend(inputs.iter().enumerate().map(|(n, text)| json!({"type": "tool_use", "id": format!("toolu_{n}"), "name": "f", "input": {"a": text}})));
        let message = json!({"id": "msg_1", "model": "claude", "stop_reason": "end_turn", "content": content});
        let response = answered(Dialect::Anthropic, Dialect::Responses, &message, &call(&json!({})));
        let back = answered(Dialect::Responses, Dialect::Anthropic, &response, &call(&json!({})));
        prop_assert_eq!(&back["content"], &message["content"]);
    }
}
