//! A bounded side decoder: it looks at a stream's events as they pass, and changes nothing.
//!
//! In the usual case the provider sends usage, and no delta is ever parsed: the tap only searches for a few
//! markers and keeps the end of each event from its `"delta":` on. Markers can't be forged by text, which JSON
//! escapes.

use std::sync::LazyLock;

use memchr::memmem::{Finder, FinderRev};
use serde::Deserialize;

use super::{
    answer::{Said, WireUsage},
    error_in_stream,
};
use crate::{
    FrameKind, Usage,
    kept::{FIND_DELTA, Kept},
    prices::Tier,
    sse,
};

const USAGE: &[u8] = b"\"usage\":";
const TIER: &[u8] = b"\"service_tier\":";
const FINISH: &[u8] = b"\"finish_reason\":";

/// Searchers are prepared once: preparing one costs more than searching an event with it.
struct Markers {
    usage: FinderRev<'static>,
    tier: FinderRev<'static>,
    finish: Finder<'static>,
    /// Fields of a delta whose non-empty string is a piece of the answer.
    said: [Finder<'static>; 5],
    /// Those that are no strings.
    others: [Finder<'static>; 2],
}

static MARKERS: LazyLock<Markers> = LazyLock::new(|| Markers {
    usage: FinderRev::new(USAGE),
    tier: FinderRev::new(TIER),
    finish: Finder::new(FINISH),
    said: [
        Finder::new(b"\"content\":"),
        Finder::new(b"\"reasoning_content\":"),
        Finder::new(b"\"reasoning\":"),
        Finder::new(b"\"refusal\":"),
        Finder::new(b"\"arguments\":"),
    ],
    others: [Finder::new(b"\"tool_calls\":"), Finder::new(b"\"images\":")],
});

#[derive(Debug)]
pub struct StreamTap {
    choices: u64,
    finished: u64,
    failed: bool,
    /// The answer has begun: what follows need not be told apart.
    spoken: bool,
    usage: Option<Usage>,
    told_usage: bool,
    kept: Kept,
}

impl StreamTap {
    /// For a stream of so many choices.
    #[must_use]
    pub fn new(choices: u64) -> Self {
        Self {
            choices: choices.max(1),
            finished: 0,
            failed: false,
            spoken: false,
            usage: None,
            told_usage: false,
            kept: Kept::new(append_said),
        }
    }

    /// Takes note of one whole event.
    pub fn observe(&mut self, event: &[u8]) -> FrameKind {
        let Some(data) = sse::data(event) else { return FrameKind::Other };
        if data.as_ref() == b"[DONE]" {
            // The provider's own provider broke off.
            self.failed |= self.finished == 0;
            return FrameKind::Done;
        }
        let markers = &*MARKERS;
        let usage = markers.usage.rfind(&data).map(|at| value_at(&data, at + USAGE.len()));
        if let Some(usage) = usage.filter(|v| v.starts_with(b"{")) {
            let mut values = serde_json::Deserializer::from_slice(usage).into_iter::<WireUsage>();
            if let Some(Ok(usage)) = values.next() {
                let tier = tier(&data);
                self.usage = usage.believable().map(|usage| Usage { tier, ..usage }).or(self.usage);
            }
        }
        let Some(at) = FIND_DELTA.find(&data) else { return self.without_delta(&data) };
        let deltas = data.get(at..).unwrap_or_default();
        let finishes = markers.finish.find_iter(&data);
        let finished =
            finishes.filter(|at| value_at(&data, at + FINISH.len()).starts_with(b"\"")).count() as u64;
        self.finished += finished;
        self.keep(deltas);
        // Errors that come as chunks end their choices.
        if finished > 0 && error_in_stream(&data).is_some() {
            self.failed = true;
            return FrameKind::Error;
        }
        self.spoken = self.spoken || says_something(deltas);
        if self.spoken { FrameKind::Delta } else { FrameKind::Other }
    }

    fn without_delta(&mut self, data: &[u8]) -> FrameKind {
        #[derive(Deserialize)]
        struct Chunk {
            #[serde(default)]
            choices: Option<Vec<serde::de::IgnoredAny>>,
            #[serde(default)]
            usage: Option<serde::de::IgnoredAny>,
        }
        if error_in_stream(data).is_some() {
            self.failed = true;
            return FrameKind::Error;
        }
        match serde_json::from_slice::<Chunk>(data) {
            Ok(chunk) if chunk.usage.is_some() && chunk.choices.as_ref().is_none_or(Vec::is_empty) => {
                self.told_usage = true;
                FrameKind::Usage
            }
            _ => FrameKind::Other,
        }
    }

    /// Whether a chunk came that only tells usage. Some providers tell it with the last finish instead.
    #[must_use]
    pub fn told_usage(&self) -> bool {
        self.told_usage
    }

    /// The provider's own numbers, once they came.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether every choice has told why it ended.
    #[must_use]
    pub fn finished(&self) -> bool {
        !self.failed && self.finished >= self.choices
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

    fn keep(&mut self, deltas: &[u8]) {
        // Of one choice, the delta is all that is needed.
        let end = if self.choices == 1 { MARKERS.finish.find(deltas) } else { None };
        let deltas = deltas.get(..end.unwrap_or(deltas.len())).unwrap_or_default();
        self.kept.keep(deltas);
    }
}

/// Whether a delta holds text, a tool call or reasoning, and not just a role or an empty string.
fn says_something(deltas: &[u8]) -> bool {
    let markers = &*MARKERS;
    let said = |finder: &Finder<'_>| {
        finder.find_iter(deltas).any(|at| {
            let value = value_at(deltas, at + finder.needle().len());
            value.starts_with(b"\"") && !value.starts_with(b"\"\"")
        })
    };
    markers.said.iter().any(said) || markers.others.iter().any(|other| other.find(deltas).is_some())
}

/// The service that the chunk with the usage names.
fn tier(data: &[u8]) -> Tier {
    let named = MARKERS.tier.rfind(data).map(|at| value_at(data, at + TIER.len()));
    let named = named.and_then(|value| value.strip_prefix(b"\"")?.split(|b| *b == b'"').next());
    named.and_then(|name| std::str::from_utf8(name).ok()).map_or(Tier::Standard, Tier::named)
}

/// The value that begins here, or after some space.
fn value_at(data: &[u8], at: usize) -> &[u8] {
    data.get(at..).unwrap_or_default().trim_ascii_start()
}

fn append_said(delta: &[u8], text: &mut String) {
    let mut values = serde_json::Deserializer::from_slice(delta).into_iter::<Said<'_>>();
    if let Some(Ok(said)) = values.next() {
        said.append_to(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::count_text;

    fn chunk(delta: &str, finish: &str) -> String {
        format!(
            r#"data: {{"id":"x","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}],"usage":null}}"#
        ) + "\n\n"
    }

    #[test]
    fn events_are_told_apart() {
        let mut tap = StreamTap::new(1);
        let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
        for (event, kind) in [
            (chunk(r#"{"role":"assistant","content":""}"#, "null"), FrameKind::Other),
            (chunk(r#"{"content":" word"}"#, "null"), FrameKind::Delta),
            (chunk(r#"{"content":"\"usage\":{\"finish_reason\":\"x\"}"}"#, "null"), FrameKind::Delta),
            (
                chunk(r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}"#, "null"),
                FrameKind::Delta,
            ),
            (": keep-alive\n\n".to_owned(), FrameKind::Other),
        ] {
            assert_eq!(tap.observe(event.as_bytes()), kind, "{event}");
            assert!(!tap.finished() && tap.usage().is_none());
        }
        assert_eq!(tap.observe(chunk("{}", "\"stop\"").as_bytes()), FrameKind::Delta);
        assert!(tap.finished());
        assert_eq!(tap.observe(format!("{usage}\r\n\r\n").as_bytes()), FrameKind::Usage);
        assert_eq!(tap.usage().map(|u| (u.input_tokens, u.output_tokens)), Some((7, 2)));
        assert_eq!(tap.observe(b"data: [DONE]\n\n"), FrameKind::Done);
        assert_eq!(tap.observe(b"data: {\"error\":{\"message\":\"x\"}}\n\n"), FrameKind::Error);
        assert!(!tap.finished() && tap.failed());
    }

    #[test]
    fn errors_are_known_in_whatever_chunk_they_come() {
        for event in [
            r#"{"id":"gen-1","provider":"x","model":"some/model","object":"chat.completion.chunk","error":{"code":502,"message":"gone"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#,
            r#"{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}"#,
            r#"{"id":"gen-1","choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#,
        ] {
            let mut tap = StreamTap::new(1);
            tap.observe(chunk(r#"{"content":" word"}"#, "null").as_bytes());
            assert_eq!(tap.observe(format!("data: {event}\n\n").as_bytes()), FrameKind::Error, "{event}");
            assert!(tap.failed() && !tap.finished(), "{event}");
        }
    }

    #[test]
    fn usage_on_the_finish_is_no_chunk_of_its_own() {
        let mut tap = StreamTap::new(1);
        let with = chunk("{}", "\"stop\"").replace("null", r#"{"prompt_tokens":7,"completion_tokens":2}"#);
        tap.observe(with.as_bytes());
        assert!(tap.usage().is_some() && !tap.told_usage());
        tap.observe(br#"data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#);
        assert!(tap.told_usage());
    }

    #[test]
    fn reasoning_is_the_first_token_and_counted_under_either_name() {
        let mut tap = StreamTap::new(1);
        assert_eq!(
            tap.observe(chunk(r#"{"content":"","reasoning":"hm, well"}"#, "null").as_bytes()),
            FrameKind::Delta
        );
        assert_eq!(tap.count_output(), count_text("hm, well"));
        tap.observe(
            chunk(r#"{"reasoning":" so","reasoning_content":" so","content":["x"]}"#, "null").as_bytes(),
        );
        assert_eq!(tap.count_output(), count_text("hm, well so"));
    }

    #[test]
    fn a_broken_stream_is_counted_as_its_whole_text_however_long() {
        let words = [" the", " quick", " brown", " Zürich", " 42nd", " street"];
        let mut tap = StreamTap::new(1);
        let mut text = String::new();
        for i in 0..20_000 {
            let word = words[i % words.len()];
            text.push_str(word);
            tap.observe(chunk(&format!(r#"{{"content":"{word}"}}"#), "null").as_bytes());
            assert!(tap.kept.held() < Kept::MOST);
        }
        assert_eq!(tap.count_output(), count_text(&text));
    }
}
