//! An assistant's turn that comes back without its opaque state: by what it is known again, and how it gets it back.
//!
//! Many clients keep what a model said and called, and drop what they don't know. A turn is known again by its visible
//! content: the ids of its calls, else its text.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::{
    canonical::{Content, Opaque, Part, ToolUse, Vendor},
    ids,
};

/// An id of this length is given once; shorter ones may be numbers within an answer.
const UNIQUE_ID: usize = 16;

/// A turn's visible content, as a hash.
pub type Fingerprint = [u8; 32];

/// One piece of state, and where in its turn it belongs.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    at: At,
    vendor: String,
    data: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    /// A thought with its text, after so many calls.
    Thought(String, usize),
    Redacted(usize),
    /// The call of this number.
    Call(usize),
    Text,
}

/// By what this turn is known again; `None` when it says nothing that would do.
#[must_use]
pub fn fingerprint(parts: &[Part]) -> Option<Fingerprint> {
    let mut hash = Context::new(&SHA256);
    let mut calls = parts.iter().filter_map(call).peekable();
    if calls.peek().is_some() {
        hash.update(b"calls");
        for ToolUse { id, name, arguments } in calls {
            field(&mut hash, ids::plain(id).as_bytes());
            if id.len() < UNIQUE_ID {
                field(&mut hash, name.as_bytes());
                field(&mut hash, same(arguments).as_bytes());
            }
        }
    } else {
        let text: String = parts.iter().filter_map(text).collect();
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        hash.update(b"text");
        field(&mut hash, text.as_bytes());
    }
    hash.finish().as_ref().try_into().ok()
}

/// Lengths first: no two lists of fields read the same.
fn field(hash: &mut Context, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// Arguments as clients write them again: without spaces, members in order.
fn same(arguments: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(arguments);
    value.map_or_else(|_| arguments.trim().to_owned(), |value| value.to_string())
}

fn call(part: &Part) -> Option<&ToolUse> {
    match &part.content {
        Content::ToolUse(call) => Some(call),
        _ => None,
    }
}

fn text(part: &Part) -> Option<&str> {
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => Some(text),
        _ => None,
    }
}

/// Whether a turn came back without any state.
#[must_use]
pub fn is_bare(parts: &[Part]) -> bool {
    parts.iter().all(|part| part.opaque.is_none())
}

/// A turn's state; `None` when it has none.
#[must_use]
pub fn state(parts: &[Part]) -> Option<Vec<u8>> {
    let mut calls = 0;
    let mut all = Vec::new();
    for part in parts {
        let at = match &part.content {
            Content::Thinking(text) => At::Thought(text.clone(), calls),
            Content::RedactedThinking => At::Redacted(calls),
            Content::ToolUse(_) => {
                calls += 1;
                At::Call(calls - 1)
            }
            Content::Text(_) => At::Text,
            _ => continue,
        };
        let Some(Opaque { vendor, data, id }) = part.opaque.clone().filter(|o| !o.data.is_empty()) else {
            continue;
        };
        all.push(Kept { at, vendor: vendor.name().to_owned(), data, id });
    }
    (!all.is_empty()).then(|| serde_json::to_vec(&all).ok()).flatten()
}

/// Gives a turn back what `state` kept of this vendor's; true if there was any.
pub fn restore(parts: &mut Vec<Part>, state: &[u8], vendor: Vendor) -> bool {
    let Ok(all) = serde_json::from_slice::<Vec<Kept>>(state) else { return false };
    let mut restored = false;
    // Thoughts at one place keep their order.
    let mut inserted = 0;
    for Kept { at, data, id, .. } in all.into_iter().filter(|kept| kept.vendor == vendor.name()) {
        let opaque = Some(Opaque { vendor, data, id });
        let nth = |parts: &[Part], n: usize| {
            let calls = parts.iter().enumerate().filter(|(_, part)| call(part).is_some());
            calls.map(|(at, _)| at).nth(n)
        };
        let (content, after) = match at {
            At::Thought(text, after) => (Content::Thinking(text), after),
            At::Redacted(after) => (Content::RedactedThinking, after),
            At::Call(n) => {
                let part = nth(parts, n).and_then(|at| parts.get_mut(at));
                restored |= part.map(|part| part.opaque = opaque).is_some();
                continue;
            }
            At::Text => {
                let part = parts.iter_mut().rfind(|part| matches!(part.content, Content::Text(_)));
                restored |= part.map(|part| part.opaque = opaque).is_some();
                continue;
            }
        };
        let place = if after == 0 { Some(inserted) } else { nth(parts, after) };
        let place = place.unwrap_or(parts.len()).min(parts.len());
        parts.insert(place, Part::from(content).with_opaque(opaque));
        inserted += usize::from(after == 0);
        restored = true;
    }
    restored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(id: &str, arguments: &str) -> Part {
        Content::ToolUse(ToolUse { id: id.to_owned(), name: "f".to_owned(), arguments: arguments.to_owned() })
            .into()
    }

    fn own(data: &str) -> Option<Opaque> {
        Some(Opaque::new(Vendor::Anthropic, data))
    }

    #[test]
    fn a_stripped_turn_is_known_again_and_gets_all_back_where_it_was() {
        let turn = [
            Part::from(Content::Thinking("hm".to_owned())).with_opaque(own("s1")),
            Part::from(Content::RedactedThinking).with_opaque(own("r1")),
            Part::text("ok "),
            used("call_0", r#"{"b": 1, "a":2}"#).with_opaque(Some(Opaque::new(Vendor::Google, "g"))),
            Part::from(Content::Thinking("so".to_owned())).with_opaque(own("s2")),
            used("call_1", "{}"),
        ];
        let state = state(&turn).unwrap();
        let stripped = vec![Part::text("ok"), used("call_0", r#"{"a":2,"b":1}"#), used("call_1", "{}")];
        assert_eq!(fingerprint(&turn), fingerprint(&stripped));
        let mut back = stripped.clone();
        assert!(is_bare(&back) && restore(&mut back, &state, Vendor::Anthropic));
        let opaque: Vec<_> = back.iter().map(|p| p.opaque.as_ref().map(|o| o.data.as_str())).collect();
        assert_eq!(opaque, [Some("s1"), Some("r1"), None, None, Some("s2"), None]);
        let mut back = stripped.clone();
        assert!(restore(&mut back, &state, Vendor::Google));
        assert_eq!((back.len(), back[1].opaque.as_ref().unwrap().data.as_str()), (3, "g"));
        let mut back = stripped;
        assert!(!restore(&mut back, &state, Vendor::OpenAi));
    }

    #[test]
    fn other_turns_are_others() {
        let unique = "toolu_01A09q90qw90lq917835lq9";
        let text = |text: &str| fingerprint(&[Part::text(text)]);
        let call = |id: &str, arguments: &str| fingerprint(&[used(id, arguments)]);
        assert_eq!(text(" "), None);
        assert_eq!(text("a\n"), text("a"));
        assert_ne!(text("a"), text("b"));
        assert_ne!(call("call_0", "{}"), call("call_0", r#"{"a":1}"#));
        assert_eq!(call(unique, "{}"), call(unique, r#"{"a":1}"#));
        assert_ne!(call(unique, "{}"), call("toolu_01A09q90qw90lq917835lqA", "{}"));
    }
}
