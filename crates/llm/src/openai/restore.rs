//! State put back into a chat body that goes on as it came.

use std::{ops::Range, sync::LazyLock};

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    messages_out::{State, of_call, state},
    state::Extra,
};
use crate::{
    canonical::{Content, Message},
    edits::{Edits, place, present},
};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// What a message has already.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default)]
    tool_calls: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default, deserialize_with = "present")]
    thinking_blocks: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    reasoning_details: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    extra_content: Option<&'a RawValue>,
}

impl<'a> Said<'a> {
    fn member(&self, name: &str) -> Option<&'a RawValue> {
        match name {
            "thinking_blocks" => self.thinking_blocks,
            "reasoning_details" => self.reasoning_details,
            _ => self.extra_content,
        }
    }
}

#[derive(Serialize)]
struct Called<'a> {
    extra_content: Extra<'a>,
}

/// The body with the state that these messages of its (by their places) now have, and it lacked. `None` when it is not
/// what it was read as, or there are none.
#[must_use]
pub fn with_state<'a>(
    body: &Bytes,
    messages: impl IntoIterator<Item = (usize, &'a Message)>,
) -> Option<Bytes> {
    let mut messages = messages.into_iter().peekable();
    messages.peek()?;
    let wire: Body<'_> = serde_json::from_slice(body).ok()?;
    let inside = |raw: &RawValue| place(body, raw).start + 1;
    let mut edits = Edits::of(body);
    for (at, message) in messages {
        let raw = wire.messages.get(at)?;
        let said: Said<'_> = serde_json::from_str(raw.get()).ok()?;
        let own: State<'_> = state(&message.parts);
        for (name, json) in own.members() {
            // What stands there is no state, or a torn piece of it.
            match said.member(name) {
                Some(known) => edits.replace(place(body, known), json),
                None => edits.insert(inside(raw), format!("\"{name}\":{json},")),
            }
        }
        let calls = said.tool_calls.unwrap_or_default();
        let meant = message.parts.iter().filter(|part| matches!(part.content, Content::ToolUse(_)));
        for (raw, part) in calls.into_iter().zip(meant) {
            let Some(opaque) = part.opaque.as_ref().filter(|o| of_call(&part.content, o)) else { continue };
            let called = Called { extra_content: Extra::new(opaque) };
            if let Some(text) = members(&called) {
                edits.insert(inside(raw), text);
            }
        }
    }
    Some(edits.apply(body))
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

/// The body without what asks for the usage chunk, which not every provider knows. All else stays as it was.
#[must_use]
pub fn without_stream_options(body: &Bytes) -> Bytes {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        stream_options: Option<&'a RawValue>,
    }
    let options = serde_json::from_slice::<Body<'_>>(body).ok().and_then(|body| body.stream_options);
    let Some(member) = options.and_then(|raw| member(body, raw)) else { return body.clone() };
    let (before, after) = (body.get(..member.start), body.get(member.end..));
    [before.unwrap_or_default(), after.unwrap_or_default()].concat().into()
}

/// Where a value's member stands in the body, with the comma that goes with it.
fn member(body: &[u8], value: &RawValue) -> Option<Range<usize>> {
    let Range { start, end } = place(body, value);
    let before = body.get(..start)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    // However it is written, this name has no quotation mark within.
    let name = before.strip_suffix(b"\"")?.iter().rposition(|byte| *byte == b'"')?;
    let rest = body.get(end..)?.trim_ascii_start();
    if let Some(rest) = rest.strip_prefix(b",") {
        return Some(name..body.len() - rest.trim_ascii_start().len());
    }
    let before = body.get(..name)?.trim_ascii_end();
    Some(before.strip_suffix(b",").unwrap_or(before).len()..end)
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
        // Where a client kept a piece of it, this is the piece's place.
        let torn = |blocks: &str| {
            let role = r#"{"role":"assistant""#;
            let text = String::from_utf8(body.to_vec()).unwrap();
            text.replace(role, &format!(r#"{role},"reasoning_content":".", "thinking_blocks" : {blocks}"#))
        };
        let whole = torn(r#"[{"type":"thinking","thinking":"hm","signature":"s=="}]"#)
            .replace(r#"{"id":"b""#, r#"{"extra_content":{"google":{"thought_signature":"sig"}},"id":"b""#);
        for piece in [
            "null",
            r#"[{"type":"thinking","thinking":"","signature":"s==","index":0}]"#,
            r#"[{"type":"redacted_thinking","data":"d","index":1}]"#,
        ] {
            let torn = Bytes::from(torn(piece));
            let read = decode_request(&torn, &mut Losses::default()).unwrap();
            assert!(crate::turn::is_bare(&read.messages[1].parts), "{piece}");
            let out = with_state(&torn, [(1, &request.messages[1])]).unwrap();
            assert_eq!(out, whole, "{piece}");
        }
        // A thought that its provider doesn't show is whole as it is.
        for kept in [
            r#""thinking_blocks":[{"type":"thinking","thinking":"","signature":"s==","index":0}]"#,
            r#""reasoning_content":"hm","thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"s==","index":0},{"type":"redacted_thinking","data":"d","index":1}]"#,
            r#""reasoning_content":"hm","thinking_blocks":[{"type":"thinking","thinking":"","signature":"s=="}]"#,
        ] {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"assistant",{kept},"content":"x"}}]}}"#);
            let read = decode_request(body.as_bytes(), &mut Losses::default()).unwrap();
            assert!(!crate::turn::is_bare(&read.messages[0].parts), "{kept}");
        }
    }

    #[test]
    fn stream_options_go() {
        let body = Bytes::from_static(br#"{"a":1.50,"stream_options":{"include_usage":true},"b":[ 2]}"#);
        assert_eq!(without_stream_options(&body), r#"{"a":1.50,"b":[ 2]}"#);
        for (body, without) in [
            (r#"{ "stream_options" : null , "z":1,"a\u0062":"\n"}"#, r#"{ "z":1,"a\u0062":"\n"}"#),
            (r#"{"z":1, "stream\u005foptions":{"a":"}\""} }"#, r#"{"z":1 }"#),
            (r#"{"stream_options":{}}"#, "{}"),
            (r#"{"b":1, "a":2}"#, r#"{"b":1, "a":2}"#),
        ] {
            assert_eq!(without_stream_options(&Bytes::from_static(body.as_bytes())), without);
        }
    }
}
