//! Errors in the middle of a stream. Others are those of OpenAI's chat.

use serde::Deserialize;
use serde_json::Value;
use weir_error::Error;

use super::object::Failed;
use crate::canonical::Failure;

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

/// An error of ours as a response has it, whose codes are closed.
pub(super) fn failed(error: &Error) -> Failed<'_> {
    let code = match error.code().http().as_u16() {
        429 => "rate_limit_exceeded",
        400..500 => "invalid_prompt",
        _ => "server_error",
    };
    Failed { code, message: error.message() }
}

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
        assert_eq!(of_response(r#"{"error":{"code":"invalid_prompt","message":"x"}}"#).status, 400);
    }
}
