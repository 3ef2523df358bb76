//! Whole answers: what they used, what they mean, and how they are written.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::part::{self, Out, Piece, Read};
use crate::{
    Call, Usage,
    canonical::{Answer, Choice, Content, Finish, Logprob, Losses, Media, Part, Source, ToolUse},
    ids,
    prices::Tier,
};

/// Input with what came from a cache, and beside it what tools of Google's own read; output without thoughts.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireUsage {
    prompt_token_count: Option<u64>,
    candidates_token_count: u64,
    thoughts_token_count: u64,
    tool_use_prompt_token_count: u64,
    cached_content_token_count: u64,
    prompt_tokens_details: Vec<OfModality>,
    tool_use_prompt_tokens_details: Vec<OfModality>,
    candidates_tokens_details: Vec<OfModality>,
    service_tier: Option<String>,
    traffic_type: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct OfModality {
    modality: String,
    token_count: u64,
}

fn of(modality: &str, details: &[OfModality]) -> u64 {
    details.iter().filter(|d| d.modality == modality).fold(0, |sum, d| sum.saturating_add(d.token_count))
}

impl WireUsage {
    /// Inclusive; `None` for numbers that can't be.
    pub(super) fn believable(&self) -> Option<Usage> {
        let input = |modality| {
            of(modality, &self.prompt_tokens_details)
                .saturating_add(of(modality, &self.tool_use_prompt_tokens_details))
        };
        let usage = Usage {
            input_tokens: self.prompt_token_count?.checked_add(self.tool_use_prompt_token_count)?,
            output_tokens: self.candidates_token_count.checked_add(self.thoughts_token_count)?,
            cache_read_tokens: self.cached_content_token_count,
            reasoning_tokens: self.thoughts_token_count,
            input_audio_tokens: input("AUDIO"),
            input_image_tokens: input("IMAGE"),
            output_audio_tokens: of("AUDIO", &self.candidates_tokens_details),
            tier: self.tier(),
            ..Usage::default()
        };
        usage.believable()
    }

    fn tier(&self) -> Tier {
        match (self.service_tier.as_deref(), self.traffic_type.as_deref()) {
            (Some(tier), _) => Tier::named(&tier.to_ascii_lowercase()),
            (None, Some("ON_DEMAND_FLEX")) => Tier::Flex,
            (None, Some("ON_DEMAND_PRIORITY")) => Tier::Priority,
            _ => Tier::Standard,
        }
    }
}

/// For clients.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutUsage {
    prompt_token_count: u64,
    candidates_token_count: u64,
    total_token_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    cached_content_token_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    thoughts_token_count: u64,
    prompt_tokens_details: Vec<OutModality>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutModality {
    modality: &'static str,
    token_count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl From<Usage> for OutUsage {
    fn from(usage: Usage) -> Self {
        let others = usage.input_audio_tokens.saturating_add(usage.input_image_tokens);
        let details = [
            ("TEXT", usage.input_tokens.saturating_sub(others)),
            ("AUDIO", usage.input_audio_tokens),
            ("IMAGE", usage.input_image_tokens),
        ];
        let details = details.into_iter().filter(|(_, count)| *count > 0);
        Self {
            prompt_token_count: usage.input_tokens,
            candidates_token_count: usage.output_tokens.saturating_sub(usage.reasoning_tokens),
            total_token_count: usage.input_tokens.saturating_add(usage.output_tokens),
            cached_content_token_count: usage.cache_read_tokens,
            thoughts_token_count: usage.reasoning_tokens,
            prompt_tokens_details: details
                .map(|(modality, token_count)| OutModality { modality, token_count })
                .collect(),
        }
    }
}

/// A `GenerateContentResponse`: a whole answer, or a chunk of a stream.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response<'a> {
    #[serde(borrow, default)]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow, default)]
    pub(super) prompt_feedback: Option<Feedback<'a>>,
    #[serde(default)]
    pub(super) usage_metadata: Option<WireUsage>,
    #[serde(borrow, default)]
    pub(super) model_version: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) response_id: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    #[serde(default)]
    pub(super) index: u64,
    #[serde(borrow, default)]
    pub(super) content: Option<Said<'a>>,
    #[serde(borrow, default)]
    pub(super) finish_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) logprobs_result: Option<WireLogprobs>,
    #[serde(default)]
    pub(super) grounding_metadata: Option<Grounding>,
}

