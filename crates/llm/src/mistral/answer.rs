//! Whole answers: what they mean and what they used.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Usage,
    canonical::{self, Answer, Content, Finish, Part, ToolUse},
    lenient,
    members::string,
};

#[derive(Debug, Deserialize)]
pub(super) struct WireUsage {
    #[serde(default, deserialize_with = "lenient::read")]
    prompt_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::read")]
    completion_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::read")]
    prompt_tokens_details: Option<Details>,
    /// The same, on some endpoints.
    #[serde(default, deserialize_with = "lenient::read")]
    num_cached_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "lenient::read")]
    cached_tokens: Option<u64>,
}

impl WireUsage {
    pub(super) fn believable(self) -> Option<Usage> {
        let cached = self.prompt_tokens_details.and_then(|d| d.cached_tokens).or(self.num_cached_tokens);
        let usage = Usage {
            input_tokens: self.prompt_tokens?,
            output_tokens: self.completion_tokens.unwrap_or_default(),
            cache_read_tokens: cached.unwrap_or_default(),
            ..Usage::default()
        };
        usage.believable()
    }
}

#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    id: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    created: i64,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    choices: Vec<Choice<'a>>,
    #[serde(default, deserialize_with = "lenient::object")]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    message: Message<'a>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    finish_reason: Option<Cow<'a, str>>,
}

/// A message, or a delta.
#[derive(Deserialize, Default)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub(super) content: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    pub(super) tool_calls: Vec<Call<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) id: Option<String>,
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    pub(super) function: Function<'a>,
}

#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) name: String,
    /// A string; of some models an object.
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl Function<'_> {
    pub(super) fn arguments(&self) -> String {
        let raw = self.arguments.filter(|raw| raw.get() != "null");
        raw.map(|raw| string(raw).unwrap_or_else(|| raw.get().to_owned())).unwrap_or_default()
    }
}

/// A piece of what is said.
pub(super) enum Piece {
    Text(String),
    Thinking(String),
    /// A reference, an image: by its type.
    Foreign(String, Box<RawValue>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Chunk {
    Text { text: String },
    Thinking { thinking: Thoughts },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Thoughts {
    Plain(String),
    Chunks(Vec<ThoughtChunk>),
}

#[derive(Deserialize)]
struct ThoughtChunk {
    #[serde(default)]
    text: Option<String>,
}

/// Content is a string, or chunks.
pub(super) fn pieces(content: Option<&RawValue>) -> Vec<Piece> {
    let Some(raw) = content else { return Vec::new() };
    if let Some(text) = string(raw) {
        return if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] };
    }
    let chunks: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    chunks
        .into_iter()
        .map(|raw| match serde_json::from_str::<Chunk>(raw.get()) {
            Ok(Chunk::Text { text }) => Piece::Text(text),
            Ok(Chunk::Thinking { thinking: Thoughts::Plain(text) }) => Piece::Thinking(text),
            Ok(Chunk::Thinking { thinking: Thoughts::Chunks(chunks) }) => {
                Piece::Thinking(chunks.into_iter().filter_map(|chunk| chunk.text).collect())
            }
            Err(_) => Piece::Foreign(kind(raw), raw.to_owned()),
        })
        .filter(|piece| !matches!(piece, Piece::Text(text) | Piece::Thinking(text) if text.is_empty()))
        .collect()
}

fn kind(raw: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: String,
    }
    serde_json::from_str::<Kind>(raw.get()).map_or_else(|_| "unknown".to_owned(), |k| k.kind)
}

/// `None` for what is no chat completion.
pub(super) fn decode_answer(body: &[u8]) -> Option<Answer> {
    let completion: Completion<'_> = serde_json::from_slice(body).ok()?;
    let choices: Vec<_> = completion.choices.into_iter().map(choice).collect();
    (!choices.is_empty()).then(|| Answer {
        id: completion.id.unwrap_or_default().into_owned(),
        model: completion.model.unwrap_or_default().into_owned(),
        created: completion.created,
        choices,
        usage: completion.usage.and_then(WireUsage::believable),
    })
}

fn choice(choice: Choice<'_>) -> canonical::Choice {
    let mut parts: Vec<Part> = Vec::new();
    for piece in pieces(choice.message.content) {
        // Thoughts and texts may come in several chunks.
        match (piece, parts.last_mut().map(|part| &mut part.content)) {
            (Piece::Text(more), Some(Content::Text(text)))
            | (Piece::Thinking(more), Some(Content::Thinking(text))) => text.push_str(&more),
            (Piece::Text(text), _) => parts.push(Part::text(text)),
            (Piece::Thinking(text), _) => parts.push(Content::Thinking(text).into()),
            (Piece::Foreign(kind, value), _) => parts.push(Content::Foreign { kind, value }.into()),
        }
    }
    let calls = choice.message.tool_calls;
    let called = !calls.is_empty();
    for (number, call) in calls.into_iter().enumerate() {
        let arguments = call.function.arguments();
        let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call{number:05}"));
        parts.push(Content::ToolUse(ToolUse { id, name: call.function.name, arguments }).into());
    }
    let finish = finish(choice.finish_reason.as_deref().unwrap_or("stop"), called);
    canonical::Choice { parts, finish }
}

pub(super) fn finish(reason: &str, called: bool) -> Finish {
    match reason {
        "tool_calls" => Finish::ToolUse,
        "stop" if called => Finish::ToolUse,
        "stop" => Finish::Stop,
        "length" => Finish::MaxTokens,
        "model_length" => Finish::ContextWindow,
        other => Finish::Other(other.to_owned()),
    }
}

/// The provider's own numbers, when a whole answer carries them.
pub(super) fn usage_of_answer(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Used {
        #[serde(default, deserialize_with = "lenient::object")]
        usage: Option<WireUsage>,
    }
    serde_json::from_slice::<Used>(body).ok()?.usage?.believable()
}
