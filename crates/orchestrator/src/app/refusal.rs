//! What a provider says when it refuses. Its words may be of the platform's own account, which is no client's business.

use std::sync::LazyLock;

use bytes::Bytes;
use regex::bytes::{NoExpand, Regex};
use serde_json::Value;
use weir_error::{Code, Error};
use weir_llm::{
    Dialect,
    canonical::{Failure, Wrong},
};

const LIMITED: &str = "The model provider limits how much this platform may ask of it: try again later.";
const USED_UP: &str = "This platform's account with the model provider has no quota left.";
const TAKEN_OUT: &[u8] = b"[...]";

/// Ids of organizations, projects and accounts: OpenAI's, Google's, Amazon's and Azure's.
#[expect(clippy::expect_used, reason = "a constant that the tests compile")]
static ACCOUNTS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"(?-u)\b(?:org-[A-Za-z0-9]{6,}|proj_[A-Za-z0-9]{3,}|arn:aws[A-Za-z0-9-]*:[^\s"'\\,)]+"#,
        r#"|projects/[^/\s"'\\,)]+|project_number:\d+|subscriptions/[0-9A-Fa-f-]{36}|\d{12}"#,
        r#"|[A-Za-z0-9-]+\.(?:openai|services\.ai|cognitiveservices)\.azure\.com)\b"#,
    ))
    .expect("a pattern")
});

/// An error's text without the ids of whose account it is about.
pub(crate) fn without_accounts(text: Bytes) -> Bytes {
    match ACCOUNTS.replace_all(&text, NoExpand(TAKEN_OUT)) {
        std::borrow::Cow::Borrowed(_) => text,
        std::borrow::Cow::Owned(other) => other.into(),
    }
}

/// In our words where it is about the platform's own limits.
fn own_words(wrong: Wrong) -> Option<&'static str> {
    match wrong {
        Wrong::Quota => Some(USED_UP),
        Wrong::RateLimit => Some(LIMITED),
        _ => None,
    }
}

fn discreet(text: String) -> String {
    String::from_utf8(without_accounts(text.into()).into()).unwrap_or_default()
}

/// As clients may read it.
pub(crate) fn told(mut failure: Failure) -> Failure {
    failure.message = match own_words(failure.wrong()) {
        Some(own) => {
            // Where the message alone said it, there has to be a word.
            if failure.wrong() == Wrong::Quota {
                failure.code = Some("insufficient_quota".to_owned());
            }
            own.to_owned()
        }
        None => discreet(failure.message),
    };
    failure
}

/// The body of a refusal, in the dialect it came in: its codes and all else stay.
pub(crate) fn told_in(dialect: Dialect, status: u16, body: Bytes) -> Bytes {
    let wrong = dialect.provider().decode_error(status, &body).wrong();
    let body = without_accounts(body);
    let Some(own) = own_words(wrong) else { return body };
    let Ok(mut whole) = serde_json::from_slice::<Value>(&body) else { return body };
    let places = ["/error/message", "/message", "/error", "/0/error/message"];
    let text = places.iter().find(|at| whole.pointer(at).is_some_and(Value::is_string));
    let Some(text) = text.and_then(|at| whole.pointer_mut(at)) else { return body };
    *text = own.into();
    whole.to_string().into()
}

/// An error of a provider in the middle of its answer.
pub(crate) fn in_stream(error: Error) -> Error {
    let text = match error.code() {
        Code::RateLimited => LIMITED.to_owned(),
        Code::InsufficientQuota => USED_UP.to_owned(),
        _ => {
            let text = discreet(error.message().to_owned());
            if text == error.message() {
                return error;
            }
            text
        }
    };
    Error::new(error.code(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_taken_out_and_all_else_stays() {
        let told = |text: &str| {
            String::from_utf8(without_accounts(Bytes::copy_from_slice(text.as_bytes())).to_vec()).unwrap()
        };
        for (text, expected) in [
            ("Limit in organization org-aB3dE6gH9jK2 on tokens", "Limit in organization [...] on tokens"),
            ("Project `proj_AbC123` does not have access", "Project `[...]` does not have access"),
            (
                r#"{"m":"User: arn:aws:sts::123456789012:assumed-role/r/s is not"}"#,
                r#"{"m":"User: [...] is not"}"#,
            ),
            ("account 123456789012, please", "account [...], please"),
            ("consumer 'projects/my-company-prod'", "consumer '[...]'"),
            ("projects/p1/locations/x/models/m was not found", "[...]/locations/x/models/m was not found"),
            ("https://contoso-prod.openai.azure.com/x", "https://[...]/x"),
        ] {
            assert_eq!(told(text), expected);
        }
        for text in ["org-wide", "1763719200000 ms", "a proj_", "x.azure.com", "tokens: 128000"] {
            assert_eq!(told(text), text);
        }
    }

    #[test]
    fn the_platform_s_limits_are_told_in_our_words_with_the_vendor_s_code() {
        for (dialect, body, code) in [
            (
                Dialect::OpenAi,
                r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-SECRETPLATFORM on tokens per min","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                "rate_limit_exceeded",
            ),
            (
                Dialect::OpenAi,
                r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                "insufficient_quota",
            ),
            (
                Dialect::Anthropic,
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"Your organization (SECRET) has 5"}}"#,
                "rate_limit_error",
            ),
            (
                Dialect::Gemini,
                r#"{"error":{"code":429,"message":"Quota exceeded for SECRET","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"7s"}]}}"#,
                "retryDelay",
            ),
            (Dialect::Bedrock, r#"{"message":"Too many requests of SECRET","__type":"x"}"#, "__type"),
        ] {
            let told = told_in(dialect, 429, Bytes::from_static(body.as_bytes()));
            let text = std::str::from_utf8(&told).unwrap();
            assert!(!text.contains("SECRET") && !text.contains("current quota"), "{text}");
            assert!(text.contains("platform") && text.contains(code), "{text}");
        }
        let other = Bytes::from_static(br#"{"error":{"message":"bad tool","code":"x"}}"#);
        assert_eq!(told_in(Dialect::OpenAi, 400, other.clone()), other);
    }

    #[test]
    fn errors_within_streams_name_no_account() {
        let said = |code, text: &str| in_stream(Error::new(code, text.to_owned())).message().to_owned();
        assert_eq!(said(Code::RateLimited, "org-SECRET1 is at its limit"), LIMITED);
        assert_eq!(said(Code::UpstreamFailed, "proj_SECRET1 failed"), "[...] failed");
        assert_eq!(said(Code::UpstreamFailed, "overloaded"), "overloaded");
    }
}
