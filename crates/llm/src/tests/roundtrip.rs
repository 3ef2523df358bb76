//! Whatever the canonical form says, a dialect says it so that it reads the same, but for what it names as lost.
//!
//! A dialect that clients and providers both speak joins with a line in `BOTH`.

use std::collections::BTreeMap;

use bytes::BytesMut;
use proptest::{collection::vec, option, prelude::*};
use serde_json::{json, value::to_raw_value};

use crate::{
    Call, Dialect, Target, Usage,
    canonical::{
        Answer, Choice, Collector, Content, Delta, Event, Finish, Format, Function, Losses, Message, Opaque,
        Part, PartStart, Reasoning, Request, Role, Sampling, ServiceTier, Tool, ToolChoice, ToolResult,
        ToolUse, Vendor,
    },
};

const BOTH: [Dialect; 2] = [Dialect::OpenAi, Dialect::Anthropic];

/// A model that takes the state of the dialect's own vendor.
fn model(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => "openai/gpt-5",
        _ => "claude",
    }
}

fn text() -> impl Strategy<Value = String> {
    "[ -~é\u{1f30d}\n\"\\\\]{1,12}".prop_filter("nothing is said in white space", |text| text.trim() == text)
}

fn vendor() -> impl Strategy<Value = Vendor> {
    prop::sample::select(&Vendor::ALL[..])
}

/// A thought and a call as this vendor proves them.
fn thought(vendor: Vendor) -> impl Strategy<Value = Part> {
    (option::of(text()), "[A-Za-z0-9]{1,20}", 0..100_u32).prop_map(move |(said, data, id)| {
        let content = said.map_or(Content::RedactedThinking, Content::Thinking);
        let id = (vendor == Vendor::OpenAi).then(|| format!("rs_{id}"));
        Part::from(content).with_opaque(Some(Opaque { id, ..Opaque::new(vendor, data) }))
    })
}

fn call(vendor: Vendor) -> impl Strategy<Value = Part> {
    ("[a-z_]{1,8}", "[a-z]{0,5}", option::of("[A-Za-z0-9+/=]{1,20}")).prop_map(move |(name, word, data)| {
        let arguments = json!({ "a": word }).to_string();
        // Only Google's calls have state.
        let opaque = data.filter(|_| vendor == Vendor::Google).map(|data| Opaque::new(vendor, data));
        Part::from(Content::ToolUse(ToolUse { id: String::new(), name, arguments })).with_opaque(opaque)
    })
}

/// A turn in the order in which every dialect has it, with calls numbered from `first`.
fn turn(first: usize) -> impl Strategy<Value = Vec<Part>> {
    let parts = |vendor| (vec(thought(vendor), 0..3), option::of(text()), vec(call(vendor), 0..3));
    vendor().prop_flat_map(parts).prop_map(move |(mut parts, said, calls)| {
        parts.extend(said.map(Part::text));
        for (n, mut part) in calls.into_iter().enumerate() {
            if let Content::ToolUse(call) = &mut part.content {
                call.id = format!("call_{}", first + n);
            }
            parts.push(part);
        }
        parts
    })
}

fn conversation() -> impl Strategy<Value = Vec<Message>> {
    let exchange = (turn(0), vec(text(), 1..3), any::<bool>());
    (option::of(text()), text(), vec(exchange, 0..3)).prop_map(|(system, first, exchanges)| {
        let mut messages = Vec::new();
        let system = system.map(|text| Message { role: Role::System, parts: vec![Part::text(text)] });
        messages.extend(system);
        messages.push(Message { role: Role::User, parts: vec![Part::text(first)] });
        for (at, (mut parts, said, failed)) in exchanges.into_iter().enumerate() {
            let mut answers = Vec::new();
            for part in &mut parts {
                let Content::ToolUse(call) = &mut part.content else { continue };
                call.id = format!("{}_{at}", call.id);
                let parts = vec![Part::text("result")];
                let result = ToolResult { id: call.id.clone(), parts, is_error: failed };
                answers.push(Part::from(Content::ToolResult(result)));
            }
            if parts.is_empty() {
                parts.push(Part::text("ok"));
            }
            messages.push(Message { role: Role::Assistant, parts });
            answers.extend(said.into_iter().map(Part::text));
            messages.push(Message { role: Role::User, parts: answers });
        }
        messages
    })
}

