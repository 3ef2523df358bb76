//! Errors as Google writes them, a `google.rpc.Status` in JSON: <https://google.aip.dev/193>.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use weir_error::{Code, Error};

use crate::canonical::Failure;

const DOMAIN: &str = "weir";

#[derive(Serialize)]
struct Envelope<'a> {
    error: Status<'a>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "@type")]
enum Detail<'a> {
    #[serde(rename = "type.googleapis.com/google.rpc.ErrorInfo")]
    Info { reason: String, domain: &'static str },
    #[serde(rename = "type.googleapis.com/google.rpc.BadRequest")]
    #[serde(rename_all = "camelCase")]
    BadRequest { field_violations: [Violation<'a>; 1] },
    #[serde(rename = "type.googleapis.com/google.rpc.RetryInfo")]
    #[serde(rename_all = "camelCase")]
    Retry { retry_delay: String },
}

#[derive(Serialize)]
struct Violation<'a> {
    field: &'a str,
    description: &'a str,
}

/// `{"error":{"code","message","status","details"}}`.
#[must_use]
pub fn error_body(error: &Error) -> Bytes {
    let mut details =
        vec![Detail::Info { reason: error.code().as_str().to_ascii_uppercase(), domain: DOMAIN }];
    if let Some(field) = error.param() {
        details.push(Detail::BadRequest {
            field_violations: [Violation { field, description: error.message() }],
        });
    }
    if let Some(after) = error.retry_after() {
        let retry_delay = format!("{}.{:03}s", after.as_secs(), after.subsec_millis());
        details.push(Detail::Retry { retry_delay });
    }
    let code = error.code().http().as_u16();
    envelope(code, error.message(), status(error.code(), code), details)
}

/// Another vendor's refusal in Google's shape.
pub(super) fn encode_error(failure: &Failure) -> Bytes {
    envelope(failure.status, &failure.message, by_http(failure.status), Vec::new())
}

/// On one line, and the error first, which is how Google's SDKs know one in a stream.
fn envelope(code: u16, message: &str, status: &'static str, details: Vec<Detail<'_>>) -> Bytes {
    let envelope = Envelope { error: Status { code, message, status, details } };
    // Serializing into memory can't fail.
    serde_json::to_vec(&envelope).unwrap_or_default().into()
}

/// An error in the middle of a stream, which nothing comes after.
#[must_use]
pub fn error_frames(error: &Error) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(b"data: ");
    out.put_slice(&error_body(error));
    out.put_slice(b"\n\n");
    out.freeze()
}

fn status(code: Code, http: u16) -> &'static str {
    match code {
        Code::TenantRequired => "FAILED_PRECONDITION",
        _ => by_http(http),
    }
}

/// <https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>
fn by_http(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        402 | 429 => "RESOURCE_EXHAUSTED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        405 | 501 => "UNIMPLEMENTED",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ABORTED",
        499 => "CANCELLED",
        400..=499 => "INVALID_ARGUMENT",
        502 | 503 | 529 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}

#[derive(Deserialize)]
struct Theirs {
    error: TheirBody,
}

#[derive(Deserialize)]
struct TheirBody {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: Option<String>,
}

/// What a provider's refusal says, which is alone or, for a stream that isn't one of events, in an array; of one that
/// isn't in Google's shape, the status alone. In the middle of a stream there is no status (0): the error has one.
pub(super) fn decode_error(status: u16, body: &[u8]) -> Failure {
    let read = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice::<Vec<Theirs>>(body).ok().and_then(|listed| listed.into_iter().next())
    } else {
        serde_json::from_slice::<Theirs>(body).ok()
    };
    let Some(Theirs { error }) = read else {
        return Failure { status, ..Failure::default() };
    };
    let told = if (400..600).contains(&error.code) { error.code } else { 500 };
    let status = if status == 0 { told } else { status };
    Failure { status, message: error.message, code: error.status, param: None }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn errors_have_google_s_shape_and_come_back() {
        let error =
            Error::new(Code::RateLimited, "slow \"down\"\n").with_retry_after(Duration::from_millis(1_500));
        let body = error_body(&error);
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({"error": {"code": 429, "message": "slow \"down\"\n", "status": "RESOURCE_EXHAUSTED", "details": [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED", "domain": "weir"},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"}]}})
        );
        assert!(body.starts_with(br#"{"error":"#) && !body.contains(&b'\n'));
        let failure = decode_error(0, &body);
        assert_eq!((failure.status, failure.message.as_str()), (429, "slow \"down\"\n"));
        let listed = [b"[", &*body, b"\n]"].concat();
        assert_eq!(decode_error(400, &listed).message, "slow \"down\"\n");
        assert_eq!(decode_error(503, b"<html>"), Failure { status: 503, ..Failure::default() });
        for code in Code::ALL {
            let status = code.http().as_u16();
            assert_eq!(decode_error(0, &error_body(&Error::new(*code, "x"))).status, status, "{code:?}");
        }
    }
}
