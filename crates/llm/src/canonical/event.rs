//! Answers, whole and as they come.

use super::{Failure, Logprob, Media, Opaque, Part, Raw};
use crate::Usage;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub id: String,
    pub model: String,
    /// Unix seconds; 0 when the dialect doesn't say.
    pub created: i64,
    /// As many as were asked for; at least one.
    pub choices: Vec<Choice>,
    pub usage: Option<Usage>,
}

#[derive(Debug, Clone)]
pub struct Choice {
    pub parts: Vec<Part>,
    pub finish: Finish,
}

impl Answer {
    /// The parts of the first choice, which is all that some dialects can say.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        self.choices.first().map(|c| c.parts.as_slice()).unwrap_or_default()
    }

    /// Why the first choice ended.
    #[must_use]
    pub fn finish(&self) -> &Finish {
        self.choices.first().map_or(&Finish::Stop, |c| &c.finish)
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    Stop,
    /// One of the client's stop sequences, if the dialect says which.
    StopSequence(Option<String>),
    MaxTokens,
    /// The model's context is full.
    ContextWindow,
    ToolUse,
    /// The provider held the answer back.
    Refusal,
    /// The provider paused a long turn; the client is to go on.
    Pause,
    Other(String),
}

/// Vendors' words for an answer that failed: Google's, Bedrock's, and those of who speaks OpenAI's dialect.
const AMISS: [&str; 13] = [
    "IMAGE_OTHER",
    "MALFORMED_FUNCTION_CALL",
    "MALFORMED_RESPONSE",
    "MISSING_THOUGHT_SIGNATURE",
    "NO_IMAGE",
    "OTHER",
    "TOO_MANY_TOOL_CALLS",
    "UNEXPECTED_TOOL_CALL",
    "malformed_model_output",
    "malformed_tool_use",
    "abort",
    "error",
    "insufficient_system_resource",
];

impl Finish {
    /// What went wrong, if that is why the answer ended: other dialects have no word for it, and would take it for whole.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let Self::Other(word) = self else { return None };
        // A vendor's new word may stand behind one that is known.
        let known = word.split_once(": ").map_or(word.as_str(), |(known, _)| known);
        AMISS.contains(&known).then(|| Failure {
            status: 502,
            message: format!("the model provider ended its answer with `{word}`"),
            ..Failure::default()
        })
    }
}

/// A step of a streamed answer. Parts have numbers that rise over all choices; one that has begun may get deltas until
/// it stops.
#[derive(Debug, Clone)]
pub enum Event {
    Start {
        id: String,
        model: String,
        created: i64,
        /// What is known of it so far.
        usage: Option<Usage>,
    },
    PartStart {
        index: usize,
        /// 0 but for those who asked for several answers.
        choice: u64,
        part: PartStart,
    },
    PartDelta {
        index: usize,
        delta: Delta,
    },
    PartStop {
        index: usize,
    },
    Usage(Usage),
    Finish {
        choice: u64,
        finish: Finish,
    },
    Error(Failure),
}

#[derive(Debug, Clone)]
pub enum PartStart {
    Text,
    Thinking,
    RedactedThinking(Opaque),
    ToolUse {
        id: String,
        name: String,
    },
    Refusal,
    /// Whole: the model drew it.
    Image(Media),
    /// Known to its vendor only.
    Foreign {
        kind: String,
        value: Raw,
    },
}

#[derive(Debug, Clone)]
pub enum Delta {
    Text(String),
    Thinking(String),
    /// What its vendor wants back with the part, whole.
    Opaque(Opaque),
    /// Of the text that this or the last delta said.
    Logprobs(Vec<Logprob>),
    /// A piece of a tool's arguments, as JSON text.
    Arguments(String),
    Refusal(String),
}
