//! `POST /v1/chat/completions` and `POST /v1/messages`.

use std::{borrow::Cow, future::pending, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{State, rejection::BytesRejection},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, sleep};
use weir_llm::tokens::count_prompt;

use crate::{
    Faults, Simulator,
    answer::Answer,
    anthropic,
    body::{Refusal, Stop, Stream, Then, Whole, Writer},
    error::ApiError,
    ledger::{Call, Outcome},
    models::Model,
    request::Request,
    seed::{Rng, hash, id},
    wire::{Chunks, Event, Head, plain, script},
};

/// No fault waits longer.
const LONGEST_WAIT: u64 = 24 * 3600 * 1000;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// What a call gets.
enum Reply {
    Refuse,
    Whole {
        bytes: Bytes,
        len: usize,
        tokens: u64,
        then: Then,
    },
    Stream {
        answer: Answer,
        chunks: Writer,
        script: Vec<(u64, Event)>,
        pace: Duration,
        stop: Option<(u64, Stop)>,
    },
}

/// How a call is asked and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    OpenAi,
    Anthropic,
}

type Posted = Result<Bytes, BytesRejection>;

pub(crate) async fn chat(State(sim): State<Simulator>, headers: HeaderMap, body: Posted) -> Response {
    serve(sim, headers, body, Dialect::OpenAi).await
}

pub(crate) async fn messages(State(sim): State<Simulator>, headers: HeaderMap, body: Posted) -> Response {
    serve(sim, headers, body, Dialect::Anthropic).await
}

async fn serve(sim: Simulator, headers: HeaderMap, body: Posted, dialect: Dialect) -> Response {
    let began = Instant::now();
    let number = sim.next_call();
    let client_id = headers.get("x-client-request-id").map(|id| String::from_utf8_lossy(id.as_bytes()));
    // Dropped with this future if the client hangs up while we wait.
    let mut call = sim.0.ledger.begin(client_id.map(Cow::into_owned).unwrap_or_default());
    let reply = match body {
        Ok(body) => reply(&sim, &headers, &body, number, &mut call, dialect).await,
        Err(rejected) => Err(ApiError::new(rejected.status(), "invalid_request_error", rejected.body_text())),
    };
    let (mut response, tokens) = match reply {
        Ok(reply) => respond(reply, call),
        Err(error) => {
            call.refused(error.status.as_u16());
            let response = match dialect {
                Dialect::OpenAi => error.into_response(),
                Dialect::Anthropic => anthropic::error_response(&error, Some(&request_id(&sim, number))),
            };
            (response, 0)
        }
    };
    let headers = response.headers_mut();
    sim.0.window.take(sim.0.clock.now_ms(), tokens, dialect == Dialect::Anthropic, headers);
    match dialect {
        Dialect::OpenAi => describe(&sim, number, began, headers),
        Dialect::Anthropic => {
            let id = HeaderValue::try_from(request_id(&sim, number));
            headers.extend(id.ok().map(|id| (HeaderName::from_static("request-id"), id)));
        }
    }
    response
}

