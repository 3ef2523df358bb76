//! Whole answers: what they used, what they mean, and how they are written.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    state,
    usage::{Counted, OutUsage, WireUsage},
};
use crate::{
    Usage,
    canonical::{Answer, Choice, Content, Finish, Losses, Opaque, Part, ToolUse, Vendor},
    ids, lenient,
};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    model: Option<Cow<'a, str>>,
    /// What makes it a message.
    #[serde(borrow, deserialize_with = "lenient::list")]
    content: Vec<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    stop_sequence: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    usage: Option<WireUsage>,
}

/// A block of an answer. Blocks only Anthropic knows are kept as they are; those of compatible providers may lack what
/// says nothing.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block {
    Text {
        #[serde(default)]
        text: Loose,
    },
    Thinking {
        #[serde(default)]
        thinking: Loose,
        #[serde(default)]
        signature: Loose,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        #[serde(default)]
        id: Loose,
        name: String,
    },
}

/// A text, if it is one. What a tagged enum holds was read before.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Loose {
    Text(String),
    Else(IgnoredAny),
}

impl Default for Loose {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<Loose> for String {
    fn from(said: Loose) -> Self {
        match said {
            Loose::Text(text) => text,
            Loose::Else(_) => Self::new(),
        }
    }
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
        #[serde(default, deserialize_with = "lenient::read")]
        usage: Option<WireUsage>,
    }
    Counted::from(serde_json::from_slice::<Used>(body).ok()?.usage?).usage()
}

/// `None` for what is no message.
pub(super) fn decode_answer(body: &[u8]) -> Option<Answer> {
    let message: Message<'_> = serde_json::from_slice(body).ok()?;
    let stop_reason = message.stop_reason.as_deref().unwrap_or("end_turn");
    let content = message.content;
    let cites = content.iter().any(|block| cites(block));
    let cited = cites.then(Part::citations);
    let choice = Choice {
        parts: content.into_iter().map(part).chain(cited).collect(),
        finish: finish(stop_reason, message.stop_sequence.map(Cow::into_owned)),
    };
    Some(Answer {
        id: message.id.unwrap_or_default().into_owned(),
        model: message.model.unwrap_or_default().into_owned(),
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
        Ok(Block::Text { text }) => Content::Text(text.into()),
        Ok(Block::Thinking { thinking, signature }) => {
            let signature = Some(String::from(signature)).filter(|s| !s.is_empty());
            return Part::from(Content::Thinking(thinking.into())).with_opaque(signature.and_then(own));
        }
        Ok(Block::RedactedThinking { data }) => {
            return Part::from(Content::RedactedThinking).with_opaque(own(data));
        }
        Ok(Block::ToolUse { id, name }) => {
            let input = serde_json::from_str::<Input<'_>>(raw.get()).ok().and_then(|i| i.input);
            let arguments = input.map_or("{}", RawValue::get).to_owned();
            Content::ToolUse(ToolUse { id: id.into(), name, arguments })
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
    fn arguments_that_are_no_object_become_one() {
        assert_eq!(object(r#" {"a": 1e2} "#).get(), r#"{"a": 1e2}"#);
        assert_eq!(object("").get(), "{}");
        assert_eq!(object(r#"{"a":"#).get(), r#"{"arguments":"{\"a\":"}"#);
        assert_eq!(object("[1]").get(), r#"{"arguments":"[1]"}"#);
    }
}
