//! `POST /v1/responses/compact`: the user's messages as they are, and all else sealed in one item.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Uri};
use serde_json::{Map, Value, json};

use super::{Responses, object::usage, request, secret};
use crate::{
    Simulator,
    answer::{Answer, joined},
    chat::{Posted, serve},
    dialect::{self, Asked, Dialect, Head, Parsed, Told},
    error::ApiError,
    models::Model,
    request::Choice,
    seed::{id, mix},
    wire::{Event, Meter, Plain, error_event},
};

const KNOWN: &[&str] = &[
    "image",
    "input",
    "instructions",
    "model",
    "previous_response_id",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "x_sim",
    // Not documented, and sent by Codex.
    "parallel_tool_calls",
    "reasoning",
    "text",
    "tools",
];
const ID: usize = 48;
/// What the model is asked for.
const QUESTION: &str = "Tell again what was said.";

pub(crate) async fn compact(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    serve(&sim, &Compact, &headers, &uri, body).await
}

#[derive(Debug)]
struct Compact;

impl Dialect for Compact {
    fn parse<'a>(&self, _: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        let Ok(from) = serde_json::from_slice::<Map<String, Value>>(asked.body) else {
            return Err(ApiError::unreadable());
        };
        if let Some(unknown) = from.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            let message = format!("Unknown parameter: '{unknown}'.");
            return Err(ApiError::invalid(unknown, "unknown_parameter", message));
        }
        let (mut request, prompt_tokens, _) = request::parse(asked.body)?;
        request.conversation.asked(QUESTION.to_owned());
        request.tool_choice = Choice::None;
        let form = Form { kept: kept(&from["input"]), head: None };
        Ok(Parsed { request, prompt_tokens, form: Box::new(form) })
    }

    fn speaks(&self, model: &Model) -> bool {
        Responses.speaks(model)
    }

    fn unknown_model(&self, model: &str) -> ApiError {
        Responses.unknown_model(model)
    }

    fn too_long(&self, limit: u64, tokens: u64) -> ApiError {
        Responses.too_long(limit, tokens)
    }

    fn error(&self, error: &ApiError, request_id: &str) -> Response {
        Responses.error(error, request_id)
    }

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        Responses.describe(told, headers);
    }
}

/// What the user said, as it stands in an output.
fn kept(input: &Value) -> Vec<Value> {
    let message = |content: Value, item: &Value| {
        let content = match content {
            Value::String(text) => json!([{"type": "input_text", "text": text}]),
            parts => parts,
        };
        let id = item["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
        let id = id.unwrap_or_else(|| id_of("msg_", &content.to_string()));
        json!({"id": id, "type": "message", "status": "completed", "role": "user", "content": content})
    };
    match input {
        Value::String(text) => vec![message(json!(text), &Value::Null)],
        Value::Array(items) => {
            let said = items.iter().filter(|item| item["role"] == "user");
            said.map(|item| message(item["content"].clone(), item)).collect()
        }
        _ => Vec::new(),
    }
}

fn id_of(prefix: &str, of: &str) -> String {
    id(prefix, ID, crate::seed::hash(0, of.as_bytes()))
}

#[derive(Debug)]
struct Form {
    kept: Vec<Value>,
    head: Option<Head>,
}

impl Form {
    fn object(&self, answer: &Answer) -> Value {
        let head =
            self.head.clone().unwrap_or(Head { seed: 0, now_ms: 0, model: Arc::default(), usage: true });
        let said = answer.choices.first().map(|choice| joined(&choice.content)).unwrap_or_default();
        let mut output = self.kept.clone();
        output.push(json!({
            "id": id("cmp_", ID, mix(head.seed)),
            "type": "compaction",
            "encrypted_content": secret::compacted(&said),
        }));
        json!({
            "id": id("resp_", ID, head.seed),
            "object": "response.compaction",
            "created_at": head.created(),
            "output": output,
            "usage": if head.usage { usage(answer) } else { Value::Null },
        })
    }
}

impl dialect::Form for Form {
    fn begin(&mut self, head: Head, _: &Answer) {
        self.head = Some(head);
    }

    fn plain(&self, answer: &Answer, cut_after: u64) -> Plain {
        let bytes = self.object(answer).to_string().into_bytes();
        let mut meter = Meter::new(cut_after);
        // It can be cut in the middle of what is sealed alone.
        meter.pass(&bytes[..bytes.len() / 2], answer.completion_tokens);
        meter.plain(bytes)
    }

    /// There are no events of one.
    fn write(&mut self, _: &Answer, _: Event) -> (Bytes, u64) {
        (Bytes::new(), 0)
    }

    fn error_event(&mut self, _: &Answer, error: &ApiError) -> Bytes {
        error_event(error)
    }
}