/// The response and the tokens it costs.
fn respond(reply: Reply, mut call: Call) -> (Response, u64) {
    let tokens = call.tokens();
    let (content_type, body) = match reply {
        Reply::Refuse => {
            call.refused(0);
            (JSON, Body::new(Refusal))
        }
        Reply::Whole { bytes, len, tokens, then } => {
            call.answering();
            let bytes = Some(bytes);
            (JSON, Body::new(Whole { call, bytes, len: len as u64, tokens, then, flush: None }))
        }
        Reply::Stream { answer, chunks, script, pace, stop } => {
            call.answering();
            (EVENTS, Body::new(Stream::new(call, answer, chunks, script, pace, stop)))
        }
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    (response, tokens)
}

fn request_id(sim: &Simulator, number: u64) -> String {
    let mut rng = Rng::new(hash(sim.0.origin, &number.to_le_bytes()));
    format!("req_{:016x}{:016x}", rng.next(), rng.next())
}

/// Headers of OpenAI's every answer.
fn describe(sim: &Simulator, number: u64, began: Instant, headers: &mut HeaderMap) {
    if let Ok(request_id) = HeaderValue::try_from(request_id(sim, number)) {
        headers.insert("x-request-id", request_id);
    }
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    headers.insert("openai-processing-ms", ms.into());
    headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
    headers.insert("openai-organization", HeaderValue::from_static("weir-simulator"));
}

/// Refuses a wrong key, if there is a right one.
pub(crate) fn authorize(sim: &Simulator, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(key) = &sim.0.config.api_key else { return Ok(()) };
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let presented = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let presented = presented.or_else(|| text(HeaderName::from_static("x-api-key")));
    if presented == Some(key.expose_secret()) { Ok(()) } else { Err(ApiError::unauthorized(presented)) }
}

/// `ms` milliseconds, `times` times over.
fn wait(ms: Option<u64>, times: u64) -> Duration {
    Duration::from_millis(ms.unwrap_or(0).saturating_mul(times).min(LONGEST_WAIT))
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}

async fn reply(
    sim: &Simulator,
    headers: &HeaderMap,
    body: &[u8],
    number: u64,
    call: &mut Call,
    dialect: Dialect,
) -> Result<Reply, ApiError> {
    authorize(sim, headers)?;
    let (request, prompt_tokens) = match dialect {
        Dialect::OpenAi => (Request::parse(body)?, count_prompt(body)),
        Dialect::Anthropic => {
            let version = anthropic::version(headers)?;
            (anthropic::parse(body, version)?, weir_llm::anthropic::count_prompt(body))
        }
    };
    let model = sim.0.catalogue.get(&request.model);
    let model = match dialect {
        Dialect::OpenAi => {
            model.filter(|m| m.speaks_openai()).ok_or_else(|| ApiError::unknown_model(&request.model))?
        }
        Dialect::Anthropic => {
            model.filter(|m| m.speaks_anthropic()).ok_or_else(|| anthropic::unknown_model(&request.model))?
        }
    };
    call.asked(model.id.clone(), request.stream);
    check_model(&request, model, prompt_tokens)?;
    call.prompt(prompt_tokens);

    let faults = faults(sim, number, request.wish.as_ref());
    pause(wait(faults.first_token_ms, 1)).await;
    if faults.refuse == Some(true) {
        return Ok(Reply::Refuse);
    }
    if faults.hang == Some(true) && faults.cut_after.is_none() {
        return pending().await;
    }
    let error = faults.error_status().map(|status| ApiError::fault(status, faults.retry_after));
    // A stream that is to break off with an error begins well.
    let error = match error {
        Some(error) if !(request.stream && faults.cut_after.is_some()) => return Err(error),
        error => error,
    };

    let answer = Answer::compose(&request, model, prompt_tokens, faults.tokens);
    call.planned(answer.completion_tokens);
    let seed = hash(sim.0.origin, &number.to_be_bytes());
    let (openai, claude);
    let head = match dialect {
        Dialect::OpenAi => {
            openai = id("chatcmpl-", 29, seed);
            Heads::OpenAi(Head {
                id: &openai,
                created: sim.0.clock.now_ms().div_euclid(1000),
                model: &model.id,
                service_tier: request.service_tier,
            })
        }
        Dialect::Anthropic => {
            claude = anthropic::Head {
                id: id("msg_01", 22, seed),
                model: model.id.to_string(),
                cached: request.cached,
                usage: faults.no_usage != Some(true),
            };
            Heads::Anthropic(&claude)
        }
    };
    if request.stream {
        return Ok(streamed(&request, &faults, &head, answer, error));
    }
    pause(wait(faults.token_ms, answer.rounds().saturating_sub(1))).await;
    Ok(whole(&request, &faults, &head, &answer))
}

/// What is the same all over an answer, in its dialect.
enum Heads<'a> {
    OpenAi(Head<'a>),
    Anthropic(&'a anthropic::Head),
}

fn check_model(request: &Request<'_>, model: &Model, prompt_tokens: u64) -> Result<(), ApiError> {
    if model.reasons {
        request.check_reasoning()?;
    }
    if prompt_tokens <= model.context {
        return Ok(());
    }
    let message = format!(
        "This model's maximum context length is {} tokens. However, your messages resulted in {prompt_tokens} \
         tokens. Please reduce the length of the messages.",
        model.context
    );
    Err(ApiError::invalid("messages", "context_length_exceeded", message))
}

fn faults(sim: &Simulator, number: u64, wish: Option<&Faults>) -> Faults {
    let configured = {
        let configured = sim.0.faults.read();
        if configured.strikes(number) { configured.clone() } else { Faults::default() }
    };
    match wish {
        Some(wish) => configured.overridden_by(wish),
        None => configured,
    }
}

fn streamed(
    request: &Request<'_>,
    faults: &Faults,
    head: &Heads<'_>,
    answer: Answer,
    error: Option<ApiError>,
) -> Reply {
    let visible: u64 = answer.choices.iter().map(|choice| choice.tokens()).sum();
    let how = match error {
        Some(error) => Stop::Error(Box::new(error)),
        None if faults.malformed == Some(true) => Stop::Malformed,
        None if faults.hang == Some(true) => Stop::Hang,
        None => Stop::Cut,
    };
    let after = faults.cut_after.or((faults.malformed == Some(true)).then_some(visible / 2));
    let usage = request.include_usage && faults.no_usage != Some(true);
    Reply::Stream {
        chunks: match head {
            Heads::OpenAi(head) => Writer::OpenAi(Chunks::new(head, request.logprobs, usage)),
            Heads::Anthropic(head) => Writer::Anthropic(anthropic::Events((*head).clone())),
        },
        script: script(&answer, usage && matches!(head, Heads::OpenAi(_))),
        pace: wait(faults.token_ms, 1),
        stop: after.map(|after| (after, how)),
        answer,
    }
}

fn whole(request: &Request<'_>, faults: &Faults, head: &Heads<'_>, answer: &Answer) -> Reply {
    let usage = faults.no_usage != Some(true);
    let cut_after = faults.cut_after.unwrap_or(u64::MAX);
    let made = match head {
        Heads::OpenAi(head) => plain(head, answer, request.logprobs, usage, cut_after),
        Heads::Anthropic(head) => anthropic::plain(head, answer, cut_after),
    };
    let bytes = Bytes::from(made.bytes);
    let len = bytes.len();
    if faults.malformed == Some(true) {
        let bytes = bytes.slice(..len / 2);
        return Reply::Whole { len: bytes.len(), bytes, tokens: 0, then: Then::End(Outcome::Failed) };
    }
    match made.cut_at {
        Some(cut_at) if faults.cut_after.is_some() => {
            let then = if faults.hang == Some(true) { Then::Hang } else { Then::Cut };
            Reply::Whole { bytes: bytes.slice(..cut_at), len, tokens: made.cut_tokens, then }
        }
        _ => {
            Reply::Whole { bytes, len, tokens: answer.completion_tokens, then: Then::End(Outcome::Finished) }
        }
    }
}
