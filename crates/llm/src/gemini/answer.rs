//! Whole answers: what they used, what they mean, and how they are written.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    part::{self, Out, Piece, Read},
    usage::{OutUsage, WireUsage},
};
use crate::{
    Call, Usage,
    canonical::{Answer, Choice, Content, Finish, Logprob, Losses, Media, Part, Source, ToolUse},
    ids, lenient,
    prices::Tier,
};

/// A `GenerateContentResponse`: a whole answer, or a chunk of a stream.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    pub(super) candidates: Vec<Candidate<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    pub(super) prompt_feedback: Option<Feedback<'a>>,
    #[serde(default, deserialize_with = "lenient::object")]
    pub(super) usage_metadata: Option<WireUsage>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) model_version: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) response_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) index: u64,
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    pub(super) content: Option<Said<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) finish_reason: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) logprobs_result: Option<WireLogprobs>,
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) grounding_metadata: Option<Grounding>,
}

/// What Google searched for, which is charged beside the tokens.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Grounding {
    #[serde(deserialize_with = "lenient::list")]
    web_search_queries: Vec<IgnoredAny>,
    #[serde(deserialize_with = "lenient::list")]
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
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    pub(super) parts: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    block_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
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
    #[serde(deserialize_with = "lenient::list")]
    top_candidates: Vec<Top>,
    #[serde(deserialize_with = "lenient::list")]
    chosen_candidates: Vec<WireLogprob>,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(default)]
struct Top {
    #[serde(deserialize_with = "lenient::list")]
    candidates: Vec<WireLogprob>,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireLogprob {
    #[serde(deserialize_with = "lenient::read")]
    token: String,
    #[serde(deserialize_with = "lenient::read")]
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
        #[serde(default, deserialize_with = "lenient::object")]
        usage_metadata: Option<WireUsage>,
        #[serde(borrow, default, deserialize_with = "lenient::list")]
        candidates: Vec<Candidate<'a>>,
    }
    let used: Used<'_> = serde_json::from_slice(body).ok()?;
    let charged = used.candidates.iter().any(Candidate::charged);
    let usage = used.usage_metadata?.believable()?;
    Some(if charged { Usage { tier: Tier::Other, ..usage } } else { usage })
}

/// `None` for what is no answer.
pub(super) fn decode_answer(body: &[u8]) -> Option<Answer> {
    let response: Response<'_> = serde_json::from_slice(body).ok()?;
    let Response { mut candidates, prompt_feedback, usage_metadata, model_version, response_id } = response;
    candidates.sort_by_key(|c| c.index);
    let id = response_id.unwrap_or_default();
    let mut calls = CallIds::new(&id);
    let mut choices: Vec<Choice> = candidates.into_iter().map(|c| choice(c, &mut calls)).collect();
    if choices.is_empty() {
        let refusal = Content::Refusal(prompt_feedback?.blocked()?);
        choices.push(Choice { parts: vec![refusal.into()], finish: Finish::Refusal });
    }
    Some(Answer {
        id: id.into_owned(),
        model: model_version.unwrap_or_default().into_owned(),
        created: 0,
        choices,
        usage: usage_metadata.and_then(|told| told.believable()),
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
        let Ok(Piece { read, opaque, .. }) = part::told(raw) else { continue };
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
    let finish = finish(candidate.finish_reason.as_deref().unwrap_or("STOP"), Told::of(&parts));
    parts.extend(cites.then(Part::citations));
    Choice { parts, finish }
}

pub(super) fn tool_use(mut call: crate::members::Members<'_>, calls: &mut CallIds) -> Option<ToolUse> {
    let name = call.take("name").ok()??;
    let id = call
        .take::<String>("id")
        .unwrap_or_default()
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| calls.next());
    Some(ToolUse { id, name, arguments: call.raw("args").map_or("{}", RawValue::get).to_owned() })
}

/// What an answer told before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Told {
    #[default]
    Nothing,
    Something,
    Calls,
}

impl Told {
    pub(super) fn of(parts: &[Part]) -> Self {
        let of = |part: &Part| match &part.content {
            Content::ToolUse(_) => Self::Calls,
            Content::Thinking(_) | Content::RedactedThinking => Self::Nothing,
            Content::Text(text) if text.is_empty() => Self::Nothing,
            _ => Self::Something,
        };
        parts.iter().map(of).max().unwrap_or_default()
    }
}

/// Those that say it was held back: <https://ai.google.dev/api/generate-content#FinishReason>.
const HELD_BACK: [&str; 12] = [
    "ESCALATION",
    "PUP_LIMITED_DISABLED",
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

/// Google adds words: one that nobody here knows is no whole answer, nor any if nothing came with it.
pub(super) fn finish(reason: &str, told: Told) -> Finish {
    match reason {
        "STOP" if told == Told::Calls => Finish::ToolUse,
        "STOP" | "FINISH_REASON_UNSPECIFIED" | "" => Finish::Stop,
        "MAX_TOKENS" | "CONTINUATION" => Finish::MaxTokens,
        held_back if HELD_BACK.contains(&held_back) => Finish::Refusal,
        amiss if AMISS.contains(&amiss) => Finish::Other(amiss.to_owned()),
        unknown if told == Told::Nothing => Finish::Other(format!("OTHER: {unknown}")),
        _ => Finish::MaxTokens,
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
    fn every_reason_means_something() {
        let finish = |reason: &str| super::finish(reason, Told::Nothing);
        for reason in HELD_BACK {
            assert_eq!(finish_reason(&finish(reason)), "SAFETY", "{reason}");
        }
        for reason in AMISS.into_iter().chain(["STOP", "MAX_TOKENS"]) {
            assert_eq!(finish_reason(&finish(reason)), reason);
        }
        assert_eq!(super::finish("STOP", Told::Calls), Finish::ToolUse);
        assert_eq!(finish("CONTINUATION"), Finish::MaxTokens);
        assert_eq!(finish_reason(&Finish::Other("insufficient_system_resource".to_owned())), "OTHER");
    }

    #[test]
    fn a_reason_that_nobody_knows_never_looks_like_the_end() {
        let failure = finish("SOLAR_FLARE", Told::Nothing).failure().unwrap();
        assert!(failure.message.contains("SOLAR_FLARE"), "{}", failure.message);
        for told in [Told::Something, Told::Calls] {
            assert_eq!(finish("SOLAR_FLARE", told), Finish::MaxTokens);
        }
        let thoughts = Part::from(Content::Thinking("hm".to_owned()));
        assert_eq!(Told::of(&[thoughts.clone(), Part::text("")]), Told::Nothing);
        assert_eq!(Told::of(&[thoughts, Part::text("x")]), Told::Something);
    }
}
