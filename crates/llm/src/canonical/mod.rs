//! What a chat request, an answer and a stream of one mean, in no vendor's words: the middle of every translation.
//!
//! It is built only when a client and a provider speak different dialects. A dialect's `decode` reads its own bytes
//! into these types; another's `encode` writes them as its own. What a side can't say is named in [`Losses`], never
//! dropped in silence. Values that nobody here looks into (schemas, arguments of tools) stay the bytes they were.

mod collect;
pub(crate) mod custom;
mod event;
mod failure;
mod loss;
mod opaque;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

pub use collect::Collector;
pub use custom::{Custom, Grammar};
pub use event::{Answer, Choice, Delta, Event, Finish, PartStart};
pub use failure::{Failure, Wrong};
pub use loss::Losses;
pub(crate) use opaque::SEAL;
pub use opaque::{Opaque, Vendor};

/// The kind of what says where an answer has what it says from.
pub(crate) const CITATIONS: &str = "citations";

/// JSON as it was written.
pub type Raw = Box<RawValue>;

#[derive(Debug, Clone, Default)]
pub struct Request {
    pub stream: bool,
    /// System messages stand among the others, where the client put them.
    pub messages: Vec<Message>,
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    /// Whether one answer may call several tools.
    pub parallel_tools: Option<bool>,
    pub max_output: Option<u64>,
    pub stop: Vec<String>,
    pub sampling: Sampling,
    pub format: Option<Format>,
    /// The answer is to be the text that stands as `value` in what the format says, and nothing around it.
    pub bare: bool,
    pub reasoning: Option<Reasoning>,
    /// Whether the client is to see what the model thought; `None`: as the model has it.
    pub thoughts: Option<bool>,
    /// Whom the client asks for.
    pub user: Option<String>,
    pub service_tier: Option<ServiceTier>,
    /// How much is to be said: `low`, `high`; as OpenAI has it.
    pub verbosity: Option<String>,
    /// By what a provider finds the prompt's cache again. A hint: nothing is lost where there is no place for it.
    pub cache_key: Option<String>,
    /// What the client wants kept with the answer: an object of texts.
    pub metadata: Option<Raw>,
    /// Answers asked for; `None` is one.
    pub choices: Option<u64>,
    /// Log probabilities of the answer's tokens, with so many of the likeliest others at each place.
    pub logprobs: Option<u64>,
    /// Members of the body that nothing above stands for, as the client's dialect names them.
    pub extras: BTreeMap<String, Raw>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions, of the operator or the developer.
    System,
    /// The user, and the results of tools.
    User,
    Assistant,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub role: Role,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone)]
pub struct Part {
    pub content: Content,
    /// A mark up to which the prompt is to be cached, as Anthropic writes it.
    pub cache: Option<Raw>,
    /// What its vendor wants back with it, byte for byte: a thought's signature, say.
    pub opaque: Option<Opaque>,
    /// Of an answer's text, when they were asked for.
    pub logprobs: Vec<Logprob>,
}

/// A token of an answer, and how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    pub token: String,
    pub logprob: f64,
    /// UTF-8 of the token, if the vendor says it.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at its place.
    pub top: Vec<Logprob>,
}

#[derive(Debug, Clone)]
pub enum Content {
    Text(String),
    Image(Media),
    Audio(Media),
    /// A document.
    File(Media),
    ToolUse(ToolUse),
    ToolResult(ToolResult),
    /// What the model thought, or a summary of it. The part's `opaque` holds what proves it.
    Thinking(String),
    /// Thoughts nobody may read: the part's `opaque` is all there is.
    RedactedThinking,
    Refusal(String),
    /// Something only the vendor of its dialect knows: by its name, and as it was written.
    Foreign {
        kind: String,
        value: Raw,
    },
}

impl Content {
    /// Its name, for [`Losses`].
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Text(_) => "text",
            Self::Image(_) => "image",
            Self::Audio(_) => "audio",
            Self::File(_) => "document",
            Self::ToolUse(_) => "tool_use",
            Self::ToolResult(_) => "tool_result",
            Self::Thinking(_) => "thinking",
            Self::RedactedThinking => "redacted_thinking",
            Self::Refusal(_) => "refusal",
            Self::Foreign { kind, .. } => kind,
        }
    }
}

