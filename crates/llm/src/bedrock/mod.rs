//! Amazon Bedrock's Converse: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    Decode, Provider, Target, Usage,
    canonical::{Answer, Failure, Losses, Request},
    counting,
    framing::Framing,
    platform::segment,
};

mod answer;
mod blocks;
mod error;
mod events;
mod model;
mod request;

/// The dialect.
#[derive(Debug)]
pub struct Converse;

impl Provider for Converse {
    fn path(&self, model: &str, stream: bool) -> Cow<'static, str> {
        let model = segment(model);
        if stream { format!("/model/{model}/converse-stream") } else { format!("/model/{model}/converse") }
            .into()
    }

    fn framing(&self) -> Framing {
        Framing::AwsFrames
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

    fn decoder_for(&self, model: &str) -> Box<dyn Decode> {
        Box::new(events::Decoder::of(model))
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Failure {
        error::decode_error(status, body)
    }

    fn usage_of_answer(&self, body: &[u8]) -> Option<Usage> {
        answer::usage_of_answer(body)
    }

    fn count_prompt(&self, body: &[u8]) -> u64 {
        counting::count_body(
            body,
            &["messages", "system", "toolConfig"],
            &["bytes", "signature", "redactedContent"],
        )
    }
}
