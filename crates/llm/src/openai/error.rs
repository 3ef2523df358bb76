//! Errors as OpenAI writes them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_error::{Code, Error};

use super::DONE;
use crate::canonical::{Failure, Wrong};

#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: &'a str,
}

/// `{"error":{"message","type","param","code"}}`.
#[must_use]
pub fn error_body(error: &Error) -> Bytes {
    let code = match error.code() {
        Code::InvalidArgument => "invalid_value",
        code => code.as_str(),
    };
    let body = Body { message: error.message(), kind: kind(error.code()), param: error.param(), code };
    // Serializing strings into memory can't fail.
    serde_json::to_vec(&Envelope { error: body }).unwrap_or_default().into()
}

/// An error in the middle of a stream, and the stream's end: the status line can't be changed any more.
#[must_use]
pub fn completion_error_frames(error: &Error) -> Bytes {
    [b"data: ", &*error_body(error), b"\n\n", DONE].concat().into()
}

/// A provider's error: of an answer with this status, or (status 200) in the middle of a stream.
#[derive(Deserialize)]
struct Theirs {
    error: TheirBody,
}

#[derive(Deserialize)]
struct TheirBody {
    #[serde(default)]
    message: String,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    param: Option<String>,
    /// A word; some providers say the status instead.
    #[serde(default)]
    code: Value,
}

/// What a provider's refusal says; of one that isn't in OpenAI's shape, the status alone.
pub(super) fn decode_error(status: u16, body: &[u8]) -> Failure {
    let Ok(Theirs { error }) = serde_json::from_slice(body) else {
        return Failure { status, ..Failure::default() };
    };
    let code = error.code.as_str().map(str::to_owned).or(error.kind);
    Failure { status, message: error.message, code, param: error.param }
}

/// The error in an event's data, if it is one.
#[must_use]
pub(crate) fn error_in_stream(data: &[u8]) -> Option<Failure> {
    // Chunks have no `error`, and begin with anything but.
    memchr::memmem::find(data.get(..64.min(data.len()))?, b"\"error\"")?;
    let Theirs { error } = serde_json::from_slice(data).ok()?;
    let status = match (error.kind.as_deref(), error.code.as_u64().and_then(|c| u16::try_from(c).ok())) {
        (_, Some(status)) if (400..600).contains(&status) => status,
        (Some("invalid_request_error"), _) => 400,
        (Some("requests" | "tokens" | "rate_limit_error" | "insufficient_quota"), _) => 429,
        _ => 500,
    };
    let code = error.code.as_str().map(str::to_owned).or(error.kind);
    Some(Failure { status, message: error.message, code, param: error.param })
}

/// Another vendor's refusal in OpenAI's shape, with the status it has here.
pub(super) fn encode_error(failure: &Failure) -> (u16, Bytes) {
    let (status, kind, code) = match (failure.wrong(), failure.status) {
        (Wrong::ContextLength, _) => (400, "invalid_request_error", "context_length_exceeded"),
        (Wrong::Quota, _) => (429, "insufficient_quota", "insufficient_quota"),
        (Wrong::ModelNotFound, _) => (404, "invalid_request_error", "model_not_found"),
        (Wrong::Content, _) => (400, "invalid_request_error", "content_policy_violation"),
        (_, 401) => (401, "invalid_request_error", "invalid_api_key"),
        (_, 403) => (403, "permission_error", "permission_denied"),
        (_, 404) => (404, "invalid_request_error", "not_found"),
        (_, 413) => (413, "invalid_request_error", "request_too_large"),
        (_, 429) => (429, "requests", "rate_limit_exceeded"),
        (_, status @ 400..500) => (status, "invalid_request_error", own_code(failure)),
        // A status that only Anthropic has.
        (_, 529) => (503, "server_error", "overloaded"),
        (_, status) => (status, "server_error", "upstream_failed"),
    };
    let body = Body { message: &failure.message, kind, param: failure.param.as_deref(), code };
    // Serializing strings into memory can't fail.
    (status, serde_json::to_vec(&Envelope { error: body }).unwrap_or_default().into())
}

/// Words of this dialect stay, whoever spoke it; Anthropic's and Google's are none.
fn own_code(failure: &Failure) -> &str {
    let code = failure.code.as_deref().filter(|code| !code.ends_with("_error"));
    code.filter(|code| code.bytes().any(|b| b.is_ascii_lowercase())).unwrap_or("invalid_value")
}

fn kind(code: Code) -> &'static str {
    match code.http().as_u16() {
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_openai_s_shape_on_one_line() {
        let error = Error::invalid("messages[0].role", "a \"quoted\"\nline");
        let body: serde_json::Value = serde_json::from_slice(&error_body(&error)).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"error": {"message": "a \"quoted\"\nline", "type": "invalid_request_error",
                "param": "messages[0].role", "code": "invalid_value"}})
        );
        let frames = completion_error_frames(&error);
        assert_eq!(frames.iter().filter(|b| **b == b'\n').count(), 4);
        assert!(frames.ends_with(DONE));
    }
}
