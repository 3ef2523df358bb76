//! Errors in the middle of a stream. Others are those of OpenAI's chat.

use serde::Deserialize;
use serde_json::Value;
use weir_error::{Code, Error};

use super::object::Failed;
use crate::canonical::{Failure, Wrong};

#[derive(Deserialize, Default)]
struct Told {
    #[serde(default)]
    message: Option<String>,
    /// A word; some say the status instead.
    #[serde(default)]
    code: Value,
    #[serde(default)]
    param: Option<String>,
    /// Where others than OpenAI have it, and where a response has it.
    #[serde(default)]
    error: Option<Box<Told>>,
}

/// Of the data of an `error` event.
pub(super) fn of_event(data: &[u8]) -> Failure {
    failure(serde_json::from_slice(data).unwrap_or_default())
}

/// Of a response that failed.
pub(super) fn of_response(response: &str) -> Failure {
    failure(serde_json::from_str(response).unwrap_or_default())
}

fn failure(told: Told) -> Failure {
    let told = told.error.map_or_else(|| Told { error: None, ..told }, |inner| *inner);
    let status =
        told.code.as_u64().and_then(|code| u16::try_from(code).ok()).filter(|s| (400..600).contains(s));
    let code = told.code.as_str();
    let status = status.unwrap_or_else(|| code.map_or(500, status_of));
    let code = code.map(str::to_owned);
    Failure { status, message: told.message.unwrap_or_default(), code, param: told.param }
}

fn status_of(code: &str) -> u16 {
    match code {
        "rate_limit_exceeded" | "insufficient_quota" => 429,
        "context_length_exceeded" | "bio_policy" | "misalignment_policy_violation" => 400,
        "server_is_overloaded" | "slow_down" => 503,
        "vector_store_timeout" => 504,
        code if code.starts_with("invalid_") || code.contains("image") => 400,
        _ => 500,
    }
}

/// An error of ours as a response has it.
pub(super) fn failed(error: &Error) -> Failed<'_> {
    let code = match (error.code(), error.code().http().as_u16()) {
        (Code::ContextLengthExceeded | Code::InsufficientQuota, _) => error.code().as_str(),
        (_, 429) => "rate_limit_exceeded",
        (_, 400..500) => "invalid_prompt",
        _ => "server_error",
    };
    Failed { code: code.into(), message: error.message() }
}

/// Why a provider's stream failed, as a response has it: the provider's own word, by which clients know whether to ask
/// again, where it is one.
pub(super) fn of_provider(failure: &Failure) -> Failed<'_> {
    let code = match (failure.wrong(), failure.code.as_deref()) {
        (_, Some(code)) if is_word(code) => code,
        (Wrong::ContextLength, _) => "context_length_exceeded",
        (Wrong::Quota, _) => "insufficient_quota",
        (Wrong::RateLimit, _) => "rate_limit_exceeded",
        _ => "server_error",
    };
    Failed { code: code.into(), message: &failure.message }
}

fn is_word(code: &str) -> bool {
    (1..=64).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The code that an error has in a response, of an answer that was refused with this status.
#[must_use]
pub fn told_code(status: u16, body: &[u8]) -> String {
    let told = of_event(body);
    let known = told.code.filter(|code| KNOWN.contains(&code.as_str()));
    known.unwrap_or_else(|| {
        let code = match status {
            429 => "rate_limit_exceeded",
            400 | 413 | 422 => "invalid_prompt",
            _ => "server_error",
        };
        code.to_owned()
    })
}

/// Codes by which clients tell what to do next.
const KNOWN: [&str; 6] = [
    "context_length_exceeded",
    "insufficient_quota",
    "invalid_prompt",
    "rate_limit_exceeded",
    "server_is_overloaded",
    "slow_down",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_wherever_it_stands() {
        let flat = br#"{"type":"error","code":"rate_limit_exceeded","message":"slow","param":null}"#;
        let nested = br#"{"type":"error","error":{"code":"rate_limit_exceeded","message":"slow"}}"#;
        let response = r#"{"id":"resp_1","error":{"code":"rate_limit_exceeded","message":"slow"}}"#;
        for failure in [of_event(flat), of_event(nested), of_response(response)] {
            assert_eq!((failure.status, failure.message.as_str()), (429, "slow"));
        }
        assert_eq!(of_event(br#"{"code":503,"message":"x"}"#).status, 503);
        assert_eq!(of_event(b"x").status, 500);
        let refused =
            |status, code: &str| told_code(status, format!(r#"{{"error":{{"code":"{code}"}}}}"#).as_bytes());
        assert_eq!(refused(400, "context_length_exceeded"), "context_length_exceeded");
        assert_eq!(refused(429, "insufficient_quota"), "insufficient_quota");
        assert_eq!(
            (refused(400, "invalid_value"), refused(429, "requests")),
            ("invalid_prompt".into(), "rate_limit_exceeded".into())
        );
        assert_eq!(told_code(502, b"<html>"), "server_error");
        assert_eq!(of_response(r#"{"error":{"code":"invalid_prompt","message":"x"}}"#).status, 400);
    }
}
