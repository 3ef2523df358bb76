//! Opaque state through clients that know nothing of it, several choices, log probabilities.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::{
    Call, Dialect, Usage,
    canonical::{
        Answer, Choice, Content, Delta, Event, Finish, Logprob, Losses, Opaque, Part, PartStart, ToolUse,
        Vendor,
    },
};

fn opaque(vendor: Vendor, data: &str) -> Option<Opaque> {
    Some(Opaque::new(vendor, data))
}

fn call(id: &str) -> Part {
    let call = ToolUse { id: id.to_owned(), name: "f".to_owned(), arguments: "{}".to_owned() };
    Content::ToolUse(call).into()
}

/// A turn of each vendor's, as its own dialect gives it.
fn turns() -> [(Vendor, Vec<Part>); 3] {
    let reasoning =
        |data: &str, id: &str| Some(Opaque { id: Some(id.to_owned()), ..Opaque::new(Vendor::OpenAi, data) });
    [
        (
            Vendor::Anthropic,
            vec![
                Part::from(Content::Thinking("hm \u{1f914}".to_owned()))
                    .with_opaque(opaque(Vendor::Anthropic, "EqQB+/==")),
                Part::from(Content::RedactedThinking).with_opaque(opaque(Vendor::Anthropic, "opaque")),
                Part::text("ok"),
                call("toolu_1"),
            ],
        ),
        (
            Vendor::Google,
            vec![
                Part::text("ok").with_opaque(opaque(Vendor::Google, "dGV4dA+/==")),
                call("call_1").with_opaque(opaque(Vendor::Google, "Y2FsbA==")),
                call("call_2"),
                call("call_3").with_opaque(opaque(Vendor::Google, "more")),
            ],
        ),
        (
            Vendor::OpenAi,
            vec![
                Part::from(Content::Thinking("sum".to_owned())).with_opaque(reasoning("gAAAA+/==", "rs_1")),
                Part::from(Content::RedactedThinking).with_opaque(reasoning("gAAAB", "rs_2")),
                Part::text("ok"),
                call("call_1"),
            ],
        ),
    ]
}

/// State by what it belongs to.
fn state(parts: &[Part]) -> Vec<(String, Opaque)> {
    let of = |part: &Part| match &part.content {
        Content::ToolUse(call) => call.id.clone(),
        Content::Text(_) => "text".to_owned(),
        _ => "thought".to_owned(),
    };
    parts.iter().filter_map(|part| Some((of(part), part.opaque.clone()?))).collect()
}

/// A client's next request, with the message it got.
fn next(client: Dialect, message: &Value) -> Vec<Part> {
    let body = match client {
        Dialect::Anthropic => {
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": message["content"]}]})
        }
        _ => json!({"model": "m", "messages": [message["choices"][0]["message"]]}),
    };
    let request = client.decode_request(body.to_string().as_bytes(), &mut Losses::default()).unwrap();
    request.messages.into_iter().next().unwrap().parts
}

#[test]
fn every_vendor_s_state_comes_back_through_every_client() {
    for (vendor, parts) in turns() {
        let answer = Answer {
            id: "1".to_owned(),
            model: "m".to_owned(),
            created: 1,
            choices: vec![Choice { parts: parts.clone(), finish: Finish::ToolUse }],
            usage: None,
        };
        for client in [Dialect::OpenAi, Dialect::Anthropic] {
            let body = client.client().encode_answer(
                &answer,
                Usage::default(),
                &Call::default(),
                &mut Losses::default(),
            );
            let message: Value = serde_json::from_slice(&body).unwrap();
            let back = next(client, &message);
            assert_eq!(state(&back), state(&parts), "{vendor:?} through {client:?}: {message}");
        }
    }
}

