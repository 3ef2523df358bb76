//! Answers: JSON, and errors in the shape of the endpoint's dialect.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use weir_access::RateState;
use weir_error::{Code, Error};
use weir_types::RequestId;

use crate::endpoint::Dialect;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A whole body of known length, not to be stored by anyone in between.
pub(crate) fn bytes(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Body> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CACHE_CONTROL, PRIVATE);
    headers.insert(header::VARY, HeaderValue::from_static("authorization"));
    response
}

/// # Errors
/// `Internal` when the value cannot be JSON, which none of ours can't.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Result<Response<Body>, Error> {
    let body = serde_json::to_vec(value).map_err(Error::internal)?;
    Ok(bytes(status, JSON, body.into()))
}

pub(crate) fn error(dialect: Dialect, error: &Error, request_id: &RequestId) -> Response<Body> {
    let code = error.code();
    let (content_type, body) = match dialect {
        Dialect::OpenAi => (JSON, weir_llm::openai::error_body(error)),
        Dialect::Anthropic => (JSON, anthropic(error, request_id)),
        Dialect::Gemini => (JSON, gemini(error)),
        Dialect::Problem => (PROBLEM, error.problem(request_id.as_str()).to_string().into()),
    };
    let mut response = bytes(code.http(), content_type, body);
    // For whoever counts errors.
    response.extensions_mut().insert(code);
    let headers = response.headers_mut();
    match error.retry_after() {
        Some(after) => {
            let ms = after.as_nanos().div_ceil(1_000_000);
            headers.insert(header::RETRY_AFTER, number(ms.div_ceil(1_000)));
            headers.insert(RETRY_AFTER_MS, number(ms));
        }
        // A limit that waiting does not lift; SDKs retry every 429 unless told.
        None if code == Code::RateLimited => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        None => {}
    }
    if code == Code::InvalidApiKey {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// `x-ratelimit-*`.
pub(crate) fn rate_headers(headers: &mut HeaderMap, state: &RateState) {
    for (name, value) in state.headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

fn number(n: u128) -> HeaderValue {
    HeaderValue::from(u64::try_from(n).unwrap_or(u64::MAX))
}

/// <https://docs.claude.com/en/api/errors>.
fn anthropic(error: &Error, request_id: &RequestId) -> Bytes {
    let kind = match error.code().http().as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    };
    let error = json!({ "type": kind, "message": error.message() });
    json!({ "type": "error", "error": error, "request_id": request_id.as_str() }).to_string().into()
}

/// <https://ai.google.dev/gemini-api/docs/troubleshooting>: a `google.rpc.Status` in JSON.
fn gemini(error: &Error) -> Bytes {
    let status = match error.code().grpc() {
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    };
    let code = error.code().http().as_u16();
    json!({ "error": { "code": code, "message": error.message(), "status": status } }).to_string().into()
}