fn tool() -> impl Strategy<Value = Tool> {
    ("[a-z]{1,8}", option::of(text())).prop_map(|(name, description)| {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let schema = to_raw_value(&schema).ok();
        Tool::Function(Function { name, description, schema, strict: None, cache: None, custom: None })
    })
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let quarter = || option::of((0..4_u8).prop_map(|n| f64::from(n) / 4.0));
    (quarter(), quarter(), option::of(1..50_u64), option::of(Just(0.5)), option::of(any::<i64>())).prop_map(
        |(temperature, top_p, top_k, penalty, seed)| Sampling {
            temperature,
            top_p,
            top_k,
            frequency_penalty: penalty,
            presence_penalty: penalty,
            seed,
        },
    )
}

fn format() -> impl Strategy<Value = Option<Format>> {
    let schema = json!({"type": "object", "properties": {"z": {"type": "string"}}, "required": ["z"], "additionalProperties": false});
    let open = json!({"type": "object", "additionalProperties": {"type": "string", "minLength": 3}});
    let of = |schema| Format::Schema {
        name: None,
        description: None,
        schema: to_raw_value(&schema).unwrap(),
        strict: None,
    };
    prop::sample::select(vec![None, Some(Format::Json), Some(of(schema)), Some(of(open))])
}

fn request() -> impl Strategy<Value = Request> {
    let choice = prop::sample::select(vec![
        None,
        Some(ToolChoice::Auto),
        Some(ToolChoice::None),
        Some(ToolChoice::Required),
        Some(ToolChoice::Named("f".to_owned())),
    ]);
    let effort = prop::sample::select(vec![None, Some("low"), Some("high"), Some("max")]);
    let tier = prop::sample::select(vec![None, Some(ServiceTier::Auto), Some(ServiceTier::Standard)]);
    (
        (conversation(), vec(tool(), 0..3), choice, option::of(any::<bool>()), 1..9_000_u64),
        (vec("[a-z]{1,3}", 0..6), sampling(), format(), effort, option::of("[a-z]{1,8}")),
        (tier, option::of(2..4_u64), option::of(0..4_u64), any::<bool>()),
    )
        .prop_map(|(said, asked, more)| {
            let (messages, tools, tool_choice, parallel_tools, max_output) = said;
            let (stop, sampling, format, effort, user) = asked;
            let (service_tier, choices, logprobs, stream) = more;
            Request {
                stream,
                messages,
                tool_choice: tool_choice.filter(|_| !tools.is_empty()),
                parallel_tools: parallel_tools.filter(|_| !tools.is_empty()),
                tools,
                max_output: Some(max_output),
                stop,
                sampling,
                format,
                reasoning: effort.map(|effort| Reasoning {
                    enabled: Some(true),
                    effort: Some(effort.to_owned()),
                    budget: None,
                }),
                user,
                thoughts: None,
                service_tier,
                bare: false,
                verbosity: None,
                cache_key: None,
                metadata: None,
                choices,
                logprobs,
                extras: BTreeMap::new(),
            }
        })
}

/// One role after another, and what only says the default left out.
fn plain(request: &Request) -> Request {
    let mut plain = request.clone();
    plain.messages = Vec::new();
    for message in request.messages.clone() {
        match plain.messages.last_mut().filter(|last| last.role == message.role) {
            Some(last) => last.parts.extend(message.parts),
            None => plain.messages.push(message),
        }
    }
    plain.tool_choice = plain.tool_choice.filter(|choice| *choice != ToolChoice::Auto);
    let single = plain.parallel_tools == Some(false) && plain.tool_choice != Some(ToolChoice::None);
    plain.parallel_tools = single.then_some(false);
    if let Some(Format::Schema { name, strict, .. }) = &mut plain.format {
        (*name, *strict) = (None, None);
    }
    if let Some(reasoning) = &mut plain.reasoning {
        reasoning.enabled = Some(true);
    }
    plain
}

