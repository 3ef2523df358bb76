//! A model call from its first byte to its answer's, in whichever dialect.

use std::{borrow::Cow, future::pending, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::rejection::BytesRejection,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, sleep};

use crate::{
    Faults, Simulator,
    answer::{Answer, Cache},
    body::{Manner, Refusal, Stop, Stream, Then, Whole},
    dialect::{Asked, Dialect, Form, Head, JSON, Parsed, Told},
    error::ApiError,
    ledger::{Call, Outcome},
    models::Model,
    request::Request,
    seed::{Rng, hash},
    wire::{Event, Plain, script},
};

/// No fault waits longer.
const LONGEST_WAIT: u64 = 24 * 3600 * 1000;

/// What a call gets.
pub(crate) enum Reply {
    Refuse,
    Whole { content_type: HeaderValue, bytes: Bytes, len: usize, tokens: u64, then: Then },
    Stream { answer: Answer, form: Box<dyn Form>, script: Vec<(u64, Event)>, manner: Manner },
}

pub(crate) type Posted = Result<Bytes, BytesRejection>;

pub(crate) async fn serve(
    sim: &Simulator,
    dialect: &dyn Dialect,
    headers: &HeaderMap,
    uri: &Uri,
    body: Posted,
) -> Response {
    let began = Instant::now();
    let number = sim.next_call();
    let client_id = headers.get("x-client-request-id").map(|id| String::from_utf8_lossy(id.as_bytes()));
    // Dropped with this future if the client hangs up while we wait.
    let mut call = sim.0.ledger.begin(client_id.map(Cow::into_owned).unwrap_or_default());
    let reply = match body {
        Ok(body) => {
            sim.0.recorder.note(headers, uri, &body);
            reply(sim, &Asked { headers, uri, body: &body }, number, &mut call, dialect).await
        }
        Err(rejected) => Err(ApiError::new(rejected.status(), "invalid_request_error", rejected.body_text())),
    };
    finish(sim, dialect, call, number, began, reply)
}

/// The response, with its headers, and the ledger's entry on its way.
pub(crate) fn finish(
    sim: &Simulator,
    dialect: &dyn Dialect,
    mut call: Call,
    number: u64,
    began: Instant,
    reply: Result<Reply, ApiError>,
) -> Response {
    let request_id = request_id(sim, number);
    let (mut response, tokens) = match reply {
        Ok(reply) => respond(reply, call),
        Err(error) => {
            call.refused(error.status.as_u16());
            (dialect.error(&error, &request_id), (0, 0))
        }
    };
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let told = Told { sim, request_id: &request_id, elapsed_ms, tokens };
    dialect.describe(&told, response.headers_mut());
    response
}

