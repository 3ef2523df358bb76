//! The conversation: its shape is checked, and what the answer is about is read.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Raw, items, text, wrong_type, wrong_value};
use crate::{
    error::ApiError,
    native::{is_base64, is_whole},
    seed::hash,
};

const ROLES: &[&str] = &["system", "assistant", "user", "function", "tool", "developer"];
const PARTS: &[&str] = &["text", "image_url", "input_audio", "file", "refusal"];

/// What an answer is made from.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Conversation {
    /// The last user message's text.
    pub(crate) question: String,
    /// Texts of the tool messages at the very end.
    pub(crate) results: Vec<String>,
    /// Of roles and texts, however they are written: what the same answer follows from.
    pub(crate) digest: u64,
    /// The conversation ends with the user's message, so tools it names are to be called.
    pub(crate) users_turn: bool,
    /// An assistant has spoken.
    pub(crate) answered: bool,
    /// Where messages end: the digest so far, and how long the texts are.
    pub(crate) ends: Vec<(u64, usize)>,
    /// A wish somebody said in words.
    pub(crate) wish: Option<String>,
    /// What users said and tools told before the question.
    pub(crate) before: Vec<String>,
}

/// Words of a question that asks for all that was said before.
const RECITE: &str = "what was said";
/// The most of it that is said again, in bytes.
const MOST_RECITED: usize = 16 * 1024;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Raw<'a>,
    #[serde(borrow, default)]
    content: Raw<'a>,
    #[serde(borrow, default)]
    tool_calls: Raw<'a>,
    #[serde(borrow, default)]
    tool_call_id: Raw<'a>,
    #[serde(borrow, default)]
    function_call: Raw<'a>,
    #[serde(borrow, default)]
    refusal: Raw<'a>,
    #[serde(borrow, default)]
    audio: Raw<'a>,
}

#[derive(Deserialize)]
struct Id<'a> {
    #[serde(borrow, default)]
    id: Raw<'a>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    text: Raw<'a>,
    image_url: Option<Image>,
    input_audio: Option<Audio>,
    file: Option<File>,
}

#[derive(Deserialize)]
struct Image {
    url: Option<String>,
}

#[derive(Deserialize)]
struct Audio {
    data: Option<String>,
    format: Option<String>,
}

#[derive(Deserialize)]
struct File {
    file_id: Option<String>,
    file_data: Option<String>,
}

impl Part<'_> {
    /// What is no text must be what it says it is.
    fn check(&self, kind: &str, param: &str) -> Result<(), ApiError> {
        let missing = |field: &str| Err(ApiError::missing(&format!("{param}.{field}")));
        match kind {
            "image_url" => match self.image_url.as_ref().and_then(|image| image.url.as_deref()) {
                None => missing("image_url.url"),
                Some(url) if url.starts_with("http") => Ok(()),
                Some(url) if url.starts_with("data:image/") && is_whole(url) => Ok(()),
                Some(_) => {
                    let message = "Invalid image URL: expected an http(s) URL or a data URL of an image.";
                    Err(ApiError::invalid(format!("{param}.image_url.url"), "invalid_image_url", message))
                }
            },
            "input_audio" => match &self.input_audio {
                Some(Audio { data: Some(data), format: Some(_) }) if is_base64(data) => Ok(()),
                Some(Audio { data: Some(_), format: Some(_) }) => {
                    let message = "The data provided for 'input_audio' is not valid base64.";
                    Err(ApiError::invalid(format!("{param}.input_audio.data"), "invalid_value", message))
                }
                _ => missing("input_audio"),
            },
            "file" => match &self.file {
                Some(file) if file.file_data.as_deref().is_some_and(|data| !is_whole(data)) => {
                    let message = "Invalid file data: expected a base64-encoded data URL.";
                    Err(ApiError::invalid(format!("{param}.file.file_data"), "invalid_value", message))
                }
                Some(file) if file.file_id.is_some() || file.file_data.is_some() => Ok(()),
                _ => missing("file.file_id"),
            },
            _ => Ok(()),
        }
    }
}

/// Tool calls that wait for their results.
#[derive(Default)]
struct Open<'a> {
    /// Tool messages may come: the last message that is none called tools.
    expected: bool,
    waiting: Vec<Cow<'a, str>>,
}

impl Conversation {
    pub(crate) fn read(raw: &RawValue) -> Result<Self, ApiError> {
        let messages = items(raw, "messages")?;
        if messages.is_empty() {
            let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty \
                           array instead.";
            return Err(ApiError::invalid("messages", "empty_array", message));
        }
        let mut conversation = Self::default();
        let mut open = Open::default();
        for (at, raw) in messages.into_iter().enumerate() {
            conversation.message(raw, at, &mut open)?;
        }
        open.none_waiting()?;
        Ok(conversation)
    }