/// Each field of a request, and the names under which it may be lost.
fn fields(request: &Request) -> Vec<(String, &'static [&'static str])> {
    let Request { sampling, .. } = request;
    vec![
        (format!("{:?}", request.messages), &["messages.", "thinking", "response_format"]),
        (format!("{:?}", request.tools), &["tools"]),
        (format!("{:?}", request.tool_choice), &["tool_choice"]),
        (format!("{:?}", request.parallel_tools), &["parallel_tool_calls"]),
        (format!("{:?}", request.max_output), &["max_tokens"]),
        (format!("{:?}", request.stop), &["stop", "stop_sequences"]),
        (format!("{:?}", sampling.temperature), &["temperature"]),
        (format!("{:?}", sampling.top_p), &["top_p"]),
        (format!("{:?}", sampling.top_k), &["top_k"]),
        (format!("{:?}", sampling.frequency_penalty), &["frequency_penalty"]),
        (format!("{:?}", sampling.presence_penalty), &["presence_penalty"]),
        (format!("{:?}", sampling.seed), &["seed"]),
        (format!("{:?}", request.format), &["response_format"]),
        (format!("{:?}", request.reasoning), &["reasoning_effort", "output_config.effort", "thinking"]),
        (format!("{:?}", request.user), &["user"]),
        (format!("{:?}", request.service_tier), &["service_tier"]),
        (format!("{:?}", request.choices), &["n"]),
        (format!("{:?}", request.logprobs), &["logprobs"]),
        (format!("{:?}", request.stream), &[]),
    ]
}

fn named(losses: &Losses, names: &[&str]) -> bool {
    let header = losses.header();
    let mut lost = header.split(", ").filter_map(|loss| loss.split_once(';')).map(|(_, field)| field);
    lost.any(|field| {
        names.iter().any(|name| field == *name || name.ends_with('.') && field.starts_with(name))
    })
}

/// What a client of this dialect brings back of an answer.
fn brought_back(client: Dialect, answer: &[u8]) -> Vec<Part> {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap();
    let body = match client {
        Dialect::Anthropic => {
            json!({"max_tokens": 9, "messages": [{"role": "assistant", "content": answer["content"]}]})
        }
        _ => json!({"messages": [answer["choices"][0]["message"]]}),
    };
    let request = client.decode_request(body.to_string().as_bytes(), &mut Losses::default()).unwrap();
    request.messages.into_iter().next().unwrap().parts
}

fn answer(parts: Vec<Part>) -> Answer {
    let finish = Finish::ToolUse;
    let choices = vec![Choice { parts, finish }];
    Answer { id: "1".to_owned(), model: "m".to_owned(), created: 1, choices, usage: None }
}

fn events(parts: &[Part]) -> Vec<Event> {
    let start = Event::Start { id: "1".to_owned(), model: "m".to_owned(), created: 1, usage: None };
    let mut events = vec![start];
    for (index, part) in parts.iter().enumerate() {
        let opaque = part.opaque.clone();
        let (start, text) = match &part.content {
            Content::Thinking(text) => (PartStart::Thinking, Some(Delta::Thinking(text.clone()))),
            Content::RedactedThinking => (PartStart::RedactedThinking(opaque.clone().unwrap()), None),
            Content::ToolUse(ToolUse { id, name, arguments }) => {
                let start = PartStart::ToolUse { id: id.clone(), name: name.clone() };
                (start, Some(Delta::Arguments(arguments.clone())))
            }
            Content::Text(text) => (PartStart::Text, Some(Delta::Text(text.clone()))),
            other => unreachable!("{other:?}"),
        };
        let proof = opaque.filter(|_| text.is_some()).map(Delta::Opaque);
        events.push(Event::PartStart { index, choice: 0, part: start });
        events.extend(text.into_iter().chain(proof).map(|delta| Event::PartDelta { index, delta }));
        events.push(Event::PartStop { index });
    }
    events.push(Event::Finish { choice: 0, finish: Finish::ToolUse });
    events
}

