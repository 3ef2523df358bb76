//! What whoever passes a client's stream on must know of it, should they have to end it.

use bytes::Bytes;
use weir_error::Error;

use crate::{
    Dialect,
    anthropic::{self, OpenBlocks},
    responses::OpenResponse,
};

/// Follows whole events of a stream in its client's dialect.
#[derive(Debug)]
pub enum Follower {
    /// Nothing has to be known.
    Stateless(Dialect),
    /// Open blocks are closed before the error.
    Anthropic(OpenBlocks),
    /// The response fails, under the number that comes next.
    Responses(OpenResponse),
}

impl Follower {
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Anthropic => Self::Anthropic(OpenBlocks::default()),
            Dialect::Responses => Self::Responses(OpenResponse::default()),
            other => Self::Stateless(other),
        }
    }

    /// Takes note of whole events.
    pub fn observe(&mut self, events: &[u8]) {
        match self {
            Self::Stateless(_) => {}
            Self::Anthropic(open) => open.observe(events),
            Self::Responses(open) => open.observe(events),
        }
    }

    /// The stream's end, for an error of our own: nothing may come after it.
    #[must_use]
    pub fn fail(&self, error: &Error) -> Bytes {
        match self {
            Self::Stateless(dialect) => dialect.error_frames(error),
            Self::Anthropic(open) => anthropic::error_frames(open.indices(), error),
            Self::Responses(open) => open.fail(error),
        }
    }

    /// The stream's end, for the provider's own error event.
    #[must_use]
    pub fn end_with(&self, error: &Bytes) -> Bytes {
        match self {
            Self::Stateless(_) => error.clone(),
            Self::Anthropic(open) => anthropic::end_with_error(open.indices(), error),
            Self::Responses(open) => open.end_with(error),
        }
    }
}
