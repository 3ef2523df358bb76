//! Token counts. The simulator counts for itself: what it says is what Weir's counts are compared with.
//!
//! The tokenizer is `bpe-openai`'s `o200k_base`; a prompt is counted as OpenAI's cookbook has it.

use bpe_openai::o200k_base;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Per message and per answer, as OpenAI's cookbook "How to count tokens with tiktoken" gives them.
const PER_MESSAGE: u64 = 3;
const PER_NAME: u64 = 1;
const PRIMING: u64 = 3;
/// An image at low detail, from OpenAI's vision guide; high detail depends on the pixels, which aren't here.
const PER_IMAGE: u64 = 85;
/// Bytes a token on average in English, for estimates before a call.
const BYTES_PER_TOKEN: usize = 4;

/// Tokens of a text by itself.
pub(crate) fn count_text(text: &str) -> u64 {
    if text.is_empty() { 0 } else { o200k_base().count(text) as u64 }
}

/// A guess from a size in bytes.
pub(crate) fn estimate(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN) as u64
}

#[derive(Deserialize)]
struct Prompt<'a> {
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    functions: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

/// Tokens of an OpenAI chat body's messages and tools. What is odd enough not to be read (a member twice, say) is
/// estimated from its size, so that oddness is not free. Zero for what is no object.
pub(crate) fn count_prompt(body: &[u8]) -> u64 {
    if !body.trim_ascii_start().starts_with(b"{") {
        return 0;
    }
    let Ok(prompt) = serde_json::from_slice::<Prompt<'_>>(body) else { return estimate(body.len()) };
    let messages: u64 = prompt.messages.iter().map(count_message).sum();
    let raw =
        |value: Option<&RawValue>| value.map(RawValue::get).filter(|t| *t != "null").map_or(0, count_text);
    messages + raw(prompt.tools) + raw(prompt.functions) + PRIMING
}

fn count_message(message: &Message<'_>) -> u64 {
    let name = string(message.name).map_or(0, |name| count_text(&name) + PER_NAME);
    let role = string(message.role).map_or(0, |role| count_text(&role));
    let calls = message.tool_calls.map(RawValue::get).filter(|t| *t != "null").map_or(0, count_text);
    PER_MESSAGE + role + name + calls + count_content(message.content)
}

fn string(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
}

fn count_content(content: Option<&RawValue>) -> u64 {
    if let Some(text) = string(content) {
        return count_text(&text);
    }
    let Some(raw) = content.filter(|raw| raw.get() != "null") else { return 0 };
    let Ok(parts) = serde_json::from_str::<Vec<Part<'_>>>(raw.get()) else {
        return estimate(raw.get().len());
    };
    let part = |part: &Part<'_>| {
        string(part.text).map_or(0, |text| count_text(&text))
            + if part.image_url.is_some() { PER_IMAGE } else { 0 }
    };
    parts.iter().map(part).sum()
}
