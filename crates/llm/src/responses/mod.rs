//! OpenAI's Responses dialect: <https://platform.openai.com/docs/api-reference/responses>, and what others made of it:
//! <https://www.openresponses.org/specification>.
//!
//! What is kept of responses between calls is no part of it: whoever keeps them sends whole inputs through here.

use std::borrow::Cow;

use bytes::Bytes;
use weir_error::Error;

use crate::{
    Call, Client, Decode, Encode, Provider, Target, Usage,
    canonical::{Answer, Failure, Losses, Request},
    fields,
    framing::MAX_LONG_EVENT,
    openai,
};

mod answer;
mod content;
mod count;
mod decode;
mod encode;
mod error;
mod event;
mod follow;
mod item;
mod object;
mod out;
mod request_in;
mod request_out;
mod restore;
mod splice;
mod tap;
mod tools;
mod usage;
mod view;

pub(crate) use content::part as content_part;
pub use error::told_code;
pub use follow::OpenResponse;
pub use object::queued;
pub use restore::{asks_for_state, carries_state, with_state};
pub use splice::{compact_body, upstream_body};
pub use tap::StreamTap;
pub use view::ResponsesView;

/// Where a conversation is made shorter.
pub const COMPACT: &str = "/responses/compact";

/// What `include` names so that reasoning comes with the state that goes back.
const ENCRYPTED: &str = "reasoning.encrypted_content";
/// The same for log probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";

/// The dialect.
#[derive(Debug)]
pub struct Responses;

impl Client for Responses {
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
        request_in::decode_request(body, losses)
    }

    fn encode_answer(&self, answer: &Answer, usage: Usage, call: &Call, losses: &mut Losses) -> Bytes {
        answer::encode_answer(answer, usage, call, losses)
    }

    fn encoder(&self, call: &Call) -> Box<dyn Encode> {
        Box::new(encode::Encoder::new(call))
    }

    fn tells(&self) -> &'static [u8] {
        b"\"type\":\"response."
    }

    fn encode_error(&self, failure: Failure, request_id: Option<&str>) -> (u16, Bytes) {
        openai::Chat.encode_error(failure, request_id)
    }

    fn error_body(&self, error: &Error, _: Option<&str>) -> Bytes {
        openai::error_body(error)
    }

    fn error_frames(&self, error: &Error) -> Bytes {
        OpenResponse::default().fail(error)
    }

    /// Its last event says how the response ended: there is none that says nothing.
    fn terminal(&self) -> Bytes {
        Bytes::new()
    }

    fn field<'a>(&self, field: &'a str) -> &'a str {
        fields::responses(field)
    }

    fn lines_an_event(&self) -> u64 {
        3
    }
}

impl Provider for Responses {
    fn path(&self, _: &str, _: bool) -> Cow<'static, str> {
        "/responses".into()
    }

    /// Some repeat instructions and tools.
    fn max_event(&self) -> usize {
        MAX_LONG_EVENT
    }

    fn takes_custom_tools(&self, _: &str) -> bool {
        true
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
        request_out::encode_request(request, target, losses)
    }

    fn decode_answer(&self, body: &[u8]) -> Option<Answer> {
        answer::decode_answer(body)
    }

    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(decode::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Failure {
        openai::Chat.decode_error(status, body)
    }

    fn failure_of_answer(&self, body: &[u8]) -> Option<Failure> {
        answer::failure(body)
    }

    fn usage_of_answer(&self, body: &[u8]) -> Option<Usage> {
        usage::of_answer(body)
    }

    fn count_prompt(&self, body: &[u8]) -> u64 {
        count::count_prompt(body)
    }
}
