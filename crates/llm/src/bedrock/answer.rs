//! Whole answers: what they mean and what they used.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Usage,
    canonical::{Answer, Choice, Content, Finish, Opaque, Part, ToolUse, Vendor},
    ids, lenient,
    prices::Tier,
};

/// As Bedrock tells it: input without what came from or went into a cache. A member that can't be read is as good as absent.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireUsage {
    #[serde(deserialize_with = "lenient::read")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    cache_write_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::list")]
    cache_details: Vec<CacheDetail>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CacheDetail {
    #[serde(deserialize_with = "lenient::read")]
    ttl: String,
    #[serde(deserialize_with = "lenient::read")]
    input_tokens: u64,
}

#[derive(Debug, Deserialize, Default)]
pub(super) struct ServiceTier {
    #[serde(rename = "type", default, deserialize_with = "lenient::read")]
    kind: String,
}

impl WireUsage {
    /// As it should be, with the input that came from or went into a cache already in it: OpenAI's models tell it so in
    /// streams, and as everybody else in whole answers.
    pub(super) fn exclusive(mut self) -> Self {
        let cached = [self.cache_read_input_tokens, self.cache_write_input_tokens];
        let cached = cached.into_iter().flatten().fold(0_u64, u64::saturating_add);
        self.input_tokens = self.input_tokens.map(|all| all.checked_sub(cached).unwrap_or(all));
        self
    }

    /// Inclusive.
    pub(super) fn inclusive(self, tier: Option<ServiceTier>) -> Option<Usage> {
        let cache_read = self.cache_read_input_tokens.unwrap_or_default();
        let cache_write = self.cache_write_input_tokens.unwrap_or_default();
        let cached = cache_read.checked_add(cache_write)?;
        let hour = self.cache_details.iter().filter(|detail| detail.ttl == "1h");
        let usage = Usage {
            input_tokens: self.input_tokens?.checked_add(cached)?,
            output_tokens: self.output_tokens.unwrap_or_default(),
            cache_read_tokens: cache_read,
            cache_write_tokens: cache_write,
            cache_write_1h_tokens: hour.fold(0, |sum, detail| sum.saturating_add(detail.input_tokens)),
            tier: tier.map(|tier| Tier::named(&tier.kind)).unwrap_or_default(),
            ..Usage::default()
        };
        usage.believable()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    /// What makes it an answer.
    #[serde(borrow)]
    output: Output<'a>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    usage: Option<WireUsage>,
    #[serde(default, deserialize_with = "lenient::read")]
    service_tier: Option<ServiceTier>,
    #[serde(borrow, default)]
    additional_model_response_fields: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    message: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    content: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    text: Option<String>,
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    tool_use: Option<Call<'a>>,
    #[serde(default, deserialize_with = "lenient::read")]
    reasoning_content: Option<Thought>,
    #[serde(default, deserialize_with = "lenient::read")]
    citations_content: Option<Cited>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    tool_use_id: String,
    name: String,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thought {
    #[serde(default, deserialize_with = "lenient::read")]
    reasoning_text: Option<ThoughtText>,
    #[serde(default, deserialize_with = "lenient::read")]
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ThoughtText {
    #[serde(default, deserialize_with = "lenient::read")]
    text: String,
    #[serde(default, deserialize_with = "lenient::read")]
    signature: Option<String>,
}

#[derive(Deserialize)]
struct Cited {
    #[serde(default, deserialize_with = "lenient::list")]
    content: Vec<CitedText>,
}

#[derive(Deserialize)]
struct CitedText {
    #[serde(default, deserialize_with = "lenient::read")]
    text: String,
}

/// `None` for what is no answer.
pub(super) fn decode_answer(body: &[u8]) -> Option<Answer> {
    let said: Said<'_> = serde_json::from_slice(body).ok()?;
    let reason = said.stop_reason.as_deref().unwrap_or("end_turn");
    let parts = said
        .output
        .message
        .map(|message| message.content)
        .unwrap_or_default()
        .into_iter()
        .map(part)
        .collect();
    let finish = finish(reason, said.additional_model_response_fields);
    Some(Answer {
        // Bedrock gives its answers none.
        id: ids::plain_or_random(""),
        model: String::new(),
        created: 0,
        choices: vec![Choice { parts, finish }],
        usage: said.usage.and_then(|usage| usage.inclusive(said.service_tier)),
    })
}

/// The provider's own numbers, when a whole answer carries them.
pub(super) fn usage_of_answer(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Used {
        #[serde(default, deserialize_with = "lenient::read")]
        usage: Option<WireUsage>,
        #[serde(default, deserialize_with = "lenient::read")]
        service_tier: Option<ServiceTier>,
    }
    let used: Used = serde_json::from_slice(body).ok()?;
    used.usage?.inclusive(used.service_tier)
}

fn part(raw: &RawValue) -> Part {
    let foreign = || Content::Foreign { kind: kind(raw), value: raw.to_owned() }.into();
    let Ok(block) = serde_json::from_str::<Block<'_>>(raw.get()) else { return foreign() };
    if let Some(text) = block.text {
        return Content::Text(text).into();
    }
    if let Some(call) = block.tool_use {
        let arguments = call.input.map_or("{}", RawValue::get).to_owned();
        return Content::ToolUse(ToolUse { id: call.tool_use_id, name: call.name, arguments }).into();
    }
    match block.reasoning_content {
        Some(Thought { reasoning_text: Some(thought), .. }) => {
            let signature = thought.signature.filter(|signature| !signature.is_empty());
            let opaque = signature.map(|signature| Opaque::new(Vendor::Anthropic, signature));
            return Part::from(Content::Thinking(thought.text)).with_opaque(opaque);
        }
        Some(Thought { redacted_content: Some(data), .. }) => {
            let opaque = Opaque::new(Vendor::Anthropic, data);
            return Part::from(Content::RedactedThinking).with_opaque(Some(opaque));
        }
        _ => {}
    }
    match block.citations_content {
        Some(cited) => Content::Text(cited.content.into_iter().map(|c| c.text).collect()).into(),
        None => foreign(),
    }
}

/// The name of a block's one member.
fn kind(raw: &RawValue) -> String {
    let members = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(raw.get());
    members
        .ok()
        .and_then(|members| members.into_iter().next())
        .map_or_else(|| "unknown".to_owned(), |(k, _)| k)
}

/// `more` are members of the model's own answer, among them the stop sequence that was asked for.
pub(super) fn finish(reason: &str, more: Option<&RawValue>) -> Finish {
    #[derive(Deserialize)]
    struct More {
        #[serde(default, deserialize_with = "lenient::read")]
        stop_sequence: Option<String>,
    }
    match reason {
        "end_turn" => Finish::Stop,
        "tool_use" => Finish::ToolUse,
        "max_tokens" => Finish::MaxTokens,
        "model_context_window_exceeded" => Finish::ContextWindow,
        "stop_sequence" => {
            let more = more.and_then(|raw| serde_json::from_str::<More>(raw.get()).ok());
            Finish::StopSequence(more.and_then(|more| more.stop_sequence))
        }
        "guardrail_intervened" | "content_filtered" => Finish::Refusal,
        other => Finish::Other(other.to_owned()),
    }
}
