//! Refusals, whose shape depends on who refuses.

use serde::Deserialize;
use serde_json::Value;

use crate::canonical::Failure;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Theirs {
    /// A text; or what FastAPI says of each wrong member.
    message: Value,
    detail: Value,
    #[serde(rename = "type")]
    kind: Option<String>,
    param: Option<String>,
    raw_status_code: Option<u16>,
}

/// A refusal with this status; in the middle of a stream there is none (0).
pub(super) fn decode_error(status: u16, body: &[u8]) -> Failure {
    let Ok(theirs) = serde_json::from_slice::<Theirs>(body) else {
        return Failure { status, ..Failure::default() };
    };
    let detail = match &theirs.message {
        Value::Object(message) => message.get("detail").unwrap_or(&Value::Null),
        _ => &theirs.detail,
    };
    let first = detail.as_array().and_then(|all| all.first());
    let message = theirs
        .message
        .as_str()
        .or_else(|| detail.as_str())
        .or_else(|| first?.get("msg")?.as_str())
        .unwrap_or_default();
    let param = theirs.param.or_else(|| first.and_then(path));
    let status = match status {
        0 => theirs.raw_status_code.unwrap_or(match theirs.kind.as_deref() {
            Some("invalid_request_error" | "invalid_request_message_order") => 400,
            Some("rate_limited") => 429,
            _ => 500,
        }),
        // What others call a wrong value.
        422 => 400,
        status => status,
    };
    let too_long = status == 400 && message.contains("too large for model");
    let code = if too_long { Some("context_length_exceeded".to_owned()) } else { theirs.kind };
    Failure { status, message: message.to_owned(), code, param }
}

/// `["body", "messages", 0, "content"]` as `messages[0].content`
fn path(wrong: &Value) -> Option<String> {
    let mut path = String::new();
    for step in wrong.get("loc")?.as_array()?.iter().skip_while(|step| *step == "body") {
        match step {
            Value::String(name) if path.is_empty() => path.push_str(name),
            Value::String(name) => path.extend([".", name]),
            other => path.push_str(&format!("[{other}]")),
        }
    }
    (!path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_in_each_of_their_shapes() {
        let unprocessable = br#"{"detail":[{"type":"missing","loc":["body","messages",0,"content"],"msg":"Field required","input":{}}]}"#;
        let failure = decode_error(422, unprocessable);
        assert_eq!((failure.status, failure.message.as_str()), (400, "Field required"));
        assert_eq!(failure.param.as_deref(), Some("messages[0].content"));
        let nested = br#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","user"],"msg":"Extra inputs are not permitted"}]},"type":"invalid_request_error","param":null,"code":null}"#;
        let failure = decode_error(422, nested);
        assert_eq!(
            (failure.message.as_str(), failure.param.as_deref()),
            ("Extra inputs are not permitted", Some("user"))
        );
        let limited = br#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300","raw_status_code":429}"#;
        assert_eq!(decode_error(0, limited).status, 429);
        assert_eq!(decode_error(401, br#"{"detail":"Unauthorized"}"#).message, "Unauthorized");
        assert_eq!(decode_error(503, b"<html>"), Failure { status: 503, ..Failure::default() });
    }
}
