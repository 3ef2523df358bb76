//! A body, checked as Mistral checks it: unknown members are refused, and roles have an order.

use std::borrow::Cow;

use serde_json::Value;

use super::{unprocessable, wire::Chunks};
use crate::{
    dialect::Parsed,
    embed::{Asking, Input},
    error::ApiError,
    native::{Members, functions, is_base64, is_whole, list, prompt_tokens, text, wish},
    request::{Choice, Conversation, Format, Request, Thinking, Thoughts, Tool},
};

const KNOWN: &[&str] = &[
    "model",
    "messages",
    "stream",
    "max_tokens",
    "stop",
    "temperature",
    "top_p",
    "random_seed",
    "n",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "presence_penalty",
    "frequency_penalty",
    "prediction",
    "prompt_mode",
    "reasoning_effort",
    "safe_prompt",
    "metadata",
    "guardrails",
    "x_sim",
];
const CHUNKS: [&str; 8] =
    ["text", "image_url", "document_url", "file", "file_url", "input_audio", "reference", "thinking"];
const ID: usize = 9;

fn refused(message: impl Into<String>) -> ApiError {
    ApiError::invalid("", "3051", message)
}

pub(super) fn parse(body: &[u8]) -> Result<Parsed<'static>, ApiError> {
    let Ok(Value::Object(from)) = serde_json::from_slice(body) else {
        return Err(unprocessable("json_invalid", "", "JSON decode error"));
    };
    if let Some(unknown) = from.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(unprocessable("extra_forbidden", unknown, "Extra inputs are not permitted"));
    }
    let missing = |name: &str| unprocessable("missing", name, "Field required");
    let model = text(&from, "model").ok_or_else(|| missing("model"))?.to_owned();
    if !from.get("messages").is_some_and(Value::is_array) {
        return Err(missing("messages"));
    }
    let conversation = conversation(list(&from, "messages"))?;
    let tools = tools(&from)?;
    let seed = match from.get("random_seed").filter(|seed| !seed.is_null()) {
        None => None,
        Some(seed) => Some(seed.as_u64().ok_or_else(|| {
            unprocessable("greater_than_equal", "random_seed", "Input should be greater than or equal to 0")
        })?),
    };
    let native = model.starts_with("magistral");
    let thinks = match text(&from, "reasoning_effort") {
        Some("none") => Thinking::Off,
        Some("low" | "medium" | "high") => Thinking::On { effort: 1, budget: None },
        Some(_) => return Err(unprocessable("enum", "reasoning_effort", "Input should be 'high' or 'none'")),
        None if native => Thinking::On { effort: 1, budget: None },
        None => Thinking::Usual,
    };
    let request = Request {
        conversation,
        stream: from.get("stream").and_then(Value::as_bool).unwrap_or(false),
        include_usage: true,
        max_tokens: from.get("max_tokens").and_then(Value::as_u64),
        n: from.get("n").and_then(Value::as_u64).unwrap_or(1).clamp(1, 8),
        stops: stops(&from),
        tool_choice: tool_choice(&from, &tools)?,
        tools,
        parallel_tool_calls: from.get("parallel_tool_calls").and_then(Value::as_bool).unwrap_or(true),
        format: format(&from)?,
        logprobs: None,
        seed: seed.and_then(|seed| i64::try_from(seed).ok()),
        service_tier: "default",
        wish: wish(&from)?,
        thinking: thinks,
        thoughts: Thoughts::Whole,
        marks: None,
        model: Cow::Owned(model),
        legacy_max_tokens: false,
    };
    let prompt_tokens =
        prompt_tokens(&from, &["messages", "tools"], &["image_url", "document_url", "input_audio"]);
    Ok(Parsed { request, prompt_tokens, form: Box::new(Chunks::default()) })
}

/// A call for vectors.
pub(super) fn embeddings(body: &[u8]) -> Result<Asking, ApiError> {
    const MEMBERS: [&str; 7] =
        ["model", "input", "encoding_format", "output_dimension", "output_dtype", "metadata", "x_sim"];
    let Ok(Value::Object(from)) = serde_json::from_slice(body) else {
        return Err(unprocessable("json_invalid", "", "JSON decode error"));
    };
    if let Some(unknown) = from.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(unprocessable("extra_forbidden", unknown, "Extra inputs are not permitted"));
    }
    let inputs = match from.get("input") {
        Some(Value::String(text)) => vec![Input::text(text)],
        Some(Value::Array(texts)) if texts.iter().all(Value::is_string) => {
            texts.iter().filter_map(Value::as_str).map(Input::text).collect()
        }
        _ => return Err(unprocessable("string_type", "input", "Input should be a valid string")),
    };
    let dimensions = from.get("output_dimension").and_then(Value::as_u64).unwrap_or(0);
    Ok(Asking {
        model: text(&from, "model")
            .ok_or_else(|| unprocessable("missing", "model", "Field required"))?
            .to_owned(),
        inputs,
        dimensions: usize::try_from(dimensions).unwrap_or(0),
        base64: false,
        wish: wish(&from)?,
    })
}

fn tools(from: &Members) -> Result<Vec<Tool>, ApiError> {
    let mut tools = Vec::new();
    for (at, tool) in functions(list(from, "tools")).enumerate() {
        let Some(tool) = tool.filter(|tool| tool.parameters.is_object()) else {
            return Err(unprocessable(
                "missing",
                &format!("tools.{at}.function.parameters"),
                "Field required",
            ));
        };
        tools.push(tool);
    }
    Ok(tools)
}

