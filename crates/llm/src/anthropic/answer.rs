//! Whole answers: what they used, what they mean, and how they are written.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::state;
use crate::{
    Usage,
    canonical::{Answer, Choice, Content, Finish, Losses, Opaque, Part, ToolUse, Vendor},
    ids,
    prices::Tier,
};

/// As Anthropic tells it: input without what came from or went into a cache.
#[derive(Deserialize, Default)]
pub(super) struct WireUsage {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation: Option<CacheCreation>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
    #[serde(default)]
    service_tier: Option<String>,
    /// `fast` is a service of its own, with its own price.
    #[serde(default)]
    speed: Option<String>,
    #[serde(default)]
    server_tool_use: Option<ServerTools>,
}

/// Charged by the use, beside the tokens.
#[derive(Deserialize)]
struct ServerTools {
    #[serde(default)]
    web_search_requests: u64,
}

#[derive(Deserialize)]
struct CacheCreation {
    #[serde(default)]
    ephemeral_1h_input_tokens: u64,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    thinking_tokens: u64,
}

/// What was told so far: a stream says some of it at its start and the rest at its end, each time in full.
#[derive(Debug, Default)]
pub(super) struct Counted {
    input: Option<u64>,
    output: Option<u64>,
    cache_write: u64,
    cache_write_1h: u64,
    cache_read: u64,
    thinking: u64,
    tier: Tier,
}

impl Counted {
    pub(super) fn add(&mut self, told: Option<WireUsage>) {
        let Some(told) = told else { return };
        self.input = told.input_tokens.or(self.input);
        self.output = told.output_tokens.or(self.output);
        self.cache_write = told.cache_creation_input_tokens.unwrap_or(self.cache_write);
        self.cache_read = told.cache_read_input_tokens.unwrap_or(self.cache_read);
        self.cache_write_1h =
            told.cache_creation.map_or(self.cache_write_1h, |c| c.ephemeral_1h_input_tokens);
        let searched = told.server_tool_use.is_some_and(|tools| tools.web_search_requests > 0);
        self.tier = match (told.speed.as_deref(), told.service_tier.as_deref()) {
            _ if searched => Tier::Other,
            (Some("fast"), _) => Tier::Fast,
            (_, Some(tier)) => Tier::named(tier),
            _ => self.tier,
        };
        self.thinking = told.output_tokens_details.map_or(self.thinking, |d| d.thinking_tokens);
    }

    /// Inclusive, once input was told.
    pub(super) fn usage(&self) -> Option<Usage> {
        let input = self.input?.checked_add(self.cache_write)?.checked_add(self.cache_read)?;
        let usage = Usage {
            input_tokens: input,
            output_tokens: self.output.unwrap_or_default(),
            cache_read_tokens: self.cache_read,
            cache_write_tokens: self.cache_write,
            cache_write_1h_tokens: self.cache_write_1h,
            reasoning_tokens: self.thinking,
            tier: self.tier,
            ..Usage::default()
        };
        usage.believable()
    }
}

impl From<WireUsage> for Counted {
    fn from(told: WireUsage) -> Self {
        let mut counted = Self::default();
        counted.add(Some(told));
        counted
    }
}

/// Exclusive, for clients.
#[derive(Debug, Serialize)]
pub(super) struct OutUsage {
    pub(super) input_tokens: u64,
    pub(super) cache_creation_input_tokens: u64,
    pub(super) cache_read_input_tokens: u64,
    pub(super) output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<OutDetails>,
}

#[derive(Debug, Serialize)]
struct OutDetails {
    thinking_tokens: u64,
}

impl From<Usage> for OutUsage {
    fn from(usage: Usage) -> Self {
        let thinking_tokens = usage.reasoning_tokens;
        Self {
            input_tokens: usage.fresh_input_tokens(),
            cache_creation_input_tokens: usage.cache_write_tokens,
            cache_read_input_tokens: usage.cache_read_tokens,
            output_tokens: usage.output_tokens,
            output_tokens_details: (thinking_tokens > 0).then_some(OutDetails { thinking_tokens }),
        }
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    content: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stop_sequence: Option<Cow<'a, str>>,
    #[serde(default)]
    usage: Option<WireUsage>,
}

/// A block of an answer. Blocks only Anthropic knows are kept as they are; those of compatible providers may lack what
/// says nothing.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    Thinking {
        #[serde(default)]
        thinking: String,
        #[serde(default)]
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: String,
        name: String,
    },
}

