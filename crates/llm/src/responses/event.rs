//! A stream's events, as far as all who read them share it.

use std::borrow::Cow;

use serde::Deserialize;

use crate::sse;

/// An event's type: as its line says it, else its data. Empty for what is no event.
pub(super) fn kind(event: &[u8]) -> Cow<'_, str> {
    let line = event.strip_prefix(b"event:").and_then(|rest| {
        let end = memchr::memchr2(b'\n', b'\r', rest)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    });
    if let Some(name) = line {
        return Cow::Borrowed(name.trim());
    }
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type", default)]
        kind: String,
    }
    let data = sse::data(event).unwrap_or_default();
    serde_json::from_slice::<Typed>(&data).map(|typed| typed.kind).unwrap_or_default().into()
}

/// Whether it ends the stream.
pub(super) fn is_terminal(kind: &str) -> bool {
    matches!(kind, "response.completed" | "response.incomplete" | "response.failed")
}

/// The number in the data of an event that holds no object but itself.
pub(super) fn number(event: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"sequence_number\":";
    let at = memchr::memmem::find(event, NAME)? + NAME.len();
    let digits = event.get(at..)?.trim_ascii_start();
    let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_what_it_is_in_its_line_or_its_data() {
        assert_eq!(kind(b"event: response.created\r\ndata: {\"type\":\"x\"}\r\n\r\n"), "response.created");
        assert_eq!(
            kind(b"data: {\"sequence_number\":4,\"type\":\"response.failed\"}\n\n"),
            "response.failed"
        );
        assert_eq!(kind(b": comment\n\n"), "");
        assert_eq!(kind(b"data: [DONE]\n\n"), "");
        assert_eq!(
            number(b"data: {\"sequence_number\": 41,\"delta\":\"\\\"sequence_number\\\":7\"}\n\n"),
            Some(41)
        );
        assert_eq!(number(b"data: {}\n\n"), None);
    }
}