    fn message<'a>(&mut self, raw: &'a RawValue, at: usize, open: &mut Open<'a>) -> Result<(), ApiError> {
        let param = |field: &str| format!("messages[{at}].{field}");
        let message: Message<'a> = match raw.get().starts_with('{').then(|| serde_json::from_str(raw.get())) {
            Some(Ok(message)) => message,
            _ => return Err(wrong_type(&format!("messages[{at}]"), "an object", raw)),
        };
        let role = text(message.role.ok_or_else(|| ApiError::missing(&param("role")))?, &param("role"))?;
        if role != "tool" {
            open.none_waiting()?;
            open.expected = false;
            self.before.append(&mut self.results);
        }
        self.users_turn = role == "user";
        self.answered |= role == "assistant";
        let mut said = String::new();
        match &*role {
            "user" => {
                content(message.content, &param("content"), &mut said)?;
                self.asked(said);
            }
            "tool" => {
                open.answered(message.tool_call_id, at)?;
                content(message.content, &param("content"), &mut said)?;
                self.resulted(said);
            }
            "assistant" => {
                if let Some(calls) = message.tool_calls {
                    open.called(calls, &param("tool_calls"))?;
                }
                let instead = [message.tool_calls, message.function_call, message.refusal, message.audio];
                if message.content.is_none() && instead.iter().any(Option::is_some) {
                    return Ok(());
                }
                content(message.content, &param("content"), &mut said)?;
                self.spoke(&said);
            }
            "system" | "developer" => {
                content(message.content, &param("content"), &mut said)?;
                self.instructed(said);
            }
            "function" => {}
            other => return Err(wrong_value(&param("role"), other, ROLES)),
        }
        Ok(())
    }

    /// The user says something.
    pub(crate) fn asked(&mut self, question: String) {
        let question = self.without_wish(question);
        self.digest("user", &question);
        self.before.append(&mut self.results);
        let earlier = std::mem::replace(&mut self.question, question);
        if !earlier.is_empty() {
            self.before.push(earlier);
        }
        self.users_turn = true;
    }

    /// What was said before, where no message says it.
    pub(crate) fn recalled(&mut self, said: String) {
        self.digest("recalled", &said);
        self.before.push(said);
    }

    /// What was said, for a question that asks for it.
    pub(crate) fn recital(&self) -> Option<String> {
        let asked = self.question.as_bytes().windows(RECITE.len());
        if !self.users_turn || !asked.into_iter().any(|words| words.eq_ignore_ascii_case(RECITE.as_bytes())) {
            return None;
        }
        let said: Vec<&str> = self.before.iter().chain([&self.question]).map(String::as_str).collect();
        let said = said.join(" / ");
        let mut from = said.len().saturating_sub(MOST_RECITED);
        while !said.is_char_boundary(from) {
            from += 1;
        }
        Some(format!("It was said: {}", &said[from..]))
    }

    /// A tool's result comes.
    pub(crate) fn resulted(&mut self, result: String) {
        self.digest("tool", &result);
        self.results.push(result);
        self.users_turn = false;
    }

    /// Somebody gives instructions.
    pub(crate) fn instructed(&mut self, said: String) {
        let said = self.without_wish(said);
        self.digest("system", &said);
    }

    /// The assistant has said something, or called tools.
    pub(crate) fn spoke(&mut self, said: &str) {
        self.digest("assistant", said);
        self.before.append(&mut self.results);
        self.users_turn = false;
        self.answered = true;
    }

    /// Takes note of what anybody says.
    fn digest(&mut self, role: &str, said: &str) {
        let said = said.trim_end();
        if !said.is_empty() {
            self.digest = hash(hash(self.digest, role.as_bytes()), said.as_bytes());
            let before = self.ends.last().map_or(0, |(_, len)| *len);
            self.ends.push((self.digest, before + said.len()));
        }
    }

    /// Takes `[x_sim {…}]` out of a text.
    fn without_wish(&mut self, mut said: String) -> String {
        const MARK: &str = "[x_sim ";
        let Some(from) = said.find(MARK) else { return said };
        let rest = &said[from + MARK.len()..];
        let read = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>().next();
        if let Some(Ok(json)) = read {
            let to = rest.find(json.get()).map_or(0, |at| at + json.get().len());
            if rest[to..].starts_with(']') {
                self.wish = Some(json.get().to_owned());
                said.replace_range(from..=from + MARK.len() + to, "");
            }
        }
        said
    }
}

impl<'a> Open<'a> {
    fn called(&mut self, calls: &'a RawValue, param: &str) -> Result<(), ApiError> {
        for (at, call) in items(calls, param)?.into_iter().enumerate() {
            let param = format!("{param}[{at}]");
            let id: Id<'a> =
                serde_json::from_str(call.get()).map_err(|_| wrong_type(&param, "an object", call))?;
            let param = format!("{param}.id");
            self.waiting.push(text(id.id.ok_or_else(|| ApiError::missing(&param))?, &param)?);
        }
        self.expected = true;
        Ok(())
    }

