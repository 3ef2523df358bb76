//! State put back into a chat body that goes on as it came.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    messages_out::{State, state},
    state::Extra,
};
use crate::canonical::{Content, Message};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Calls<'a> {
    #[serde(borrow, default)]
    tool_calls: Option<Vec<&'a RawValue>>,
}

#[derive(Serialize)]
struct Called<'a> {
    extra_content: Extra<'a>,
}

/// The body with the state that these messages of its (by their places) now have, and it lacked. `None` when it is not
/// what it was read as.
#[must_use]
pub fn with_state<'a>(
    body: &Bytes,
    messages: impl IntoIterator<Item = (usize, &'a Message)>,
) -> Option<Bytes> {
    let wire: Body<'_> = serde_json::from_slice(body).ok()?;
    let place = |raw: &RawValue| (raw.get().as_ptr() as usize).saturating_sub(body.as_ptr() as usize) + 1;
    let mut edits: Vec<(usize, String)> = Vec::new();
    for (at, message) in messages {
        let raw = wire.messages.get(at)?;
        let own: State<'_> = state(&message.parts);
        edits.extend(members(&own).map(|text| (place(raw), text)));
        let calls = serde_json::from_str::<Calls<'_>>(raw.get()).ok()?.tool_calls.unwrap_or_default();
        let meant = message.parts.iter().filter(|part| matches!(part.content, Content::ToolUse(_)));
        for (raw, part) in calls.into_iter().zip(meant) {
            let Some(opaque) = &part.opaque else { continue };
            let called = Called { extra_content: Extra::new(opaque) };
            edits.extend(members(&called).map(|text| (place(raw), text)));
        }
    }
    edits.sort_by_key(|(at, _)| *at);
    let mut out =
        BytesMut::with_capacity(body.len() + edits.iter().map(|(_, text)| text.len()).sum::<usize>());
    let mut from = 0;
    for (at, text) in edits {
        out.extend_from_slice(body.get(from..at)?);
        out.extend_from_slice(text.as_bytes());
        from = at;
    }
    out.extend_from_slice(body.get(from..)?);
    Some(out.freeze())
}

/// Members, to stand before others.
fn members(of: &impl Serialize) -> Option<String> {
    let text = serde_json::to_string(of).ok()?;
    let inner = text.strip_prefix('{')?.strip_suffix('}').filter(|inner| !inner.is_empty())?;
    Some(format!("{inner},"))
}

/// Whether an answer, or an event of one, carries opaque state under the names that others brought up. It costs a look.
#[must_use]
pub fn carries_state(answer: &[u8]) -> bool {
    static NAMES: LazyLock<[Finder<'static>; 3]> = LazyLock::new(|| {
        ["\"thinking_blocks\":", "\"reasoning_details\":", "\"thought_signature\":"].map(Finder::new)
    });
    NAMES.iter().any(|name| name.find(answer).is_some())
}

/// The body without what asks for the usage chunk, which not every provider knows.
#[must_use]
pub fn without_stream_options(body: &Bytes) -> Bytes {
    type Members<'a> = std::collections::BTreeMap<&'a str, &'a RawValue>;
    let Ok(mut members) = serde_json::from_slice::<Members<'_>>(body) else { return body.clone() };
    if members.remove("stream_options").is_none() {
        return body.clone();
    }
    serde_json::to_vec(&members).map_or_else(|_| body.clone(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        canonical::{Losses, Opaque, Part, Vendor},
        openai::decode_request,
    };

    #[test]
    fn state_comes_back_into_a_body_that_stays_what_it_was() {
        let body = Bytes::from_static(
            br#"{"model":"m",  "messages":[{"role":"user","content":"x"},{"role":"assistant","content":null, "tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]}],"x":1.0}"#,
        );
        let mut request = decode_request(&body, &mut Losses::default()).unwrap();
        let turn = &mut request.messages[1];
        turn.parts[1].opaque = Some(Opaque::new(Vendor::Google, "sig"));
        let thought = Part::from(Content::Thinking("hm".to_owned()));
        turn.parts.insert(0, thought.with_opaque(Some(Opaque::new(Vendor::Anthropic, "s=="))));
        let out = with_state(&body, [(1, &request.messages[1])]).unwrap();
        let expected = String::from_utf8(body.to_vec())
            .unwrap()
            .replace(
                r#"{"role":"assistant""#,
                r#"{"thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"s=="}],"role":"assistant""#,
            )
            .replace(r#"{"id":"b""#, r#"{"extra_content":{"google":{"thought_signature":"sig"}},"id":"b""#);
        assert_eq!(out, expected);
    }

    #[test]
    fn stream_options_go() {
        let body = Bytes::from_static(br#"{"a":1.50,"stream_options":{"include_usage":true},"b":[ 2]}"#);
        assert_eq!(without_stream_options(&body), r#"{"a":1.50,"b":[ 2]}"#);
        let body = Bytes::from_static(br#"{"b":1, "a":2}"#);
        assert_eq!(without_stream_options(&body), body);
    }
}
