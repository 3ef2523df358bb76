//! Input items: that outputs have their calls, calls their outputs, and reasoning its secret.

use serde_json::Value;

use super::{
    check::{invalid_value, text, wrong_type},
    secret,
};
use crate::{error::ApiError, native::is_whole, request::Conversation, tokens::count_text};

const PER_ITEM: u64 = 4;
/// An image at low detail.
const PER_IMAGE: u64 = 85;
const ROLES: &[&str] = &["assistant", "system", "developer", "user"];
const PARTS: &[&str] =
    &["input_text", "input_image", "input_file", "input_audio", "output_text", "refusal", "summary_text"];
/// Taken and not looked into: what tools of OpenAI's own leave behind.
const OTHERS: &[&str] = &[
    "web_search_call",
    "file_search_call",
    "computer_call",
    "computer_call_output",
    "code_interpreter_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
];
/// What the ids of calls begin with that were made after reasoning: they must bring it along.
pub(super) const REASONED: &str = "fc_0r";

#[derive(Default)]
pub(super) struct Reader {
    pub(super) conversation: Conversation,
    pub(super) tokens: u64,
    /// Calls that wait for their outputs.
    waiting: Vec<String>,
    /// A reasoning item of this turn was there.
    reasoned: bool,
}

impl Reader {
    pub(super) fn instructions(&mut self, text: &str) {
        self.tokens += PER_ITEM + count_text(text);
        self.conversation.instructed(text.to_owned());
    }