    fn answered(&mut self, id: Raw<'_>, at: usize) -> Result<(), ApiError> {
        let param = format!("messages[{at}].tool_call_id");
        let id = text(id.ok_or_else(|| ApiError::missing(&param))?, &param)?;
        if !self.expected {
            let message = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message \
                           with 'tool_calls'.";
            return Err(ApiError::invalid(format!("messages[{at}].role"), "", message));
        }
        match self.waiting.iter().position(|waiting| *waiting == id) {
            Some(found) => {
                self.waiting.swap_remove(found);
                Ok(())
            }
            None => {
                Err(ApiError::invalid(param, "", "Invalid parameter: 'tool_call_id' of a call nobody made."))
            }
        }
    }

    fn none_waiting(&self) -> Result<(), ApiError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let message = format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
             'tool_call_id'. The following tool_call_ids did not have response messages: {}",
            self.waiting.join(", ")
        );
        Err(ApiError::invalid("messages", "", message))
    }
}

/// Checks a message's content; adds its text to `into`.
fn content(raw: Raw<'_>, param: &str, into: &mut String) -> Result<(), ApiError> {
    let Some(raw) = raw else {
        let message = format!("Invalid value for '{param}': expected a string, got null.");
        return Err(ApiError::invalid(param, "", message));
    };
    if raw.get().starts_with('"') {
        into.push_str(&text(raw, param)?);
        return Ok(());
    }
    if !raw.get().starts_with('[') {
        return Err(wrong_type(param, "one of a string or array of objects", raw));
    }
    for (at, raw) in items(raw, param)?.into_iter().enumerate() {
        let param = format!("{param}[{at}]");
        let part: Part<'_> = match raw.get().starts_with('{').then(|| serde_json::from_str(raw.get())) {
            Some(Ok(part)) => part,
            _ => return Err(wrong_type(&param, "an object", raw)),
        };
        let field = format!("{param}.type");
        let kind = text(part.kind.ok_or_else(|| ApiError::missing(&field))?, &field)?;
        if !PARTS.contains(&&*kind) {
            return Err(wrong_value(&field, &kind, PARTS));
        }
        part.check(&kind, &param)?;
        if kind == "text" {
            let field = format!("{param}.text");
            let said = text(part.text.ok_or_else(|| ApiError::missing(&field))?, &field)?;
            into.push_str(&said);
            into.push(' ');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Conversation, ApiError> {
        Conversation::read(&serde_json::from_str::<Box<RawValue>>(json).unwrap())
    }

    #[test]
    fn the_question_and_the_results_are_found() {
        let read = read(
            r#"[{"role":"developer","content":"x"},{"role":"user","content":[{"type":"text","text":"a\nb"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]},
                {"role":"assistant","content":null,"tool_calls":[{"id":"1"},{"id":"2"}]},
                {"role":"tool","tool_call_id":"2","content":"two"},{"role":"tool","tool_call_id":"1","content":[{"type":"text","text":"one"}]}]"#,
        )
        .unwrap();
        assert_eq!(read.question, "a\nb ");
        assert_eq!(read.results, ["two", "one "]);
        assert!(!read.users_turn);
    }

    #[test]
    fn errors_name_the_field() {
        for (json, param) in [
            ("{}", "messages"),
            ("[]", "messages"),
            ("[1]", "messages[0]"),
            (r#"[{"content":"x"}]"#, "messages[0].role"),
            (r#"[{"role":"user","content":"x"},{"role":"boss","content":"x"}]"#, "messages[1].role"),
            (r#"[{"role":"user"}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":null}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":7}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":[{"type":"text"}]}]"#, "messages[0].content[0].text"),
            (r#"[{"role":"user","content":[{"type":"smell"}]}]"#, "messages[0].content[0].type"),
            (
                r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,-_-_"}}]}]"#,
                "messages[0].content[0].image_url.url",
            ),
            (
                r#"[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"-_-_","format":"wav"}}]}]"#,
                "messages[0].content[0].input_audio.data",
            ),
            (
                r#"[{"role":"user","content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,-_-_"}}]}]"#,
                "messages[0].content[0].file.file_data",
            ),
            (r#"[{"role":"assistant"}]"#, "messages[0].content"),
            (r#"[{"role":"tool","tool_call_id":"1","content":"x"}]"#, "messages[0].role"),
            (
                r#"[{"role":"assistant","tool_calls":[{"id":"1"}]},{"role":"tool","content":"x"}]"#,
                "messages[1].tool_call_id",
            ),
            (r#"[{"role":"assistant","tool_calls":[{"id":"1"}]}]"#, "messages"),
            (r#"[{"role":"assistant","tool_calls":[{"id":"1"}]},{"role":"user","content":"x"}]"#, "messages"),
        ] {
            assert_eq!(read(json).unwrap_err().param.as_deref(), Some(param), "{json}");
        }
    }
}
