//! OpenAI's chat completions as a dialect. The body is read in `request`, answers are written in `wire`.

use crate::tokens::count_prompt;
use axum::{
    body::Bytes,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, Uri};

use crate::{
    Simulator,
    answer::Answer,
    chat::{Posted, serve},
    dialect::{Asked, Dialect, Form, Head, Parsed, Told},
    error::ApiError,
    models::Model,
    request::Request,
    seed::id,
    wire::{self, Chunks, Event, Logprobs, Plain},
};

pub(crate) async fn chat(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    serve(&sim, &OpenAi, &headers, &uri, body).await
}

#[derive(Debug)]
pub(crate) struct OpenAi;

impl Dialect for OpenAi {
    fn parse<'a>(&self, _: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        let request = Request::parse(asked.body)?;
        Ok(Parsed {
            prompt_tokens: count_prompt(asked.body),
            form: Box::new(Completion::of(&request)),
            request,
        })
    }

    fn speaks(&self, model: &Model) -> bool {
        model.speaks_openai()
    }

    fn error(&self, error: &ApiError, _: &str) -> Response {
        error.clone().into_response()
    }

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        describe(told, headers);
    }
}

/// Headers of OpenAI's every answer.
pub(crate) fn describe(told: &Told<'_>, headers: &mut HeaderMap) {
    told.sim.0.window.take(told.sim.0.clock.now_ms(), told.tokens, false, headers);
    if let Ok(request_id) = HeaderValue::try_from(told.request_id) {
        headers.insert("x-request-id", request_id);
    }
    headers.insert("openai-processing-ms", told.elapsed_ms.into());
    headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
    headers.insert("openai-organization", HeaderValue::from_static("weir-simulator"));
}

/// Writes one chat completion.
#[derive(Debug)]
pub(crate) struct Completion {
    logprobs: Logprobs,
    service_tier: &'static str,
    include_usage: bool,
    /// Whether usage may be told.
    usage: bool,
    head: wire::Head,
    chunks: Chunks,
}

impl Completion {
    pub(crate) fn of(request: &Request<'_>) -> Self {
        Self {
            logprobs: request.logprobs,
            service_tier: request.service_tier,
            include_usage: request.include_usage,
            usage: true,
            head: wire::Head::default(),
            chunks: Chunks::default(),
        }
    }
}

impl Form for Completion {
    fn begin(&mut self, head: Head, _: &Answer) {
        self.usage = head.usage;
        self.head = wire::Head {
            id: id("chatcmpl-", 29, head.seed),
            created: head.created(),
            // As compatible providers do whose models think aloud.
            aloud: head.model.starts_with("sim-think"),
            model: head.model,
            service_tier: self.service_tier,
        };
        self.chunks = Chunks::new(&self.head, self.logprobs, self.usage_event());
    }

    fn usage_event(&self) -> bool {
        self.include_usage && self.usage
    }

    fn plain(&self, answer: &Answer, cut_after: u64) -> Plain {
        wire::plain(&self.head, answer, self.logprobs, self.usage, cut_after)
    }

    fn write(&mut self, answer: &Answer, event: Event) -> (Bytes, u64) {
        self.chunks.write(answer, event)
    }

    fn error_event(&mut self, _: &Answer, error: &ApiError) -> Bytes {
        wire::error_event(error)
    }
}