    pub(super) fn input(&mut self, input: &Value) -> Result<(), ApiError> {
        match input {
            Value::String(text) => {
                self.tokens += PER_ITEM + count_text(text);
                self.conversation.asked(text.clone());
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.item(item, &format!("input[{at}]"))?;
                }
            }
            other => return Err(wrong_type("input", "one of a string or array of objects", other)),
        }
        let Some(call) = self.waiting.first() else { return Ok(()) };
        Err(ApiError::invalid("input", "", format!("No tool output found for function call {call}.")))
    }

    fn item(&mut self, item: &Value, at: &str) -> Result<(), ApiError> {
        if !item.is_object() {
            return Err(wrong_type(at, "an object", item));
        }
        self.tokens += PER_ITEM;
        match item["type"].as_str() {
            None if item.get("role").is_none() && item.get("id").is_some() => self.reference(item),
            None | Some("message") => self.message(item, at),
            Some("function_call") => self.call(item, "arguments", at),
            Some("custom_tool_call") => self.call(item, "input", at),
            Some("function_call_output" | "custom_tool_call_output") => self.output(item, at),
            Some("reasoning") => self.reasoning(item, at),
            Some("item_reference") => self.reference(item),
            Some("compaction") => self.compaction(item, at),
            Some(kind) if OTHERS.contains(&kind) => Ok(()),
            Some(other) => Err(invalid_value(
                &format!("{at}.type"),
                other,
                &["message", "function_call", "function_call_output", "reasoning", "item_reference"],
            )),
        }
    }

    fn message(&mut self, item: &Value, at: &str) -> Result<(), ApiError> {
        let field = format!("{at}.role");
        let role = text(item, "role", &field)?;
        let content = item.get("content").ok_or_else(|| ApiError::missing(&format!("{at}.content")))?;
        let said = self.content(content, &format!("{at}.content"))?;
        match role {
            "user" => {
                self.conversation.asked(said);
                self.reasoned = false;
            }
            "assistant" => self.conversation.spoke(&said),
            "system" | "developer" => self.conversation.instructed(said),
            other => return Err(invalid_value(&field, other, ROLES)),
        }
        Ok(())
    }

    fn content(&mut self, content: &Value, at: &str) -> Result<String, ApiError> {
        let parts = match content {
            Value::String(text) => {
                self.tokens += count_text(text);
                return Ok(text.clone());
            }
            Value::Array(parts) => parts,
            other => return Err(wrong_type(at, "one of a string or array of objects", other)),
        };
        let mut said = String::new();
        for (i, part) in parts.iter().enumerate() {
            let at = format!("{at}[{i}]");
            let field = format!("{at}.type");
            match text(part, "type", &field)? {
                "input_text" | "output_text" | "summary_text" => {
                    let part = text(part, "text", &format!("{at}.text"))?;
                    self.tokens += count_text(part);
                    said.push_str(part);
                    said.push(' ');
                }
                "input_image" => {
                    image(part, &at)?;
                    self.tokens += PER_IMAGE;
                }
                "input_file" => file(part, &at)?,
                kind if PARTS.contains(&kind) => {}
                other => return Err(invalid_value(&field, other, PARTS)),
            }
        }
        Ok(said)
    }

    fn call(&mut self, item: &Value, with: &str, at: &str) -> Result<(), ApiError> {
        for name in ["call_id", "name", with] {
            let said = text(item, name, &format!("{at}.{name}"))?;
            self.tokens += count_text(said);
        }
        if let Some(id) = item["id"].as_str().filter(|id| id.starts_with(REASONED) && !self.reasoned) {
            let message = format!(
                "Item '{id}' of type 'function_call' was provided without its required 'reasoning' item: 'rs_{}'.",
                id[REASONED.len()..].get(..48).unwrap_or_default()
            );
            return Err(ApiError::invalid("input", "", message));
        }
        self.waiting.extend(item["call_id"].as_str().map(str::to_owned));
        self.conversation.spoke("");
        Ok(())
    }

    fn output(&mut self, item: &Value, at: &str) -> Result<(), ApiError> {
        let id = text(item, "call_id", &format!("{at}.call_id"))?;
        let output = item.get("output").ok_or_else(|| ApiError::missing(&format!("{at}.output")))?;
        let Some(found) = self.waiting.iter().position(|waiting| waiting == id) else {
            let message = format!("No tool call found for function call output with call_id {id}.");
            return Err(ApiError::invalid("input", "", message));
        };
        self.waiting.remove(found);
        let said = self.content(output, &format!("{at}.output"))?;
        self.conversation.resulted(said);
        Ok(())
    }

    fn reasoning(&mut self, item: &Value, at: &str) -> Result<(), ApiError> {
        let id = item.get("id").and_then(Value::as_str);
        match item.get("summary") {
            Some(Value::Array(_)) => {}
            Some(other) => return Err(wrong_type(&format!("{at}.summary"), "an array", other)),
            None => return Err(ApiError::missing(&format!("{at}.summary"))),
        }
        match item.get("encrypted_content").and_then(Value::as_str) {
            Some(sealed) => secret::check(sealed, id)?,
            None => return self.reference(item),
        }
        self.reasoned = true;
        Ok(())
    }

    fn compaction(&mut self, item: &Value, at: &str) -> Result<(), ApiError> {
        let said = secret::uncompacted(text(item, "encrypted_content", &format!("{at}.encrypted_content"))?)?;
        self.tokens += count_text(&said);
        self.conversation.recalled(said);
        Ok(())
    }

    /// Nothing is stored, so nothing is found.
    fn reference(&self, item: &Value) -> Result<(), ApiError> {
        let id = item["id"].as_str().unwrap_or_default();
        let message = format!(
            "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with \
             `store` set to true, or remove this item from your input."
        );
        let status = http::StatusCode::NOT_FOUND;
        Err(ApiError {
            param: Some("input".into()),
            ..ApiError::new(status, "invalid_request_error", message)
        })
    }
}

fn image(part: &Value, at: &str) -> Result<(), ApiError> {
    match part["image_url"].as_str() {
        Some(url) if url.starts_with("http") || (url.starts_with("data:image/") && is_whole(url)) => Ok(()),
        Some(_) => {
            let message = format!(
                "Invalid '{at}.image_url'. Expected a valid URL, but got a value with an invalid format."
            );
            Err(ApiError::invalid(format!("{at}.image_url"), "invalid_value", message))
        }
        None if part["file_id"].is_string() => Ok(()),
        None => Err(ApiError::missing(&format!("{at}.image_url"))),
    }
}

fn file(part: &Value, at: &str) -> Result<(), ApiError> {
    if part["file_data"].as_str().is_some_and(|data| !is_whole(data)) {
        let message = format!("Invalid '{at}.file_data'. Expected a base64-encoded data URL.");
        return Err(ApiError::invalid(format!("{at}.file_data"), "invalid_value", message));
    }
    let members = ["file_id", "file_data", "file_url"];
    if members.iter().any(|name| part[*name].is_string()) {
        Ok(())
    } else {
        Err(ApiError::missing(&format!("{at}.file_id")))
    }
}
