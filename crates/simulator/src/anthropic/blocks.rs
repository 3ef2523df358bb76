//! Messages and their blocks: that calls have their results, and thoughts their signatures.

use serde_json::Value;

use super::{is_redacted, is_signed, request::invalid};
use crate::{error::ApiError, native::is_base64, request::Conversation};

const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// Reads a conversation, message by message.
#[derive(Default)]
pub(super) struct Reader {
    conversation: Conversation,
    /// Calls of the last message that wait for their results.
    waiting: Vec<String>,
    /// The turn that goes on must begin with thoughts, since the model thinks and has tools.
    thinks: bool,
    /// The last assistant's message calls tools and has no thoughts; where it stands.
    thoughtless: Option<String>,
}

impl Reader {
    pub(super) fn new(thinks: bool) -> Self {
        Self { thinks, ..Self::default() }
    }

    pub(super) fn system(&mut self, system: &Value) -> Result<(), ApiError> {
        let mut said = String::new();
        for block in blocks(system, "system")? {
            said.push_str(text(&block, "system")?);
            said.push(' ');
        }
        self.conversation.instructed(said);
        Ok(())
    }

    pub(super) fn message(&mut self, message: &Value, at: &str) -> Result<(), ApiError> {
        let content = message.get("content").filter(|c| !c.is_null());
        let content = content.ok_or_else(|| invalid(&format!("{at}.content"), "Field required"))?;
        let blocks = blocks(content, &format!("{at}.content"))?;
        match message.get("role").and_then(Value::as_str) {
            Some("user") => self.user(&blocks, at),
            Some("assistant") => self.assistant(&blocks, at),
            Some("system") => self.system(content),
            _ => Err(invalid(&format!("{at}.role"), "Input should be 'user' or 'assistant'")),
        }
    }

    fn user(&mut self, blocks: &[Value], at: &str) -> Result<(), ApiError> {
        let mut said = String::new();
        let mut spoke = false;
        for (i, block) in blocks.iter().enumerate() {
            let at = format!("{at}.content.{i}");
            match kind(block) {
                "text" => {
                    said.push_str(text(block, &at)?);
                    said.push(' ');
                    spoke = true;
                }
                "image" => {
                    check_image(block, &at)?;
                    spoke = true;
                }
                "document" => {
                    check_document(block, &at)?;
                    spoke = true;
                }
                "search_result" => spoke = true,
                "tool_result" => self.result(block, &at)?,
                other => return Err(invalid(&at, &format!("unexpected block '{other}' in a user message"))),
            }
        }
        self.none_waiting(at)?;
        if spoke {
            self.conversation.asked(said);
            self.thoughtless = None;
        }
        Ok(())
    }

    fn result(&mut self, block: &Value, at: &str) -> Result<(), ApiError> {
        let id = block.get("tool_use_id").and_then(Value::as_str).unwrap_or_default();
        let Some(found) = self.waiting.iter().position(|waiting| waiting == id) else {
            let text = format!(
                "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a \
                 corresponding `tool_use` block in the previous message."
            );
            return Err(invalid(at, &text));
        };
        self.waiting.swap_remove(found);
        let mut said = String::new();
        if let Some(content) = block.get("content") {
            for block in blocks(content, at)? {
                if kind(&block) == "text" {
                    said.push_str(text(&block, at)?);
                    said.push(' ');
                }
            }
        }
        self.conversation.resulted(said);
        Ok(())
    }