/// The arguments as they were written: a tagged enum can't borrow them.
#[derive(Deserialize)]
pub(super) struct Input<'a> {
    #[serde(borrow, default)]
    pub(super) input: Option<&'a RawValue>,
}

/// The provider's own numbers, when a whole answer carries them.
pub(super) fn usage_of_answer(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Used {
        usage: Option<WireUsage>,
    }
    Counted::from(serde_json::from_slice::<Used>(body).ok()?.usage?).usage()
}

/// `None` for what is no message.
pub(super) fn decode_answer(body: &[u8]) -> Option<Answer> {
    let message: Message<'_> = serde_json::from_slice(body).ok()?;
    let stop_reason = message.stop_reason.as_deref().unwrap_or("end_turn");
    let cites = message.content.iter().any(|block| cites(block));
    let cited = cites.then(Part::citations);
    let choice = Choice {
        parts: message.content.into_iter().map(part).chain(cited).collect(),
        finish: finish(stop_reason, message.stop_sequence.map(Cow::into_owned)),
    };
    Some(Answer {
        id: message.id.into_owned(),
        model: message.model.into_owned(),
        created: 0,
        choices: vec![choice],
        usage: message.usage.and_then(|told| Counted::from(told).usage()),
    })
}

fn cites(block: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Cited {
        #[serde(default)]
        citations: Option<Vec<IgnoredAny>>,
    }
    let cited = serde_json::from_str::<Cited>(block.get()).ok().and_then(|block| block.citations);
    cited.is_some_and(|citations| !citations.is_empty())
}

fn part(raw: &RawValue) -> Part {
    let own = |data| Some(Opaque::new(Vendor::Anthropic, data));
    let content = match serde_json::from_str(raw.get()) {
        Ok(Block::Text { text }) => Content::Text(text),
        Ok(Block::Thinking { thinking, signature }) => {
            let signature = Some(signature).filter(|s| !s.is_empty());
            return Part::from(Content::Thinking(thinking)).with_opaque(signature.and_then(own));
        }
        Ok(Block::RedactedThinking { data }) => {
            return Part::from(Content::RedactedThinking).with_opaque(own(data));
        }
        Ok(Block::ToolUse { id, name }) => {
            let input = serde_json::from_str::<Input<'_>>(raw.get()).ok().and_then(|i| i.input);
            let arguments = input.map_or("{}", RawValue::get).to_owned();
            Content::ToolUse(ToolUse { id, name, arguments })
        }
        Err(_) => Content::Foreign { kind: kind(raw), value: raw.to_owned() },
    };
    content.into()
}

pub(super) fn kind(raw: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: String,
    }
    serde_json::from_str::<Kind>(raw.get()).map_or_else(|_| "unknown".to_owned(), |k| k.kind)
}

pub(super) fn finish(stop_reason: &str, stop_sequence: Option<String>) -> Finish {
    match stop_reason {
        "end_turn" => Finish::Stop,
        "stop_sequence" => Finish::StopSequence(stop_sequence),
        "max_tokens" => Finish::MaxTokens,
        "model_context_window_exceeded" => Finish::ContextWindow,
        "tool_use" => Finish::ToolUse,
        "refusal" => Finish::Refusal,
        "pause_turn" => Finish::Pause,
        other => Finish::Other(other.to_owned()),
    }
}

pub(super) fn stop_reason(finish: &Finish) -> &str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::StopSequence(_) => "stop_sequence",
        Finish::MaxTokens => "max_tokens",
        Finish::ContextWindow => "model_context_window_exceeded",
        Finish::ToolUse => "tool_use",
        Finish::Refusal => "refusal",
        Finish::Pause => "pause_turn",
        // A word that no client knows would break those with closed enums.
        Finish::Other(_) => "end_turn",
    }
}

