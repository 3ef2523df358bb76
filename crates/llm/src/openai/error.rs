//! Errors as OpenAI writes them.

use std::{borrow::Cow, sync::LazyLock};

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use weir_error::{Code, Error};

use super::{DONE, lenient};
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

/// A provider's error: of an answer, or in the middle of a stream. Some say it without the object around it, or as a text.
#[derive(Deserialize)]
struct Theirs<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    object: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::list")]
    choices: Vec<Ended>,
}

#[derive(Deserialize)]
struct Ended {
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct TheirBody<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type", default, deserialize_with = "lenient::text")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    param: Option<Cow<'a, str>>,
    /// A word; some providers say the status instead.
    #[serde(default)]
    code: Value,
}

fn theirs(data: &[u8]) -> Option<(Theirs<'_>, Option<TheirBody<'_>>)> {
    let theirs: Theirs<'_> = serde_json::from_slice(data).ok()?;
    let body = match theirs.error {
        Some(raw) if raw.get() == "false" => None,
        Some(raw) => Some(match lenient::string(raw) {
            Some(message) => TheirBody { message: Some(message), ..TheirBody::default() },
            None => serde_json::from_str(raw.get()).unwrap_or_default(),
        }),
        None if theirs.object.as_deref() == Some("error") => serde_json::from_slice(data).ok(),
        None => None,
    };
    Some((theirs, body))
}

impl TheirBody<'_> {
    fn failure(self, status: u16) -> Failure {
        let code = self.code.as_str().map(str::to_owned).or(self.kind.map(Cow::into_owned));
        let message = self.message.unwrap_or_default().into_owned();
        Failure { status, message, code, param: self.param.map(Cow::into_owned) }
    }
}

/// What a provider's refusal says; of one that isn't in OpenAI's shape, the status alone.
pub(super) fn decode_error(status: u16, body: &[u8]) -> Failure {
    match theirs(body).and_then(|(_, body)| body) {
        Some(body) => body.failure(status),
        None => Failure { status, ..Failure::default() },
    }
}

/// The error in an event's data, if it is one: with choices or without, and also one that is no more than the reason why
/// a choice ended.
#[must_use]
pub(crate) fn error_in_stream(data: &[u8]) -> Option<Failure> {
    static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
    // Texts have their quotation marks escaped: this is a name, or a word by itself.
    ERROR.find(data)?;
    let (theirs, body) = theirs(data)?;
    let Some(error) = body else {
        let failed = theirs.choices.iter().any(|choice| choice.finish_reason.as_deref() == Some("error"));
        return failed.then(|| Failure { status: 500, ..Failure::default() });
    };
    let status = match (error.kind.as_deref(), error.code.as_u64().and_then(|c| u16::try_from(c).ok())) {
        (_, Some(status)) if (400..600).contains(&status) => status,
        (Some("invalid_request_error"), _) => 400,
        (Some("requests" | "tokens" | "rate_limit_error" | "insufficient_quota"), _) => 429,
        _ => 500,
    };
    Some(error.failure(status))
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

/// Words of this dialect stay, whoever spoke it; others' are none.
fn own_code(failure: &Failure) -> &str {
    failure.code.as_deref().filter(|code| WORDS.contains(code)).unwrap_or("invalid_value")
}

/// OpenAI's words for what is wrong with a request.
const WORDS: [&str; 34] = [
    "array_above_max_length",
    "array_below_min_length",
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "decimal_above_max_value",
    "decimal_below_min_value",
    "duplicate_parameter",
    "empty_array",
    "image_parse_error",
    "image_too_large",
    "image_too_small",
    "integer_above_max_value",
    "integer_below_min_value",
    "invalid_base64",
    "invalid_base64_image",
    "invalid_function_parameters",
    "invalid_image",
    "invalid_image_format",
    "invalid_image_url",
    "invalid_json",
    "invalid_prompt",
    "invalid_type",
    "invalid_value",
    "missing_required_parameter",
    "model_not_found",
    "request_too_large",
    "string_above_max_length",
    "string_below_min_length",
    "unknown_parameter",
    "unsupported_file",
    "unsupported_model",
    "unsupported_parameter",
    "unsupported_value",
];

fn kind(code: Code) -> &'static str {
    if code == Code::InsufficientQuota {
        return "insufficient_quota";
    }
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

    #[test]
    fn errors_in_streams_are_known_however_they_are_said() {
        let of = |data: &str| error_in_stream(data.as_bytes()).map(|f| (f.status, f.message));
        let long = "x".repeat(200);
        for (data, expected) in [
            (
                format!(
                    r#"{{"id":"{long}","error":{{"code":502,"message":"gone"}},"choices":[{{"delta":{{"content":""}},"finish_reason":"error"}}]}}"#
                ),
                (502, "gone"),
            ),
            (
                r#"{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}"#
                    .to_owned(),
                (400, "too long"),
            ),
            (format!(r#"{{"id":"{long}","choices":[{{"delta":{{}},"finish_reason":"error"}}]}}"#), (500, "")),
            (r#"{"error":"out of memory"}"#.to_owned(), (500, "out of memory")),
            (r#"{"error":{"message":null,"type":"rate_limit_error","code":{}}}"#.to_owned(), (429, "")),
        ] {
            assert_eq!(of(&data), Some((expected.0, expected.1.to_owned())), "{data}");
        }
        for none in [
            r#"{"choices":[{"delta":{"content":"error"},"finish_reason":null}]}"#,
            r#"{"error":null,"choices":[{"delta":{"content":"\"error\""},"finish_reason":"stop"}]}"#,
            r#"{"choices":[],"usage":{}}"#,
            "error",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn codes_of_others_are_not_passed_on_as_openai_s() {
        let code = |code: &str| {
            let failure = Failure { status: 422, code: Some(code.to_owned()), ..Failure::default() };
            let body: Value = serde_json::from_slice(&encode_error(&failure).1).unwrap();
            body["error"]["code"].clone()
        };
        assert_eq!(code("unsupported_value"), "unsupported_value");
        for other in ["ValidationException", "BadRequestError", "invalid_request_error", "INVALID_ARGUMENT"] {
            assert_eq!(code(other), "invalid_value", "{other}");
        }
    }
}
