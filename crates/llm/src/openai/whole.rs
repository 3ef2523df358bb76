//! Whole answers: read as what they mean, and written from it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    answer::WireUsage,
    content, lenient,
    logprobs::{OutLogprobs, WireLogprobs},
    messages_out::{Call, CallFunction},
    state::{self, Detail, Extra, Thought, details},
    told::Style,
};
use crate::{
    Usage,
    canonical::{
        self, Answer, Content, Custom, Finish, Losses, Media, Opaque, Part, Source, ToolUse, Vendor,
    },
    ids,
    members::Members,
};

#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    id: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    created: i64,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
    #[serde(default, deserialize_with = "lenient::read")]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    logprobs: Option<WireLogprobs>,
}

/// `None` for what is no chat completion.
#[must_use]
pub fn decode_answer(body: &[u8]) -> Option<Answer> {
    let completion: Completion<'_> = serde_json::from_slice(body).ok()?;
    let id = completion.id.unwrap_or_default().into_owned();
    let choices = completion.choices.into_iter().map(|choice| {
        let mut parts = message(choice.message, &id)?;
        if let Some(logprobs) = choice.logprobs.map(WireLogprobs::into_canonical)
            && let Some(said) =
                parts.iter_mut().find(|p| matches!(p.content, Content::Text(_) | Content::Refusal(_)))
        {
            said.logprobs = logprobs;
        }
        let calls = parts.iter().any(|p| matches!(p.content, Content::ToolUse(_)));
        let refused = parts.iter().any(|p| matches!(p.content, Content::Refusal(_)));
        let finish = finish(choice.finish_reason.as_deref().unwrap_or("stop"), calls, refused);
        Some(canonical::Choice { parts, finish })
    });
    let choices = choices.collect::<Option<Vec<_>>>().filter(|choices| !choices.is_empty())?;
    Some(Answer {
        id,
        model: completion.model.unwrap_or_default().into_owned(),
        created: completion.created,
        choices,
        usage: completion.usage.and_then(WireUsage::believable),
    })
}

fn message(raw: &RawValue, id: &str) -> Option<Vec<Part>> {
    let mut from = Members::of(raw, "").ok()?;
    let mut thoughts = state::thoughts(&mut from).unwrap_or_default();
    let mut parts = std::mem::take(&mut thoughts.parts);
    let text = |name: &str| {
        let text = from.peek(name).and_then(lenient::string).filter(|text| !text.is_empty());
        text.map(Cow::into_owned)
    };
    let reasoning = text("reasoning_content").or_else(|| text("reasoning"));
    let (content, refusal) = (text("content"), text("refusal"));
    let said = parts.iter().any(|p| matches!(p.content, Content::Thinking(_)));
    if let Some(text) = reasoning.filter(|_| !said) {
        parts.insert(0, Content::Thinking(text).into());
    }
    match content {
        Some(text) => parts.push(Part::text(text)),
        None => parts.extend(content::parts(&mut from, "content", &mut Losses::default()).ok()?),
    }
    parts.extend(content::parts(&mut from, "images", &mut Losses::default()).unwrap_or_default());
    parts.extend(refusal.map(|text| Part::from(Content::Refusal(text))));
    if let Some(opaque) = state::extra(&mut from) {
        content::prove_text(&mut parts, opaque);
    }
    let calls = from.take::<Vec<&RawValue>>("tool_calls").ok()?.unwrap_or_default();
    for (at, raw) in calls.into_iter().enumerate() {
        let mut call = Members::of(raw, "").ok()?;
        let function = call.object("function").ok()?;
        let given = call.take::<String>("id").ok()?.filter(|id| !id.is_empty());
        let id = given.unwrap_or_else(|| super::events::made_up(id, 0, at));
        let opaque = state::extra(&mut call).or_else(|| thoughts.of_call(&id));
        let (name, arguments) = match function {
            Some(mut function) => {
                let arguments = function.raw("arguments").map(state::arguments).unwrap_or_default();
                (function.need("name").ok()?, arguments)
            }
            None => {
                let mut custom = call.object("custom").ok()??;
                let input = custom.take::<Cow<'_, str>>("input").ok()?.unwrap_or_default();
                (custom.need("name").ok()?, Custom::arguments(&input))
            }
        };
        parts.push(Part::from(Content::ToolUse(ToolUse { id, name, arguments })).with_opaque(opaque));
    }
    let annotations = from.take::<Vec<IgnoredAny>>("annotations").ok().flatten();
    parts.extend(annotations.filter(|cited| !cited.is_empty()).map(|_| Part::citations()));
    content::without_empty(&mut parts);
    Some(parts)
}

/// A call forced by name ends with `stop` here; whoever made calls ended to have them answered.
pub(super) fn finish(reason: &str, calls: bool, refused: bool) -> Finish {
    match reason {
        "tool_calls" | "function_call" => Finish::ToolUse,
        "stop" if calls => Finish::ToolUse,
        "stop" if refused => Finish::Refusal,
        "stop" => Finish::Stop,
        "length" => Finish::MaxTokens,
        "content_filter" => Finish::Refusal,
        other => Finish::Other(other.to_owned()),
    }
}

/// `refused`: the answer says that the model would not. That is no filter's doing, which clients tell apart.
pub(super) fn finish_reason(finish: &Finish, refused: bool, older: bool) -> &'static str {
    match finish {
        Finish::Refusal if refused => "stop",
        Finish::ToolUse if older => "function_call",
        // A word that no client knows would break those with closed enums.
        Finish::Stop | Finish::StopSequence(_) | Finish::Pause | Finish::Other(_) => "stop",
        Finish::MaxTokens | Finish::ContextWindow => "length",
        Finish::ToolUse => "tool_calls",
        Finish::Refusal => "content_filter",
    }
}

