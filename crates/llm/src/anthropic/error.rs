//! Errors as Anthropic writes them: <https://platform.claude.com/docs/en/api/errors>.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use weir_error::{Code, Error};

use super::{MESSAGE_STOP, request_in::THREAD};
use crate::canonical::{Failure, Wrong};

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: &'static str,
    error: Body<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(Serialize)]
struct Details {
    error_code: &'static str,
    unsupported: [&'static str; 1],
}

/// Told so, Anthropic's SDKs send the whole conversation instead.
const NO_THREADS: Details = Details { error_code: "thread_unsupported_request", unsupported: [THREAD] };

/// `{"type":"error","error":{"type","message"},"request_id"}`.
#[must_use]
pub fn error_body(error: &Error, request_id: Option<&str>) -> Bytes {
    let kind = match error.code() {
        Code::Overloaded => "overloaded_error",
        Code::InsufficientQuota => kind(402),
        code => kind(code.http().as_u16()),
    };
    let too_long = error.code() == Code::ContextLengthExceeded;
    let details = Some(NO_THREADS).filter(|_| error.param() == Some(THREAD));
    envelope(kind, &told(error.message(), too_long), details, request_id)
}

/// By these words clients know that they are to shorten the conversation.
fn told(message: &str, too_long: bool) -> Cow<'_, str> {
    if too_long && !message.to_ascii_lowercase().contains("too long") {
        return format!("prompt is too long: {message}").into();
    }
    message.into()
}

/// Another vendor's refusal in Anthropic's shape, with the status it has here.
pub(super) fn encode_error(failure: &Failure, request_id: Option<&str>) -> (u16, Bytes) {
    let message = failure.message.as_str();
    let (status, message) = match (failure.wrong(), failure.status) {
        (Wrong::ContextLength, _) => (400, told(message, true)),
        (Wrong::Quota, _) => (402, message.into()),
        (Wrong::ModelNotFound, _) => (404, message.into()),
        (_, 503) => (529, message.into()),
        (_, status) => (status, message.into()),
    };
    (status, envelope(kind(status), &message, None, request_id))
}

fn envelope(kind: &'static str, message: &str, details: Option<Details>, request_id: Option<&str>) -> Bytes {
    let envelope = Envelope { r#type: "error", error: Body { r#type: kind, message, details }, request_id };
    // Serializing strings into memory can't fail.
    serde_json::to_vec(&envelope).unwrap_or_default().into()
}

/// An error in the middle of a stream: the blocks still open are closed first, and the stream ends as one that went
/// well, or clients say that it stopped arriving.
#[must_use]
pub fn error_frames(open: &[usize], error: &Error) -> Bytes {
    let mut out = BytesMut::new();
    close_blocks(open, &mut out);
    out.extend_from_slice(b"event: error\ndata: ");
    out.extend_from_slice(&error_body(error, None));
    out.extend_from_slice(b"\n\n");
    out.extend_from_slice(MESSAGE_STOP);
    out.freeze()
}

/// The same with the provider's own error event.
#[must_use]
pub fn end_with_error(open: &[usize], event: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    close_blocks(open, &mut out);
    out.extend_from_slice(event);
    out.extend_from_slice(MESSAGE_STOP);
    out.freeze()
}

pub(crate) fn close_blocks(open: &[usize], out: &mut BytesMut) {
    for index in open {
        let data = format!(
            "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n"
        );
        out.extend_from_slice(data.as_bytes());
    }
}

fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

#[derive(Deserialize)]
struct Theirs {
    error: TheirBody,
}

#[derive(Deserialize)]
struct TheirBody {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}

/// What a provider's refusal says; of one that isn't in Anthropic's shape, the status alone. In the middle of a
/// stream there is no status (0): the kind has one.
pub(super) fn decode_error(status: u16, body: &[u8]) -> Failure {
    let Ok(Theirs { error }) = serde_json::from_slice(body) else {
        return Failure { status, ..Failure::default() };
    };
    let by_kind = || match error.kind.as_str() {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    };
    let status = if status == 0 { by_kind() } else { status };
    Failure { status, message: error.message, code: Some(error.kind), param: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::Losses;

    #[test]
    fn errors_have_their_shape_and_come_back() {
        let error = Error::new(Code::RateLimited, "slow \"down\"\n");
        let body = error_body(&error, Some("req_1"));
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&body).unwrap(),
            serde_json::json!({"type": "error", "request_id": "req_1",
                "error": {"type": "rate_limit_error", "message": "slow \"down\"\n"}})
        );
        let failure = decode_error(0, &body);
        assert_eq!((failure.status, failure.message.as_str()), (429, "slow \"down\"\n"));
        assert_eq!(decode_error(503, b"<html>"), Failure { status: 503, ..Failure::default() });
        for code in Code::ALL {
            let status = code.http().as_u16();
            let back = decode_error(0, &error_body(&Error::new(*code, "x"), None)).status;
            assert_eq!(back / 100 == 4, status / 100 == 4, "{code:?}");
        }
    }

    #[test]
    fn who_asks_for_a_held_conversation_is_told_to_send_all_of_it() {
        let body = br#"{"model":"m","max_tokens":9,"messages":[],"thread":{"type":"create"}}"#;
        let refused = super::super::request_in::decode_request(body, &mut Losses::default()).unwrap_err();
        let said = String::from_utf8(error_body(&refused, None).to_vec()).unwrap();
        assert!(said.contains(r#""details":{"error_code":"thread_unsupported_request""#), "{said}");
    }

    #[test]
    fn a_broken_stream_closes_its_blocks_and_ends() {
        let frames = error_frames(&[1], &Error::new(Code::UpstreamFailed, "x"));
        let text = String::from_utf8(frames.to_vec()).unwrap();
        let events: Vec<_> =
            text.split_terminator("\n\n").map(|e| e.lines().next().unwrap_or_default()).collect();
        assert_eq!(events, ["event: content_block_stop", "event: error", "event: message_stop"]);
    }
}
