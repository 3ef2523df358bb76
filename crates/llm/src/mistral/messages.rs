//! Messages as Mistral takes them: in its order of roles, with ids of nine letters.

use std::{borrow::Cow, collections::HashMap};

use ring::digest;
use serde::Serialize;

use crate::canonical::{Content, Losses, Media, Message, Part, Role, Source, ToolResult, ToolUse};

/// Said between a tool's result and what the user says next, which may not follow it.
const BETWEEN: &str = "Understood.";
const ID: usize = 9;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub(super) enum Wire<'a> {
    System {
        content: String,
    },
    User {
        content: Said<'a>,
    },
    Assistant {
        content: Said<'a>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
        /// The answer goes on from here.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        prefix: bool,
    },
    Tool {
        tool_call_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        content: Said<'a>,
    },
}

/// A string where that is all there is.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Said<'a> {
    Plain(Cow<'a, str>),
    Chunks(Vec<Chunk<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Chunk<'a> {
    Text {
        text: Cow<'a, str>,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
    },
    DocumentUrl {
        document_url: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        document_name: Option<&'a str>,
    },
    InputAudio {
        /// Base64.
        input_audio: &'a str,
    },
    Thinking {
        thinking: [Thought<'a>; 1],
        closed: bool,
    },
}

#[derive(Serialize)]
pub(super) struct ImageUrl<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Thought<'a> {
    r#type: &'static str,
    text: &'a str,
}

#[derive(Serialize)]
pub(super) struct Call<'a> {
    id: String,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// Writes the messages of one conversation.
pub(super) struct Writer<'l> {
    /// The model thinks, and takes its thoughts back.
    thinks: bool,
    losses: &'l mut Losses,
}

impl<'l> Writer<'l> {
    pub(super) fn new(thinks: bool, losses: &'l mut Losses) -> Self {
        Self { thinks, losses }
    }

