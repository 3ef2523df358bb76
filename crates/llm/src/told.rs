//! What a stream's client is told at its end: headers are gone by then. Where an object tells how the answer went, it has
//! a member `weir` more, which readers that don't know it pass over; where there is none, a comment says the same.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Serialize;

use crate::{Dialect, prices::usd};

/// What clients are told besides what they asked for.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// What the request cost, if that is known.
    pub cost_nano_usd: Option<u64>,
    pub provider: &'a str,
    pub model: &'a str,
    /// What was lost, as `x-weir-warnings` names it.
    pub warnings: &'a str,
}

#[derive(Serialize)]
struct Member<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<String>,
    provider: &'a str,
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    warnings: &'a str,
}

impl Told<'_> {
    /// The same events, with the member in the last of them that tells usage, where one does: OpenAI's chunk.
    #[must_use]
    pub fn into_usage(self, events: &Bytes) -> Bytes {
        self.into_last(events, Dialect::OpenAi).unwrap_or_else(|| events.clone())
    }

    /// The end of a stream that was written here, with the member, or a comment before its terminal event.
    #[must_use]
    pub fn into_end(self, end: &Bytes, client: Dialect) -> Bytes {
        if let Some(told) = self.into_last(end, client) {
            return told;
        }
        let terminal = client.terminal();
        let before = end.strip_suffix(&*terminal).filter(|_| !terminal.is_empty());
        let Some(before) = before else { return end.clone() };
        [before, b": weir ", &self.json(), b"\n\n", &terminal].concat().into()
    }

    fn into_last(self, events: &Bytes, client: Dialect) -> Option<Bytes> {
        let at = memmem::rfind(events, client.client().tells())?;
        let line = memchr::memchr(b'\n', events.get(at..)?).map_or(events.len(), |end| at + end);
        let end = at + memchr::memrchr(b'}', events.get(at..line)?)?;
        let (before, after) = events.split_at_checked(end)?;
        let told = self.json();
        let mut more = BytesMut::with_capacity(events.len() + told.len() + 16);
        for piece in [before, b",\"weir\":", &told, after] {
            more.extend_from_slice(piece);
        }
        Some(more.freeze())
    }

    fn json(self) -> Vec<u8> {
        let Self { cost_nano_usd, provider, model, warnings } = self;
        let member = Member { cost_usd: cost_nano_usd.map(usd), provider, model, warnings };
        // Serializing into memory can't fail.
        serde_json::to_vec(&member).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, Usage};

    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn the_usage_chunk_tells_the_cost() {
        let chunk =
            "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"details\":{}}}\r\n\r\n";
        let told = Told { cost_nano_usd: Some(1_500), provider: "a\"b", model: "m", warnings: "" };
        assert_eq!(
            told.into_usage(&Bytes::from(format!("{chunk}{DONE}"))),
            "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"details\":{}},\
             \"weir\":{\"cost_usd\":\"0.0000015\",\"provider\":\"a\\\"b\",\"model\":\"m\"}}\r\n\r\ndata: [DONE]\n\n"
        );
        for untouched in [DONE, "data: {\"usage\":null}\n\n", ""] {
            assert_eq!(told.into_usage(&untouched.into()), untouched);
        }
    }

    #[test]
    fn every_dialect_s_end_has_a_place_for_it() {
        let told = Told { cost_nano_usd: None, provider: "p", model: "m", warnings: "dropped;answer.image" };
        let member = r#""weir":{"provider":"p","model":"m","warnings":"dropped;answer.image"}"#;
        for client in [Dialect::OpenAi, Dialect::Responses, Dialect::Anthropic, Dialect::Gemini] {
            let call = Call { include_usage: true, ..Call::default() };
            let end = client.client().encoder(&call).end(Usage::default());
            let text = String::from_utf8(told.into_end(&end, client).to_vec()).unwrap();
            assert_eq!(text.matches(member).count(), 1, "{client:?}: {text}");
            let line = text.lines().find(|line| line.contains(member)).unwrap();
            let data: serde_json::Value = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(data["weir"]["model"], "m", "{client:?}: {text}");
            // Nothing else is another.
            assert_eq!(text.replace(&format!(",{member}"), ""), end, "{client:?}");
        }
    }

    #[test]
    fn without_a_chunk_for_it_a_comment_does() {
        let told = Told { cost_nano_usd: Some(1), provider: "p", model: "m", warnings: "" };
        let end = Dialect::OpenAi.client().encoder(&Call::default()).end(Usage::default());
        let text = String::from_utf8(told.into_end(&end, Dialect::OpenAi).to_vec()).unwrap();
        let comment = ": weir {\"cost_usd\":\"0.000000001\",\"provider\":\"p\",\"model\":\"m\"}\n\n";
        assert!(text.ends_with(&format!("\n\n{comment}{DONE}")), "{text}");
    }

    #[test]
    fn what_a_model_says_is_no_place_for_it() {
        let told = Told { cost_nano_usd: None, provider: "p", model: "m", warnings: "" };
        let said = Bytes::from_static(b"data: {\"text\":\"\\\"usage\\\":{}\"}\n\n");
        assert_eq!(told.into_usage(&said), said);
    }
}
