//! What providers may get wrong: each member of an answer that is not the answer itself, as null and ill-typed. It costs
//! no more than itself: the text comes, and so does the end, and counts that are told rightly.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::{Call, Dialect, FrameKind, Framing, Tap, Translator, Usage, aws_frames, framing::Splitter};

/// A dialect whose answers are read so.
struct Told {
    dialect: Dialect,
    /// A whole answer that says `Hi`, with every member that its vendor may add.
    answer: Value,
    /// The same as a stream, by the names of its events where the dialect has such.
    stream: Vec<(&'static str, Value)>,
    /// Members without which there is no answer, by pointers; what is in them is changed all the same.
    needed: &'static [&'static str],
}

/// Every dialect has a place here once its members are read so.
fn table() -> Vec<Told> {
    vec![anthropic(), bedrock(), gemini(), mistral(), ollama()]
}

fn gemini() -> Told {
    let details = json!([{"modality": "TEXT", "tokenCount": 9}]);
    let usage = json!({"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 0,
        "toolUsePromptTokenCount": 0, "cachedContentTokenCount": 0, "totalTokenCount": 13, "promptTokensDetails": details,
        "toolUsePromptTokensDetails": [], "candidatesTokensDetails": [], "cacheTokensDetails": [],
        "serviceTier": "standard", "trafficType": "ON_DEMAND"});
    let chosen = json!([{"token": "Hi", "tokenId": 1, "logProbability": -0.5}]);
    let answer = json!({"responseId": "r", "modelVersion": "m", "createTime": "t", "usageMetadata": usage,
        "promptFeedback": {"safetyRatings": []},
        "candidates": [{"index": 0, "finishReason": "STOP", "finishMessage": "x", "avgLogprobs": -0.5,
            "content": {"role": "model", "parts": [{"text": "Hi", "thought": false, "thoughtSignature": "CiQB"}]},
            "safetyRatings": [{"category": "x", "probability": "LOW"}], "citationMetadata": {"citationSources": []},
            "logprobsResult": {"chosenCandidates": chosen, "topCandidates": [{"candidates": chosen}]},
            "groundingMetadata": {"webSearchQueries": [], "groundingChunks": []}}]});
    Told {
        dialect: Dialect::Gemini,
        stream: vec![("", answer.clone())],
        answer,
        needed: &[
            "/candidates",
            "/candidates/0",
            "/candidates/0/content",
            "/candidates/0/content/parts",
            "/candidates/0/content/parts/0",
            "/candidates/0/content/parts/0/text",
            "/candidates/0/content/parts/0/thought",
        ],
    }
}

fn mistral() -> Told {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "num_cached_tokens": 0,
        "prompt_audio_seconds": null, "prompt_tokens_details": {"cached_tokens": 0}});
    let head = json!({"id": "1", "model": "m", "created": 7, "usage": usage, "service_tier": "x"});
    let chunk = |object: &str, choice: Value| merged(&head, json!({"object": object, "choices": [choice]}));
    Told {
        dialect: Dialect::Mistral,
        answer: chunk(
            "chat.completion",
            json!({"index": 0, "finish_reason": "stop", "logprobs": null,
            "message": {"role": "assistant", "content": "Hi", "tool_calls": [], "prefix": false}}),
        ),
        stream: vec![
            (
                "",
                chunk(
                    "chat.completion.chunk",
                    json!({"index": 0, "finish_reason": null,
                "delta": {"role": "assistant", "content": "Hi", "tool_calls": []}}),
                ),
            ),
            (
                "",
                chunk(
                    "chat.completion.chunk",
                    json!({"index": 0, "finish_reason": "stop", "delta": {"content": ""}}),
                ),
            ),
        ],
        needed: &[
            "/choices",
            "/choices/0",
            "/choices/0/message",
            "/choices/0/message/content",
            "/choices/0/delta",
            "/choices/0/delta/content",
        ],
    }
}

