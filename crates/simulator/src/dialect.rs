//! What a dialect is to the rest: a way to ask ([`Dialect`]) and a way to answer ([`Form`]).
//!
//! Reading a call gives a [`Request`], the same for all; `Answer::compose` answers it; a form writes the answer,
//! whole or event by event. Faults, pace and the ledger are none of a dialect's business.

use std::{fmt::Debug, sync::Arc};

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};

use crate::{
    Simulator,
    answer::Answer,
    chat::authorize,
    error::ApiError,
    models::Model,
    request::Request,
    wire::{Event, Plain, malformed_event},
};

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// A call as it came.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) uri: &'a Uri,
    pub(crate) body: &'a [u8],
}

impl Asked<'_> {
    /// A parameter of the query, as it was written.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.uri.query().unwrap_or_default().split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// A call that was understood.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) prompt_tokens: u64,
    pub(crate) form: Box<dyn Form>,
}

/// What is the same all over an answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// For ids; another for each call.
    pub(crate) seed: u64,
    pub(crate) now_ms: i64,
    pub(crate) model: Arc<str>,
    /// Whether usage may be told.
    pub(crate) usage: bool,
}

impl Head {
    /// Unix seconds.
    pub(crate) fn created(&self) -> i64 {
        self.now_ms.div_euclid(1000)
    }
}

/// What an answer's headers tell.
pub(crate) struct Told<'a> {
    pub(crate) sim: &'a Simulator,
    pub(crate) request_id: &'a str,
    pub(crate) elapsed_ms: u64,
    /// Of the prompt, and of the answer.
    pub(crate) tokens: (u64, u64),
}

/// How a call is asked.
pub(crate) trait Dialect: Debug + Sync {
    /// Refuses a wrong key, if there is a right one.
    fn authorize(&self, sim: &Simulator, asked: &Asked<'_>) -> Result<(), ApiError> {
        authorize(sim, asked.headers)
    }

    fn parse<'a>(&self, sim: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError>;

    fn speaks(&self, model: &Model) -> bool;

    fn unknown_model(&self, model: &str) -> ApiError {
        ApiError::unknown_model(model)
    }

    fn too_long(&self, limit: u64, tokens: u64) -> ApiError {
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} \
             tokens. Please reduce the length of the messages."
        );
        ApiError::invalid("messages", "context_length_exceeded", message)
    }

    fn error(&self, error: &ApiError, request_id: &str) -> Response;

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap);
}

/// How one call is answered.
pub(crate) trait Form: Debug + Send {
    /// Before anything is written.
    fn begin(&mut self, head: Head, answer: &Answer);

    fn content_type(&self, stream: bool) -> HeaderValue {
        if stream { EVENTS } else { JSON }
    }

    /// Whether [`Event::Usage`] is part of a stream.
    fn usage_event(&self) -> bool {
        false
    }

    fn plain(&self, answer: &Answer, cut_after: u64) -> Plain;

    /// The event's bytes, which may be none, and the tokens in it.
    fn write(&mut self, answer: &Answer, event: Event) -> (Bytes, u64);

    /// An error in the middle of a stream, and the end after it.
    fn error_event(&mut self, answer: &Answer, error: &ApiError) -> Bytes;

    /// Something that claims to be the event and cannot be read.
    fn malformed(&mut self, answer: &Answer, event: Event) -> Bytes {
        malformed_event(&self.write(answer, event).0)
    }
}
