//! What providers and clients of OpenAI's dialect send and are sent beyond its reference.

use serde_json::{Value, json};

use crate::{
    Call, Dialect, Target, Usage,
    canonical::{
        Collector, Content, Delta, Event, Losses, Message, Opaque, Part, Request, Role, ToolUse, Vendor,
    },
};

/// A request as a provider of this model gets it, and what was lost.
fn sent(from: Dialect, into: Dialect, model: &str, body: &Value) -> (Value, String) {
    let mut losses = Losses::default();
    let request = from.decode_request(body.to_string().as_bytes(), &mut losses).unwrap();
    let body = into.encode_request(&request, &Target::known(model), &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.header())
}

/// Steps of a stream of these deltas, without its finish.
fn steps(deltas: &[Value]) -> Vec<Event> {
    let mut decoder = Dialect::OpenAi.provider().decoder();
    let mut steps = Vec::new();
    for delta in deltas {
        let chunk = json!({"id": "1", "choices": [{"index": 0, "delta": delta}]});
        decoder.decode(format!("data: {chunk}\n\n").as_bytes(), &mut steps);
    }
    steps
}

fn collected(steps: &[Event]) -> Vec<Part> {
    let mut collector = Collector::new(4096);
    steps.iter().for_each(|step| collector.take(step));
    collector.choices().remove(0)
}

#[test]
fn models_of_openai_s_that_think_are_sent_no_sampling() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 0.2, "top_p": 1,
        "presence_penalty": 0.5, "logprobs": true, "top_logprobs": 2, "seed": 3});
    for (model, fixed) in
        [("gpt-5-mini", true), ("o3-mini", true), ("gpt-5-chat-latest", false), ("gpt-4o", false)]
    {
        for into in [Dialect::OpenAi, Dialect::Responses] {
            let (sent, lost) = sent(Dialect::OpenAi, into, model, &body);
            for name in ["temperature", "top_p", "top_logprobs"] {
                assert_eq!(sent.get(name).is_none(), fixed, "{name} {model}");
            }
            let lost: Vec<_> = lost.split(", ").collect();
            for name in ["dropped;temperature", "dropped;logprobs"] {
                assert_eq!(lost.contains(&name), fixed, "{model}: {lost:?}");
            }
            assert!(!lost.contains(&"dropped;top_p"), "{lost:?}");
            if fixed {
                assert!(sent.get("presence_penalty").is_none() && lost.contains(&"dropped;presence_penalty"));
                assert!(!sent.to_string().contains("logprobs"), "{sent}");
            }
        }
    }
}

#[test]
fn thinking_is_said_in_the_words_that_the_model_takes() {
    let most = json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}});
    let off = json!({"thinking": {"type": "disabled"}});
    for (model, asked, effort, losses) in [
        ("o3-mini", &most, Some("high"), "altered;output_config.effort"),
        ("gpt-5.6-sol", &most, Some("xhigh"), "altered;output_config.effort"),
        ("o3-mini", &off, None, "dropped;reasoning_effort"),
        ("gpt-5-mini", &off, Some("minimal"), "altered;reasoning_effort"),
        ("gpt-5.1", &off, Some("none"), ""),
        ("gpt-4o", &off, None, ""),
    ] {
        let mut body =
            json!({"model": "m", "max_tokens": 9000, "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
        let (body, lost) = sent(Dialect::Anthropic, Dialect::OpenAi, model, &body);
        assert_eq!((body["reasoning_effort"].as_str(), lost.as_str()), (effort, losses), "{model} {asked}");
    }
}

#[test]
fn sounds_and_schemas_are_named_as_openai_names_them() {
    for (given, expected) in [("mpeg", "mp3"), ("x-wav", "wav"), ("mp3", "mp3")] {
        let part = json!({"inlineData": {"mimeType": format!("audio/{given}"), "data": "AAAA"}});
        let body = json!({"contents": [{"role": "user", "parts": [part]}]});
        for into in [Dialect::OpenAi, Dialect::Responses] {
            let sent = sent(Dialect::Gemini, into, "gpt-audio", &body).0.to_string();
            assert!(sent.contains(&format!("\"format\":\"{expected}\"")), "{sent}");
        }
    }
    let schema = json!({"name": "n", "description": "d", "strict": true, "schema": {"type": "object", "properties": {},
        "required": [], "additionalProperties": false}});
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_schema", "json_schema": schema}});
    let (_, lost) = sent(Dialect::OpenAi, Dialect::Anthropic, "claude", &body);
    assert_eq!(lost, "dropped;response_format.json_schema.description");
}

#[test]
fn a_status_is_what_its_decoder_read_it_as() {
    for (from, status, expected) in
        [(Dialect::Bedrock, 424, 502), (Dialect::Bedrock, 408, 504), (Dialect::OpenAi, 422, 422)]
    {
        let (status, _) = from.translate_error(status, br#"{"message":"x"}"#, Dialect::OpenAi, None);
        assert_eq!(status, expected);
    }
}

#[test]
fn answers_that_failed_are_no_whole_answers() {
    let translated = |from: Dialect, body: &Value| {
        from.translate_answer(
            body.to_string().as_bytes(),
            Dialect::OpenAi,
            Usage::default(),
            &Call::default(),
        )
    };
    let google = |reason: &str| json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "x"}]}, "finishReason": reason}]});
    let openai = |reason: &str| json!({"choices": [{"message": {"role": "assistant", "content": "x"}, "finish_reason": reason}]});
    assert!(translated(Dialect::Gemini, &google("MALFORMED_FUNCTION_CALL")).is_none());
    assert!(translated(Dialect::Gemini, &google("OTHER")).is_none());
    assert!(translated(Dialect::OpenAi, &openai("error")).is_none());
    // A word that nobody here knows: Google's never mean the end.
    for (from, body, meant) in
        [(Dialect::Gemini, google("SOMETHING_NEW"), "length"), (Dialect::OpenAi, openai("eos"), "stop")]
    {
        let back: Value = serde_json::from_slice(&translated(from, &body).unwrap()).unwrap();
        assert_eq!(back["choices"][0]["finish_reason"], meant);
    }
}

