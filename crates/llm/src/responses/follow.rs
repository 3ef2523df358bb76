//! What is known of a response whose stream somebody passes on, and may have to end.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use weir_error::Error;

use super::{
    error, event,
    object::{Failed, Response, State},
};
use crate::{
    edits::{Edits, place, present},
    sse,
};

/// A response that has not ended.
#[derive(Debug, Default)]
pub struct OpenResponse {
    /// The number of the next event.
    next: u64,
    /// The object, as the first event had it.
    response: Option<Box<RawValue>>,
    ended: bool,
}

#[derive(Deserialize)]
struct Step<'a> {
    #[serde(default)]
    sequence_number: Option<u64>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

impl OpenResponse {
    /// Takes note of whole events.
    pub fn observe(&mut self, events: &[u8]) {
        let mut rest = events;
        while !rest.is_empty() {
            let end = sse::event_end(rest, 0).unwrap_or(rest.len());
            let (event, after) = rest.split_at(end);
            rest = after;
            self.event(event);
        }
    }

    fn event(&mut self, event: &[u8]) {
        let kind = event::kind(event);
        if kind.is_empty() {
            return;
        }
        // Nearly all of a stream.
        if kind.ends_with(".delta") {
            return self.count(event::number(event));
        }
        let data = sse::data(event).unwrap_or_default();
        let Ok(step) = serde_json::from_slice::<Step<'_>>(&data) else { return };
        self.count(step.sequence_number);
        self.ended |= event::is_terminal(&kind);
        if self.ended {
            self.response = None;
        } else if self.response.is_none() {
            self.response = step.response.map(ToOwned::to_owned);
        }
    }

    fn count(&mut self, number: Option<u64>) {
        self.next = number.map_or(self.next, |n| n.saturating_add(1)).max(self.next);
    }

    /// The stream's end for an error of our own; nothing when it has ended.
    #[must_use]
    pub fn fail(&self, error: &Error) -> Bytes {
        self.failed(self.next, &error::failed(error))
    }

    /// The provider's own error event, and the end that clients wait for.
    #[must_use]
    pub fn end_with(&self, event: &Bytes) -> Bytes {
        let failure = error::of_event(&sse::data(event).unwrap_or_default());
        let next = event::number(event).map_or(self.next, |n| n.saturating_add(1)).max(self.next);
        let mut out = BytesMut::from(event.as_ref());
        out.extend_from_slice(&self.failed(next, &error::of_provider(&failure)));
        out.freeze()
    }

    fn failed(&self, number: u64, failed: &Failed<'_>) -> Bytes {
        if self.ended {
            return Bytes::new();
        }
        if let Some(response) = self.response.as_deref().and_then(|response| failed_object(response, failed))
        {
            return written("response.failed", number, &response).into();
        }
        // Clients want to hear of a response before its end.
        let begun = written("response.created", number, &unknown("in_progress", None));
        let error = Some(Failed { code: failed.code.clone(), message: failed.message });
        (begun + &written("response.failed", number + 1, &unknown("failed", error))).into()
    }
}

fn written(name: &str, number: u64, response: &str) -> String {
    let response = response.replace(['\n', '\r'], " ");
    format!(
        "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{number},\"response\":{response}}}\n\n"
    )
}

fn failed_object(response: &RawValue, failed: &Failed<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Ended<'a> {
        #[serde(borrow, default)]
        status: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        error: Option<&'a RawValue>,
    }
    let text = response.get();
    let ended: Ended<'_> = serde_json::from_str(text).ok()?;
    let said = serde_json::to_string(failed).ok()?;
    let members = [("status", ended.status, r#""failed""#.to_owned()), ("error", ended.error, said)];
    let mut edits = Edits::of(text.as_bytes());
    for (name, at, value) in members {
        edits.set(name, at.map(|raw| place(text.as_bytes(), raw)), value);
    }
    String::from_utf8(edits.apply(text.as_bytes()).to_vec()).ok()
}

/// A response of which nothing was seen.
fn unknown(status: &'static str, error: Option<Failed<'_>>) -> String {
    let state = State { status, error, ..State::default() };
    Response::new("resp_failed".to_owned(), "", 0, b"").json(&state).get().to_owned()
}
