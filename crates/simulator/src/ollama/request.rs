//! A body, read as Ollama reads it: members it does not know it passes over, wrong types it refuses.

use std::borrow::Cow;

use serde_json::Value;

use super::wire::Lines;
use crate::{
    Simulator,
    dialect::Parsed,
    embed::{Asking, Input},
    error::ApiError,
    native::{Members, functions, is_base64, list, prompt_tokens, text, wish},
    request::{Choice, Conversation, Format, Request, Thinking, Thoughts},
};

/// Families whose models think.
const THINKING: [&str; 5] = ["qwen3", "gpt-oss", "deepseek-r1", "magistral", "sim-think"];

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::invalid("", "", message)
}

/// A name without a tag is the latest's.
fn named(sim: &Simulator, model: &str) -> String {
    let latest = format!("{model}:latest");
    let known = |name: &str| sim.0.catalogue.get(name).is_some_and(|m| m.speaks_ollama());
    if !known(model) && known(&latest) { latest } else { model.to_owned() }
}

pub(super) fn parse(sim: &Simulator, body: &[u8]) -> Result<Parsed<'static>, ApiError> {
    let Ok(Value::Object(from)) = serde_json::from_slice(body) else {
        return Err(invalid("invalid character in the body of the request"));
    };
    let model = text(&from, "model").ok_or_else(|| invalid("model is required"))?;
    let model = named(sim, model);
    let options = from.get("options").and_then(Value::as_object).cloned().unwrap_or_default();
    let thinking = thinking(&from, &model)?;
    let predict = options.get("num_predict").and_then(Value::as_i64).filter(|n| *n > 0);
    let stops = match options.get("stop") {
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => stops.iter().filter_map(|s| s.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let logprobs = from.get("logprobs") == Some(&Value::Bool(true));
    let top = from.get("top_logprobs").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let request = Request {
        conversation: conversation(list(&from, "messages"))?,
        // The default is to stream.
        stream: from.get("stream").and_then(Value::as_bool).unwrap_or(true),
        include_usage: true,
        max_tokens: predict.map(i64::unsigned_abs),
        n: 1,
        stops: stops.into_iter().map(Cow::Owned).collect(),
        tools: functions(list(&from, "tools")).flatten().collect(),
        tool_choice: Choice::Auto,
        parallel_tool_calls: true,
        format: format(&from)?,
        logprobs: logprobs.then(|| top.unwrap_or(0).min(20)),
        seed: options.get("seed").and_then(Value::as_i64),
        service_tier: "default",
        wish: wish(&from)?,
        thinking,
        thoughts: Thoughts::Whole,
        marks: None,
        model: Cow::Owned(model),
        legacy_max_tokens: false,
    };
    let form = Box::new(Lines::new(request.logprobs));
    Ok(Parsed { prompt_tokens: prompt_tokens(&from, &["messages", "tools"], &["images"]), request, form })
}

/// A call for vectors.
pub(super) fn embeddings(sim: &Simulator, body: &[u8]) -> Result<Asking, ApiError> {
    let Ok(Value::Object(from)) = serde_json::from_slice(body) else {
        return Err(invalid("invalid character in the body of the request"));
    };
    let inputs = match from.get("input") {
        Some(Value::String(text)) => vec![Input::text(text)],
        Some(Value::Array(texts)) if texts.iter().all(Value::is_string) => {
            texts.iter().filter_map(Value::as_str).map(Input::text).collect()
        }
        _ => return Err(invalid("invalid input type")),
    };
    let dimensions = from.get("dimensions").and_then(Value::as_u64).unwrap_or(0);
    Ok(Asking {
        model: named(sim, text(&from, "model").ok_or_else(|| invalid("model is required"))?),
        inputs,
        dimensions: usize::try_from(dimensions).unwrap_or(0),
        base64: false,
        wish: wish(&from)?,
    })
}

fn thinking(from: &Members, model: &str) -> Result<Thinking, ApiError> {
    let thinks = THINKING.iter().any(|family| model.starts_with(family));
    let effort = match from.get("think") {
        None | Some(Value::Null) => return Ok(if thinks { on(1) } else { Thinking::Usual }),
        Some(Value::Bool(false)) => return Ok(Thinking::Off),
        Some(Value::Bool(true)) => 1,
        Some(Value::String(level)) => match level.as_str() {
            "low" | "medium" => 1,
            "high" => 2,
            _ => {
                return Err(invalid(format!(
                    "invalid think value: {level:?} (must be \"high\", \"medium\", \"low\", true, or false)"
                )));
            }
        },
        Some(_) => return Err(invalid("think must be a boolean or string (\"high\", \"medium\", \"low\")")),
    };
    if thinks { Ok(on(effort)) } else { Err(invalid(format!("{model:?} does not support thinking"))) }
}

fn on(effort: u64) -> Thinking {
    Thinking::On { effort, budget: None }
}

fn format(from: &Members) -> Result<Format, ApiError> {
    match from.get("format") {
        None | Some(Value::Null) => Ok(Format::Text),
        Some(Value::String(word)) if word.is_empty() => Ok(Format::Text),
        Some(Value::String(word)) if word == "json" => Ok(Format::Json),
        Some(schema @ Value::Object(_)) => Ok(Format::Schema(schema.clone())),
        Some(other) => {
            Err(invalid(format!("invalid format: {other}; expected \"json\" or a valid JSON Schema object")))
        }
    }
}

fn conversation(messages: &[Value]) -> Result<Conversation, ApiError> {
    let mut talk = Conversation::default();
    for message in messages {
        let said = match &message["content"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            _ => {
                let text =
                    "json: cannot unmarshal into Go struct field ChatRequest.messages.content of type string";
                return Err(invalid(text));
            }
        };
        for image in message["images"].as_array().map(Vec::as_slice).unwrap_or_default() {
            if !image.as_str().is_some_and(is_base64) {
                return Err(invalid("illegal base64 data at input byte 4"));
            }
        }
        for call in message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default() {
            if !call["function"]["arguments"].is_object() {
                let text = "json: cannot unmarshal into Go struct field .arguments of type api.ToolCallFunctionArguments";
                return Err(invalid(text));
            }
        }
        match message["role"].as_str() {
            Some("system") => talk.instructed(said),
            Some("user") => talk.asked(said),
            Some("tool") => talk.resulted(said),
            Some("assistant") => talk.spoke(&said),
            _ => {
                return Err(invalid(
                    "invalid role, must be one of [\"user\", \"assistant\", \"system\", \"tool\"]",
                ));
            }
        }
    }
    Ok(talk)
}
