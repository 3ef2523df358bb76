//! `POST /v1/chat/completions`.

use std::{borrow::Cow, future::pending, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{State, rejection::BytesRejection},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, header};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, sleep};
use weir_llm::tokens::count_prompt;

use crate::{
    Faults, Simulator,
    answer::Answer,
    body::{Refusal, Stop, Stream, Then, Whole},
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
        chunks: Chunks,
        script: Vec<(u64, Event)>,
        pace: Duration,
        stop: Option<(u64, Stop)>,
    },
}

pub(crate) async fn chat(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let began = Instant::now();
    let number = sim.next_call();
    let client_id = headers.get("x-client-request-id").map(|id| String::from_utf8_lossy(id.as_bytes()));
    // Dropped with this future if the client hangs up while we wait.
    let mut call = sim.0.ledger.begin(client_id.map(Cow::into_owned).unwrap_or_default());
    let reply = match body {
        Ok(body) => reply(&sim, &headers, &body, number, &mut call).await,
        Err(rejected) => Err(ApiError::new(rejected.status(), "invalid_request_error", rejected.body_text())),
    };
    let (mut response, tokens) = match reply {
        Ok(reply) => respond(reply, call),
        Err(error) => {
            call.refused(error.status.as_u16());
            (error.into_response(), 0)
        }
    };
    let headers = response.headers_mut();
    sim.0.window.take(sim.0.clock.now_ms(), tokens, headers);
    describe(&sim, number, began, headers);
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

/// Headers of every answer.
fn describe(sim: &Simulator, number: u64, began: Instant, headers: &mut HeaderMap) {
    let mut rng = Rng::new(hash(sim.0.origin, &number.to_le_bytes()));
    let request_id = format!("req_{:016x}{:016x}", rng.next(), rng.next());
    if let Ok(request_id) = HeaderValue::try_from(request_id) {
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
    let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.strip_prefix("Bearer "));
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
) -> Result<Reply, ApiError> {
    authorize(sim, headers)?;
    let request = Request::parse(body)?;
    let model = sim.0.catalogue.get(&request.model).ok_or_else(|| ApiError::unknown_model(&request.model))?;
    call.asked(model.id.clone(), request.stream);
    let prompt_tokens = count_prompt(body);
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
    let id = id("chatcmpl-", 29, hash(sim.0.origin, &number.to_be_bytes()));
    let head = Head {
        id: &id,
        created: sim.0.clock.now_ms().div_euclid(1000),
        model: &model.id,
        service_tier: request.service_tier,
    };
    if request.stream {
        return Ok(streamed(&request, &faults, &head, answer, error));
    }
    pause(wait(faults.token_ms, answer.rounds().saturating_sub(1))).await;
    Ok(whole(&request, &faults, &head, &answer))
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
    head: &Head<'_>,
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
        chunks: Chunks::new(head, request.logprobs, usage),
        script: script(&answer, usage),
        pace: wait(faults.token_ms, 1),
        stop: after.map(|after| (after, how)),
        answer,
    }
}

fn whole(request: &Request<'_>, faults: &Faults, head: &Head<'_>, answer: &Answer) -> Reply {
    let usage = faults.no_usage != Some(true);
    let made = plain(head, answer, request.logprobs, usage, faults.cut_after.unwrap_or(u64::MAX));
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
