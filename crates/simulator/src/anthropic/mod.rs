//! Anthropic's Messages: the same answers as on OpenAI's side, asked for and written another way.

mod blocks;
mod count;
mod request;
#[cfg(test)]
mod tests;
mod wire;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde::Serialize;
use serde_json::json;

use request::{Read, parse};
use wire::Events;

use crate::{
    Simulator,
    chat::{Posted, authorize, serve},
    dialect::{Asked, Dialect, Parsed, Told},
    error::ApiError,
    gemini,
    models::Model,
    seed::{hash, id},
    vertex,
};

/// What thoughts are signed with.
const KEY: u64 = 0x5eed_0f51_6e61_7475;
const SIGNATURE: usize = 62;

/// Opaque to everybody; checked when it comes back.
pub(crate) fn signature(thinking: &str) -> String {
    format!("{}==", id("", SIGNATURE, hash(KEY, thinking.as_bytes())))
}

/// Whether a block of thoughts is one of ours. Thoughts that weren't shown are signed by a name of their own.
pub(crate) fn is_signed(thinking: &str, by: &str) -> bool {
    by == signature(thinking) || thinking.is_empty() && is_redacted(by)
}

/// Thoughts that are not to be read: a name for them, and its signature.
pub(crate) fn redacted(thinking: &str) -> String {
    let name = id("Er", 30, hash(!KEY, thinking.as_bytes()));
    let signature = signature(&name);
    format!("{name}{signature}")
}

pub(crate) fn is_redacted(data: &str) -> bool {
    data.split_at_checked(32).is_some_and(|(name, rest)| rest == signature(name))
}

pub(crate) async fn messages(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    serve(&sim, &Anthropic, &headers, &uri, body).await
}

/// Of a model that Vertex' path names.
pub(crate) async fn on_vertex(
    sim: &Simulator,
    model: &str,
    stream: bool,
    headers: &HeaderMap,
    uri: &Uri,
    body: Posted,
) -> Response {
    serve(sim, &OnVertex { model: model.to_owned(), stream }, headers, uri, body).await
}

/// Counted likewise; the body names the model.
pub(crate) fn count_on_vertex(sim: &Simulator, body: &[u8]) -> Response {
    counted(sim, request::parse_for_count(body, Version::V2023))
}

#[derive(Debug)]
struct OnVertex {
    model: String,
    stream: bool,
}

impl Dialect for OnVertex {
    fn authorize(&self, _: &Simulator, asked: &Asked<'_>) -> Result<(), ApiError> {
        vertex::authorize(asked.headers)
    }

    fn parse<'a>(&self, _: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        let Read { request, prompt_tokens, omitted } = request::parse_on_vertex(asked.body, &self.model)?;
        if request.stream != self.stream {
            return Err(ApiError::invalid("stream", "", "stream: the method says otherwise"));
        }
        Ok(Parsed { request, prompt_tokens, form: Box::new(Events::new(omitted)) })
    }

    fn speaks(&self, model: &Model) -> bool {
        model.speaks_anthropic()
    }

    fn unknown_model(&self, model: &str) -> ApiError {
        unknown_model(model)
    }

    fn too_long(&self, limit: u64, tokens: u64) -> ApiError {
        Anthropic.too_long(limit, tokens)
    }

    fn error(&self, error: &ApiError, request_id: &str) -> Response {
        // Who is not let in hears it from Google.
        if error.status == StatusCode::UNAUTHORIZED {
            return gemini::error_response(error, false);
        }
        error_response(error, Some(request_id))
    }

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        let id = HeaderValue::try_from(told.request_id);
        headers.extend(id.ok().map(|id| (HeaderName::from_static("request-id"), id)));
    }
}

#[derive(Debug)]
pub(crate) struct Anthropic;

impl Dialect for Anthropic {
    fn parse<'a>(&self, _: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        let version = version(asked.headers)?;
        let Read { request, prompt_tokens, omitted } = parse(asked.body, version)?;
        Ok(Parsed { request, prompt_tokens, form: Box::new(Events::new(omitted)) })
    }

    fn speaks(&self, model: &Model) -> bool {
        model.speaks_anthropic()
    }

    fn unknown_model(&self, model: &str) -> ApiError {
        unknown_model(model)
    }

    fn too_long(&self, limit: u64, tokens: u64) -> ApiError {
        let text = format!("prompt is too long: {tokens} tokens > {limit} maximum");
        ApiError::invalid("messages", "", text)
    }

    fn error(&self, error: &ApiError, request_id: &str) -> Response {
        error_response(error, Some(request_id))
    }

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        told.sim.0.window.take(told.sim.0.clock.now_ms(), told.tokens, true, headers);
        let id = HeaderValue::try_from(told.request_id);
        headers.extend(id.ok().map(|id| (HeaderName::from_static("request-id"), id)));
        headers.insert("anthropic-organization-id", HeaderValue::from_static("weir-simulator"));
    }
}

/// An error in Anthropic's shape.
pub(crate) fn error_json(error: &ApiError, request_id: Option<&str>) -> Vec<u8> {
    let kind = match error.status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    let mut inner = json!({"type": kind, "message": error.message});
    if error.code == Some(request::THREADS) {
        inner["details"] = json!({"error_code": request::THREADS, "unsupported": ["thread"]});
    }
    json!({"type": "error", "error": inner, "request_id": request_id}).to_string().into_bytes()
}

pub(crate) fn error_response(error: &ApiError, request_id: Option<&str>) -> Response {
    let mut response = Response::new(error_json(error, request_id).into());
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = error.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The versions there are: <https://platform.claude.com/docs/en/api/versioning>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V2023,
    /// Without `temperature`, `top_p` and `top_k`.
    V2026,
}

/// Every call must say for which version it was written.
pub(crate) fn version(headers: &HeaderMap) -> Result<Version, ApiError> {
    match headers.get("anthropic-version").map(HeaderValue::as_bytes) {
        Some(b"2023-06-01") => Ok(Version::V2023),
        Some(b"2026-10-21") => Ok(Version::V2026),
        Some(_) => Err(ApiError::invalid("anthropic-version", "", "anthropic-version: not a valid version")),
        None => Err(ApiError::invalid("anthropic-version", "", "anthropic-version: header is required")),
    }
}

#[derive(Serialize)]
struct Counted {
    input_tokens: u64,
}

/// `POST /v1/messages/count_tokens`. Costs nothing, and stands in no ledger.
pub(crate) async fn count_tokens(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    let read = authorize(&sim, &headers)
        .and_then(|()| version(&headers))
        .and_then(|version| request::parse_for_count(&body, version));
    counted(&sim, read)
}

fn counted(sim: &Simulator, read: Result<Read<'_>, ApiError>) -> Response {
    let known = |read: Read<'_>| {
        let model = sim.0.catalogue.get(&read.request.model).filter(|m| m.speaks_anthropic());
        model.map(|_| read.prompt_tokens).ok_or_else(|| unknown_model(&read.request.model))
    };
    match read.and_then(known) {
        Ok(input_tokens) => Json(Counted { input_tokens }).into_response(),
        Err(error) => error_response(&error, None),
    }
}

pub(crate) fn unknown_model(model: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", format!("model: {model}"))
}
