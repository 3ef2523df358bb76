//! Answers: JSON, and errors in the shape of the endpoint's dialect.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use weir_access::RateState;
use weir_error::{Code, Error};

use crate::{asked::Asked, endpoint::Dialect, inflate};

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

pub(crate) fn error(dialect: Dialect, error: &Error, asked: &Asked) -> Response<Body> {
    let code = error.code();
    let request_id = asked.request_id.as_str();
    let (content_type, body) = match dialect {
        Dialect::OpenAi => (JSON, weir_llm::openai::error_body(error)),
        Dialect::Anthropic => (JSON, weir_llm::anthropic::error_body(error, Some(request_id))),
        Dialect::Gemini => (JSON, weir_llm::gemini::error_body(error)),
        Dialect::Problem => (PROBLEM, problem(error, asked).to_string().into()),
    };
    let status = match (dialect, code) {
        // Anthropic's own, which its SDKs know.
        (Dialect::Anthropic, Code::Overloaded) => overloaded(),
        _ => code.http(),
    };
    let mut response = bytes(status, content_type, body);
    // For whoever counts errors.
    response.extensions_mut().insert(code);
    let headers = response.headers_mut();
    match error.retry_after() {
        Some(after) => {
            let ms = after.as_nanos().div_ceil(1_000_000);
            headers.insert(header::RETRY_AFTER, number(ms.div_ceil(1_000)));
            headers.insert(RETRY_AFTER_MS, number(ms));
        }
        // A limit that waiting does not lift, or what is not there at all: SDKs retry every 429 and 5xx unless told.
        None if matches!(code, Code::RateLimited | Code::InsufficientQuota | Code::NotImplemented) => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        None => {}
    }
    if code == Code::UnsupportedMediaType && error.param() == Some("Content-Encoding") {
        headers.insert(header::ACCEPT_ENCODING, inflate::TAKEN);
    }
    if code == Code::InvalidApiKey {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// RFC 9457, with where to find the request in log and traces.
fn problem(error: &Error, asked: &Asked) -> serde_json::Value {
    let mut body = error.problem(asked.request_id.as_str());
    if let Some(trace) = asked.trace {
        body["trace_id"] = format!("{:032x}", trace.trace_id).into();
    }
    body
}

/// What is wrong with a body, without the names that our types have.
pub(crate) fn plainly(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let Some((before, after)) = said.split_once("struct ") else { return said };
    let after = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    format!("{before}an object{after}")
}

/// `x-ratelimit-*`.
pub(crate) fn rate_headers(headers: &mut HeaderMap, state: &RateState) {
    for (name, value) in state.headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// `anthropic-ratelimit-*`, besides ours. `now_s` is in Unix seconds.
pub(crate) fn anthropic_rate_headers(headers: &mut HeaderMap, state: &RateState, now_s: i64) {
    for (what, standing) in [("requests", state.requests), ("tokens", state.tokens)] {
        let Some(standing) = standing else { continue };
        let reset = u64::try_from(standing.reset.as_millis().div_ceil(1_000)).unwrap_or_default();
        let reset = now_s.saturating_add_unsigned(reset);
        for (name, value) in [
            ("limit", standing.limit.to_string()),
            ("remaining", standing.remaining.to_string()),
            ("reset", rfc3339(reset)),
        ] {
            let name = HeaderName::try_from(format!("anthropic-ratelimit-{what}-{name}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
                headers.insert(name, value);
            }
        }
    }
}

/// Unix seconds as `2026-01-31T12:00:00Z`; days by Howard Hinnant's `civil_from_days`.
pub(crate) fn rfc3339(unix_s: i64) -> String {
    let (days, second) = (unix_s.div_euclid(86_400) + 719_468, unix_s.rem_euclid(86_400));
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn number(n: u128) -> HeaderValue {
    HeaderValue::from(u64::try_from(n).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_their_standard_says() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(unix_s), text);
        }
    }
}
