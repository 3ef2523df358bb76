//! Anthropic's Messages: the same answers as on OpenAI's side, asked for and written another way.

mod blocks;
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
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;

pub(crate) use request::parse;
pub(crate) use wire::{Events, Head, plain};

use crate::{
    Simulator,
    chat::authorize,
    error::ApiError,
    seed::{hash, id},
};

/// What thoughts are signed with.
const KEY: u64 = 0x5eed_0f51_6e61_7475;

/// Opaque to everybody; checked when it comes back.
pub(crate) fn signature(thinking: &str) -> String {
    format!("{}==", id("", 62, hash(KEY, thinking.as_bytes())))
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
    let inner = json!({"type": kind, "message": error.message});
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
    let counted = || {
        authorize(&sim, &headers)?;
        let request = request::parse_for_count(&body, version(&headers)?)?;
        sim.0
            .catalogue
            .get(&request.model)
            .filter(|m| m.speaks_anthropic())
            .ok_or_else(|| unknown_model(&request.model))?;
        Ok(weir_llm::anthropic::count_prompt(&body))
    };
    match counted() {
        Ok(input_tokens) => Json(Counted { input_tokens }).into_response(),
        Err(error) => error_response(&error, None),
    }
}

pub(crate) fn unknown_model(model: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", format!("model: {model}"))
}