#[derive(Serialize)]
struct Out<'a> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: Vec<OutChoice<'a>>,
    usage: Counts,
}

#[derive(Serialize)]
struct OutChoice<'a> {
    index: u64,
    message: OutMessage<'a>,
    logprobs: Option<OutLogprobs<'a>>,
    finish_reason: &'a str,
}

#[derive(Serialize, Default)]
struct OutMessage<'a> {
    role: &'static str,
    content: Option<String>,
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    thinking_blocks: Vec<Thought<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Detail<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<CallFunction<'a>>,
    /// OpenRouter's name for what a model drew.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<OutImage<'a>>,
}

#[derive(Serialize)]
pub(super) struct OutImage<'a> {
    r#type: &'static str,
    image_url: ImageUrl<'a>,
    /// Its place, streamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
}

impl<'a> OutImage<'a> {
    fn new(url: Cow<'a, str>) -> Self {
        Self { r#type: "image_url", image_url: ImageUrl { url }, index: None }
    }

    pub(super) fn of(media: &'a Media) -> Option<Self> {
        match &media.source {
            Source::Url(url) => Some(Self::new(url.into())),
            Source::Data { media_type, data } => {
                Some(Self::new(format!("data:{media_type};base64,{data}").into()))
            }
            Source::Id(_) | Source::Text(_) => None,
        }
    }

    pub(super) fn at(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }
}

#[derive(Serialize)]
pub(super) struct Counts {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptCounts,
    completion_tokens_details: CompletionCounts,
}

#[derive(Serialize)]
struct PromptCounts {
    cached_tokens: u64,
    #[serde(skip_serializing_if = "is_zero")]
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct CompletionCounts {
    reasoning_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens + usage.output_tokens,
            prompt_tokens_details: PromptCounts {
                cached_tokens: usage.cache_read_tokens,
                cache_write_tokens: usage.cache_write_tokens,
            },
            completion_tokens_details: CompletionCounts { reasoning_tokens: usage.reasoning_tokens },
        }
    }
}

/// The answer to a request as a chat completion; `usage` stands in for what its dialect didn't say.
pub(super) fn encode_answer(answer: &Answer, usage: Usage, request: &[u8], losses: &mut Losses) -> Bytes {
    let style = Style::of_request(request);
    let choices = answer.choices.iter().zip(0..).map(|(choice, index)| OutChoice {
        index,
        message: out_message(&choice.parts, &style, losses),
        logprobs: logprobs(&choice.parts),
        finish_reason: finish_reason(&choice.finish, refused(&choice.parts), style.older),
    });
    let out = Out {
        id: ids::with_prefix("chatcmpl-", &answer.id),
        object: "chat.completion",
        created: answer.created,
        model: &answer.model,
        choices: choices.collect(),
        usage: usage.into(),
    };
    // Serializing into memory can't fail.
    serde_json::to_vec(&out).unwrap_or_default().into()
}

fn refused(parts: &[Part]) -> bool {
    parts.iter().any(|part| matches!(part.content, Content::Refusal(_)))
}

fn logprobs(parts: &[Part]) -> Option<OutLogprobs<'_>> {
    let refusal = parts.iter().any(|p| matches!(p.content, Content::Refusal(_)) && !p.logprobs.is_empty());
    OutLogprobs::new(parts.iter().flat_map(|p| &p.logprobs), refusal)
}

fn out_message<'a>(parts: &'a [Part], style: &Style, losses: &mut Losses) -> OutMessage<'a> {
    let mut message = OutMessage { role: "assistant", ..OutMessage::default() };
    for part in parts {
        let opaque = part.opaque.as_ref();
        match &part.content {
            Content::Text(text) => {
                message.content.get_or_insert_default().push_str(text);
                message.extra_content = opaque.map(Extra::new).or(message.extra_content);
            }
            Content::Refusal(text) => message.refusal = Some(text),
            Content::Thinking(text) => {
                message.reasoning_content.get_or_insert_default().push_str(text);
                thought(Some(text), opaque, &mut message);
            }
            Content::RedactedThinking => thought(None, opaque, &mut message),
            // There is a place for one.
            Content::ToolUse(_) if style.older && message.function_call.is_some() => {
                losses.unsaid(part.content.kind());
            }
            Content::ToolUse(ToolUse { name, arguments, .. }) if style.older => {
                message.function_call = Some(CallFunction { name, arguments });
            }
            Content::ToolUse(call) => {
                let custom = style.is_custom(&call.name);
                message.tool_calls.push(Call::new(call, custom, opaque.map(Extra::new)));
            }
            Content::Image(media) => match OutImage::of(media) {
                Some(image) => message.images.push(image),
                None => losses.unsaid(part.content.kind()),
            },
            // Server tools' doings have no place here.
            other => losses.unsaid(other.kind()),
        }
    }
    let called = message.function_call.is_some() || !message.tool_calls.is_empty();
    if message.content.is_none() && !called && message.refusal.is_none() {
        message.content = Some(String::new());
    }
    message
}

/// What proves a thought, under the name that its vendor's state has here.
fn thought<'a>(text: Option<&'a str>, opaque: Option<&'a Opaque>, message: &mut OutMessage<'a>) {
    let Some(opaque) = opaque.filter(|o| !o.data.is_empty()) else { return };
    if opaque.vendor == Vendor::OpenAi {
        let before = message.reasoning_details.len();
        message.reasoning_details.extend(details(text, opaque, before));
    } else {
        message.thinking_blocks.push(Thought::new(text, opaque));
    }
}
