//! Google's `generateContent` dialect, of the Gemini API and Vertex AI: <https://ai.google.dev/api/generate-content>.

use std::borrow::Cow;

use bytes::Bytes;
use weir_error::Error;

use crate::{
    Call, Client, Decode, Encode, Provider, Target, Usage,
    canonical::{Answer, Failure, Losses, Request},
    fields,
    framing::MAX_LONG_EVENT,
    platform::segment,
};

mod answer;
mod count;
mod error;
mod events;
mod media_out;
mod own;
mod part;
mod request_in;
mod request_out;
mod restore;
mod schema;
mod think;
mod usage;
mod view;

pub use error::{error_body, error_frames};
pub use own::own_state;
pub use restore::{carries_state, has_calls, with_state};
pub use view::GenerateView;

/// The dialect.
#[derive(Debug)]
pub struct Generate;

/// Where a method of a model is called, below the base URL.
#[must_use]
pub fn method(model: &str, method: &str) -> String {
    let resource = view::resource(model);
    let (collection, name) = resource.split_once('/').unwrap_or(("models", &resource));
    format!("/{collection}/{}:{method}", segment(name))
}

/// The body of `countTokens` for a provider that has another name for the model.
///
/// # Errors
/// What is wrong with the body, as Google names it.
pub fn count_body(body: &Bytes, model: &str) -> Result<Bytes, Error> {
    let request = view::counted(body)?;
    if request.get().len() == body.trim_ascii().len() {
        let body = GenerateView::scan(body, model, false)?.upstream_body(body, model);
        return Ok(own_state(&body, model, &mut Losses::default()));
    }
    let request = Bytes::copy_from_slice(request.get().as_bytes());
    let request = GenerateView::scan(&request, model, false)?.upstream_body(&request, model);
    let request = own_state(&request, model, &mut Losses::default());
    Ok([br#"{"generateContentRequest":"#, &*request, b"}"].concat().into())
}

impl Client for Generate {
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
        request_in::decode_request(body, losses)
    }

    fn encode_answer(&self, answer: &Answer, usage: Usage, call: &Call, losses: &mut Losses) -> Bytes {
        answer::encode_answer(answer, usage, call, losses)
    }

    fn encoder(&self, call: &Call) -> Box<dyn Encode> {
        Box::new(events::Encoder::new(&call.model, call.id.as_deref()))
    }

    fn tells(&self) -> &'static [u8] {
        b"\"usageMetadata\":{"
    }

    fn encode_error(&self, failure: Failure, _: Option<&str>) -> (u16, Bytes) {
        // 529 is a status that only Anthropic has.
        let failure = Failure { status: if failure.status == 529 { 503 } else { failure.status }, ..failure };
        (failure.status, error::encode_error(&failure))
    }

    fn error_body(&self, error: &Error, _: Option<&str>) -> Bytes {
        error_body(error)
    }

    fn error_frames(&self, error: &Error) -> Bytes {
        error_frames(error)
    }

    fn terminal(&self) -> Bytes {
        Bytes::new()
    }

    fn field<'a>(&self, field: &'a str) -> &'a str {
        fields::gemini(field)
    }

    /// An empty line: Google's SDK for Python takes a comment for JSON.
    fn keep_alive(&self) -> Bytes {
        Bytes::from_static(b"\n")
    }
}

impl Provider for Generate {
    fn path(&self, model: &str, stream: bool) -> Cow<'static, str> {
        let name = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        method(model, name).into()
    }

    /// A whole image may stand in one.
    fn max_event(&self) -> usize {
        MAX_LONG_EVENT
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