#[test]
fn text_between_two_pieces_of_a_call_comes_after_it() {
    let call = |more: Value| json!({"tool_calls": [more]});
    let said = collected(&steps(&[
        call(json!({"index": 0, "id": "call_a", "function": {"name": "f", "arguments": "{\"a\":"}})),
        json!({"content": "so "}),
        json!({"content": "it is"}),
        call(json!({"index": 0, "function": {"arguments": "1}"}})),
        json!({"content": "."}),
    ]));
    let said: Vec<_> = said.into_iter().map(|part| part.content).collect();
    assert!(
        matches!(&said[..], [Content::ToolUse(ToolUse { arguments, .. }), Content::Text(text)]
            if arguments == "{\"a\":1}" && text == "so it is."),
        "{said:?}"
    );
}

#[test]
fn calls_wait_for_an_empty_one_no_longer_than_has_to_be() {
    let call = |index: u64, arguments: &str| json!({"tool_calls": [{"index": index, "id": format!("call_{index}"), "function": {"name": "f", "arguments": arguments}}]});
    let more = |text: &str| json!({"tool_calls": [{"index": 1, "function": {"arguments": text}}]});
    let said = |steps: &[Event]| -> usize {
        let of = |step: &Event| match step {
            Event::PartDelta { delta: Delta::Arguments(text), .. } => text.len(),
            _ => 0,
        };
        steps.iter().map(of).sum()
    };
    // Once another is whole the first has none.
    assert_eq!(said(&steps(&[call(0, ""), call(1, "{\"a\":"), more("1}")])), 7);
    // Never more than a bound is held.
    let mut deltas = vec![call(0, ""), call(1, "{\"a\":\"")];
    deltas.extend(std::iter::repeat_n(more(&"x".repeat(64 * 1024)), 40));
    assert!(said(&steps(&deltas)) > 2_000_000);
}

#[test]
fn what_is_odd_in_a_chunk_costs_no_more_than_itself() {
    let mut decoder = Dialect::OpenAi.provider().decoder();
    let mut steps = Vec::new();
    for chunk in [
        r#"{"id":null,"model":null,"created":null,"usage":{},"choices":[{"index":0,"delta":{"content":"a"},"logprobs":5}]}"#,
        r#"{"id":"1","choices":[{"index":0,"delta":{"content":"b","reasoning_details":[7,{"summary":{}}],"thinking_blocks":{},"extra_content":""}}]}"#,
        r#"{"id":"1","choices":[{"index":0,"delta":{"content":"c\ud83d","tool_calls":null}}],"usage":7}"#,
    ] {
        decoder.decode(format!("data: {chunk}\n\n").as_bytes(), &mut steps);
    }
    let said = collected(&steps);
    assert!(
        matches!(&said[..], [Part { content: Content::Text(text), .. }] if text.starts_with("abc\u{fffd}")),
        "{said:?}"
    );
    let body = r#"{"id":null,"model":null,"usage":{},"choices":[{"message":{"content":"c\ud83d","reasoning_details":5},"finish_reason":null}]}"#;
    assert!(Dialect::OpenAi.provider().decode_answer(body.as_bytes()).is_some());
}

#[test]
fn google_s_state_of_calls_streams_to_its_calls() {
    let detail = json!([{"type": "reasoning.encrypted", "data": "goo", "id": "call_1", "format": "google-gemini-v1", "index": 0}]);
    let calls = json!([{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}]);
    let more = json!([{"index": 1, "id": "call_2", "function": {"name": "f", "arguments": "{}"}}]);
    for deltas in [
        vec![json!({"reasoning_details": detail, "tool_calls": calls})],
        vec![json!({"reasoning_details": detail}), json!({"tool_calls": calls})],
        vec![json!({"tool_calls": calls}), json!({"reasoning_details": detail}), json!({"tool_calls": more})],
    ] {
        let said = collected(&steps(&deltas));
        assert_eq!(said[0].opaque, Some(Opaque::new(Vendor::Google, "goo")), "{said:?}");
        assert!(said.iter().skip(1).all(|part| part.opaque.is_none()), "{said:?}");
    }
}

#[test]
fn no_provider_gets_a_seal() {
    for (vendor, model) in [
        (Vendor::Google, "google/gemini-3-pro"),
        (Vendor::Anthropic, "anthropic/claude-opus-4-6"),
        (Vendor::OpenAi, "openai/gpt-5"),
    ] {
        let state = |data: &str| Some(Opaque::new(vendor, data));
        let call = ToolUse { id: "c".to_owned(), name: "f".to_owned(), arguments: "{}".to_owned() };
        let parts = vec![
            Part::from(Content::Thinking("hm".to_owned())).with_opaque(state("S1")),
            Part::from(Content::RedactedThinking).with_opaque(state("S2")),
            Part::text("x").with_opaque(state("S3")),
            Part::from(Content::ToolUse(call)).with_opaque(state("S4")),
        ];
        let request =
            Request { messages: vec![Message { role: Role::Assistant, parts }], ..Request::default() };
        let mut losses = Losses::default();
        let body = Dialect::OpenAi.encode_request(&request, &Target::known(model), &mut losses);
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(!text.contains("weir1.") && text.contains("\"S"), "{text}");
        assert_eq!(losses.header(), "dropped;thinking");
    }
}
