//! Answers, whole and as they come.

use super::{Part, Raw};
use crate::Usage;

/// A whole answer. Of several choices, the first.
#[derive(Debug, Clone)]
pub struct Answer {
    pub id: String,
    pub model: String,
    /// Unix seconds; 0 when the dialect doesn't say.
    pub created: i64,
    pub parts: Vec<Part>,
    pub finish: Finish,
    pub usage: Option<Usage>,
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

/// A step of a streamed answer. Parts have numbers that rise; one that has begun may get deltas until it stops.
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
    Finish(Finish),
    Error(Failure),
}

#[derive(Debug, Clone)]
pub enum PartStart {
    Text,
    Thinking,
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: String,
        name: String,
    },
    Refusal,
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
    Signature(String),
    /// A piece of a tool's arguments, as JSON text.
    Arguments(String),
    Refusal(String),
}

/// A provider's error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status; in the middle of a stream the one its kind goes with.
    pub status: u16,
    pub message: String,
    /// The vendor's stable word for what is wrong, if it has one.
    pub code: Option<String>,
    pub param: Option<String>,
}