/// What Google searched for, which is charged beside the tokens.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Grounding {
    web_search_queries: Vec<IgnoredAny>,
    grounding_chunks: Vec<IgnoredAny>,
}

impl Candidate<'_> {
    /// It cost more than its tokens.
    pub(super) fn charged(&self) -> bool {
        let searched = |g: &Grounding| !g.web_search_queries.is_empty() || !g.grounding_chunks.is_empty();
        self.grounding_metadata.as_ref().is_some_and(searched)
    }
}

#[derive(Deserialize, Default)]
pub(super) struct Said<'a> {
    #[serde(borrow, default)]
    pub(super) parts: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback<'a> {
    #[serde(borrow, default)]
    block_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    block_reason_message: Option<Cow<'a, str>>,
}

impl Feedback<'_> {
    /// Why the prompt was not answered, if it was not.
    pub(super) fn blocked(self) -> Option<String> {
        let reason = self.block_reason?;
        let told = self.block_reason_message.filter(|m| !m.is_empty()).map(Cow::into_owned);
        Some(told.unwrap_or_else(|| format!("The prompt was blocked: {reason}.")))
    }
}

#[derive(Deserialize, Serialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireLogprobs {
    top_candidates: Vec<Top>,
    chosen_candidates: Vec<WireLogprob>,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(default)]
struct Top {
    candidates: Vec<WireLogprob>,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireLogprob {
    token: String,
    log_probability: f64,
}

impl From<WireLogprob> for Logprob {
    fn from(wire: WireLogprob) -> Self {
        Self { token: wire.token, logprob: wire.log_probability, bytes: None, top: Vec::new() }
    }
}

impl From<&Logprob> for WireLogprob {
    fn from(known: &Logprob) -> Self {
        Self { token: known.token.clone(), log_probability: known.logprob }
    }
}

impl WireLogprobs {
    pub(super) fn read(self) -> Vec<Logprob> {
        let mut tops = self.top_candidates.into_iter();
        let chosen = self.chosen_candidates.into_iter().map(|chosen| Logprob {
            top: tops.next().unwrap_or_default().candidates.into_iter().map(Logprob::from).collect(),
            ..Logprob::from(chosen)
        });
        chosen.collect()
    }

    pub(super) fn write<'a>(known: impl Iterator<Item = &'a Logprob>) -> Option<Self> {
        let mut out = Self::default();
        for known in known {
            out.chosen_candidates.push(known.into());
            out.top_candidates.push(Top { candidates: known.top.iter().map(WireLogprob::from).collect() });
        }
        (!out.chosen_candidates.is_empty()).then_some(out)
    }
}

/// The provider's own numbers, when a whole answer carries them.
pub(super) fn usage_of_answer(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Used<'a> {
        usage_metadata: WireUsage,
        #[serde(borrow, default)]
        candidates: Option<Vec<Candidate<'a>>>,
    }
    let used: Used<'_> = serde_json::from_slice(body).ok()?;
    let charged = used.candidates.iter().flatten().any(Candidate::charged);
    let usage = used.usage_metadata.believable()?;
    Some(if charged { Usage { tier: Tier::Other, ..usage } } else { usage })
}

/// `None` for what is no answer.
pub(super) fn decode_answer(body: &[u8]) -> Option<Answer> {
    let response: Response<'_> = serde_json::from_slice(body).ok()?;
    let mut candidates = response.candidates.unwrap_or_default();
    candidates.sort_by_key(|c| c.index);
    let mut calls = CallIds::new(&response.response_id);
    let mut choices: Vec<Choice> = candidates.into_iter().map(|c| choice(c, &mut calls)).collect();
    if choices.is_empty() {
        let refusal = Content::Refusal(response.prompt_feedback?.blocked()?);
        choices.push(Choice { parts: vec![refusal.into()], finish: Finish::Refusal });
    }
    Some(Answer {
        id: response.response_id.into_owned(),
        model: response.model_version.into_owned(),
        created: 0,
        choices,
        usage: response.usage_metadata.and_then(|told| told.believable()),
    })
}