fn ollama() -> Told {
    let counts = json!({"model": "m", "created_at": "t", "done": true, "done_reason": "stop", "total_duration": 1,
        "load_duration": 1, "prompt_eval_count": 9, "prompt_eval_duration": 1, "eval_count": 4, "eval_duration": 1});
    let logprob = json!({"token": "Hi", "logprob": -0.5, "bytes": [72, 105]});
    let logprobs = json!([merged(&logprob, json!({"top_logprobs": [logprob]}))]);
    let said = json!({"message": {"role": "assistant", "content": "Hi", "thinking": "", "tool_calls": [], "images": null},
        "logprobs": logprobs});
    Told {
        dialect: Dialect::Ollama,
        answer: merged(&counts, said.clone()),
        stream: vec![
            ("", merged(&json!({"model": "m", "created_at": "t", "done": false}), said)),
            ("", merged(&counts, json!({"message": {"role": "assistant", "content": ""}}))),
        ],
        needed: &["/message", "/message/content", "/message/thinking", "/done"],
    }
}

fn anthropic() -> Told {
    let usage = json!({
        "input_tokens": 9, "output_tokens": 4, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens_details": {"thinking_tokens": 0}, "service_tier": "standard", "speed": "standard",
        "inference_geo": "global", "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "iterations": [{"type": "message", "input_tokens": 9, "output_tokens": 4, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0, "cache_creation": {"ephemeral_1h_input_tokens": 0}, "model": "m"}],
    });
    let head = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "container": {"id": "c"},
        "context_management": {"applied_edits": []}, "stop_details": {"type": "x"}});
    let whole = |more: Value| merged(&head, more);
    Told {
        dialect: Dialect::Anthropic,
        answer: whole(json!({"content": [{"type": "text", "text": "Hi", "citations": []}],
            "stop_reason": "end_turn", "stop_sequence": "s", "usage": usage})),
        stream: vec![
            (
                "message_start",
                json!({"type": "message_start", "message": whole(json!({"content": [],
                "stop_reason": "x", "stop_sequence": "s", "usage": usage}))}),
            ),
            (
                "content_block_start",
                json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "text", "text": "", "citations": []}}),
            ),
            (
                "content_block_delta",
                json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": "Hi"}}),
            ),
            ("content_block_stop", json!({"type": "content_block_stop", "index": 0})),
            (
                "message_delta",
                json!({"type": "message_delta", "usage": usage,
                "context_management": {"applied_edits": []},
                "delta": {"stop_reason": "end_turn", "stop_sequence": "s", "container": {"id": "c"}}}),
            ),
            ("message_stop", json!({"type": "message_stop"})),
        ],
        needed: &[
            "/content",
            "/content/0",
            "/content/0/type",
            "/content/0/text",
            "/type",
            "/message",
            "/content_block",
            "/content_block/type",
            "/delta",
            "/delta/type",
            "/delta/text",
        ],
    }
}

