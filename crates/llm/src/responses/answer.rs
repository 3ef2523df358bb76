//! Whole answers: read as what they mean, and written from it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    content::{self, kind},
    error,
    item::{self, Ids},
    object::{self, Response, State},
    request_in::PARAGRAPH,
    tools::{self, ToolNames},
    usage::WireUsage,
};
use crate::{
    Call, Usage,
    canonical::{
        Answer, Choice, Content, Custom, Failure, Finish, Logprob, Losses, Media, Opaque, Part, Source,
        ToolUse, Vendor,
    },
    lenient,
    members::Members,
};

/// A response. A member that can't be read is as good as absent.
#[derive(Deserialize, Default)]
pub(super) struct Whole<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) created_at: f64,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    status: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) incomplete_details: Option<Incomplete>,
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    pub(super) output: Option<Vec<&'a RawValue>>,
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) usage: Option<WireUsage>,
}

impl Whole<'_> {
    pub(super) fn failed(&self) -> bool {
        matches!(self.status.as_deref(), Some("failed" | "cancelled"))
    }

    pub(super) fn is_incomplete(&self) -> bool {
        self.status.as_deref() == Some("incomplete")
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Incomplete {
    #[serde(default)]
    reason: Option<String>,
}

/// What went wrong with a response that says it failed, though it came as an answer.
pub(super) fn failure(body: &[u8]) -> Option<Failure> {
    let whole: Whole<'_> = serde_json::from_slice(body).ok()?;
    whole.failed().then(|| error::of_response(std::str::from_utf8(body).unwrap_or_default()))
}

/// `None` for what is no response, and for one that failed.
pub(super) fn decode_answer(body: &[u8]) -> Option<Answer> {
    let whole: Whole<'_> = serde_json::from_slice(body).ok().filter(|whole: &Whole<'_>| !whole.failed())?;
    let incomplete = whole.is_incomplete();
    let output = whole.output?;
    let cites = output.iter().any(|item| cites(item));
    let cited = cites.then(Part::citations);
    let parts: Vec<Part> = output.into_iter().flat_map(parts_of).chain(cited).collect();
    let finish = finish(
        incomplete.then_some(whole.incomplete_details.as_ref()),
        parts.iter().any(|p| matches!(p.content, Content::ToolUse(_))),
        parts.iter().any(|p| matches!(p.content, Content::Refusal(_))),
    );
    Some(Answer {
        id: whole.id.unwrap_or_default().into_owned(),
        model: whole.model.unwrap_or_default().into_owned(),
        created: seconds(whole.created_at),
        choices: vec![Choice { parts, finish }],
        usage: whole.usage.and_then(WireUsage::believable),
    })
}

fn cites(item: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        content: Vec<Cited>,
    }
    #[derive(Deserialize)]
    struct Cited {
        #[serde(default)]
        annotations: Vec<IgnoredAny>,
    }
    let message = serde_json::from_str::<Message>(item.get());
    message.is_ok_and(|message| message.content.iter().any(|part| !part.annotations.is_empty()))
}

#[expect(clippy::cast_possible_truncation, reason = "it saturates")]
pub(super) fn seconds(time: f64) -> i64 {
    time as i64
}

/// `cut`: it is incomplete, with what is said of why.
pub(super) fn finish(cut: Option<Option<&Incomplete>>, calls: bool, refused: bool) -> Finish {
    if let Some(why) = cut {
        return match why.and_then(|i| i.reason.as_deref()) {
            Some("max_output_tokens") | None => Finish::MaxTokens,
            Some("content_filter") => Finish::Refusal,
            Some(other) => Finish::Other(other.to_owned()),
        };
    }
    match (calls, refused) {
        (true, _) => Finish::ToolUse,
        (false, true) => Finish::Refusal,
        (false, false) => Finish::Stop,
    }
}

/// What an item says. Items only OpenAI knows are kept as they are.
pub(super) fn parts_of(raw: &RawValue) -> Vec<Part> {
    item_parts(raw).unwrap_or_else(|| {
        vec![Content::Foreign { kind: kind(raw).into_owned(), value: raw.to_owned() }.into()]
    })
}