/// A stream's bytes.
fn encoded(client: Dialect, parts: &[Part]) -> Bytes {
    let mut encoder = client.client().encoder(&Call::default());
    let mut out = BytesMut::new();
    let mut events =
        vec![Event::Start { id: "1".to_owned(), model: "m".to_owned(), created: 1, usage: None }];
    for (index, part) in parts.iter().enumerate() {
        let (start, said) = match &part.content {
            Content::Thinking(text) => (PartStart::Thinking, Some(text)),
            Content::RedactedThinking => (PartStart::RedactedThinking(part.opaque.clone().unwrap()), None),
            Content::ToolUse(call) => {
                let start = PartStart::ToolUse { id: call.id.clone(), name: call.name.clone() };
                (start, Some(&call.arguments))
            }
            Content::Text(text) => (PartStart::Text, Some(text)),
            _ => unreachable!(),
        };
        let redacted = said.is_none();
        events.push(Event::PartStart { index, choice: 0, part: start });
        for piece in said.into_iter().flat_map(|said| said.split_inclusive(' ')) {
            let piece = piece.to_owned();
            let delta = match &part.content {
                Content::Thinking(_) => Delta::Thinking(piece),
                Content::ToolUse(_) => Delta::Arguments(piece),
                _ => Delta::Text(piece),
            };
            events.push(Event::PartDelta { index, delta });
        }
        let opaque = part.opaque.clone().filter(|_| !redacted);
        events.extend(opaque.map(|opaque| Event::PartDelta { index, delta: Delta::Opaque(opaque) }));
        events.push(Event::PartStop { index });
    }
    events.iter().for_each(|event| encoder.encode(event, &mut out));
    out.extend_from_slice(&encoder.end(Usage::default()));
    out.freeze()
}

