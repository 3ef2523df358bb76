//! Messages, written from what is meant.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use serde::Serialize;

use super::{
    content::audio_format,
    state::{Detail, Extra, Thought, details},
};
use crate::{
    canonical::{
        Content, Custom, Losses, Media, Message, Opaque, Part, Role, Source, ToolResult, ToolUse, Vendor,
    },
    models::{Maker, facts},
};

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub(super) enum Wire<'a> {
    System {
        content: Text<'a>,
    },
    User {
        content: Text<'a>,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        refusal: Option<&'a str>,
        #[serde(flatten)]
        state: State<'a>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: String,
    },
}

/// A string where that is all there is, as every provider understands it.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Text<'a> {
    Plain(Cow<'a, str>),
    Parts(Vec<WirePart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum WirePart<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: ImageUrl<'a> },
    InputAudio { input_audio: Audio<'a> },
    File { file: File<'a> },
}

#[derive(Serialize)]
pub(super) struct ImageUrl<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Audio<'a> {
    data: &'a str,
    format: &'a str,
}

#[derive(Serialize)]
pub(super) struct File<'a> {
    filename: &'a str,
    file_data: String,
}

#[derive(Serialize)]
pub(super) struct Call<'a> {
    id: &'a str,
    #[serde(flatten)]
    called: Called<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Called<'a> {
    Function { function: CallFunction<'a> },
    Custom { custom: CallCustom<'a> },
}

#[derive(Serialize)]
struct CallCustom<'a> {
    name: &'a str,
    input: Cow<'a, str>,
}

#[derive(Serialize)]
pub(super) struct CallFunction<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

impl<'a> Call<'a> {
    /// `custom`: of a tool that is called with text.
    pub(super) fn new(
        ToolUse { id, name, arguments }: &'a ToolUse,
        custom: bool,
        extra_content: Option<Extra<'a>>,
    ) -> Self {
        let called = if custom {
            Called::Custom { custom: CallCustom { name, input: Custom::input(arguments) } }
        } else {
            Called::Function { function: CallFunction { name, arguments } }
        };
        Self { id, called, extra_content }
    }
}

impl Wire<'_> {
    pub(super) fn system(text: String) -> Self {
        Self::System { content: Text::Plain(text.into()) }
    }
}

/// Whose opaque state a compatible provider takes back, by the model it serves. OpenAI's own endpoint takes none: the
/// models of others have others' names, or stand behind a vendor's (`openai/gpt-5`).
pub(crate) fn carries(model: &str) -> Option<Vendor> {
    let facts = facts(model)?;
    match facts.maker {
        Maker::Anthropic => Some(Vendor::Anthropic),
        Maker::Google => Some(Vendor::Google),
        Maker::OpenAi => {
            (model.contains('/') && super::request_out::reasons(model)).then_some(Vendor::OpenAi)
        }
        Maker::Mistral | Maker::Meta => None,
    }
}

/// Messages in the order that OpenAI insists on: the results of a turn's calls right after it, whatever came between.
///
/// `custom` are the names of tools that are called with text.
pub(super) fn messages<'a>(
    messages: &'a [Message],
    custom: &HashSet<&str>,
    carried: Option<Vendor>,
    losses: &mut Losses,
) -> Vec<Wire<'a>> {
    let mut answers = answers(messages);
    let mut called = HashSet::new();
    let mut out = Vec::with_capacity(messages.len());
    for (at, Message { role, parts }) in messages.iter().enumerate() {
        match role {
            Role::System => out.push(Wire::System { content: Text::Plain(texts(parts).into()) }),
            Role::Assistant => {
                called.extend(ids(parts));
                out.push(assistant(parts, custom, carried, losses));
                let results = answers.remove(&at).unwrap_or_default();
                out.extend(results.into_iter().map(|result| result_of(result, losses)));
            }
            Role::User => user(parts, &called, &mut out, losses),
        }
    }
    out
}

fn ids(parts: &[Part]) -> impl Iterator<Item = &str> {
    parts.iter().filter_map(|part| match &part.content {
        Content::ToolUse(call) => Some(call.id.as_str()),
        _ => None,
    })
}

/// Results by the turns whose calls they answer: the last before them, where an id was given twice.
fn answers(messages: &[Message]) -> HashMap<usize, Vec<&ToolResult>> {
    let mut turns: HashMap<&str, usize> = HashMap::new();
    let mut answers: HashMap<usize, Vec<&ToolResult>> = HashMap::new();
    for (at, Message { role, parts }) in messages.iter().enumerate() {
        if *role == Role::Assistant {
            turns.extend(ids(parts).map(|id| (id, at)));
            continue;
        }
        for part in parts {
            let Content::ToolResult(result) = &part.content else { continue };
            if let Some(turn) = turns.get(result.id.as_str()) {
                answers.entry(*turn).or_default().push(result);
            }
        }
    }
    answers
}

fn result_of<'a>(result: &'a ToolResult, losses: &mut Losses) -> Wire<'a> {
    if result.is_error {
        losses.dropped("messages.content.is_error");
    }
    Wire::Tool { tool_call_id: &result.id, content: texts(&result.parts) }
}

fn texts(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match &part.content {
        Content::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n\n")
}

/// A turn's opaque state, as members of its message; that of calls stands in them.
#[derive(Serialize, Default)]
pub(super) struct State<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    thinking_blocks: Vec<Thought<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Detail<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
}