/// Calls that came without an id get one that no other call has.
#[derive(Debug, Default)]
pub(super) struct CallIds {
    answer: String,
    made: usize,
}

impl CallIds {
    pub(super) fn new(response_id: &str) -> Self {
        Self { answer: ids::plain_or_random(response_id), made: 0 }
    }

    pub(super) fn next(&mut self) -> String {
        self.made += 1;
        format!("call_{}_{}", self.answer, self.made)
    }
}

fn choice(candidate: Candidate<'_>, calls: &mut CallIds) -> Choice {
    let (mut parts, cites) = (Vec::new(), candidate.charged());
    for raw in candidate.content.unwrap_or_default().parts {
        let Ok(Piece { read, opaque, .. }) = part::read(raw, "parts") else { continue };
        let content = match read {
            Read::Content(content) => content,
            Read::Bare => Content::Text(String::new()),
            Read::Call(call) => match tool_use(call, calls) {
                Some(call) => Content::ToolUse(call),
                None => continue,
            },
            Read::Response(_) => {
                Content::Foreign { kind: "functionResponse".to_owned(), value: raw.to_owned() }
            }
        };
        part::join(&mut parts, Part::from(content).with_opaque(opaque));
    }
    let spoken = parts.iter_mut().find(|p| matches!(&p.content, Content::Text(text) if !text.is_empty()));
    if let (Some(spoken), Some(told)) = (spoken, candidate.logprobs_result) {
        spoken.logprobs = told.read();
    }
    let called = parts.iter().any(|p| matches!(p.content, Content::ToolUse(_)));
    let finish = finish(candidate.finish_reason.as_deref().unwrap_or("STOP"), called);
    parts.extend(cites.then(Part::citations));
    Choice { parts, finish }
}

pub(super) fn tool_use(mut call: crate::members::Members<'_>, calls: &mut CallIds) -> Option<ToolUse> {
    let name = call.take("name").ok()??;
    let id = call.take::<String>("id").ok()?.filter(|id| !id.is_empty()).unwrap_or_else(|| calls.next());
    Some(ToolUse { id, name, arguments: call.raw("args").map_or("{}", RawValue::get).to_owned() })
}

/// Those that say it was held back: <https://ai.google.dev/api/generate-content#FinishReason>.
const HELD_BACK: [&str; 10] = [
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "MODEL_ARMOR",
];
/// Those that say that something went wrong.
const AMISS: [&str; 8] = [
    "OTHER",
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE",
    "NO_IMAGE",
    "IMAGE_OTHER",
];

pub(super) fn finish(reason: &str, called: bool) -> Finish {
    match reason {
        "STOP" if called => Finish::ToolUse,
        "STOP" | "FINISH_REASON_UNSPECIFIED" => Finish::Stop,
        "MAX_TOKENS" => Finish::MaxTokens,
        held_back if HELD_BACK.contains(&held_back) => Finish::Refusal,
        other => Finish::Other(other.to_owned()),
    }
}

pub(super) fn finish_reason(finish: &Finish) -> &str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::ToolUse | Finish::Pause => "STOP",
        Finish::MaxTokens | Finish::ContextWindow => "MAX_TOKENS",
        Finish::Refusal => "SAFETY",
        Finish::Other(other) if AMISS.contains(&other.as_str()) => other,
        Finish::Other(_) => "OTHER",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutResponse<'a> {
    pub(super) candidates: Vec<OutCandidate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage_metadata: Option<OutUsage>,
    pub(super) model_version: &'a str,
    pub(super) response_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutCandidate<'a> {
    pub(super) content: OutContent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finish_reason: Option<&'a str>,
    pub(super) index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs_result: Option<WireLogprobs>,
}

#[derive(Serialize)]
pub(super) struct OutContent<'a> {
    pub(super) parts: Vec<Out<'a>>,
    pub(super) role: &'static str,
}

impl<'a> OutContent<'a> {
    /// One without parts is taken for an answer that went wrong.
    pub(super) fn new(mut parts: Vec<Out<'a>>) -> Self {
        if parts.is_empty() {
            parts.push(Out::text(""));
        }
        Self { parts, role: "model" }
    }
}

