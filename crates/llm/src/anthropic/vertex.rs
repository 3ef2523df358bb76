//! Messages as Vertex AI takes them: <https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai>.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    edits::{Edits, place},
    platform::segment,
};

/// `anthropic_version` there.
pub const VERTEX_VERSION: &str = "vertex-2023-10-16";

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    anthropic_version: Option<&'a RawValue>,
}

/// Where a model of Anthropic's is asked for, below its publishers.
#[must_use]
pub fn vertex_path(model: &str, stream: bool) -> String {
    let method = if stream { "streamRawPredict" } else { "rawPredict" };
    // Versions stand behind an `@`, which paths may have.
    let model = segment(model).replace("%40", "@");
    format!("/publishers/anthropic/models/{model}:{method}")
}

/// Where tokens are counted; the body names the model:
/// <https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/count-tokens>.
pub const VERTEX_COUNT: &str = "/publishers/anthropic/models/count-tokens:rawPredict";

/// A body with Vertex's version instead of the model, which the path names. All else stays the bytes it was.
#[must_use]
pub fn vertex_body(body: &Bytes) -> Bytes {
    // An array could be read as the members in their order.
    let object = body.trim_ascii_start().starts_with(b"{").then_some(body);
    let fields = object.and_then(|body| serde_json::from_slice::<Fields<'_>>(body).ok());
    let Some(fields) = fields else { return body.clone() };
    let version = format!("\"{VERTEX_VERSION}\"");
    let mut edits = Edits::of(body);
    match (fields.model, fields.anthropic_version) {
        (Some(model), None) => {
            let value = place(body, model);
            edits.replace(key_at(body, value.start)..value.end, format!("\"anthropic_version\":{version}"));
        }
        (Some(model), Some(told)) => {
            let value = place(body, model);
            let key = key_at(body, value.start);
            let after = body.get(value.end..).unwrap_or_default();
            let space = after.len() - after.trim_ascii_start().len();
            // One comma goes with the member.
            let gone = if after.get(space) == Some(&b',') {
                key..value.end + space + 1
            } else {
                let before = body.get(..key).unwrap_or_default();
                memchr::memrchr(b',', before).unwrap_or(key)..value.end
            };
            edits.replace(gone, String::new());
            edits.replace(place(body, told), version);
        }
        (None, told) => edits.set("anthropic_version", told.map(|told| place(body, told)), version),
    }
    edits.apply_to(body)
}

/// Where a value's name begins, which has no quotes in it.
fn key_at(body: &[u8], value: usize) -> usize {
    let before = body.get(..value).unwrap_or_default();
    let end = memchr::memrchr(b'"', before).unwrap_or_default();
    memchr::memrchr(b'"', before.get(..end).unwrap_or_default()).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_takes_the_model_s_place_and_all_else_stays() {
        let version = r#""anthropic_version":"vertex-2023-10-16""#;
        let rest = r#""max_tokens" : 1.0e1, "messages":[{"role":"user","content":"\u00e9 \"model\": 1"}], "metadata":{"model":"m"}"#;
        for (body, expected) in [
            (format!(r#"{{ "model" : "m", {rest} }}"#), format!("{{ {version}, {rest} }}")),
            (format!(r#"{{{rest},"mod\u0065l":"m"}}"#), format!("{{{rest},{version}}}")),
            (format!("{{{rest}}}"), format!("{{{version},{rest}}}")),
            (
                format!(r#"{{"model":"m" , "anthropic_version": "bedrock-2023-05-31",{rest}}}"#),
                format!(r#"{{ "anthropic_version": "vertex-2023-10-16",{rest}}}"#),
            ),
            (
                format!(r#"{{"anthropic_version": "x",{rest} , "model":"m"}}"#),
                format!(r#"{{"anthropic_version": "vertex-2023-10-16",{rest} }}"#),
            ),
            ("[]".to_owned(), "[]".to_owned()),
        ] {
            assert_eq!(vertex_body(&body.into()), expected);
        }
    }

    #[test]
    fn a_model_is_one_segment() {
        assert_eq!(
            vertex_path("claude-haiku-4-5@20251001", false),
            "/publishers/anthropic/models/claude-haiku-4-5@20251001:rawPredict"
        );
        assert_eq!(vertex_path("a/b?c", true), "/publishers/anthropic/models/a%2Fb%3Fc:streamRawPredict");
    }
}
