//! The body for a provider of the same dialect: the client's bytes, but for the model's name and the request for
//! usage.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::ChatView;
use crate::{StreamOptions, edits::Edits};

/// `body` with the provider's name of the model, and, for a stream, asking for the usage chunk. Shares the bytes
/// when nothing changes.
#[must_use]
pub fn upstream_body(view: &ChatView, body: &Bytes, provider_model: &str) -> Bytes {
    let mut edits = Edits::of(body);
    if provider_model != view.model {
        edits.replace(view.model_at.clone(), serde_json::Value::from(provider_model).to_string());
    }
    if view.stream && !view.include_usage {
        let at = view.stream_options_at.clone();
        let options = at.as_ref().and_then(|at| body.get(at.clone())).unwrap_or_default();
        edits.set("stream_options", at, with_usage(options));
    }
    edits.apply_to(body)
}

impl ChatView {
    pub(crate) fn stream_options(&self, body: &[u8]) -> StreamOptions {
        type Members<'a> = std::collections::BTreeMap<std::borrow::Cow<'a, str>, serde::de::IgnoredAny>;
        let options = self.stream_options_at.as_ref().and_then(|at| body.get(at.clone()));
        let Some(options) = options.filter(|options| *options != b"null") else { return StreamOptions::None };
        match serde_json::from_slice::<Members<'_>>(options) {
            Ok(members) if members.keys().all(|name| name == "include_usage") => StreamOptions::Usage,
            _ => StreamOptions::Others,
        }
    }
}

/// The client's stream options with `include_usage` set; the others stay.
fn with_usage(options: &[u8]) -> String {
    type Members = std::collections::BTreeMap<String, Box<RawValue>>;
    let members: Option<Members> = serde_json::from_slice(options).ok();
    let mut text = String::from(r#"{"include_usage":true"#);
    for (name, value) in members.into_iter().flatten().filter(|(name, _)| name != "include_usage") {
        text.push(',');
        text.push_str(&serde_json::Value::from(name).to_string());
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(body: &str, model: &str) -> String {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let view = ChatView::scan(&bytes).unwrap();
        String::from_utf8(upstream_body(&view, &bytes, model).to_vec()).unwrap()
    }

    #[test]
    fn bytes_pass_but_for_model_and_usage() {
        let messages =
            r#""messages":[{"role":"user","content":"\u00e9 \"model\": 1"}],  "vendor" : {"x": 1.0e3}"#;
        let plain = format!(r#"{{ "model" : "m", {messages} }}"#);
        assert_eq!(spliced(&plain, "m"), plain);
        assert_eq!(spliced(&plain, "n\"1"), format!(r#"{{ "model" : "n\"1", {messages} }}"#));

        let stream = format!(r#"{{{messages},"model":"m","stream":true}}"#);
        let asked = r#""stream_options":{"include_usage":true},"#;
        assert_eq!(spliced(&stream, "m"), format!(r#"{{{asked}{messages},"model":"m","stream":true}}"#));

        let other = format!(
            r#"{{"stream_options":{{"include_obfuscation":false,"include_usage":false}},{messages},"model":"m","stream":true}}"#
        );
        let expected = format!(
            r#"{{"stream_options":{{"include_usage":true,"include_obfuscation":false}},{messages},"model":"long","stream":true}}"#
        );
        assert_eq!(spliced(&other, "long"), expected);
        let null = format!(r#"{{"model":"m",{messages},"stream":true,"stream_options":null}}"#);
        assert_eq!(spliced(&null, "m"), null.replace("null", r#"{"include_usage":true}"#));
    }

    #[test]
    fn a_body_that_needs_nothing_is_not_copied() {
        let body = Bytes::from_static(
            br#"{"model":"m","messages":[{"role":"user"}],"stream":true,"stream_options":{"include_usage":true}}"#,
        );
        let view = ChatView::scan(&body).unwrap();
        assert_eq!(upstream_body(&view, &body, "m").as_ptr(), body.as_ptr());
    }
}
