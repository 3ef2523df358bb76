//! What Weir needs to know of a Messages body, from one pass that builds no tree.

use std::{borrow::Cow, ops::Range};

use serde::Deserialize;
use serde_json::value::RawValue;
use weir_error::{Code, Error};

use crate::{edits::place, thinking::asks_to_think};

const MAX_MODEL: usize = 256;
const ROLES: [&str; 3] = ["user", "assistant", "system"];

/// What Weir reads of a Messages body. The rest belongs to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagesView {
    pub model: String,
    pub stream: bool,
    /// 0 where it is not asked for, as when tokens are only counted.
    pub max_tokens: u64,
    /// It asks the model to think.
    pub thinks: bool,
    /// Bytes of the messages, as they stand in the body.
    pub messages_bytes: usize,
    pub(super) model_at: Range<usize>,
    pub(super) messages_at: Range<usize>,
    /// What asks for thoughts with a budget: models that take one want thoughts before every call.
    pub(super) budget_at: Option<Range<usize>>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

impl MessagesView {
    /// Of a request for an answer.
    ///
    /// # Errors
    /// `InvalidJson`; `MissingParameter`, `InvalidType` or `InvalidArgument` with the field as Anthropic names it
    /// (`messages.0.role`).
    pub fn scan(body: &[u8]) -> Result<Self, Error> {
        Self::read(body, true)
    }

    /// Of a request for a count, which needs no `max_tokens`.
    ///
    /// # Errors
    /// As [`MessagesView::scan`].
    pub fn scan_for_count(body: &[u8]) -> Result<Self, Error> {
        Self::read(body, false)
    }

    fn read(body: &[u8], answered: bool) -> Result<Self, Error> {
        let text = std::str::from_utf8(body)
            .map_err(|_| Error::new(Code::InvalidJson, "The request body is not valid JSON."))?;
        if text.trim_start().starts_with('[') {
            return Err(Error::new(Code::InvalidType, "The request body must be an object."));
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|e| {
            Error::new(Code::InvalidJson, "The request body is not valid JSON.").with_source(e)
        })?;
        let model = required(fields.model, "model")?;
        let messages = required(fields.messages, "messages")?;
        let name = string(model).ok_or_else(|| wrong("model", "a valid string"))?;
        if name.is_empty() || name.len() > MAX_MODEL {
            let text = format!("model: String should have 1 to {MAX_MODEL} characters");
            return Err(Error::invalid("model", text));
        }
        check_messages(messages)?;
        let stream = match fields.stream.map(RawValue::get) {
            Some("true") => true,
            None | Some("false" | "null") => false,
            Some(_) => return Err(wrong("stream", "a valid boolean")),
        };
        let max_tokens = match fields.max_tokens.filter(|raw| raw.get() != "null") {
            Some(raw) => max_tokens(raw)?,
            None if answered => required(None, "max_tokens").map(|_| 0)?,
            None => 0,
        };
        Ok(Self {
            model: name.into_owned(),
            stream,
            max_tokens,
            thinks: fields.thinking.is_some_and(asks_to_think),
            messages_bytes: messages.get().len(),
            model_at: place(body, model),
            messages_at: place(body, messages),
            budget_at: fields.thinking.filter(|raw| is_budget(raw)).map(|raw| place(body, raw)),
        })
    }
}