    pub(super) fn conversation<'a>(&mut self, messages: &'a [Message]) -> Vec<Wire<'a>> {
        let mut out = Vec::with_capacity(messages.len());
        // Names of the tools that were called, by the ids of the calls.
        let mut names = HashMap::new();
        for message in messages {
            match message.role {
                Role::System => self.system(&message.parts, &mut out),
                Role::User => self.user(&message.parts, &names, &mut out),
                Role::Assistant => {
                    names.extend(message.parts.iter().filter_map(|part| match &part.content {
                        Content::ToolUse(call) => Some((call.id.as_str(), call.name.as_str())),
                        _ => None,
                    }));
                    out.extend(self.assistant(&message.parts));
                }
            }
        }
        if let Some(Wire::Assistant { tool_calls, prefix, .. }) = out.last_mut() {
            *prefix = tool_calls.is_empty();
        }
        out
    }

    fn system(&mut self, parts: &[Part], out: &mut Vec<Wire<'_>>) {
        let losses = &mut *self.losses;
        let texts = parts.iter().filter_map(|part| match &part.content {
            Content::Text(text) => Some(text.as_str()),
            // Instructions are text.
            other => {
                losses.dropped(&format!("messages.content.{}", other.kind()));
                None
            }
        });
        let content = texts.collect::<Vec<_>>().join("\n\n");
        match out.last() {
            None | Some(Wire::System { .. } | Wire::User { .. }) => out.push(Wire::System { content }),
            Some(last) => {
                // Instructions may not follow an answer.
                self.losses.altered("messages.role.system");
                let between = matches!(last, Wire::Tool { .. }).then(|| self.between());
                out.extend(between);
                out.push(Wire::User { content: Said::Plain(content.into()) });
            }
        }
    }

    fn between<'a>(&mut self) -> Wire<'a> {
        self.losses.emulated("messages.role.tool");
        Wire::Assistant { content: Said::Plain(BETWEEN.into()), tool_calls: Vec::new(), prefix: false }
    }

    /// Results are messages of their own here.
    fn user<'a>(&mut self, parts: &'a [Part], names: &HashMap<&str, &'a str>, out: &mut Vec<Wire<'a>>) {
        let (mut said, mut answered) = (Vec::new(), false);
        for part in parts {
            match &part.content {
                Content::ToolResult(result) => {
                    answered = true;
                    out.push(self.result(result, names));
                }
                content => said.extend(self.chunk(content)),
            }
        }
        if said.is_empty() && answered {
            return;
        }
        if matches!(out.last(), Some(Wire::Tool { .. })) {
            let between = self.between();
            out.push(between);
        }
        out.push(Wire::User { content: content(said) });
    }

    fn result<'a>(&mut self, result: &'a ToolResult, names: &HashMap<&str, &'a str>) -> Wire<'a> {
        if result.is_error {
            self.losses.dropped("messages.content.is_error");
        }
        let chunks = result.parts.iter().filter_map(|part| self.chunk(&part.content)).collect();
        Wire::Tool {
            tool_call_id: nine(&result.id),
            name: names.get(result.id.as_str()).copied(),
            content: content(chunks),
        }
    }

    fn assistant<'a>(&mut self, parts: &'a [Part]) -> Option<Wire<'a>> {
        let (mut said, mut tool_calls) = (Vec::new(), Vec::new());
        for part in parts {
            if part.opaque.is_some() {
                // Another vendor's state means nothing to this one.
                self.losses.dropped("thinking");
            }
            match &part.content {
                Content::ToolUse(ToolUse { id, name, arguments }) => {
                    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
                    let function = Function { name, arguments };
                    tool_calls.push(Call { id: nine(id), r#type: "function", function });
                }
                Content::Thinking(text) if self.thinks && part.opaque.is_none() => {
                    let thinking = [Thought { r#type: "text", text }];
                    said.push(Chunk::Thinking { thinking, closed: true });
                }
                Content::Thinking(_) | Content::RedactedThinking => {}
                Content::Refusal(text) => said.push(Chunk::Text { text: text.into() }),
                content => said.extend(self.chunk(content)),
            }
        }
        // One that says nothing and calls nothing is refused.
        if said.is_empty() && tool_calls.is_empty() {
            return None;
        }
        Some(Wire::Assistant { content: content(said), tool_calls, prefix: false })
    }

    fn chunk<'a>(&mut self, content: &'a Content) -> Option<Chunk<'a>> {
        match content {
            Content::Text(text) | Content::Refusal(text) => {
                return (!text.is_empty()).then(|| Chunk::Text { text: text.into() });
            }
            Content::Image(Media { source, detail, .. }) => {
                let url = match source {
                    Source::Url(url) => Cow::Borrowed(url.as_str()),
                    Source::Data { media_type, data } => format!("data:{media_type};base64,{data}").into(),
                    // Nobody's files are Mistral's: no client speaks its dialect.
                    Source::Id(_) => return self.elsewhere("image"),
                    Source::Text(_) => return self.none(content),
                };
                return Some(Chunk::ImageUrl { image_url: ImageUrl { url, detail: detail.as_deref() } });
            }
            Content::File(Media { source, name, .. }) => {
                let document_url = match source {
                    Source::Url(url) => Cow::Borrowed(url.as_str()),
                    Source::Data { media_type, data } => format!("data:{media_type};base64,{data}").into(),
                    Source::Id(_) => return self.elsewhere("file"),
                    Source::Text(text) => {
                        self.losses.emulated("messages.content.document");
                        return Some(Chunk::Text { text: text.into() });
                    }
                };
                return Some(Chunk::DocumentUrl { document_url, document_name: name.as_deref() });
            }
            Content::Audio(Media { source: Source::Data { data, .. } | Source::Url(data), .. }) => {
                return Some(Chunk::InputAudio { input_audio: data });
            }
            _ => {}
        }
        self.none(content)
    }

    /// It was uploaded to another vendor.
    fn elsewhere<'a>(&mut self, kind: &str) -> Option<Chunk<'a>> {
        self.losses.dropped(&format!("messages.content.{kind}.file_id"));
        None
    }

    fn none<'a>(&mut self, content: &Content) -> Option<Chunk<'a>> {
        self.losses.dropped(&format!("messages.content.{}", content.kind()));
        None
    }
}

fn content(mut chunks: Vec<Chunk<'_>>) -> Said<'_> {
    match chunks.as_mut_slice() {
        [] => Said::Plain("".into()),
        [Chunk::Text { text }] => Said::Plain(std::mem::take(text)),
        _ => Said::Chunks(chunks),
    }
}

/// An id as Mistral takes it, nine letters and digits: its own as it is, any other changed the same way wherever it
/// stands, so calls and results still meet.
fn nine(id: &str) -> String {
    if id.len() == ID && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    let hash = digest::digest(&digest::SHA256, id.as_bytes());
    let mut number = hash.as_ref().iter().take(8).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let letters = (0..ID).map(|_| {
        let letter = usize::try_from(number % 62).ok().and_then(|at| LETTERS.get(at)).copied();
        number /= 62;
        char::from(letter.unwrap_or(b'0'))
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_nine_letters_and_stay_apart() {
        assert_eq!(nine("D681PevKs"), "D681PevKs");
        let ids = ["call_1", "call_2", "", "toolu_01A09q90qw90lq917835lq9", "D681PevK-"].map(nine);
        for (i, id) in ids.iter().enumerate() {
            assert!(id.len() == ID && id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
            assert!(!ids[..i].contains(id));
        }
        assert_eq!(nine("call_1"), ids[0]);
    }
}