    fn assistant(&mut self, blocks: &[Value], at: &str) -> Result<(), ApiError> {
        self.none_waiting(at)?;
        let mut said = String::new();
        let mut thoughts = false;
        self.thoughtless = None;
        for (i, block) in blocks.iter().enumerate() {
            let at = format!("{at}.content.{i}");
            let member = |name: &str| block.get(name).and_then(Value::as_str);
            match kind(block) {
                "text" => {
                    said.push_str(text(block, &at)?);
                    said.push(' ');
                }
                "tool_use" => {
                    let fits = |id: &str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
                    let id = member("id").filter(|id| !id.is_empty() && fits(id));
                    let id = id.ok_or_else(|| {
                        invalid(
                            &format!("{at}.tool_use.id"),
                            "String should match pattern '^[a-zA-Z0-9_-]+$'",
                        )
                    })?;
                    if !block.get("input").is_some_and(Value::is_object) {
                        return Err(invalid(
                            &format!("{at}.tool_use.input"),
                            "Input should be a valid dictionary",
                        ));
                    }
                    self.waiting.push(id.to_owned());
                }
                "thinking" => {
                    thoughts = true;
                    let thinking = member("thinking").unwrap_or_default();
                    if !member("signature").is_some_and(|by| is_signed(thinking, by)) {
                        return Err(invalid(&at, "Invalid `signature` in `thinking` block"));
                    }
                }
                "redacted_thinking" => {
                    thoughts = true;
                    if !member("data").is_some_and(is_redacted) {
                        return Err(invalid(&at, "Invalid `data` in `redacted_thinking` block"));
                    }
                }
                other => {
                    return Err(invalid(&at, &format!("unexpected block '{other}' in an assistant message")));
                }
            }
        }
        if self.thinks && !thoughts && !self.waiting.is_empty() {
            self.thoughtless = Some(at.to_owned());
        }
        self.conversation.spoke(&said);
        Ok(())
    }

    fn none_waiting(&self, at: &str) -> Result<(), ApiError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let text = format!(
            "`tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must \
             have a corresponding `tool_result` block in the next message.",
            self.waiting.join(", ")
        );
        Err(invalid(at, &text))
    }

    pub(super) fn finish(self) -> Result<Conversation, ApiError> {
        self.none_waiting("messages")?;
        if let Some(at) = self.thoughtless {
            let text = "Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a \
                        final `assistant` message must start with a thinking block.";
            return Err(invalid(&format!("{at}.content.0.type"), text));
        }
        Ok(self.conversation)
    }
}

fn kind(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// A text as the one block it stands for.
fn blocks(content: &Value, at: &str) -> Result<Vec<Value>, ApiError> {
    match content {
        Value::String(text) => Ok(vec![serde_json::json!({"type": "text", "text": text})]),
        Value::Array(blocks) => Ok(blocks.clone()),
        _ => Err(invalid(at, "Input should be a valid string or list")),
    }
}

fn text<'a>(block: &'a Value, at: &str) -> Result<&'a str, ApiError> {
    match block.get("text").and_then(Value::as_str) {
        Some("") => Err(invalid(at, "text content blocks must be non-empty")),
        Some(text) if text.trim().is_empty() => {
            Err(invalid(at, "text content blocks must contain non-whitespace text"))
        }
        Some(text) => Ok(text),
        None => Err(invalid(&format!("{at}.text"), "Field required")),
    }
}

/// Bytes are those of a PDF.
fn check_document(block: &Value, at: &str) -> Result<(), ApiError> {
    let member = |name: &str| block["source"][name].as_str();
    let wanted = match member("type") {
        Some("base64") => "application/pdf",
        Some("text") => "text/plain",
        Some("url" | "file" | "content") => return Ok(()),
        _ => {
            return Err(invalid(&format!("{at}.document.source"), "Input should be a valid document source"));
        }
    };
    if member("media_type") == Some(wanted) && member("data").is_some() {
        return check_data(block, &format!("{at}.document.source"));
    }
    Err(invalid(&format!("{at}.document.source.media_type"), &format!("Input should be '{wanted}'")))
}

/// Bytes are in standard base64.
fn check_data(block: &Value, at: &str) -> Result<(), ApiError> {
    let source = &block["source"];
    if source["type"] == "base64" && !source["data"].as_str().is_some_and(is_base64) {
        return Err(invalid(&format!("{at}.base64"), "invalid base64 data"));
    }
    Ok(())
}

fn check_image(block: &Value, at: &str) -> Result<(), ApiError> {
    let member = |name: &str| block["source"][name].as_str();
    let fits = match member("type") {
        Some("base64") => {
            member("media_type").is_some_and(|kind| IMAGES.contains(&kind)) && member("data").is_some()
        }
        Some("url") => member("url").is_some(),
        Some("file") => member("file_id").is_some(),
        _ => false,
    };
    if fits {
        check_data(block, &format!("{at}.image.source"))
    } else {
        Err(invalid(&format!("{at}.image.source"), "Input should be a valid image source"))
    }
}
