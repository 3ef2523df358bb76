//! The side decoder of a stream of responses: it looks at events as they pass, and changes nothing. Text deltas, nearly
//! all of a stream, are kept and not parsed.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    event,
    usage::{self, WireUsage},
};
use crate::{
    FrameKind, Usage,
    kept::{DELTA, FIND_DELTA, Kept},
    lenient, sse,
};

#[derive(Debug)]
pub struct StreamTap {
    usage: Option<Usage>,
    finished: bool,
    failed: bool,
    kept: Kept,
}

impl Default for StreamTap {
    fn default() -> Self {
        Self { usage: None, finished: false, failed: false, kept: Kept::new(append_delta) }
    }
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    response: Option<Response>,
    #[serde(default)]
    item: Option<Item>,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default, deserialize_with = "lenient::read")]
    usage: Option<WireUsage>,
    #[serde(default, deserialize_with = "lenient::read")]
    service_tier: Option<String>,
    #[serde(default, deserialize_with = "lenient::list")]
    output: Vec<usage::Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    name: Option<String>,
}

impl StreamTap {
    /// Takes note of one whole event.
    pub fn observe(&mut self, event: &[u8]) -> FrameKind {
        let kind = event::kind(event);
        match kind.as_ref() {
            "" => FrameKind::Other,
            "response.output_text.delta"
            | "response.function_call_arguments.delta"
            | "response.reasoning_summary_text.delta"
            | "response.reasoning_text.delta"
            | "response.refusal.delta"
            | "response.custom_tool_call_input.delta" => {
                self.delta(event);
                FrameKind::Delta
            }
            "response.output_item.added" => self.item(event),
            "error" => {
                self.failed = true;
                FrameKind::Error
            }
            terminal if event::is_terminal(terminal) => {
                let response = step(event).and_then(|step| step.response);
                let usage = response.and_then(|r| r.usage?.at(r.service_tier.as_deref(), &r.output));
                self.usage = usage.or(self.usage);
                self.finished = true;
                self.failed |= terminal == "response.failed";
                FrameKind::Done
            }
            _ => FrameKind::Other,
        }
    }

    fn delta(&mut self, event: &[u8]) {
        let Some(data) = sse::data(event) else { return };
        if let Some(at) = FIND_DELTA.find(&data) {
            return self.kept.keep(data.get(at..).unwrap_or_default());
        }
        // Written with spaces.
        if let Some(at) = memchr::memmem::find(&data, b"\"delta\" ") {
            let delta = data.get(at + 7..).unwrap_or_default().trim_ascii_start();
            let delta = delta.strip_prefix(b":").unwrap_or(delta);
            self.kept.keep(&[DELTA, delta].concat());
        }
    }

    /// A tool's name is a part of the answer, too.
    fn item(&mut self, event: &[u8]) -> FrameKind {
        let name = step(event).and_then(|step| step.item).and_then(|item| item.name);
        let Some(name) = name else { return FrameKind::Other };
        let name = serde_json::Value::from(name);
        self.kept.keep(format!(r#""delta":{name}"#).as_bytes());
        FrameKind::Delta
    }

    /// The provider's own numbers, once they came.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether the answer has told why it ended.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.finished && !self.failed
    }

    /// Whether the provider sent an error.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Tokens of the text that passed, counted here.
    #[must_use]
    pub fn count_output(&self) -> u64 {
        self.kept.count()
    }
}

fn step(event: &[u8]) -> Option<Step> {
    serde_json::from_slice(&sse::data(event)?).ok()
}

fn append_delta(delta: &[u8], text: &mut String) {
    let mut values = serde_json::Deserializer::from_slice(delta).into_iter::<Cow<'_, str>>();
    if let Some(Ok(delta)) = values.next() {
        text.push_str(&delta);
    }
}
