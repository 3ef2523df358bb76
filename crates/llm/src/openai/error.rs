//! Errors as OpenAI writes them.

use bytes::Bytes;
use serde::Serialize;
use weir_error::{Code, Error};

use super::DONE;

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
    code: &'static str,
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
