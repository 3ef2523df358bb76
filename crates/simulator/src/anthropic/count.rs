//! Input tokens, nearly as Anthropic counts them, which publishes no tokenizer.

use crate::tokens::{count_text, estimate};
use serde_json::{Map, Value};

/// Per message and per answer, as for OpenAI's models.
const PER_MESSAGE: u64 = 4;
const PRIMING: u64 = 3;
/// The system prompt that comes with tools:
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing>.
const TOOL_PROMPT: u64 = 346;
/// Most that an image costs: <https://platform.claude.com/docs/en/build-with-claude/vision#evaluate-image-size>.
const PER_IMAGE: u64 = 1_568;

/// Of system prompt, messages and tools.
pub(super) fn prompt_tokens(from: &Map<String, Value>) -> u64 {
    let messages = from.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let messages: u64 = messages.iter().map(|m| PER_MESSAGE + content(m.get("content"))).sum();
    let tools = from.get("tools").filter(|tools| tools.as_array().is_some_and(|tools| !tools.is_empty()));
    let tools = tools.map_or(0, |tools| TOOL_PROMPT + count_text(&tools.to_string()));
    messages + content(from.get("system")) + tools + PRIMING
}

fn content(content: Option<&Value>) -> u64 {
    match content {
        Some(Value::String(text)) => count_text(text),
        Some(Value::Array(blocks)) => blocks.iter().map(block).sum(),
        _ => 0,
    }
}

fn block(block: &Value) -> u64 {
    let texts = ["text", "thinking", "name"].iter().filter_map(|name| block[*name].as_str());
    let media = match block["type"].as_str() {
        Some("image") => PER_IMAGE,
        // A document's pages are not looked at: its bytes stand for them.
        Some("document") => estimate(block["source"].to_string().len()),
        _ => 0,
    };
    let input = block.get("input").map_or(0, |input| count_text(&input.to_string()));
    texts.map(count_text).sum::<u64>() + media + input + content(block.get("content"))
}
