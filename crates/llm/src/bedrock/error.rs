//! Refusals, and exceptions in the middle of a stream.

use serde::Deserialize;

use crate::canonical::Failure;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Theirs {
    /// Spelt both ways.
    #[serde(alias = "Message")]
    message: Option<String>,
    #[serde(rename = "__type", alias = "code")]
    kind: Option<String>,
    #[serde(rename = "originalStatusCode")]
    original_status: Option<u16>,
    #[serde(rename = "originalMessage")]
    original_message: Option<String>,
}

/// A refusal with this status; in the middle of a stream there is none (0), but a name.
pub(super) fn decode_error(status: u16, body: &[u8]) -> Failure {
    let theirs: Theirs = serde_json::from_slice(body).unwrap_or_default();
    // `com.amazon.coral.service#ValidationException`
    let kind = theirs.kind.as_deref().map(|kind| kind.rsplit('#').next().unwrap_or(kind).to_owned());
    failure(status, kind, theirs)
}

/// An exception in a stream, by its name.
pub(super) fn exception(name: &str, payload: &[u8]) -> Failure {
    failure(0, Some(name.to_owned()), serde_json::from_slice(payload).unwrap_or_default())
}

fn failure(status: u16, kind: Option<String>, theirs: Theirs) -> Failure {
    let named = kind.as_deref().map(|kind| kind.to_ascii_lowercase());
    let status = match (status, named.as_deref()) {
        // The model's own failure, and its own silence.
        (424, _) => 502,
        (408, _) => 504,
        (1.., _) => status,
        (0, Some("throttlingexception" | "servicequotaexceededexception")) => 429,
        (0, Some("validationexception")) => 400,
        (0, Some("serviceunavailableexception" | "modelnotreadyexception")) => 503,
        (0, Some("modeltimeoutexception")) => 504,
        (0, Some("modelstreamerrorexception")) => theirs.original_status.unwrap_or(500),
        (0, _) => 500,
    };
    let message = theirs.message.or(theirs.original_message).unwrap_or_default();
    let too_long = status == 400 && {
        let said = message.to_ascii_lowercase();
        said.contains("too long") || said.contains("too many input tokens") || said.contains("context window")
    };
    let code = if too_long { Some("context_length_exceeded".to_owned()) } else { kind };
    Failure { status, message, code, param: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_exceptions_have_their_status() {
        let body = br#"{"__type":"com.amazon.coral.service#ValidationException","message":"Input is too long for requested model."}"#;
        let failure = decode_error(400, body);
        assert_eq!((failure.status, failure.code.as_deref()), (400, Some("context_length_exceeded")));
        assert_eq!(decode_error(403, br#"{"Message":"no"}"#).message, "no");
        assert_eq!(decode_error(424, b"<html>").status, 502);
        for (name, status) in [
            ("throttlingException", 429),
            ("validationException", 400),
            ("serviceUnavailableException", 503),
            ("internalServerException", 500),
            ("inventedException", 500),
        ] {
            assert_eq!(exception(name, br#"{"message":"x"}"#).status, status, "{name}");
        }
        let original = br#"{"message":"x","originalStatusCode":529,"originalMessage":"y"}"#;
        assert_eq!(exception("modelStreamErrorException", original).status, 529);
    }
}