fn tool_choice(from: &Members, tools: &[Tool]) -> Result<Choice, ApiError> {
    let wrong =
        || unprocessable("enum", "tool_choice", "Input should be 'auto', 'none', 'any' or 'required'");
    match from.get("tool_choice").filter(|choice| !choice.is_null()) {
        None => Ok(Choice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            "any" | "required" => Ok(Choice::Required),
            _ => Err(wrong()),
        },
        Some(named) => {
            let name = named["function"]["name"].as_str().ok_or_else(wrong)?;
            if tools.iter().any(|tool| tool.name == name) {
                Ok(Choice::Named(name.to_owned()))
            } else {
                Err(refused(format!("Tool {name} is not among the tools")))
            }
        }
    }
}

fn stops(from: &Members) -> Vec<Cow<'static, str>> {
    match from.get("stop") {
        Some(Value::String(stop)) => vec![Cow::Owned(stop.clone())],
        Some(Value::Array(stops)) => {
            stops.iter().filter_map(Value::as_str).map(|stop| Cow::Owned(stop.to_owned())).collect()
        }
        _ => Vec::new(),
    }
}

fn format(from: &Members) -> Result<Format, ApiError> {
    let Some(format) = from.get("response_format").filter(|format| !format.is_null()) else {
        return Ok(Format::Text);
    };
    match format["type"].as_str() {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::Json),
        Some("json_schema") if format["json_schema"]["schema"].is_object() => {
            Ok(Format::Schema(format["json_schema"]["schema"].clone()))
        }
        _ => Err(unprocessable("missing", "response_format.json_schema", "Field required")),
    }
}

/// In the order that Mistral's own validator wants.
fn conversation(messages: &[Value]) -> Result<Conversation, ApiError> {
    let mut talk = Conversation::default();
    let mut last = "";
    let mut waiting: Vec<String> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        let expected: &[&str] = match last {
            "" => &["system", "user", "assistant"],
            "assistant" if !waiting.is_empty() => &["tool"],
            "assistant" => &["user", "assistant", "tool"],
            "tool" => &["assistant", "tool"],
            _ => &["system", "user", "assistant"],
        };
        if !expected.contains(&role) {
            return Err(refused(format!("Unexpected role '{role}' after role '{last}'")));
        }
        let said = content(&message["content"], at)?;
        match role {
            "system" => talk.instructed(said),
            "user" => talk.asked(said),
            "tool" => {
                let id = message["tool_call_id"].as_str().unwrap_or_default();
                let Some(found) = waiting.iter().position(|waiting| waiting == id) else {
                    return Err(refused("Not the same number of function calls and responses"));
                };
                waiting.swap_remove(found);
                talk.resulted(said);
            }
            _ => {
                waiting.clear();
                for call in message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default() {
                    waiting.push(call_id(call)?);
                }
                if said.is_empty() && waiting.is_empty() {
                    return Err(refused(
                        "Assistant message must have either content or tool_calls, but not none.",
                    ));
                }
                talk.spoke(&said);
                let prefix = message["prefix"] == true;
                if at + 1 == messages.len() && !prefix {
                    let text = "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant";
                    return Err(refused(text));
                }
            }
        }
        // The last result lets the assistant go on.
        last = if role == "tool" && !waiting.is_empty() { "assistant" } else { role };
    }
    if !waiting.is_empty() {
        return Err(refused("Not the same number of function calls and responses"));
    }
    Ok(talk)
}

fn call_id(call: &Value) -> Result<String, ApiError> {
    let id = call["id"].as_str().unwrap_or_default();
    if id.len() == ID && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Ok(id.to_owned());
    }
    Err(refused(format!("Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of {ID}.")))
}

/// A string, or chunks. Thoughts are part of neither the question nor the answer.
fn content(content: &Value, at: usize) -> Result<String, ApiError> {
    let chunks = match content {
        Value::Null => return Ok(String::new()),
        Value::String(text) => return Ok(text.clone()),
        Value::Array(chunks) => chunks,
        _ => {
            return Err(unprocessable(
                "string_type",
                &format!("messages.{at}.content"),
                "Input should be a valid string",
            ));
        }
    };
    let mut said = String::new();
    for (n, chunk) in chunks.iter().enumerate() {
        let kind = chunk["type"].as_str().unwrap_or_default();
        let place = format!("messages.{at}.content.{n}");
        if !CHUNKS.contains(&kind) {
            return Err(unprocessable(
                "union_tag_invalid",
                &place,
                "Input tag does not match any of the expected tags",
            ));
        }
        if kind == "thinking" && !chunk["thinking"].is_array() {
            return Err(unprocessable("list_type", &place, "Input should be a valid list"));
        }
        let url = [&chunk["image_url"], &chunk["image_url"]["url"], &chunk["document_url"]]
            .into_iter()
            .find_map(Value::as_str);
        if url.is_some_and(|url| !is_whole(url))
            || chunk["input_audio"].as_str().is_some_and(|data| !is_base64(data))
        {
            return Err(refused(format!("Invalid base64 data in {place}")));
        }
        if let Some(text) = chunk["text"].as_str() {
            said.push_str(text);
            said.push(' ');
        }
    }
    Ok(said)
}
