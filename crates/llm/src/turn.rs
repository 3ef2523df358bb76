//! An assistant's turn that comes back without its opaque state: by what it is known again, and how it gets it back.
//!
//! Many clients keep what a model said and called, and drop what they don't know. A turn is known again by whose it is,
//! by all that was to be seen before it, and by what it says itself. Ids of calls that are given once need no more than
//! whose they are.

use std::collections::BTreeMap;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::{
    canonical::{Content, Media, Message, Opaque, Part, Role, Source, ToolUse, Vendor},
    ids,
};

/// An id with so much beside the tool's name is given once; shorter ones may be numbers within an answer.
const UNIQUE_ID: usize = 16;

/// A turn as it is known again, as a hash.
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

/// A conversation as it is to be seen, up to some turn, and whose it is.
#[derive(Clone)]
pub struct Before {
    caller: Context,
    all: Context,
}

impl Before {
    /// Nothing has been said yet.
    #[must_use]
    pub fn of(caller: &str) -> Self {
        let mut hash = Context::new(&SHA256);
        field(&mut hash, caller.as_bytes());
        Self { caller: hash.clone(), all: hash }
    }

    /// All of these were said.
    #[must_use]
    pub fn all<'a>(caller: &str, messages: impl IntoIterator<Item = &'a Message>) -> Self {
        let mut before = Self::of(caller);
        messages.into_iter().for_each(|message| before.see(message));
        before
    }

    /// What a message visibly says, however its client cuts it into parts.
    pub fn see(&mut self, Message { role, parts }: &Message) {
        let said = said(parts);
        let others = parts.iter().any(|part| {
            !matches!(
                part.content,
                Content::Text(_) | Content::Refusal(_) | Content::Thinking(_) | Content::RedactedThinking
            )
        });
        // Of a turn that only thought, a client that drops thoughts keeps nothing.
        if said.is_empty() && !others {
            return;
        }
        let hash = &mut self.all;
        hash.update(match role {
            Role::System => b"s",
            Role::User => b"u",
            Role::Assistant => b"a",
        });
        field(hash, said.as_bytes());
        parts.iter().for_each(|part| see(hash, part));
    }

    /// By what a turn is known again that follows; `None` when it says nothing that would do.
    #[must_use]
    pub fn turn(&self, parts: &[Part]) -> Option<Fingerprint> {
        let calls = || parts.iter().filter_map(call);
        let called = calls().next().is_some();
        let mut hash;
        if called && calls().all(given_once) {
            hash = self.caller.clone();
            hash.update(b"ids");
            calls().for_each(|call| field(&mut hash, ids::plain(&call.id).as_bytes()));
        } else if called {
            hash = self.all.clone();
            hash.update(b"calls");
            calls().for_each(|call| see_call(&mut hash, call));
        } else {
            let said = said(parts);
            if said.is_empty() {
                return None;
            }
            hash = self.all.clone();
            hash.update(b"text");
            field(&mut hash, said.as_bytes());
        }
        hash.finish().as_ref().try_into().ok()
    }
}

/// Some providers make ids of the tool's name and a number.
fn given_once(ToolUse { id, name, .. }: &ToolUse) -> bool {
    let named = if !name.is_empty() && id.contains(name.as_str()) { name.len() } else { 0 };
    id.len() - named >= UNIQUE_ID
}

/// The text of a turn, in one piece.
fn said(parts: &[Part]) -> String {
    let text: String = parts.iter().filter_map(text).collect();
    let trimmed = text.trim();
    if trimmed.len() == text.len() { text } else { trimmed.to_owned() }
}

fn see_call(hash: &mut Context, ToolUse { id, name, arguments }: &ToolUse) {
    field(hash, ids::plain(id).as_bytes());
    field(hash, name.as_bytes());
    field(hash, same(arguments).as_bytes());
}