/// The answer; `usage` stands in for what its dialect didn't say.
pub(super) fn encode_answer(answer: &Answer, usage: Usage, call: &Call, losses: &mut Losses) -> Bytes {
    let candidates = answer.choices.iter().zip(0..).map(|(choice, index)| OutCandidate {
        content: OutContent::new(choice.parts.iter().filter_map(|part| out_part(part, losses)).collect()),
        finish_reason: Some(finish_reason(&choice.finish)),
        index,
        logprobs_result: WireLogprobs::write(choice.parts.iter().flat_map(|p| &p.logprobs)),
    });
    let out = OutResponse {
        candidates: candidates.collect(),
        usage_metadata: Some(usage.into()),
        model_version: &answer.model,
        response_id: call.id.as_deref().unwrap_or(&answer.id),
    };
    // Serializing into memory can't fail.
    serde_json::to_vec(&out).unwrap_or_default().into()
}

fn out_part<'a>(part: &'a Part, losses: &mut Losses) -> Option<Out<'a>> {
    let signature = part.opaque.as_ref().map(part::sealed);
    let out = match &part.content {
        Content::Text(text) if text.is_empty() && signature.is_none() => return None,
        Content::Text(text) | Content::Refusal(text) => Out::text(text),
        Content::Thinking(text) => Out::thought(text),
        Content::RedactedThinking => Out { thought: true, ..Out::default() },
        Content::ToolUse(ToolUse { id, name, arguments }) => Out::call(id, name, arguments),
        Content::Image(Media { source: Source::Data { media_type, data }, .. })
        | Content::Audio(Media { source: Source::Data { media_type, data }, .. })
        | Content::File(Media { source: Source::Data { media_type, data }, .. }) => {
            Out::blob(media_type, data)
        }
        other => {
            losses.unsaid(other.kind());
            return None;
        }
    };
    Some(out.signed(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_becomes_inclusive_and_back() {
        let body = br#"{"candidates":[],"usageMetadata":{"promptTokenCount":20,"candidatesTokenCount":7,
            "thoughtsTokenCount":5,"toolUsePromptTokenCount":3,"cachedContentTokenCount":4,"totalTokenCount":35,
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":12},{"modality":"AUDIO","tokenCount":6},
            {"modality":"IMAGE","tokenCount":2}],"candidatesTokensDetails":[{"modality":"TEXT","tokenCount":7}]}}"#;
        let usage = usage_of_answer(body).unwrap();
        let expected = Usage {
            input_tokens: 23,
            output_tokens: 12,
            cache_read_tokens: 4,
            reasoning_tokens: 5,
            input_audio_tokens: 6,
            input_image_tokens: 2,
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        let out = serde_json::to_value(OutUsage::from(usage)).unwrap();
        assert_eq!(
            out,
            serde_json::json!({"promptTokenCount": 23, "candidatesTokenCount": 7, "thoughtsTokenCount": 5,
                "cachedContentTokenCount": 4, "totalTokenCount": 35, "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 15}, {"modality": "AUDIO", "tokenCount": 6},
                    {"modality": "IMAGE", "tokenCount": 2}]})
        );
        let absurd =
            r#"{"usageMetadata":{"promptTokenCount":18446744073709551615,"toolUsePromptTokenCount":1}}"#;
        for without in ["{}", r#"{"usageMetadata":{}}"#, absurd] {
            assert_eq!(usage_of_answer(without.as_bytes()), None, "{without}");
        }
    }

    #[test]
    fn every_reason_means_something() {
        for reason in HELD_BACK {
            assert_eq!(finish_reason(&finish(reason, false)), "SAFETY", "{reason}");
        }
        for reason in AMISS.into_iter().chain(["STOP", "MAX_TOKENS"]) {
            assert_eq!(finish_reason(&finish(reason, false)), reason);
        }
        assert_eq!(finish("STOP", true), Finish::ToolUse);
        assert_eq!(finish_reason(&Finish::Other("insufficient_system_resource".to_owned())), "OTHER");
    }
}