/// What a stream's client puts together.
fn streamed(client: Dialect, parts: &[Part]) -> Value {
    // A provider of the client's own dialect would be read so.
    let mut decoder = client.provider().decoder();
    let (mut splitter, mut steps) = (crate::sse::Splitter::new(), Vec::new());
    splitter.feed(encoded(client, parts));
    while let Some(event) = splitter.next_event().unwrap() {
        decoder.decode(&event, &mut steps);
    }
    let mut collector = crate::canonical::Collector::new(1 << 20);
    steps.iter().for_each(|step| collector.take(step));
    let parts = collector.choices().remove(0);
    let answer = Answer {
        id: "1".to_owned(),
        model: "m".to_owned(),
        created: 1,
        choices: vec![Choice { parts, finish: Finish::ToolUse }],
        usage: None,
    };
    let body =
        client.client().encode_answer(&answer, Usage::default(), &Call::default(), &mut Losses::default());
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn streams_carry_the_same_state() {
    for (vendor, parts) in turns() {
        for client in [Dialect::OpenAi, Dialect::Anthropic] {
            let message = streamed(client, &parts);
            let back = next(client, &message);
            assert_eq!(state(&back), state(&parts), "{vendor:?} through {client:?}: {message}");
        }
    }
}

/// As openai's own clients do it (openai-python's `_deltas.py`): pieces of a list go together by their `index`, which is a
/// place in it.
fn accumulate(whole: &mut Value, delta: &Value) {
    match (whole, delta) {
        (Value::Object(whole), Value::Object(delta)) => {
            for (name, value) in delta {
                match whole.get_mut(name).filter(|known| !known.is_null()) {
                    Some(known) if name != "index" && name != "type" => accumulate(known, value),
                    _ if value.is_array() => accumulate(whole.entry(name).or_insert(json!([])), value),
                    _ => drop(whole.insert(name.clone(), value.clone())),
                }
            }
        }
        (Value::String(whole), Value::String(delta)) => whole.push_str(delta),
        (Value::Array(whole), Value::Array(delta)) => {
            for piece in delta {
                let at = usize::try_from(piece["index"].as_u64().expect("a piece without index")).unwrap();
                assert!(at <= whole.len(), "a gap before {piece}");
                match whole.get_mut(at) {
                    Some(known) => accumulate(known, piece),
                    None => whole.push(piece.clone()),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn openai_s_own_clients_put_streamed_thoughts_together_as_they_were() {
    let thought = |text: &str, opaque: Option<Opaque>| {
        Part::from(Content::Thinking(text.to_owned())).with_opaque(opaque)
    };
    let several = vec![
        thought("the first one", opaque(Vendor::Anthropic, "s1==")),
        Part::from(Content::RedactedThinking).with_opaque(opaque(Vendor::Anthropic, "hidden")),
        thought("", None),
        thought("nobody signed this", None),
        Part::text("so it is"),
        thought("the second one", opaque(Vendor::Google, "s2==")),
        call("call_1"),
        call("call_2"),
    ];
    let turns = turns().into_iter().map(|(_, parts)| parts).chain([several]);
    for parts in turns {
        let stream = String::from_utf8(encoded(Dialect::OpenAi, &parts).to_vec()).unwrap();
        let mut message = json!({});
        for data in stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|d| *d != "[DONE]") {
            let chunk: Value = serde_json::from_str(data).unwrap();
            accumulate(&mut message, &chunk["choices"][0]["delta"]);
        }
        let back = next(Dialect::OpenAi, &json!({"choices": [{"message": message}]}));
        assert_eq!(state(&back), state(&parts), "{message}");
        let thoughts = |parts: &[Part]| -> Vec<String> {
            let texts = parts.iter().filter_map(|part| match &part.content {
                Content::Thinking(text) if !text.is_empty() => Some(text.clone()),
                _ => None,
            });
            texts.collect()
        };
        assert_eq!(thoughts(&back), thoughts(&parts), "{message}");
        // Whole they have no places: each stands in its own.
        let whole = &streamed(Dialect::OpenAi, &parts)["choices"][0]["message"]["thinking_blocks"];
        assert!(
            whole.as_array().is_none_or(|blocks| blocks.iter().all(|block| block.get("index").is_none()))
        );
    }
}

#[test]
fn compatible_providers_state_is_read_under_every_name() {
    let message = json!({"role": "assistant", "content": "x", "reasoning": "hm", "reasoning_details": [
        {"type": "reasoning.text", "text": "hm", "signature": "sig", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "red", "format": "anthropic-claude-v1", "index": 1},
        {"type": "reasoning.summary", "summary": "s", "id": "rs_1", "format": "openai-responses-v1", "index": 2},
        {"type": "reasoning.encrypted", "data": "enc", "id": "rs_1", "format": "openai-responses-v1", "index": 2},
        {"type": "reasoning.encrypted", "data": "goo", "id": "call_1", "format": "google-gemini-v1", "index": 3}],
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let body =
        json!({"id": "1", "choices": [{"message": message, "finish_reason": "tool_calls"}]}).to_string();
    let answer = Dialect::OpenAi.provider().decode_answer(body.as_bytes()).unwrap();
    let found = state(answer.parts());
    let data: Vec<_> = found.iter().map(|(of, o)| (of.as_str(), o.vendor, o.data.as_str())).collect();
    assert_eq!(
        data,
        [
            ("thought", Vendor::Anthropic, "sig"),
            ("thought", Vendor::Anthropic, "red"),
            ("thought", Vendor::OpenAi, "enc"),
            ("call_1", Vendor::Google, "goo"),
        ]
    );
    assert_eq!(found[2].1.id.as_deref(), Some("rs_1"));
}

#[test]
fn another_vendor_s_state_is_left_out_and_named() {
    let target = crate::Target {
        model: "claude",
        max_output: Some(9),
        adaptive_thinking: false,
        fixed_sampling: false,
    };
    for (vendor, parts) in turns() {
        let mut request = crate::canonical::Request::default();
        request.messages.push(crate::canonical::Message { role: crate::canonical::Role::Assistant, parts });
        for (provider, own, model) in [
            (Dialect::Anthropic, Some(Vendor::Anthropic), "claude"),
            (Dialect::OpenAi, None, "gpt-4o"),
            (Dialect::OpenAi, Some(Vendor::Google), "google/gemini-3-pro"),
            (Dialect::OpenAi, Some(Vendor::OpenAi), "openai/gpt-5"),
            (Dialect::Bedrock, Some(Vendor::Anthropic), "anthropic.claude-sonnet-4-5-20250929-v1:0"),
            (Dialect::Bedrock, None, "amazon.nova-pro-v1:0"),
            (Dialect::Mistral, None, "mistral-large-latest"),
            (Dialect::Ollama, None, "llama3.2"),
        ] {
            assert_eq!(provider.vendor(model), own);
            let mut losses = Losses::default();
            let body = provider.encode_request(&request, &crate::Target { model, ..target }, &mut losses);
            let text = String::from_utf8(body.to_vec()).unwrap();
            let secrets = ["EqQB+/==", "Y2FsbA==", "gAAAA+/=="];
            let sent = secrets.iter().any(|secret| text.contains(secret));
            assert_eq!(sent, own == Some(vendor), "{vendor:?} to {model}: {text}");
            assert_eq!(
                losses.header().contains("dropped;thinking"),
                own != Some(vendor),
                "{vendor:?} to {model}"
            );
        }
    }
}

fn logprob(token: &str) -> Logprob {
    let alone = Logprob {
        token: token.to_owned(),
        logprob: -0.5,
        bytes: Some(token.as_bytes().to_vec()),
        top: Vec::new(),
    };
    Logprob { top: vec![alone.clone()], ..alone }
}

#[test]
fn choices_and_log_probabilities_stay_apart() {
    let chunk = |index: u64, delta: Value, logprobs: Value, finish: Value| {
        let chunk = json!({"id": "chatcmpl-1", "model": "m", "choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]});
        format!("data: {chunk}\n\n")
    };
    let wire = |token: &str| {
        json!({"content": [{"token": token, "logprob": -0.5, "bytes": token.as_bytes(),
        "top_logprobs": [{"token": token, "logprob": -0.5, "bytes": token.as_bytes()}]}], "refusal": null})
    };
    let stream = [
        chunk(0, json!({"role": "assistant", "content": ""}), Value::Null, Value::Null),
        chunk(1, json!({"role": "assistant", "content": ""}), Value::Null, Value::Null),
        chunk(0, json!({"content": "a"}), wire("a"), Value::Null),
        chunk(1, json!({"content": "b"}), wire("b"), Value::Null),
        chunk(0, json!({"content": "A"}), wire("A"), Value::Null),
        chunk(1, json!({}), Value::Null, json!("length")),
        chunk(0, json!({}), Value::Null, json!("stop")),
    ];
    let mut decoder = Dialect::OpenAi.provider().decoder();
    let (mut steps, mut collector) = (Vec::new(), crate::canonical::Collector::new(1 << 20));
    stream.iter().for_each(|event| decoder.decode(event.as_bytes(), &mut steps));
    steps.iter().for_each(|step| collector.take(step));
    let choices = collector.choices();
    assert_eq!(choices.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(choices[0][0].logprobs, [logprob("a"), logprob("A")]);
    let finishes: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            Event::Finish { choice, finish } => Some((*choice, finish.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(finishes, [(1, Finish::MaxTokens), (0, Finish::Stop)]);
    let mut encoder = Dialect::OpenAi.client().encoder(&Call::default());
    let mut out = BytesMut::new();
    steps.iter().for_each(|step| encoder.encode(step, &mut out));
    let text = String::from_utf8(out.to_vec()).unwrap();
    let chunks: Vec<Value> = text
        .lines()
        .filter_map(|l| l.strip_prefix("data: "))
        .map(|d| serde_json::from_str(d).unwrap())
        .collect();
    for (index, said) in [(0, "aA"), (1, "b")] {
        let of: Vec<_> = chunks.iter().map(|c| &c["choices"][0]).filter(|c| c["index"] == index).collect();
        assert_eq!(of[0]["delta"]["role"], "assistant");
        assert_eq!(of.iter().filter_map(|c| c["delta"]["content"].as_str()).collect::<String>(), said);
        assert_eq!(of.iter().filter(|c| c["finish_reason"].is_string()).count(), 1);
        assert!(of.iter().any(|c| c["logprobs"] == wire(&said[..1])));
    }
    // Anthropic's clients get the first.
    let mut encoder = Dialect::Anthropic.client().encoder(&Call::default());
    let mut out = BytesMut::new();
    steps.iter().for_each(|step| encoder.encode(step, &mut out));
    out.extend_from_slice(&encoder.end(Usage::default()));
    let text = String::from_utf8(out.to_vec()).unwrap();
    assert!(text.contains("end_turn") && !text.contains("\"b\""), "{text}");
}

#[test]
fn whole_answers_have_all_their_choices() {
    let logprobs = json!({"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": [97]}]}], "refusal": null});
    let body = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "a", "refusal": null}, "logprobs": logprobs, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": null, "refusal": "no"}, "logprobs": null, "finish_reason": "stop"}]});
    let bytes = Bytes::from(body.to_string());
    let back = Dialect::OpenAi.translate_answer(&bytes, Dialect::OpenAi, Usage::default(), &Call::default());
    let back: Value = serde_json::from_slice(&back.unwrap()).unwrap();
    assert_eq!(back["choices"][0], body["choices"][0]);
    assert_eq!(
        (&back["choices"][1]["index"], &back["choices"][1]["message"]["refusal"]),
        (&json!(1), &json!("no"))
    );
    let ask = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 2, "logprobs": true, "top_logprobs": 3});
    let mut losses = Losses::default();
    let request = Dialect::OpenAi.decode_request(ask.to_string().as_bytes(), &mut losses).unwrap();
    assert_eq!((request.choices, request.logprobs), (Some(2), Some(3)));
    let target =
        crate::Target { model: "m", max_output: Some(9), adaptive_thinking: false, fixed_sampling: false };
    let _ = Dialect::Anthropic.encode_request(&request, &target, &mut losses);
    assert_eq!(losses.header(), "altered;n, dropped;logprobs");
    let body = Dialect::OpenAi.encode_request(&request, &target, &mut Losses::default());
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["n"], &body["logprobs"], &body["top_logprobs"]), (&json!(2), &json!(true), &json!(3)));
}