fn is_budget(thinking: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Thinking {
        r#type: String,
    }
    serde_json::from_str::<Thinking>(thinking.get()).is_ok_and(|thinking| thinking.r#type == "enabled")
}

fn max_tokens(raw: &RawValue) -> Result<u64, Error> {
    let value: u64 =
        serde_json::from_str(raw.get()).map_err(|_| wrong("max_tokens", "a valid integer above 0"))?;
    if value == 0 {
        return Err(Error::invalid("max_tokens", "max_tokens: must be greater than or equal to 1"));
    }
    Ok(value)
}

fn check_messages(raw: &RawValue) -> Result<(), Error> {
    let messages: Vec<&RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| wrong("messages", "a valid array"))?;
    if messages.is_empty() {
        return Err(Error::invalid("messages", "messages: at least one message is required"));
    }
    for (i, raw) in messages.into_iter().enumerate() {
        let path = format!("messages.{i}");
        let message = raw.get().starts_with('{').then(|| serde_json::from_str::<Message<'_>>(raw.get()));
        let Some(Ok(message)) = message else { return Err(wrong(&path, "an object")) };
        let at = format!("{path}.role");
        let role = required(message.role, &at)?;
        let role = string(role).ok_or_else(|| wrong(&at, "a valid string"))?;
        if !ROLES.contains(&role.as_ref()) {
            let shown: String = role.chars().take(40).collect();
            let text = format!("{at}: unexpected role \"{shown}\": expected \"user\" or \"assistant\"");
            return Err(Error::invalid(at, text));
        }
        let at = format!("{path}.content");
        let content = required(message.content, &at)?;
        if !content.get().starts_with(['"', '[']) {
            return Err(wrong(&at, "a string or an array of content blocks"));
        }
    }
    Ok(())
}

fn required<'a>(raw: Option<&'a RawValue>, at: &str) -> Result<&'a RawValue, Error> {
    raw.filter(|raw| raw.get() != "null")
        .ok_or_else(|| Error::new(Code::MissingParameter, format!("{at}: Field required")).with_param(at))
}

fn wrong(at: &str, expected: &str) -> Error {
    Error::new(Code::InvalidType, format!("{at}: Input should be {expected}")).with_param(at)
}

fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw.get()).ok() } else { Some(inner.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_in_any_order() {
        let body = r#"{"messages":[{"content":"hi","role":"user"}],"vendor":[1],"max_tokens":5,"stream":true,"model":"a\/b"}"#;
        let view = MessagesView::scan(body.as_bytes()).unwrap();
        assert_eq!((view.model.as_str(), view.stream, view.max_tokens), ("a/b", true, 5));
        assert_eq!(&body[view.model_at], r#""a\/b""#);
        assert_eq!(&body[view.messages_at], r#"[{"content":"hi","role":"user"}]"#);
    }

    #[test]
    fn wrong_fields_are_named() {
        let hi = r#""messages":[{"role":"user","content":"hi"}]"#;
        for (body, code, param) in [
            ("{".to_owned(), Code::InvalidJson, None),
            ("[]".to_owned(), Code::InvalidType, None),
            (format!(r#"{{"max_tokens":1,{hi}}}"#), Code::MissingParameter, Some("model")),
            (format!(r#"{{"model":3,"max_tokens":1,{hi}}}"#), Code::InvalidType, Some("model")),
            (format!(r#"{{"model":"m",{hi}}}"#), Code::MissingParameter, Some("max_tokens")),
            (format!(r#"{{"model":"m","max_tokens":0,{hi}}}"#), Code::InvalidArgument, Some("max_tokens")),
            (format!(r#"{{"model":"m","max_tokens":"x",{hi}}}"#), Code::InvalidType, Some("max_tokens")),
            (r#"{"model":"m","max_tokens":1}"#.to_owned(), Code::MissingParameter, Some("messages")),
            (
                r#"{"model":"m","max_tokens":1,"messages":[]}"#.to_owned(),
                Code::InvalidArgument,
                Some("messages"),
            ),
            (
                r#"{"model":"m","max_tokens":1,"messages":[{"role":"tool","content":"x"}]}"#.to_owned(),
                Code::InvalidArgument,
                Some("messages.0.role"),
            ),
            (
                r#"{"model":"m","max_tokens":1,"messages":[{"role":"user"}]}"#.to_owned(),
                Code::MissingParameter,
                Some("messages.0.content"),
            ),
            (
                format!(r#"{{"model":"m","max_tokens":1,"stream":"yes",{hi}}}"#),
                Code::InvalidType,
                Some("stream"),
            ),
        ] {
            let error = MessagesView::scan(body.as_bytes()).unwrap_err();
            assert_eq!((error.code(), error.param()), (code, param), "{body}");
        }
        let counted = format!(r#"{{"model":"m",{hi}}}"#);
        assert_eq!(MessagesView::scan_for_count(counted.as_bytes()).unwrap().max_tokens, 0);
    }
}
