//! The side decoder of a Messages stream: it looks at events as they pass, and changes nothing. Text deltas, nearly
//! all of a stream, are kept and not parsed.

use std::{borrow::Cow, sync::LazyLock};

use memchr::memmem::Finder;
use serde::Deserialize;

use super::usage::{Counted, WireUsage};
use crate::{
    FrameKind, Usage,
    kept::{FIND_DELTA, Kept},
    lenient, sse,
};

static FIND_BLOCK_DELTA: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new(b"\"type\":\"content_block_delta\""));

#[derive(Debug)]
pub struct StreamTap {
    usage: Counted,
    finished: bool,
    failed: bool,
    kept: Kept,
}

impl Default for StreamTap {
    fn default() -> Self {
        Self { usage: Counted::default(), finished: false, failed: false, kept: Kept::new(append_delta) }
    }
}

#[derive(Deserialize)]
struct Step<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "lenient::text")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    content_block: Option<Block<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    delta: Option<Delta<'a>>,
    #[serde(default, deserialize_with = "lenient::read")]
    message: Option<Message>,
    #[serde(default, deserialize_with = "lenient::read")]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    text: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default, deserialize_with = "lenient::read")]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    stop_reason: Option<Cow<'a, str>>,
}

impl StreamTap {
    /// Takes note of one whole event.
    pub fn observe(&mut self, event: &[u8]) -> FrameKind {
        let Some(data) = sse::data(event) else { return FrameKind::Other };
        let head = data.get(..data.len().min(64)).unwrap_or_default();
        if FIND_BLOCK_DELTA.find(head).is_some() {
            if let Some(at) = FIND_DELTA.find(&data) {
                self.kept.keep(data.get(at..).unwrap_or_default());
            }
            return FrameKind::Delta;
        }
        let Ok(step) = serde_json::from_slice::<Step<'_>>(&data) else { return FrameKind::Other };
        match step.kind.as_deref().unwrap_or_default() {
            "message_start" => {
                self.usage.add(step.message.and_then(|m| m.usage));
                FrameKind::Other
            }
            "content_block_start" => {
                // A tool's name is a part of the answer, too, and so is what a block begins with.
                let said = step.content_block.and_then(|block| block.name.or(block.text));
                let Some(said) = said.filter(|said| !said.is_empty()) else { return FrameKind::Other };
                let said = serde_json::Value::from(said.as_ref());
                self.kept.keep(format!(r#""delta":{{"text":{said}}}"#).as_bytes());
                FrameKind::Delta
            }
            "content_block_delta" => {
                // Written with spaces.
                if let Some(at) = memchr::memmem::find(&data, b"\"delta\"") {
                    let delta = data.get(at + 7..).unwrap_or_default().trim_ascii_start();
                    let delta = delta.strip_prefix(b":").unwrap_or(delta);
                    self.kept.keep(&[crate::kept::DELTA, delta].concat());
                }
                FrameKind::Delta
            }
            "message_delta" => {
                self.usage.add(step.usage);
                self.finished |= step.delta.is_some_and(|d| d.stop_reason.is_some());
                FrameKind::Other
            }
            "message_stop" => FrameKind::Done,
            "error" => {
                self.failed = true;
                FrameKind::Error
            }
            _ => FrameKind::Other,
        }
    }

    /// The provider's own numbers, once they came.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage.usage()
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

fn append_delta(delta: &[u8], text: &mut String) {
    let mut values = serde_json::Deserializer::from_slice(delta).into_iter::<Delta<'_>>();
    if let Some(Ok(delta)) = values.next() {
        for piece in [delta.thinking, delta.text, delta.partial_json].into_iter().flatten() {
            text.push_str(&piece);
        }
    }
}
