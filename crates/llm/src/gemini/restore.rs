//! A request of the same dialect whose client dropped what Google wants back: put in again, and nothing else changed.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::part::own;
use crate::{
    canonical::{Content, Message, Part},
    edits::{Edits, place},
};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, rename = "systemInstruction", alias = "system_instruction")]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    contents: Vec<Turn<'a>>,
}

#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(default)]
    role: Option<String>,
    #[serde(borrow, default)]
    parts: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default, rename = "functionCall", alias = "function_call")]
    call: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(default)]
    thought: bool,
}

/// Whether an answer, or an event of one, carries state. It costs a look.
#[must_use]
pub fn carries_state(answer: &[u8]) -> bool {
    static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"thoughtSignature\""));
    NAME.find(answer).is_some()
}

/// Whether a request has calls, whose signatures Google asks for. It costs a look.
#[must_use]
pub fn has_calls(request: &[u8]) -> bool {
    static NAMES: LazyLock<[Finder<'static>; 2]> =
        LazyLock::new(|| ["\"functionCall\"", "\"function_call\""].map(Finder::new));
    NAMES.iter().any(|name| name.find(request).is_some())
}

/// The body with the signatures that these messages got back, by their places in the canonical request: on calls, and on
/// the last text. Thoughts are left out: Google asks for none. `None` when the body isn't what the messages were read from.
#[must_use]
pub fn with_state<'a>(
    body: &Bytes,
    messages: impl IntoIterator<Item = (usize, &'a Message)>,
) -> Option<Bytes> {
    let wire: Body<'_> = serde_json::from_slice(body).ok()?;
    // Contents of one role in a row were read as one message, after the instructions.
    let first = usize::from(wire.system.is_some_and(|system| system.get() != "null"));
    let mut turns: Vec<(bool, Vec<&RawValue>)> = Vec::new();
    for Turn { role, parts } in wire.contents {
        let models = role.as_deref() == Some("model");
        match turns.last_mut().filter(|(last, _)| *last == models) {
            Some((_, last)) => last.extend(parts),
            None => turns.push((models, parts)),
        }
    }
    let mut edits = Edits::of(body);
    for (at, message) in messages {
        let (models, parts) = turns.get(at.checked_sub(first)?)?;
        if *models {
            sign(body, parts, &message.parts, &mut edits)?;
        }
    }
    Some(edits.apply_to(body))
}

fn sign(body: &Bytes, raws: &[&RawValue], meant: &[Part], edits: &mut Edits) -> Option<()> {
    let said = raws.iter().map(|raw| serde_json::from_str::<Said<'_>>(raw.get()).map(|said| (*raw, said)));
    let said = said.collect::<Result<Vec<_>, _>>().ok()?;
    let calls = said.iter().filter(|(_, said)| said.call.is_some()).map(|(raw, _)| raw);
    let meant_calls = meant.iter().filter(|part| matches!(part.content, Content::ToolUse(_)));
    let text = said.iter().rfind(|(_, said)| said.text.is_some() && !said.thought).map(|(raw, _)| raw);
    let meant_text = meant.iter().rfind(|part| matches!(part.content, Content::Text(_)));
    for (raw, part) in calls.zip(meant_calls).chain(text.into_iter().zip(meant_text)) {
        let Some(signature) = own(part) else { continue };
        // Just after the brace.
        let at = place(body, raw).start + 1;
        edits.insert(at, format!("\"thoughtSignature\":{},", serde_json::Value::from(signature)));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Dialect,
        canonical::{Losses, Opaque, Vendor},
    };

    #[test]
    fn signatures_go_back_where_they_were_and_all_else_stays() {
        let body = Bytes::from_static(
            br#"{ "system_instruction":{"parts":[{"text":"s"}]}, "contents":[{"parts":[{"text":"a"}],"x":1.50},
            {"role":"model","parts":[{"text":"Cal"}]},
            {"parts":[{"text":"ling"},{ "functionCall":{"id":"1","name":"f"}},{"functionCall":{"id":"2","name":"g"}}],"role":"model"},
            {"role":"user","parts":[{"functionResponse":{"id":"1","name":"f","response":{}}}]}] }"#,
        );
        let mut request = Dialect::Gemini.decode_request(&body, &mut Losses::default()).unwrap();
        let message = &mut request.messages[2];
        assert_eq!(message.parts.len(), 3);
        message.parts[0].opaque = Some(Opaque::new(Vendor::Google, "t=="));
        message.parts[1].opaque = Some(Opaque::new(Vendor::Google, "c+/"));
        message.parts[2].opaque = Some(Opaque::new(Vendor::Anthropic, "another's"));
        let out = with_state(&body, [(2, &request.messages[2])]).unwrap();
        let expected = String::from_utf8(body.to_vec())
            .unwrap()
            .replace(r#"{"text":"ling"}"#, r#"{"thoughtSignature":"t==","text":"ling"}"#)
            .replace(
                r#"{ "functionCall":{"id":"1""#,
                r#"{"thoughtSignature":"c+/", "functionCall":{"id":"1""#,
            );
        assert_eq!(out, expected);
        assert!(carries_state(&out) && !carries_state(&body) && has_calls(&body));
        assert_eq!(with_state(&body, [(9, &request.messages[2])]), None);
    }
}
