//! The bound on an answer, of which OpenAI's newer models know only the newer name.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::edits::{place, present};

const NEWER: &[u8] = b"\"max_completion_tokens\"";

/// The body with `max_tokens` by its newer name. `None`: it has none, or the newer one, too.
#[must_use]
pub fn with_newer_limit(body: &Bytes) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        max_tokens: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        max_completion_tokens: Option<&'a RawValue>,
    }
    let Body { max_tokens: Some(limit), max_completion_tokens: None } = serde_json::from_slice(body).ok()?
    else {
        return None;
    };
    let value = place(body, limit);
    let before = body.get(..value.start)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    // However it is written, this name has no quotation mark within.
    let name = before.strip_suffix(b"\"")?.iter().rposition(|byte| *byte == b'"')?;
    Some([body.get(..name)?, NEWER, body.get(before.len()..)?].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_changes() {
        let renamed = |body: &'static str| {
            let body = with_newer_limit(&Bytes::from_static(body.as_bytes()));
            body.map(|body| String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(
            renamed(r#"{"a":"max_tokens", "max_tokens" : 5,"messages":[{"max_tokens":1}]}"#).as_deref(),
            Some(r#"{"a":"max_tokens", "max_completion_tokens" : 5,"messages":[{"max_tokens":1}]}"#)
        );
        assert_eq!(renamed(r#"{"max\u005ftokens":5}"#).as_deref(), Some(r#"{"max_completion_tokens":5}"#));
        for other in [
            r#"{"messages":[]}"#,
            r#"{"max_tokens":null}"#,
            r#"{"max_tokens":5,"max_completion_tokens":null}"#,
            r#"{"max_tokens":5,"max_completion_tokens":6}"#,
            "[]",
        ] {
            assert_eq!(renamed(other), None, "{other}");
        }
    }
}
