//! Reasoning put back into a body that goes on as it came.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{content::kind, item::Summary, request_in::Turn, tools::ADDED, view::ResponsesView};
use crate::{
    canonical::{Content, Message, Part, Vendor},
    edits::Edits,
};

#[derive(Serialize)]
#[serde(tag = "type", rename = "reasoning")]
struct Thought<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    summary: Vec<Summary>,
    encrypted_content: &'a str,
}

/// The body with the reasoning that these messages of its (by their places) now have, and it lacked. `None` when it is
/// not what it was read as.
#[must_use]
pub fn with_state<'a>(
    body: &Bytes,
    messages: impl IntoIterator<Item = (usize, &'a Message)>,
) -> Option<Bytes> {
    let view = ResponsesView::scan(body).ok()?;
    let at = view.input_at.clone()?;
    let items: Vec<&RawValue> = serde_json::from_slice(body.get(at.clone())?).ok()?;
    let turns = turns(&items, view.instructed);
    let mut before: Vec<(usize, String)> = Vec::new();
    for (place, message) in messages {
        let (first, last) = *turns.get(place)?;
        let mut calls = (first..last).filter(|at| items.get(*at).is_some_and(|item| is_call(item)));
        let mut next = first;
        for part in &message.parts {
            if let Some(thought) = thought(part) {
                before.push((next, serde_json::to_string(&thought).ok()?));
            } else if matches!(part.content, Content::ToolUse(_)) {
                next = calls.next()? + 1;
            }
        }
    }
    if before.is_empty() {
        return None;
    }
    let mut all: Vec<&str> = Vec::with_capacity(items.len() + before.len());
    before.sort_by_key(|(next, _)| *next);
    let mut thoughts = before.iter().peekable();
    for (at, item) in items.iter().enumerate() {
        while let Some((_, thought)) = thoughts.next_if(|(next, _)| *next == at) {
            all.push(thought);
        }
        all.push(item.get());
    }
    let mut edits = Edits::of(body);
    edits.set("input", Some(at), format!("[{}]", all.join(",")));
    Some(edits.apply(body))
}

/// Whether a body asks for reasoning with its state, as all do that may get some.
#[must_use]
pub fn asks_for_state(body: &[u8]) -> bool {
    memchr::memmem::find(body, b"\"reasoning.encrypted_content\"").is_some()
}

/// Whether an answer has reasoning with its state.
#[must_use]
pub fn carries_state(answer: &[u8]) -> bool {
    memchr::memmem::find(answer, b"\"encrypted_content\":").is_some()
}

fn is_call(item: &RawValue) -> bool {
    matches!(kind(item).as_ref(), "function_call" | "custom_tool_call")
}

/// OpenAI's own.
fn thought(part: &Part) -> Option<Thought<'_>> {
    let opaque = part.opaque.as_ref().filter(|o| o.vendor == Vendor::OpenAi && !o.data.is_empty())?;
    let summary = match &part.content {
        Content::Thinking(text) => vec![Summary::SummaryText { text: text.clone() }],
        Content::RedactedThinking => Vec::new(),
        _ => return None,
    };
    Some(Thought { id: opaque.id.as_deref(), summary, encrypted_content: &opaque.data })
}

/// The items of each message, as a body is read: those of one turn of the model are one.
fn turns(items: &[&RawValue], instructed: bool) -> Vec<(usize, usize)> {
    let mut turns = if instructed { vec![(0, 0)] } else { Vec::new() };
    let mut last = None;
    for (at, item) in items.iter().enumerate() {
        let kind = kind(item);
        if kind == ADDED {
            continue;
        }
        let turn = Turn::of(item, &kind);
        match turns.last_mut() {
            Some((_, end)) if last.is_some_and(|last| turn.goes_on(last)) => *end = at + 1,
            _ => turns.push((at, at + 1)),
        }
        last = Some(turn);
    }
    turns
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::canonical::{Losses, Opaque};

    #[test]
    fn reasoning_comes_back_before_what_it_led_to() {
        let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
        let body = json!({"model": "m", "instructions": "Be kind.", "input": [{"role": "user", "content": "x"},
            {"role": "assistant", "content": "ok"}, call("a"), call("b"),
            {"type": "function_call_output", "call_id": "a", "output": "1"}], "x": 1.0});
        let body = Bytes::from(body.to_string());
        let mut request = super::super::request_in::decode_request(&body, &mut Losses::default()).unwrap();
        let state = |id: &str| {
            Some(Opaque { vendor: Vendor::OpenAi, data: format!("g{id}"), id: Some(id.to_owned()) })
        };
        let parts = &mut request.messages[2].parts;
        parts.insert(2, Part::from(Content::RedactedThinking).with_opaque(state("rs_2")));
        parts.insert(0, Part::from(Content::Thinking("hm".to_owned())).with_opaque(state("rs_1")));
        let out = with_state(&body, [(2, &request.messages[2])]).unwrap();
        let out: Value = serde_json::from_slice(&out).unwrap();
        let input = out["input"].as_array().unwrap();
        let kinds: Vec<_> =
            input.iter().map(|i| i["id"].as_str().or(i["call_id"].as_str()).unwrap_or("")).collect();
        assert_eq!(kinds, ["", "rs_1", "", "a", "rs_2", "b", "a"]);
        assert_eq!(
            input[1],
            json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "grs_1"})
        );
        assert!(with_state(&body, [(9, &request.messages[2])]).is_none());
        assert!(with_state(&body, [(1, &request.messages[1])]).is_none());
    }
}
