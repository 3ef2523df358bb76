//! Ollama's own chat: <https://docs.ollama.com/api/chat>.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    Decode, Provider, Target, Usage,
    canonical::{Answer, Failure, Losses, Request},
    counting,
    edits::{Edits, place},
    framing::Framing,
};

mod answer;
mod events;
mod request;

/// A body that says how many tokens its model's window has, unless its client has said it.
#[must_use]
pub fn with_window(body: &Bytes, tokens: u64) -> Bytes {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow, default)]
        options: Option<&'a RawValue>,
    }
    let Ok(wire) = serde_json::from_slice::<Wire<'_>>(body) else { return body.clone() };
    let mut edits = Edits::of(body);
    match wire.options {
        None => edits.set("options", None, format!(r#"{{"num_ctx":{tokens}}}"#)),
        Some(options) => {
            let given =
                serde_json::from_str::<HashMap<String, IgnoredAny>>(options.get()).unwrap_or_default();
            if given.contains_key("num_ctx") {
                return body.clone();
            }
            let comma = if given.is_empty() { "" } else { "," };
            // Just after the brace.
            edits.insert(place(body, options).start + 1, format!(r#""num_ctx":{tokens}{comma}"#));
        }
    }
    edits.apply_to(body)
}

/// The dialect.
#[derive(Debug)]
pub struct Chat;

impl Provider for Chat {
    fn path(&self, _: &str, _: bool) -> Cow<'static, str> {
        "/api/chat".into()
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
        request::encode_request(request, target, losses)
    }

    fn decode_answer(&self, body: &[u8]) -> Option<Answer> {
        answer::decode_answer(body)
    }

    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(events::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Failure {
        answer::decode_error(status, body)
    }

    fn usage_of_answer(&self, body: &[u8]) -> Option<Usage> {
        answer::usage_of_answer(body)
    }

    fn count_prompt(&self, body: &[u8]) -> u64 {
        counting::count_body(body, &["messages", "tools"], &["images"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_the_operator_s_unless_the_client_says_it() {
        for (body, sized) in [
            (r#"{"model":"m"}"#, r#"{"options":{"num_ctx":9},"model":"m"}"#),
            (r#"{"options":{},"model":"m"}"#, r#"{"options":{"num_ctx":9},"model":"m"}"#),
            (r#"{"options":{"seed":1}}"#, r#"{"options":{"num_ctx":9,"seed":1}}"#),
            (r#"{"options":{"num_ctx":4}}"#, r#"{"options":{"num_ctx":4}}"#),
        ] {
            assert_eq!(with_window(&Bytes::from(body), 9), sized);
        }
    }
}