impl From<Content> for Part {
    fn from(content: Content) -> Self {
        Self { content, cache: None, opaque: None, logprobs: Vec::new() }
    }
}

impl Part {
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Content::Text(text.into()).into()
    }

    /// Where an answer has what it says from: only its vendor's clients are told, others that they aren't.
    pub(crate) fn citations() -> Self {
        Content::Foreign { kind: CITATIONS.to_owned(), value: Raw::default() }.into()
    }

    #[must_use]
    pub fn with_opaque(mut self, opaque: Option<Opaque>) -> Self {
        self.opaque = opaque;
        self
    }
}

#[derive(Debug, Clone)]
pub struct Media {
    pub source: Source,
    /// A file's name, or a document's title.
    pub name: Option<String>,
    /// How closely an image is to be looked at.
    pub detail: Option<String>,
}

#[derive(Debug, Clone)]
pub enum Source {
    Url(String),
    /// Base64.
    Data {
        media_type: String,
        data: String,
    },
    /// Uploaded to the vendor before.
    Id(String),
    Text(String),
}

#[derive(Debug, Clone)]
pub struct ToolUse {
    pub id: String,
    pub name: String,
    /// A JSON object as text, unless the model wrote something else.
    pub arguments: String,
}

#[derive(Debug, Clone)]
pub struct ToolResult {
    pub id: String,
    pub parts: Vec<Part>,
    pub is_error: bool,
}

#[derive(Debug, Clone)]
pub enum Tool {
    Function(Function),
    /// A tool of the vendor's own, by its type.
    Foreign {
        kind: String,
        value: Raw,
    },
}

#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub schema: Option<Raw>,
    pub strict: Option<bool>,
    pub cache: Option<Raw>,
    /// It is a custom tool, which all above tells as a function.
    pub custom: Option<Custom>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    Auto,
    None,
    /// Some tool must be called.
    Required,
    Named(String),
}

#[derive(Debug, Clone, Default)]
pub struct Sampling {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u64>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub seed: Option<i64>,
}

#[derive(Debug, Clone)]
pub enum Format {
    /// Any JSON object.
    Json,
    Schema {
        name: Option<String>,
        description: Option<String>,
        schema: Raw,
        strict: Option<bool>,
    },
}

/// How much to think before the answer. Dialects say it in levels, in tokens, or leave it to the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// `Some(false)`: not at all.
    pub enabled: Option<bool>,
    /// `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
    pub effort: Option<String>,
    /// Tokens.
    pub budget: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceTier {
    Auto,
    /// Never better or worse than standard.
    Standard,
    /// Slower and cheaper; OpenAI's, like all that follow.
    Flex,
    /// Faster and dearer.
    Priority,
    /// Bought ahead.
    Scale,
}

impl ServiceTier {
    /// By OpenAI's word for it.
    #[must_use]
    pub fn of_openai(word: &str) -> Option<Self> {
        Some(match word {
            "auto" => Self::Auto,
            "default" => Self::Standard,
            "flex" => Self::Flex,
            "priority" => Self::Priority,
            "scale" => Self::Scale,
            _ => return None,
        })
    }

    /// OpenAI's word for it.
    #[must_use]
    pub fn openai(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Standard => "default",
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Scale => "scale",
        }
    }
}

impl Request {
    /// Names what only OpenAI's dialects have words for.
    pub(crate) fn name_openai_s_own(&self, losses: &mut Losses) {
        if matches!(self.service_tier, Some(ServiceTier::Flex | ServiceTier::Priority | ServiceTier::Scale)) {
            losses.dropped("service_tier");
        }
        if self.verbosity.is_some() {
            losses.dropped("verbosity");
        }
        if matches!(&self.format, Some(Format::Schema { description: Some(_), .. })) {
            losses.dropped("response_format.json_schema.description");
        }
    }

    /// Custom tools that it declares.
    pub(crate) fn custom_tools(&self) -> impl Iterator<Item = &Function> {
        self.tools.iter().filter_map(|tool| match tool {
            Tool::Function(function) => Some(function).filter(|function| function.custom.is_some()),
            Tool::Foreign { .. } => None,
        })
    }
}
