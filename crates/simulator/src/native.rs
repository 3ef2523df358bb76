//! What the dialects of `mistral`, `ollama` and `bedrock` have in common.

use serde_json::{Map, Value};

use crate::{
    answer::Answer, error::ApiError, faults::Faults, request::Tool, tokens::count_text, wire::Plain,
};

/// Of a message, its role with it.
const PER_MESSAGE: u64 = 4;
const PRIMING: u64 = 3;
/// An image or a file.
const PER_MEDIA: u64 = 85;

pub(crate) type Members = Map<String, Value>;

pub(crate) fn text<'a>(from: &'a Members, name: &str) -> Option<&'a str> {
    from.get(name).and_then(Value::as_str)
}

pub(crate) fn list<'a>(from: &'a Members, name: &str) -> &'a [Value] {
    from.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// # Errors
/// The field `x_sim` is none.
pub(crate) fn wish(from: &Members) -> Result<Option<Faults>, ApiError> {
    let Some(wish) = from.get("x_sim") else { return Ok(None) };
    let wrong = |error: String| ApiError::invalid("x_sim", "", format!("x_sim: {error}"));
    Faults::wish(&wish.to_string()).map(Some).map_err(wrong)
}

/// Tools as chat completions declare them, which Mistral and Ollama do too.
pub(crate) fn functions(tools: &[Value]) -> impl Iterator<Item = Option<Tool>> + '_ {
    tools.iter().map(|tool| {
        let function = &tool["function"];
        let name = function["name"].as_str().filter(|name| !name.is_empty())?.to_owned();
        Some(Tool::function(name, function["parameters"].clone()))
    })
}

/// Every text of these members, and what messages cost besides; `media` are members that hold bytes.
pub(crate) fn prompt_tokens(from: &Members, members: &[&str], media: &[&str]) -> u64 {
    let messages = list(from, "messages").len() as u64;
    let said: u64 = members.iter().filter_map(|name| from.get(*name)).map(|value| count(value, media)).sum();
    said + messages * PER_MESSAGE + PRIMING
}

fn count(value: &Value, media: &[&str]) -> u64 {
    match value {
        Value::String(text) => count_text(text),
        Value::Array(items) => items.iter().map(|item| count(item, media)).sum(),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| match name.as_str() {
                name if media.contains(&name) => PER_MEDIA,
                "role" | "type" => 0,
                "text" | "content" => count(value, media),
                _ => 1 + count(value, media),
            };
            members.iter().map(member).sum()
        }
        Value::Null => 0,
        Value::Bool(_) | Value::Number(_) => 1,
    }
}

/// A whole answer, cut in proportion where it is to be cut.
pub(crate) fn plain(body: &Value, answer: &Answer, cut_after: u64) -> Plain {
    let bytes = body.to_string().into_bytes();
    let said: u64 = answer.choices.iter().map(crate::answer::Choice::tokens).sum();
    if cut_after > said {
        return Plain { bytes, cut_at: None, cut_tokens: said };
    }
    let share = bytes.len() as u64 * cut_after / (said + 1).max(1);
    Plain { cut_at: usize::try_from(share).ok(), bytes, cut_tokens: cut_after }
}

/// Arguments as an object, which what was cut short is not.
pub(crate) fn object(arguments: &str) -> Value {
    serde_json::from_str(arguments).ok().filter(Value::is_object).unwrap_or_else(|| Value::Object(Map::new()))
}

/// Whether what a `data:` URL holds can be read; other URLs hold nothing.
pub(crate) fn is_whole(url: &str) -> bool {
    url.strip_prefix("data:")
        .is_none_or(|data| data.split_once(";base64,").is_some_and(|(_, data)| is_base64(data)))
}

/// Standard base64, as far as it shows.
pub(crate) fn is_base64(text: &str) -> bool {
    let bare = text.trim_end_matches('=');
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}