#[derive(Serialize)]
struct Out<'a> {
    id: String,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<OutBlock<'a>>,
    stop_reason: &'a str,
    stop_sequence: Option<&'a str>,
    usage: OutUsage,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum OutBlock<'a> {
    Text { text: &'a str },
    Thinking { thinking: &'a str, signature: Cow<'a, str> },
    RedactedThinking { data: Cow<'a, str> },
    ToolUse { id: Cow<'a, str>, name: &'a str, input: Cow<'a, RawValue> },
}

/// The answer as a message; `usage` stands in for what its dialect didn't say.
pub(super) fn encode_answer(answer: &Answer, usage: Usage, losses: &mut Losses) -> Bytes {
    let content = answer.parts().iter().flat_map(|part| {
        let opaque = part.opaque.as_ref().filter(|o| !o.data.is_empty());
        let beside = opaque.and_then(|opaque| state::beside(&part.content, opaque));
        let beside = beside.map(|data| OutBlock::RedactedThinking { data: data.into() });
        beside.into_iter().chain(block(part, losses))
    });
    let out = Out {
        id: ids::with_prefix("msg_", &answer.id),
        r#type: "message",
        role: "assistant",
        model: &answer.model,
        content: content.collect(),
        stop_reason: stop_reason(answer.finish()),
        stop_sequence: match answer.finish() {
            Finish::StopSequence(sequence) => sequence.as_deref(),
            _ => None,
        },
        usage: usage.into(),
    };
    // Serializing into memory can't fail.
    serde_json::to_vec(&out).unwrap_or_default().into()
}

fn block<'a>(part: &'a Part, losses: &mut Losses) -> Option<OutBlock<'a>> {
    let sealed = || part.opaque.as_ref().map(|o| o.seal(Vendor::Anthropic));
    match &part.content {
        Content::Text(text) if text.is_empty() => None,
        Content::Text(text) | Content::Refusal(text) => Some(OutBlock::Text { text }),
        Content::Thinking(text) => {
            Some(OutBlock::Thinking { thinking: text, signature: sealed().unwrap_or_default() })
        }
        Content::RedactedThinking => sealed().map(|data| OutBlock::RedactedThinking { data }),
        Content::ToolUse(ToolUse { id, name, arguments }) => {
            Some(OutBlock::ToolUse { id: ids::plain(id), name, input: object(arguments) })
        }
        other => {
            losses.unsaid(other.kind());
            None
        }
    }
}

/// A tool's arguments as the object that Anthropic wants. What isn't one (cut short, say) goes into one, as text.
pub(crate) fn object(arguments: &str) -> Cow<'_, RawValue> {
    let text = arguments.trim();
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) if text.starts_with('{') => Cow::Borrowed(raw),
        _ if text.is_empty() => Cow::Owned(empty()),
        _ => {
            let wrapped = serde_json::json!({ "arguments": arguments }).to_string();
            Cow::Owned(RawValue::from_string(wrapped).unwrap_or_else(|_| empty()))
        }
    }
}

/// `{}`
fn empty() -> Box<RawValue> {
    serde_json::value::to_raw_value(&serde_json::Map::new()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_becomes_inclusive_and_back() {
        let body =
            br#"{"usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,
            "cache_creation":{"ephemeral_5m_input_tokens":1,"ephemeral_1h_input_tokens":2},
            "output_tokens":7,"output_tokens_details":{"thinking_tokens":5}}}"#;
        let usage = usage_of_answer(body).unwrap();
        let expected = Usage {
            input_tokens: 17,
            output_tokens: 7,
            cache_read_tokens: 4,
            cache_write_tokens: 3,
            cache_write_1h_tokens: 2,
            reasoning_tokens: 5,
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        let out = OutUsage::from(usage);
        assert_eq!(
            (out.input_tokens, out.cache_creation_input_tokens, out.cache_read_input_tokens),
            (10, 3, 4)
        );
        for without in [
            "{}",
            r#"{"usage":{}}"#,
            r#"{"usage":{"input_tokens":18446744073709551615,"cache_read_input_tokens":1}}"#,
        ] {
            assert_eq!(usage_of_answer(without.as_bytes()), None, "{without}");
        }
    }

    #[test]
    fn arguments_that_are_no_object_become_one() {
        assert_eq!(object(r#" {"a": 1e2} "#).get(), r#"{"a": 1e2}"#);
        assert_eq!(object("").get(), "{}");
        assert_eq!(object(r#"{"a":"#).get(), r#"{"arguments":"{\"a\":"}"#);
        assert_eq!(object("[1]").get(), r#"{"arguments":"[1]"}"#);
    }
}
