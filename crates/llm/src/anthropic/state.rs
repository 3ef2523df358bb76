//! Opaque state as it travels with clients of Anthropic's dialect. Other vendors' thoughts have a signature under seal;
//! state of a call or a text, for which there is no field, goes in a block of its own beside it.

use std::collections::HashMap;

use crate::{
    canonical::{Content, Opaque, Part, Vendor},
    ids,
};

/// Before the id of the call that state belongs to; alone for a text's.
const CALL: &str = "call:";
const TEXT: &str = "text";
/// Shorter signatures are nobody's, but tests'.
const LEAST: usize = 32;

/// State of a part that has no field for it, as a redacted thought.
pub(super) fn beside(part: &Content, opaque: &Opaque) -> Option<String> {
    match part {
        Content::Text(_) | Content::Refusal(_) => Some(of_text(opaque)),
        Content::ToolUse(call) => Some(of_call(&call.id, opaque)),
        _ => None,
    }
}

pub(super) fn of_text(opaque: &Opaque) -> String {
    sealed(opaque, TEXT.to_owned())
}

pub(super) fn of_call(id: &str, opaque: &Opaque) -> String {
    sealed(opaque, format!("{CALL}{}", ids::plain(id)))
}

fn sealed(opaque: &Opaque, id: String) -> String {
    // Anthropic has no state of this kind; under a seal it would not come apart from its own.
    let opaque = Opaque { id: Some(id), ..opaque.clone() };
    opaque.seal(Vendor::Anthropic).into_owned()
}

/// Puts such state back where it belongs.
pub(super) fn attach(parts: &mut Vec<Part>) {
    let state: Vec<Opaque> = parts
        .extract_if(.., |part| matches!(part.content, Content::RedactedThinking) && belongs(part).is_some())
        .filter_map(|part| part.opaque)
        .collect();
    if state.is_empty() {
        return;
    }
    // The last of each id, and the last text.
    let (mut calls, mut text) = (HashMap::new(), None);
    for (at, part) in parts.iter().enumerate() {
        match &part.content {
            Content::ToolUse(call) => {
                calls.insert(ids::plain(&call.id).into_owned(), at);
            }
            Content::Text(_) => text = Some(at),
            _ => {}
        }
    }
    for mut opaque in state {
        let id = opaque.id.take().unwrap_or_default();
        let at = match id.strip_prefix(CALL) {
            Some(id) => calls.get(id).copied(),
            None => text,
        };
        match at.and_then(|at| parts.get_mut(at)) {
            Some(part) => part.opaque = Some(opaque),
            None if id == TEXT => {
                text = Some(parts.len());
                parts.push(Part::text("").with_opaque(Some(opaque)));
            }
            // Its call is gone.
            None => {}
        }
    }
}

fn belongs(part: &Part) -> Option<&str> {
    let opaque = part.opaque.as_ref().filter(|o| o.vendor != Vendor::Anthropic)?;
    opaque.id.as_deref().filter(|id| *id == TEXT || id.starts_with(CALL))
}

/// Whether a signature can't be Anthropic's: it is empty, another vendor's under seal, or cut: whole, it is base64.
pub(super) fn worthless(signature: &str) -> bool {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let cut = signature.len() >= LEAST && !signature.len().is_multiple_of(4) && signature.bytes().all(base64);
    signature.is_empty() || cut || Opaque::open(signature, Vendor::Anthropic).vendor != Vendor::Anthropic
}