impl<'a> State<'a> {
    /// Its members, as JSON.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'static str, String)> {
        fn json(of: &impl Serialize) -> Option<String> {
            serde_json::to_string(of).ok()
        }
        let blocks = (!self.thinking_blocks.is_empty()).then(|| json(&self.thinking_blocks)).flatten();
        let details = (!self.reasoning_details.is_empty()).then(|| json(&self.reasoning_details)).flatten();
        let extra = self.extra_content.as_ref().and_then(json);
        [("thinking_blocks", blocks), ("reasoning_details", details), ("extra_content", extra)]
            .into_iter()
            .filter_map(|(name, json)| Some((name, json?)))
    }

    /// Whether there is a place for it: a provider gets each vendor's state where that vendor's stands, and none under a
    /// seal, which only we can open.
    fn add(&mut self, content: &'a Content, opaque: &'a Opaque) -> bool {
        let text = match content {
            Content::Thinking(text) => Some(text.as_str()),
            Content::RedactedThinking => None,
            Content::Text(_) if opaque.vendor == Vendor::Google => {
                self.extra_content = Some(Extra::new(opaque));
                return true;
            }
            _ => return of_call(content, opaque),
        };
        match opaque.vendor {
            Vendor::OpenAi => {
                self.reasoning_details.extend(details(text, opaque, self.reasoning_details.len()));
            }
            Vendor::Anthropic => self.thinking_blocks.push(Thought::new(text, opaque)),
            Vendor::Google => return false,
        }
        true
    }
}

/// Whether it is state that stands in a call.
pub(super) fn of_call(content: &Content, opaque: &Opaque) -> bool {
    matches!(content, Content::ToolUse(_)) && opaque.vendor == Vendor::Google
}

/// All the state of a turn, whosever it is.
pub(super) fn state(parts: &[Part]) -> State<'_> {
    let mut state = State::default();
    for part in parts {
        part.opaque.iter().for_each(|opaque| {
            state.add(&part.content, opaque);
        });
    }
    state
}

fn assistant<'a>(
    parts: &'a [Part],
    custom: &HashSet<&str>,
    carried: Option<Vendor>,
    losses: &mut Losses,
) -> Wire<'a> {
    let (mut content, mut refusal, mut tool_calls) = (None::<String>, None, Vec::new());
    let mut state = State::default();
    for part in parts {
        let own = part.opaque.as_ref().filter(|o| Some(o.vendor) == carried);
        let own = own.filter(|opaque| state.add(&part.content, opaque));
        if own.is_none() && part.opaque.is_some() {
            // Another vendor's state means nothing to this one.
            losses.dropped("thinking");
        }
        match &part.content {
            Content::Text(text) => content.get_or_insert_default().push_str(text),
            Content::Refusal(text) => refusal = Some(text.as_str()),
            Content::ToolUse(call) => {
                tool_calls.push(Call::new(call, custom.contains(call.name.as_str()), own.map(Extra::new)));
            }
            Content::Thinking(_) | Content::RedactedThinking => {}
            other => losses.dropped(&format!("messages.content.{}", other.kind())),
        }
    }
    if content.is_none() && refusal.is_none() && tool_calls.is_empty() {
        content = Some(String::new());
    }
    Wire::Assistant { content, refusal, state, tool_calls }
}

/// Results are messages of their own here, and hold text alone: what else is in them follows as the user's. Those of
/// calls stand behind these already.
fn user<'a>(parts: &'a [Part], called: &HashSet<&str>, out: &mut Vec<Wire<'a>>, losses: &mut Losses) {
    let (mut said, mut answered) = (Vec::new(), false);
    for part in parts {
        match &part.content {
            Content::ToolResult(result) => {
                answered = true;
                if !called.contains(result.id.as_str()) {
                    out.push(result_of(result, losses));
                }
                let others = result.parts.iter().filter(|p| !matches!(p.content, Content::Text(_)));
                for other in others {
                    losses.emulated("messages.content.tool_result");
                    said.extend(wire_part(&other.content, losses));
                }
            }
            content => said.extend(wire_part(content, losses)),
        }
    }
    let content = match said.as_mut_slice() {
        [] if answered => return,
        [] => Text::Plain("".into()),
        [WirePart::Text { text }] => Text::Plain(std::mem::take(text)),
        _ => Text::Parts(said),
    };
    out.push(Wire::User { content });
}

fn wire_part<'a>(content: &'a Content, losses: &mut Losses) -> Option<WirePart<'a>> {
    match content {
        Content::Text(text) => return Some(WirePart::Text { text: text.into() }),
        Content::Image(Media { source, detail, .. }) => {
            let url = match source {
                Source::Url(url) => Cow::Borrowed(url.as_str()),
                Source::Data { media_type, data } => format!("data:{media_type};base64,{data}").into(),
                Source::Id(_) | Source::Text(_) => {
                    losses.dropped("messages.content.image.file_id");
                    return None;
                }
            };
            return Some(WirePart::ImageUrl { image_url: ImageUrl { url, detail: detail.as_deref() } });
        }
        Content::Audio(Media { source: Source::Data { media_type, data }, .. }) => {
            let format = audio_format(media_type);
            return Some(WirePart::InputAudio { input_audio: Audio { data, format } });
        }
        Content::File(Media { source, name, .. }) => match source {
            Source::Data { media_type, data } => {
                let filename = name.as_deref().unwrap_or("document");
                let file_data = format!("data:{media_type};base64,{data}");
                return Some(WirePart::File { file: File { filename, file_data } });
            }
            Source::Text(text) => {
                losses.emulated("messages.content.document");
                return Some(WirePart::Text { text: text.into() });
            }
            Source::Url(_) | Source::Id(_) => {}
        },
        _ => {}
    }
    losses.dropped(&format!("messages.content.{}", content.kind()));
    None
}