/// What a part has to show beside text.
fn see(hash: &mut Context, part: &Part) {
    match &part.content {
        Content::ToolUse(call) => {
            hash.update(b"call");
            see_call(hash, call);
        }
        Content::ToolResult(result) => {
            hash.update(b"result");
            field(hash, ids::plain(&result.id).as_bytes());
            field(hash, said(&result.parts).as_bytes());
            result.parts.iter().for_each(|part| see(hash, part));
        }
        Content::Image(Media { source, .. })
        | Content::Audio(Media { source, .. })
        | Content::File(Media { source, .. }) => {
            hash.update(b"media");
            let (Source::Url(what) | Source::Data { data: what, .. } | Source::Id(what) | Source::Text(what)) =
                source;
            field(hash, what.as_bytes());
        }
        Content::Foreign { kind, value } => {
            hash.update(b"foreign");
            field(hash, kind.as_bytes());
            field(hash, same(value.get()).as_bytes());
        }
        Content::Text(_) | Content::Refusal(_) | Content::Thinking(_) | Content::RedactedThinking => {}
    }
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
    let calls: Vec<usize> =
        parts.iter().enumerate().filter(|(_, part)| call(part).is_some()).map(|(at, _)| at).collect();
    let last_text = parts.iter().rposition(|part| matches!(part.content, Content::Text(_)));
    let mut restored = false;
    // By the place before which they belong.
    let mut thoughts: BTreeMap<usize, Vec<Part>> = BTreeMap::new();
    for Kept { at, data, id, .. } in all.into_iter().filter(|kept| kept.vendor == vendor.name()) {
        let opaque = Some(Opaque { vendor, data, id });
        let (content, after) = match at {
            At::Thought(text, after) => (Content::Thinking(text), after),
            At::Redacted(after) => (Content::RedactedThinking, after),
            At::Call(_) | At::Text => {
                let place = if let At::Call(n) = at { calls.get(n).copied() } else { last_text };
                let part = place.and_then(|at| parts.get_mut(at));
                restored |= part.map(|part| part.opaque = opaque).is_some();
                continue;
            }
        };
        let place = if after == 0 { 0 } else { calls.get(after).copied().unwrap_or(parts.len()) };
        thoughts.entry(place).or_default().push(Part::from(content).with_opaque(opaque));
        restored = true;
    }
    if !thoughts.is_empty() {
        let said = std::mem::take(parts);
        let end = said.len();
        for (at, part) in said.into_iter().enumerate() {
            parts.extend(thoughts.remove(&at).unwrap_or_default());
            parts.push(part);
        }
        parts.extend(thoughts.remove(&end).unwrap_or_default());
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
        let before = Before::of("key/user");
        assert_eq!(before.turn(&turn), before.turn(&stripped));
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
        let before = Before::of("key/user");
        let text = |text: &str| before.turn(&[Part::text(text)]);
        let call = |id: &str, arguments: &str| before.turn(&[used(id, arguments)]);
        assert_eq!(text(" "), None);
        assert_eq!(text("a\n"), text("a"));
        assert_ne!(text("a"), text("b"));
        assert_ne!(call("call_0", "{}"), call("call_0", r#"{"a":1}"#));
        assert_eq!(call(unique, "{}"), call(unique, r#"{"a":1}"#));
        assert_ne!(call(unique, "{}"), call("toolu_01A09q90qw90lq917835lqA", "{}"));
    }

    fn said_by(role: Role, text: &str) -> Message {
        Message { role, parts: vec![Part::text(text)] }
    }

    #[test]
    fn the_same_words_of_another_caller_or_conversation_are_another_turn() {
        let (yes, unique) = (vec![Part::text("Yes.")], vec![used("toolu_01A09q90qw90lq917835lq9", "{}")]);
        let named = ToolUse {
            id: "functions.get_weather:0".to_owned(),
            name: "get_weather".to_owned(),
            arguments: "{}".to_owned(),
        };
        let (short, named) = (vec![used("call_0", "{}")], vec![Content::ToolUse(named).into()]);
        let asked = |caller: &str, question: &str| Before::all(caller, &[said_by(Role::User, question)]);
        for turn in [&yes, &short, &named, &unique] {
            let known = asked("a", "x").turn(turn);
            assert_eq!(known, asked("a", "x").turn(turn));
            assert_ne!(known, asked("b", "x").turn(turn));
        }
        for turn in [&yes, &short, &named] {
            assert_ne!(asked("a", "x").turn(turn), asked("a", "y").turn(turn));
        }
        // What a client cuts from the beginning doesn't matter where an id is given once.
        assert_eq!(asked("a", "x").turn(&unique), asked("a", "y").turn(&unique));
    }

    #[test]
    fn a_conversation_is_the_same_without_its_thoughts_and_however_its_text_is_cut() {
        let user = said_by(Role::User, "x");
        let thought = Part::from(Content::Thinking("hm".to_owned())).with_opaque(own("s"));
        let call = |arguments: &str| used("call_0", arguments);
        let whole = [
            user.clone(),
            Message { role: Role::Assistant, parts: vec![thought.clone()] },
            Message {
                role: Role::Assistant,
                parts: vec![thought, Part::text("o"), Part::text("k "), call(r#"{"b": 1, "a":2}"#)],
            },
        ];
        let stripped = [
            user,
            Message { role: Role::Assistant, parts: vec![Part::text("ok"), call(r#"{"a":2,"b":1}"#)] },
        ];
        let turn = |messages: &[Message]| Before::all("a", messages).turn(&[Part::text("y")]);
        assert_eq!(turn(&whole), turn(&stripped));
        assert_ne!(turn(&stripped[..1]), turn(&stripped));
        let result = |text: &str| {
            let result = crate::canonical::ToolResult {
                id: "call_0".to_owned(),
                parts: vec![Part::text(text)],
                is_error: false,
            };
            [Message { role: Role::User, parts: vec![Content::ToolResult(result).into()] }]
        };
        assert_ne!(turn(&result("1")), turn(&result("2")));
    }
}
