//! Events of a stream in the dialect of Responses.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use weir_error::Error;
use weir_llm::{Dialect, responses::told_code, sse};

use super::json::{Object, Raw};

/// What an event means for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `response.created`, `response.queued`, `response.in_progress`.
    Opening,
    /// An item of the output has begun or is whole.
    Item,
    /// The last one.
    Terminal,
    Other,
}

/// An event's type: as its line says, else its data. What would write lines of its own is none.
pub(super) fn type_of(event: &[u8]) -> Option<Cow<'_, str>> {
    named(event).filter(|name| !name.chars().any(char::is_control))
}

fn named(event: &[u8]) -> Option<Cow<'_, str>> {
    let first = event.split(|b| matches!(b, b'\n' | b'\r')).next()?;
    if let Some(name) = first.strip_prefix(b"event:") {
        return std::str::from_utf8(name.trim_ascii()).ok().map(Cow::Borrowed);
    }
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    let typed: Typed = serde_json::from_slice(&sse::data(event)?).ok()?;
    Some(Cow::Owned(typed.r#type))
}

pub(super) fn kind_of(name: &str) -> Kind {
    match name {
        "response.created" | "response.queued" | "response.in_progress" => Kind::Opening,
        "response.output_item.added" | "response.output_item.done" => Kind::Item,
        "response.completed" | "response.incomplete" | "response.failed" => Kind::Terminal,
        _ => Kind::Other,
    }
}

/// An event's data, taken apart.
pub(super) fn data(event: &[u8]) -> Option<Object> {
    Object::parse(&sse::data(event)?)
}

pub(super) fn sequence(event: &[u8]) -> Option<u64> {
    data(event)?.read("sequence_number")
}

/// With an id, so that clients can say where they were.
pub(super) fn numbered(name: &str, mut data: Object, sequence: u64) -> Vec<u8> {
    data.set("sequence_number", &sequence);
    let mut out = format!("event: {name}\nid: {sequence}\ndata: ").into_bytes();
    out.extend_from_slice(&line(&data));
    out.extend_from_slice(b"\n\n");
    out
}

/// On one line: line ends in JSON are space.
fn line(data: &Object) -> Vec<u8> {
    let mut json = data.to_vec();
    json.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
    json
}

pub(super) fn written(name: &str, data: &Object) -> Bytes {
    let mut out = format!("event: {name}\ndata: ").into_bytes();
    out.extend_from_slice(&line(data));
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// An event that carries the response.
pub(super) fn of_response(name: &str, response: Raw) -> Object {
    let mut data = Object::default();
    data.set("type", name);
    data.set("sequence_number", &0);
    data.set_raw("response", response);
    data
}

/// The terminal event of a status.
pub(super) fn terminal(status: &str) -> &'static str {
    match status {
        "completed" => "response.completed",
        "failed" => "response.failed",
        _ => "response.incomplete",
    }
}

/// The status that a terminal event tells, whatever its object says.
pub(super) fn status_of(name: &str) -> &'static str {
    match name {
        "response.completed" => "completed",
        "response.failed" => "failed",
        _ => "incomplete",
    }
}

/// Whole items among events, in their order.
pub(super) fn items(events: &[u8]) -> Vec<Raw> {
    whole(events)
        .filter(|event| type_of(event).as_deref() == Some("response.output_item.done"))
        .filter_map(|event| data(event)?.read("item"))
        .collect()
}

/// Events of ours, each of which ends with its only empty line.
pub(super) fn whole(events: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        let end = rest.windows(2).position(|pair| pair == b"\n\n")? + 2;
        let (event, after) = rest.split_at(end);
        rest = after;
        Some(event)
    })
}

/// Events of ours from the `skip`th on.
pub(super) fn skip(events: &Bytes, skip: u64) -> Bytes {
    let count = usize::try_from(skip).unwrap_or(usize::MAX);
    let gone: usize = whole(events).take(count).map(<[u8]>::len).sum();
    events.slice(gone.min(events.len())..)
}

/// What a failed answer says, as an error of a response has it.
pub(super) fn error_of(status: u32, body: &[u8]) -> (String, String) {
    #[derive(Deserialize)]
    struct Told {
        error: Option<Said>,
    }
    #[derive(Deserialize)]
    struct Said {
        message: Option<String>,
    }
    let told: Option<Told> = serde_json::from_slice(body).ok();
    let message = told.and_then(|t| t.error).and_then(|e| e.message);
    let message = message.unwrap_or_else(|| format!("the model provider answered {status}"));
    (told_code(u16::try_from(status).unwrap_or(500), body), message)
}

/// An error of ours, likewise.
pub(super) fn error_in(error: &Error) -> (String, String) {
    let body = Dialect::Responses.error_body(error, None);
    (told_code(error.code().http().as_u16(), &body), error.message().to_owned())
}

/// The error of a stream that broke off.
pub(super) fn broke_off() -> (String, String) {
    ("server_error".to_owned(), "The model provider broke off in the middle of its answer.".to_owned())
}

/// For a list of items.
pub(super) fn list(items: &[Raw], has_more: bool, ids: (Option<&str>, Option<&str>)) -> Vec<u8> {
    let list =
        json!({"object": "list", "data": items, "first_id": ids.0, "last_id": ids.1, "has_more": has_more});
    serde_json::to_vec(&list).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart_by_line_or_data() {
        let named = b"event: response.created\ndata: {\"type\":\"x\"}\n\n";
        assert_eq!(type_of(named).as_deref(), Some("response.created"));
        let bare = b"data: {\"type\":\"response.completed\",\"sequence_number\":4}\n\n";
        assert_eq!(type_of(bare).as_deref(), Some("response.completed"));
        assert_eq!(sequence(bare), Some(4));
        assert_eq!(type_of(b": comment\n\n"), None);
        let forged = br#"data: {"type":"evil\n\ndata: {\"type\":\"forged\"}"}"#;
        assert_eq!(type_of(&[&forged[..], b"\n\n"].concat()), None);
    }

    #[test]
    fn batches_are_cut_at_events() {
        let events: Bytes = [1, 2, 3].map(|n| numbered("a", Object::default(), n)).concat().into();
        assert_eq!(whole(&events).count(), 3);
        assert_eq!(sequence(whole(&skip(&events, 2)).next().unwrap()), Some(3));
        assert_eq!(
            (skip(&events, 0), skip(&events, 3).len(), skip(&events, 9).len()),
            (events.clone(), 0, 0)
        );
    }
}