/// The response and the tokens it costs.
fn respond(reply: Reply, mut call: Call) -> (Response, (u64, u64)) {
    let tokens = call.tokens();
    let (content_type, body) = match reply {
        Reply::Refuse => {
            call.refused(0);
            (JSON, Body::new(Refusal))
        }
        Reply::Whole { content_type, bytes, len, tokens, then } => {
            call.answering();
            let bytes = Some(bytes);
            (content_type, Body::new(Whole { call, bytes, len: len as u64, tokens, then, flush: None }))
        }
        Reply::Stream { answer, form, script, manner } => {
            call.answering();
            (form.content_type(true), Body::new(Stream::new(call, answer, form, script, manner)))
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

/// Refuses a wrong key, if there is a right one.
pub(crate) fn authorize(sim: &Simulator, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(key) = &sim.0.config.api_key else { return Ok(()) };
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let presented = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let presented = presented.or_else(|| text(HeaderName::from_static("x-api-key")));
    let presented = presented.or_else(|| text(HeaderName::from_static("api-key")));
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
    asked: &Asked<'_>,
    number: u64,
    call: &mut Call,
    dialect: &dyn Dialect,
) -> Result<Reply, ApiError> {
    dialect.authorize(sim, asked)?;
    let Parsed { mut request, prompt_tokens, mut form } = dialect.parse(sim, asked)?;
    let model =
        sim.0.catalogue.get(&request.model).filter(|model| dialect.speaks(model) && model.embeds.is_none());
    let model = model.ok_or_else(|| dialect.unknown_model(&request.model))?;
    call.asked(model.id.clone(), request.stream);
    check_model(&request, model, prompt_tokens, dialect)?;
    call.prompt(prompt_tokens);

    let wish = wish(&mut request, asked.headers)?;
    let faults = faults(sim, number, wish);
    begin(&faults).await;
    if faults.refuse == Some(true) {
        return Ok(Reply::Refuse);
    }
    let error = faults.error_status().map(|status| ApiError::fault(status, faults.retry_after));
    // A stream that is to break off with an error begins well.
    let error = match error {
        Some(error) if !(request.stream && faults.cut_after.is_some()) => return Err(error),
        error => error,
    };

    let mut answer = Answer::compose(&request, model, prompt_tokens, &faults);
    answer.cache = cached(sim, &request, model, prompt_tokens);
    call.planned(&answer);
    let head = Head {
        seed: hash(sim.0.origin, &number.to_be_bytes()),
        now_ms: sim.0.clock.now_ms(),
        model: model.id.clone(),
        usage: faults.no_usage != Some(true),
    };
    form.begin(head, &answer);
    if request.stream {
        return Ok(streamed(&faults, form, answer, error));
    }
    pause(wait(faults.pause_ms, 1)).await;
    pause(wait(faults.token_ms, answer.rounds().saturating_sub(1))).await;
    let plain = form.plain(&answer, faults.cut_after.unwrap_or(u64::MAX));
    Ok(whole(&faults, form.content_type(false), plain, answer.completion_tokens))
}

/// What comes before an answer: waiting, perhaps for ever.
pub(crate) async fn begin(faults: &Faults) {
    pause(wait(faults.first_token_ms, 1)).await;
    if faults.refuse != Some(true) && faults.hang == Some(true) && faults.cut_after.is_none() {
        pending::<()>().await;
    }
}

fn cached(sim: &Simulator, request: &Request<'_>, model: &Model, prompt_tokens: u64) -> Cache {
    let now_ms = sim.0.clock.now_ms();
    match &request.marks {
        Some((ends, least)) => sim.0.cache.explicit(ends, prompt_tokens, *least, now_ms),
        None => sim.0.cache.implicit(&request.conversation, model, prompt_tokens, now_ms),
    }
}

fn check_model(
    request: &Request<'_>,
    model: &Model,
    prompt_tokens: u64,
    dialect: &dyn Dialect,
) -> Result<(), ApiError> {
    if model.reasons {
        request.check_reasoning()?;
    }
    if prompt_tokens <= model.context { Ok(()) } else { Err(dialect.too_long(model.context, prompt_tokens)) }
}

/// The body's, or the header's, or what somebody said.
fn wish(request: &mut Request<'_>, headers: &HeaderMap) -> Result<Option<Faults>, ApiError> {
    if let Some(wish) = request.wish.take() {
        return Ok(Some(wish));
    }
    wish_of(headers, request.conversation.wish.as_deref())
}

pub(crate) fn wish_of(headers: &HeaderMap, said: Option<&str>) -> Result<Option<Faults>, ApiError> {
    let header = headers.get("x-sim").and_then(|value| value.to_str().ok());
    let invalid =
        |error: String| ApiError::invalid("x-sim", "invalid_value", format!("Invalid 'x-sim': {error}"));
    header.or(said).map(|json| Faults::wish(json).map_err(invalid)).transpose()
}

pub(crate) fn faults(sim: &Simulator, number: u64, wish: Option<Faults>) -> Faults {
    let configured = {
        let configured = sim.0.faults.read();
        if configured.strikes(number) { configured.clone() } else { Faults::default() }
    };
    match wish {
        Some(wish) => configured.overridden_by(wish),
        None => configured,
    }
}

fn streamed(faults: &Faults, form: Box<dyn Form>, answer: Answer, error: Option<ApiError>) -> Reply {
    let visible: u64 = answer.choices.iter().map(|choice| choice.tokens()).sum();
    let how = match error {
        Some(error) => Stop::Error(Box::new(error)),
        None if faults.malformed == Some(true) => Stop::Malformed,
        None if faults.hang == Some(true) => Stop::Hang,
        None => Stop::Cut,
    };
    let after = faults.cut_after.or((faults.malformed == Some(true)).then_some(visible / 2));
    let mut script = script(&answer, form.usage_event());
    if faults.no_end == Some(true) {
        script.retain(|(_, event)| !matches!(event, Event::Finish { .. } | Event::Usage | Event::Done));
    }
    let silence = faults.pause_ms.map(|_| wait(faults.pause_ms, 1));
    let manner = Manner {
        pace: wait(faults.token_ms, 1),
        stop: after.map(|after| (after, how)),
        pause: silence.map(|silence| (faults.pause_after.unwrap_or(1), silence)),
        chunk: faults.chunk_bytes,
    };
    Reply::Stream { script, manner, form, answer }
}

pub(crate) fn whole(faults: &Faults, content_type: HeaderValue, made: Plain, all_tokens: u64) -> Reply {
    let bytes = Bytes::from(made.bytes);
    let len = bytes.len();
    if faults.malformed == Some(true) {
        let bytes = bytes.slice(..len / 2);
        let then = Then::End(Outcome::Failed);
        return Reply::Whole { content_type, len: bytes.len(), bytes, tokens: 0, then };
    }
    match made.cut_at {
        Some(cut_at) if faults.cut_after.is_some() => {
            let then = if faults.hang == Some(true) { Then::Hang } else { Then::Cut };
            Reply::Whole { content_type, bytes: bytes.slice(..cut_at), len, tokens: made.cut_tokens, then }
        }
        _ => {
            let then = Then::End(Outcome::Finished);
            Reply::Whole { content_type, bytes, len, tokens: all_tokens, then }
        }
    }
}
