//! Ollama's own chat: <https://docs.ollama.com/api/chat>.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    Decode, Provider, Target, Usage,
    canonical::{Answer, Failure, Losses, Request},
    counting,
    framing::Framing,
};

mod answer;
mod events;
mod request;

/// The dialect.
#[derive(Debug)]
pub struct Chat;

impl Provider for Chat {
    fn path(&self, _: &str, _: bool) -> Cow<'static, str> {
        "/api/chat".into()
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
        request::encode_request(request, target, losses)
    }

    fn decode_answer(&self, body: &[u8]) -> Option<Answer> {
        answer::decode_answer(body)
    }

    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(events::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Failure {
        answer::decode_error(status, body)
    }

    fn usage_of_answer(&self, body: &[u8]) -> Option<Usage> {
        answer::usage_of_answer(body)
    }

    fn count_prompt(&self, body: &[u8]) -> u64 {
        counting::count_body(body, &["messages", "tools"], &["images"])
    }
}