proptest! {
    #[test]
    fn requests_read_as_they_were_meant_but_for_what_is_named(request in request()) {
        for dialect in BOTH {
            let model = model(dialect);
            let target = Target { model, max_output: Some(64_000), adaptive_thinking: true, fixed_sampling: false };
            let mut losses = Losses::default();
            let body = dialect.encode_request(&request, &target, &mut losses);
            let mut more = Losses::default();
            let back = dialect.decode_request(&body, &mut more).unwrap();
            prop_assert!(more.is_empty(), "{dialect:?} wrote what it does not know: {}", more.header());
            let (meant, read) = (plain(&request), plain(&back));
            for ((meant, names), (read, _)) in fields(&meant).into_iter().zip(fields(&read)) {
                prop_assert!(meant == read || named(&losses, names), "{dialect:?}: {meant} became {read}; {}", losses.header());
            }
            // What was read once reads the same ever after.
            let again = dialect.encode_request(&back, &target, &mut Losses::default());
            prop_assert_eq!(again, body);
        }
    }

    #[test]
    fn answers_come_back_as_they_went(parts in turn(0).prop_filter("something", |parts| !parts.is_empty())) {
        for client in BOTH {
            let body = client.client().encode_answer(&answer(parts.clone()), Usage::default(), &Call::default(), &mut Losses::default());
            prop_assert_eq!(said(&brought_back(client, &body)), said(&parts), "{:?}", client);
        }
    }

    #[test]
    fn streams_say_what_whole_answers_say(parts in turn(0).prop_filter("something", |parts| !parts.is_empty())) {
        for client in BOTH {
            let mut encoder = client.client().encoder(&Call::default());
            let mut out = BytesMut::new();
            events(&parts).iter().for_each(|event| encoder.encode(event, &mut out));
            out.extend_from_slice(&encoder.end(Usage::default()));
            let (mut decoder, mut splitter) = (client.provider().decoder(), crate::sse::Splitter::new());
            let (mut steps, mut collector) = (Vec::new(), Collector::new(1 << 20));
            splitter.feed(out.freeze());
            while let Some(event) = splitter.next_event().unwrap() {
                decoder.decode(&event, &mut steps);
            }
            steps.iter().for_each(|step| collector.take(step));
            let finishes = steps.iter().filter(|step| matches!(step, Event::Finish { .. })).count();
            prop_assert_eq!(finishes, 1);
            let parts_read = collector.choices().into_iter().next().unwrap_or_default();
            let body = client.client().encode_answer(&answer(parts_read), Usage::default(), &Call::default(), &mut Losses::default());
            prop_assert_eq!(streamed(&said(&brought_back(client, &body))), streamed(&said(&parts)), "{:?}", client);
        }
    }
}

/// Parts in words that compare.
fn said(parts: &[Part]) -> Vec<String> {
    parts.iter().map(|part| format!("{:?} {:?}", part.content, part.opaque)).collect()
}

/// Summaries of OpenAI's reasoning are text in a stream, and apart from what proves it.
fn streamed(said: &[String]) -> Vec<String> {
    let summary = |part: &String| part.starts_with("Thinking(") && part.contains("vendor: OpenAi");
    let proof = |part: &String| part.split_once(") Some(Opaque").map(|(_, opaque)| opaque.to_owned());
    said.iter()
        .map(|part| match proof(part).filter(|_| summary(part)) {
            Some(opaque) => format!("RedactedThinking Some(Opaque{opaque}"),
            None => part.clone(),
        })
        .collect()
}
