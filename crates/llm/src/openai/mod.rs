//! OpenAI's chat completions dialect: <https://platform.openai.com/docs/api-reference/chat>.

use std::borrow::Cow;

use bytes::Bytes;
use weir_error::Error;

use crate::{
    Call, Client, Decode, Encode, Provider, Target,
    canonical::{Answer, Failure, Losses, Request},
    fields,
    framing::MAX_LONG_EVENT,
    lenient, tokens,
};

mod answer;
mod azure;
mod content;
mod error;
mod events;
mod limit;
mod logprobs;
mod messages_out;
mod own;
mod request_in;
mod request_out;
mod restore;
mod splice;
mod state;
mod tap;
mod told;
mod tools_in;
mod view;
mod whole;

pub use crate::Usage;
pub use answer::usage_chunk;
pub use azure::{prompt_remarks, with_prompt_remarks};
pub(crate) use content::{audio_format, by_url, of_file};
pub(crate) use error::error_in_stream;
pub use error::{completion_error_frames, error_body};
pub use limit::with_newer_limit;
pub(crate) use messages_out::carries;
pub use own::own_state;
pub use request_in::decode_request;
pub(crate) use request_out::{effort, encode_request, is_object, reasons, sampling, schema_name};
pub use restore::{carries_state, with_state, without_stream_options};
pub use splice::upstream_body;
pub use tap::StreamTap;
pub use told::has_own_calls;
pub use view::ChatView;
pub use whole::decode_answer;

/// The event that ends every stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// The dialect.
#[derive(Debug)]
pub struct Chat;

impl Client for Chat {
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
        decode_request(body, losses)
    }

    fn encode_answer(&self, answer: &Answer, usage: Usage, call: &Call, losses: &mut Losses) -> Bytes {
        whole::encode_answer(answer, usage, &call.request, losses)
    }

    fn encoder(&self, call: &Call) -> Box<dyn Encode> {
        Box::new(events::Encoder::new(call))
    }

    fn tells(&self) -> &'static [u8] {
        b"\"usage\":{"
    }

    fn encode_error(&self, failure: Failure, _: Option<&str>) -> (u16, Bytes) {
        error::encode_error(&failure)
    }

    fn error_body(&self, error: &Error, _: Option<&str>) -> Bytes {
        error_body(error)
    }

    fn error_frames(&self, error: &Error) -> Bytes {
        completion_error_frames(error)
    }

    fn terminal(&self) -> Bytes {
        Bytes::from_static(DONE)
    }

    fn field<'a>(&self, field: &'a str) -> &'a str {
        fields::openai(field)
    }
}

impl Provider for Chat {
    fn path(&self, _: &str, _: bool) -> Cow<'static, str> {
        "/chat/completions".into()
    }

    /// An image may be one event.
    fn max_event(&self) -> usize {
        MAX_LONG_EVENT
    }

    fn takes_custom_tools(&self, model: &str) -> bool {
        request_out::is_openai_s(model)
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
        encode_request(request, target, losses)
    }

    fn decode_answer(&self, body: &[u8]) -> Option<Answer> {
        decode_answer(body)
    }

    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(events::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Failure {
        error::decode_error(status, body)
    }

    fn usage_of_answer(&self, body: &[u8]) -> Option<Usage> {
        answer::usage_of_answer(body)
    }

    fn count_answer(&self, body: &[u8]) -> u64 {
        answer::count_answer(body)
    }

    fn count_prompt(&self, body: &[u8]) -> u64 {
        tokens::count_prompt(body)
    }
}