fn item_parts(raw: &RawValue) -> Option<Vec<Part>> {
    let mut from = Members::of(raw, "").ok()?;
    match kind(raw).as_ref() {
        "message" => {
            let pieces = from.take::<Vec<&RawValue>>("content").ok()??;
            pieces.into_iter().map(piece).collect()
        }
        "function_call" => {
            let opaque = content::extra(&mut from).ok()?;
            let call = ToolUse {
                id: from.need("call_id").ok()?,
                name: called(&mut from)?,
                arguments: from.take("arguments").ok()?.unwrap_or_default(),
            };
            Some(vec![Part::from(Content::ToolUse(call)).with_opaque(opaque)])
        }
        "custom_tool_call" => {
            let opaque = content::extra(&mut from).ok()?;
            let name = called(&mut from)?;
            let input = from.take::<Cow<'_, str>>("input").ok()?.unwrap_or_default();
            let arguments = Custom::arguments(&input);
            let call = ToolUse { id: from.need("call_id").ok()?, name, arguments };
            Some(vec![Part::from(Content::ToolUse(call)).with_opaque(opaque)])
        }
        "image_generation_call" => {
            let data: String = from.take("result").ok()?.filter(|data: &String| !data.is_empty())?;
            let format = from.take::<Cow<'_, str>>("output_format").ok()?.unwrap_or("png".into());
            let source = Source::Data { media_type: format!("image/{format}"), data };
            Some(vec![Content::Image(Media { source, name: None, detail: None }).into()])
        }
        "reasoning" => Some(reasoning(raw).into_iter().collect()),
        _ => None,
    }
}

/// The name of a tool, as others know it.
fn called(from: &mut Members<'_>) -> Option<String> {
    let name: String = from.need("name").ok()?;
    let namespace = from.take::<Cow<'_, str>>("namespace").ok()?;
    Some(namespace.map_or_else(|| name.clone(), |namespace| tools::joined(&namespace, &name)))
}

/// A part of a message.
pub(super) fn piece(raw: &RawValue) -> Option<Part> {
    let mut from = Members::of(raw, "").ok()?;
    let logprobs = from.take::<Vec<WireLogprob>>("logprobs").ok().flatten().unwrap_or_default();
    let mut part = content::part(raw, "", &mut Losses::default()).ok()?;
    part.logprobs = logprobs.iter().map(Logprob::from).collect();
    Some(part)
}

#[derive(Deserialize, Default)]
struct Thought {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    summary: Vec<Said>,
    #[serde(default)]
    content: Option<Vec<Said>>,
    #[serde(default)]
    encrypted_content: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    text: String,
}

fn opaque(thought: Thought) -> Option<Opaque> {
    let mut opaque =
        Opaque::open(&thought.encrypted_content.filter(|text| !text.is_empty())?, Vendor::OpenAi);
    if opaque.vendor == Vendor::OpenAi {
        opaque.id = thought.id;
    }
    Some(opaque)
}

fn reasoning(raw: &RawValue) -> Option<Part> {
    let mut thought: Thought = serde_json::from_str(raw.get()).unwrap_or_default();
    let summary = std::mem::take(&mut thought.summary);
    let content = thought.content.take().unwrap_or_default();
    let opaque = opaque(thought);
    let said = if summary.is_empty() { content } else { summary };
    if said.is_empty() {
        return opaque.map(|opaque| Part::from(Content::RedactedThinking).with_opaque(Some(opaque)));
    }
    let texts: Vec<String> = said.into_iter().map(|said| said.text).collect();
    Some(Part::from(Content::Thinking(texts.join(PARAGRAPH))).with_opaque(opaque))
}

#[derive(Debug, Deserialize)]
pub(super) struct WireLogprob {
    #[serde(default)]
    token: String,
    #[serde(default)]
    logprob: f64,
    #[serde(default)]
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Option<Vec<WireLogprob>>,
}

impl From<&WireLogprob> for Logprob {
    fn from(from: &WireLogprob) -> Self {
        Self {
            token: from.token.clone(),
            logprob: from.logprob,
            bytes: from.bytes.clone(),
            top: from.top_logprobs.iter().flatten().map(Self::from).collect(),
        }
    }
}

/// The answer as a response; `usage` stands in for what its dialect didn't say. State that goes back is always in it:
/// whoever keeps the response hides it from those who didn't ask.
pub(super) fn encode_answer(answer: &Answer, usage: Usage, call: &Call, losses: &mut Losses) -> Bytes {
    let id = item::response_id(call.id.as_deref(), &answer.id);
    let ids = Ids::new(&id);
    let tools = ToolNames::of_request(&call.request);
    let refused = answer.parts().iter().any(|p| matches!(p.content, Content::Refusal(_)));
    let incomplete = object::incomplete(answer.finish(), refused);
    let output = item::output(answer.parts(), &ids, &tools, incomplete.is_none(), losses);
    let model = if answer.model.is_empty() { &call.model } else { &answer.model };
    let created = if answer.created == 0 { call.now_s } else { answer.created };
    let response = Response::new(id, model, created, &call.request);
    let state = State {
        status: if incomplete.is_some() { "incomplete" } else { "completed" },
        completed_at: incomplete.is_none().then_some(call.now_s.max(created)),
        error: None,
        incomplete,
        output: &output,
        usage: Some(usage.into()),
        tier: object::tier(usage.tier),
    };
    response.json(&state).get().to_owned().into()
}