fn bedrock() -> Told {
    let usage = json!({"inputTokens": 9, "outputTokens": 4, "totalTokens": 13, "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 0, "cacheDetails": [{"ttl": "5m", "inputTokens": 0}], "serverToolUsage": {}});
    let more = json!({"metrics": {"latencyMs": 1}, "serviceTier": {"type": "default"}, "trace": {"guardrail": {}},
        "performanceConfig": {"latency": "standard"}, "usage": usage});
    let fields = json!({"stop_sequence": "s"});
    Told {
        dialect: Dialect::Bedrock,
        answer: merged(
            &more,
            json!({"stopReason": "end_turn", "additionalModelResponseFields": fields,
            "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}}}),
        ),
        stream: vec![
            ("messageStart", json!({"role": "assistant", "p": "a"})),
            ("contentBlockStart", json!({"contentBlockIndex": 0, "start": {}})),
            ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": "Hi"}, "p": "a"})),
            ("contentBlockStop", json!({"contentBlockIndex": 0})),
            ("messageStop", json!({"stopReason": "end_turn", "additionalModelResponseFields": fields})),
            ("metadata", more),
        ],
        needed: &[
            "/output",
            "/output/message",
            "/output/message/content",
            "/output/message/content/0",
            "/output/message/content/0/text",
            "/delta",
            "/delta/text",
        ],
    }
}

fn merged(one: &Value, other: Value) -> Value {
    let (Value::Object(mut all), Value::Object(more)) = (one.clone(), other) else { unreachable!() };
    all.extend(more);
    all.into()
}

/// The pointers to all that is in it.
fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
    let mut inner = |name: &str, value: &Value| {
        let at = format!("{at}/{name}");
        pointers(value, &at, out);
        out.push(at);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| inner(name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| inner(&i.to_string(), value));
        }
        _ => {}
    }
}

/// The same, with one member as it should not be, for each that may be missed.
fn spoilt(value: &Value, needed: &[&str]) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    pointers(value, "", &mut all);
    all.retain(|at| !needed.contains(&at.as_str()));
    let with = |at: &String| {
        [json!(null), json!("x"), json!([7]), json!({"x": 7}), json!(-1.5)].map(|wrong| {
            let mut value = value.clone();
            *value.pointer_mut(at).unwrap() = wrong.clone();
            (format!("{at} = {wrong}"), value)
        })
    };
    all.iter().flat_map(with).collect()
}

fn written(dialect: Dialect, events: &[(&str, Value)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in events {
        match dialect.provider().framing() {
            Framing::AwsFrames => {
                let headers = [
                    (":event-type", *name),
                    (":content-type", "application/json"),
                    (":message-type", "event"),
                ];
                aws_frames::write(&headers, data.to_string().as_bytes(), &mut out);
            }
            Framing::Sse if name.is_empty() => out.extend(format!("data: {data}\n\n").into_bytes()),
            Framing::Sse => out.extend(format!("event: {name}\ndata: {data}\n\n").into_bytes()),
            _ => out.extend(format!("{data}\n").into_bytes()),
        }
    }
    out
}

/// What a client of OpenAI's gets, whether the stream was whole, and what it used, as the orchestrator relays it.
pub(super) fn relayed(
    dialect: Dialect,
    model: &str,
    events: &[(&str, Value)],
) -> (String, bool, Option<Usage>) {
    let mut splitter = Splitter::of(dialect.provider().framing());
    splitter.feed(Bytes::from(written(dialect, events)));
    let call = Call { model: model.to_owned(), ..Call::default() };
    let mut translator = Translator::new(dialect, Dialect::OpenAi, &call);
    let (mut tap, mut out, mut done) = (Tap::beside(dialect, 1), BytesMut::new(), false);
    while let Some(event) = splitter.next_event().unwrap() {
        let kind = tap.observe(&event);
        translator.event(&event, &mut out).unwrap();
        let kind = if tap.is_told() { tap.told(translator.steps(), translator.ended()) } else { kind };
        done |= kind == FrameKind::Done;
    }
    // Some dialects' streams end with their body.
    done |= tap.finished();
    let end = translator.end(tap.usage().unwrap_or_default());
    (String::from_utf8([&out[..], &end[..]].concat()).unwrap(), done && tap.finished(), tap.usage())
}

/// Whether it is told of the counts that are wrong, rightly or not at all.
fn counts(usage: Option<Usage>, spoilt: &str, at: &str) {
    let Some(usage) = usage else { return };
    let (input, output) = (usage.input_tokens, usage.output_tokens);
    let counted = ["token", "_count"].iter().any(|count| spoilt.to_ascii_lowercase().contains(count));
    if !counted && !spoilt.contains("/usage ") {
        assert_eq!((input, output), (9, 4), "{at}");
    }
}

#[test]
fn members_that_can_t_be_read_cost_no_more_than_themselves() {
    for Told { dialect, answer, stream, needed } in table() {
        for (wrong, answer) in spoilt(&answer, needed) {
            let at = format!("{dialect:?}: {wrong}");
            let body = answer.to_string();
            let read = dialect.provider().decode_answer(body.as_bytes()).unwrap_or_else(|| panic!("{at}"));
            let crate::canonical::Content::Text(text) = &read.parts()[0].content else { panic!("{at}") };
            assert_eq!(text, "Hi", "{at}");
            counts(dialect.provider().usage_of_answer(body.as_bytes()), &wrong, &at);
        }
        let (text, done, usage) = relayed(dialect, "m", &stream);
        assert!(text.contains(r#""content":"Hi""#) && done, "{dialect:?}: {text}");
        assert_eq!(usage.map(|u| (u.input_tokens, u.output_tokens)), Some((9, 4)), "{dialect:?}");
        for (i, (name, event)) in stream.iter().enumerate() {
            for (wrong, event) in spoilt(event, needed) {
                let at = format!("{dialect:?}: {name}: {wrong}");
                let mut stream = stream.clone();
                stream[i].1 = event;
                let (text, done, usage) = relayed(dialect, "m", &stream);
                assert!(text.contains(r#""content":"Hi""#), "{at}: {text}");
                let wrongly = wrong.to_ascii_lowercase().replace('_', "");
                let untold = ["stopreason", "finishreason"].iter().any(|reason| wrongly.contains(reason));
                assert!(done || untold, "{at}: {text}");
                counts(usage, &wrong, &at);
            }
        }
    }
}
