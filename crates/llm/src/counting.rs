//! Input tokens of a body whose dialect has no rule of its own: every text in it, and what messages cost besides.
//! Usually within 15 % of what a provider says, who counts the tools by a template of its own.

use serde_json::Value;

use crate::tokens::{count_text, estimate};

/// Of a message, its role with it, as for OpenAI's.
const PER_MESSAGE: u64 = 4;
const PRIMING: u64 = 3;
/// An image or a file, whose size in tokens depends on what is in it.
const PER_MEDIA: u64 = 85;

/// Tokens of these members of a body; `media` are members that hold bytes, not words.
pub(crate) fn count_body(body: &[u8], members: &[&str], media: &[&str]) -> u64 {
    if !body.trim_ascii_start().starts_with(b"{") {
        return 0;
    }
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(body) else { return estimate(body.len()) };
    let messages = body.get("messages").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let said: u64 = members.iter().filter_map(|name| body.get(*name)).map(|value| count(value, media)).sum();
    said + messages * PER_MESSAGE + PRIMING
}

fn count(value: &Value, media: &[&str]) -> u64 {
    match value {
        Value::String(text) => count_text(text),
        Value::Array(items) => items.iter().map(|item| count(item, media)).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| match value {
                _ if media.contains(&name.as_str()) => {
                    PER_MEDIA * value.as_array().map_or(1, Vec::len) as u64
                }
                Value::String(_) if name == "role" || name == "type" => 0,
                value => {
                    count(value, media) + if matches!(name.as_str(), "text" | "content") { 0 } else { 1 }
                }
            })
            .sum(),
        Value::Null => 0,
        Value::Bool(_) | Value::Number(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_and_bytes_do_not() {
        let count = |body: &str| count_body(body.as_bytes(), &["messages", "tools"], &["images"]);
        let hello = count(r#"{"messages":[{"role":"user","content":"Hello"}]}"#);
        assert_eq!(hello, 1 + PER_MESSAGE + PRIMING);
        assert_eq!(
            count(r#"{"x_sim":{"text":"a b c"},"messages":[{"role":"user","content":"Hello"}]}"#),
            hello
        );
        let image =
            r#"{"messages":[{"role":"user","content":"Hello","images":["AAAAAAAAAAAAAAAAAAAAAAAA"]}]}"#;
        assert_eq!(count(image), hello + PER_MEDIA);
        assert!(count(r#"{"messages":[{"role":"user","content":"Hello"}],"tools":[{"name":"f"}]}"#) > hello);
        assert_eq!((count("[]"), count("{")), (0, 1));
    }
}
