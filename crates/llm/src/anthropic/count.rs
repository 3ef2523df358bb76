//! Input tokens of a Messages body, counted here. Anthropic publishes no tokenizer: the count is that of
//! `o200k_base`, usually 10 to 20 % below what Claude's models count, plus what Anthropic documents as added.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::tokens::{count_text, estimate, image};

/// Per message and per answer, as for OpenAI's models.
const PER_MESSAGE: u64 = 4;
const PRIMING: u64 = 3;
/// The system prompt that comes with tools:
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing>.
const TOOL_PROMPT: u64 = 346;

/// Blocks within blocks; what is deeper is estimated from its size.
const MAX_DEPTH: usize = 8;

#[derive(Deserialize)]
struct Prompt<'a> {
    #[serde(borrow, default)]
    system: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// Tokens of system prompt, messages and tools. What is odd enough not to be read is estimated from its size.
pub(super) fn count_prompt(body: &[u8]) -> u64 {
    if !body.trim_ascii_start().starts_with(b"{") {
        return 0;
    }
    let Ok(prompt) = serde_json::from_slice::<Prompt<'_>>(body) else { return estimate(body.len()) };
    let messages: u64 = prompt.messages.iter().map(|m| PER_MESSAGE + content(m.content, 0)).sum();
    let tools = prompt.tools.map(RawValue::get).filter(|t| !matches!(*t, "null" | "[]"));
    messages + content(prompt.system, 0) + tools.map_or(0, |t| TOOL_PROMPT + count_text(t)) + PRIMING
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source: Option<&'a RawValue>,
}

fn content(raw: Option<&RawValue>, depth: usize) -> u64 {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return 0 };
    if raw.get().starts_with('"') {
        return serde_json::from_str::<String>(raw.get()).map_or(0, |text| count_text(&text));
    }
    let blocks = (depth <= MAX_DEPTH).then(|| serde_json::from_str::<Vec<Block<'_>>>(raw.get()));
    let Some(Ok(blocks)) = blocks else { return estimate(raw.get().len()) };
    blocks.iter().map(|said| block(said, depth)).sum()
}

fn block(block: &Block<'_>, depth: usize) -> u64 {
    let texts: u64 =
        [&block.text, &block.thinking, &block.name].into_iter().flatten().map(|text| count_text(text)).sum();
    let media = match block.kind.as_ref() {
        "image" => block.source.map_or(0, image),
        // A document's pages are not looked at: its bytes stand for them.
        "document" => block.source.map_or(0, |source| estimate(source.get().len())),
        _ => 0,
    };
    texts + media + block.input.map_or(0, |input| count_text(input.get())) + content(block.content, depth + 1)
}

fn image(source: &RawValue) -> u64 {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Source<'a> {
        #[serde(borrow)]
        data: Cow<'a, str>,
    }
    let source: Source<'_> = serde_json::from_str(source.get()).unwrap_or_default();
    image::anthropic(image::size(&source.data).unwrap_or(image::UNSEEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_said_counts() {
        let count = |text: &str| count_prompt(text.as_bytes());
        let hello = count(r#"{"messages":[{"role":"user","content":"Hello"}]}"#);
        assert_eq!(hello, PER_MESSAGE + 1 + PRIMING);
        let same = r#"{"x_sim":{},"messages":[{"role":"user","content":[{"type":"text","text":"Hello"}]}]}"#;
        assert_eq!(count(same), hello);
        for more in [
            r#"{"system":"Hello","messages":[{"role":"user","content":"Hello"}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"tool_result","content":"Hello you"}]}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"tool_use","name":"f","input":{"a":1}}]}]}"#,
        ] {
            assert!(count(more) > hello, "{more}");
        }
        assert!(count(r#"{"tools":[{"name":"f"}],"messages":[{"role":"user","content":"Hello"}]}"#) > 300);
        assert_eq!(count("[]"), 0);
    }
}
