//! Anthropic's Messages dialect: <https://platform.claude.com/docs/en/api/messages>.

use std::borrow::Cow;

use bytes::Bytes;
use weir_error::Error;

use crate::{
    Call, Client, Decode, Encode, Provider, Target, Usage,
    canonical::{Answer, Failure, Losses, Request},
    fields,
};

mod answer;
mod blocks;
mod count;
mod error;
mod events;
mod open;
mod request_in;
mod request_out;
mod splice;
mod state;
mod tap;
mod think;
mod usage;
mod vertex;
mod view;

pub(crate) use answer::object;
pub use error::{end_with_error, error_body, error_frames};
pub use open::OpenBlocks;
pub(crate) use request_out::JSON_ONLY;
pub use splice::upstream_body;
pub use tap::StreamTap;
pub(crate) use think::{Claude, asked, must_call};
pub use vertex::{VERTEX_COUNT, VERTEX_VERSION, vertex_body, vertex_path};
pub use view::MessagesView;

/// The event that ends every stream.
pub const MESSAGE_STOP: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
/// What keeps a silent stream open.
pub const PING: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";
/// What is spoken to providers, unless a client says otherwise.
pub const VERSION: &str = "2023-06-01";

/// The dialect.
#[derive(Debug)]
pub struct Messages;

impl Client for Messages {
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
        request_in::decode_request(body, losses)
    }

    fn encode_answer(&self, answer: &Answer, usage: Usage, _: &Call, losses: &mut Losses) -> Bytes {
        answer::encode_answer(answer, usage, losses)
    }

    fn encoder(&self, call: &Call) -> Box<dyn Encode> {
        Box::new(events::Encoder::new(&call.model))
    }

    fn tells(&self) -> &'static [u8] {
        b"\"type\":\"message_delta\""
    }

    fn encode_error(&self, failure: Failure, request_id: Option<&str>) -> (u16, Bytes) {
        error::encode_error(&failure, request_id)
    }

    fn error_body(&self, error: &Error, request_id: Option<&str>) -> Bytes {
        error_body(error, request_id)
    }

    fn error_frames(&self, error: &Error) -> Bytes {
        error_frames(&[], error)
    }

    fn terminal(&self) -> Bytes {
        Bytes::from_static(MESSAGE_STOP)
    }

    fn field<'a>(&self, field: &'a str) -> &'a str {
        fields::anthropic(field)
    }

    fn keep_alive(&self) -> Bytes {
        Bytes::from_static(PING)
    }

    fn lines_an_event(&self) -> u64 {
        3
    }
}

impl Provider for Messages {
    fn path(&self, _: &str, _: bool) -> Cow<'static, str> {
        "/messages".into()
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
        request_out::encode_request(request, target, losses)
    }

    fn decode_answer(&self, body: &[u8]) -> Option<Answer> {
        answer::decode_answer(body)
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

    fn count_prompt(&self, body: &[u8]) -> u64 {
        count::count_prompt(body)
    }
}
