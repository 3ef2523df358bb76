//! Items of an answer, as clients get them.

use std::borrow::Cow;

use serde::Serialize;

use super::tools::{Known, ToolNames};
use crate::{
    canonical::{Content, Custom, Logprob, Losses, Media, Opaque, Part, Source, ToolUse, Vendor},
    ids,
};

/// OpenAI takes back ids of at most 64 characters.
const MAX_ID: usize = 48;

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item {
    Message {
        id: String,
        status: &'static str,
        role: &'static str,
        content: Vec<Piece>,
    },
    Reasoning {
        id: String,
        summary: Vec<Summary>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
    FunctionCall {
        id: String,
        status: &'static str,
        call_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        name: String,
        arguments: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        extra_content: Option<Extra>,
    },
    ImageGenerationCall {
        id: String,
        status: &'static str,
        /// Base64.
        result: Option<String>,
        output_format: String,
    },
    CustomToolCall {
        id: String,
        status: &'static str,
        call_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        name: String,
        input: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        extra_content: Option<Extra>,
    },
}

/// What a model drew, in Base64, and as what; `None` for what is only told where it is.
pub(super) fn drawn(media: &Media) -> Option<(&str, &str)> {
    let Source::Data { media_type, data } = &media.source else { return None };
    Some((data, media_type.strip_prefix("image/").unwrap_or(media_type)))
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Piece {
    OutputText {
        annotations: [(); 0],
        logprobs: Vec<WireLogprob>,
        text: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        extra_content: Option<Extra>,
    },
    Refusal {
        refusal: String,
    },
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Summary {
    SummaryText { text: String },
}

/// A thought's signature on what is no thought: under the name that chat clients know it by.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Extra {
    google: Signed,
}

#[derive(Debug, Clone, Serialize)]
struct Signed {
    thought_signature: String,
}

impl Extra {
    pub(super) fn of(opaque: &Opaque) -> Self {
        Self { google: Signed { thought_signature: opaque.seal(Vendor::Google).into_owned() } }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct WireLogprob {
    token: String,
    bytes: Vec<u8>,
    logprob: f64,
    top_logprobs: Vec<TopLogprob>,
}

#[derive(Debug, Clone, Serialize)]
struct TopLogprob {
    token: String,
    bytes: Vec<u8>,
    logprob: f64,
}

impl From<&Logprob> for WireLogprob {
    fn from(from: &Logprob) -> Self {
        let bytes = |of: &Logprob| of.bytes.clone().unwrap_or_else(|| of.token.clone().into_bytes());
        let top = from.top.iter().map(|top| TopLogprob {
            token: top.token.clone(),
            bytes: bytes(top),
            logprob: top.logprob,
        });
        Self {
            token: from.token.clone(),
            bytes: bytes(from),
            logprob: from.logprob,
            top_logprobs: top.collect(),
        }
    }
}

pub(super) fn output_text(text: String, logprobs: &[Logprob], opaque: Option<&Opaque>) -> Piece {
    Piece::OutputText {
        annotations: [],
        logprobs: logprobs.iter().map(WireLogprob::from).collect(),
        text,
        extra_content: opaque.map(Extra::of),
    }
}

/// Ids of a response's items, by their places.
#[derive(Debug)]
pub(super) struct Ids(String);

impl Ids {
    pub(super) fn new(response: &str) -> Self {
        let bare = response.strip_prefix("resp_").unwrap_or(response);
        let bare = ids::plain(bare);
        Self(bare.chars().skip(bare.len().saturating_sub(MAX_ID)).collect())
    }

    pub(super) fn id(&self, prefix: &str, place: usize) -> String {
        format!("{prefix}_{}_{place}", self.0)
    }

    /// Of state that goes back to OpenAI its own id.
    pub(super) fn reasoning(&self, opaque: Option<&Opaque>, place: usize) -> String {
        let own = opaque.filter(|o| o.vendor == Vendor::OpenAi).and_then(|o| o.id.clone());
        own.unwrap_or_else(|| self.id("rs", place))
    }
}

/// The state of a thought, as it goes out.
pub(super) fn sealed(opaque: &Opaque) -> Option<String> {
    let sealed = opaque.seal(Vendor::OpenAi);
    (!sealed.is_empty()).then(|| sealed.into_owned())
}

/// The response's id with us, or one made from the provider's.
pub(super) fn response_id(ours: Option<&str>, theirs: &str) -> String {
    match ours {
        Some(id) => id.to_owned(),
        None if theirs.is_empty() => format!("resp_{}", ids::plain_or_random("")),
        None => ids::with_prefix("resp_", theirs),
    }
}

/// The output of a whole answer; `status` is that of what came last, should the answer have been cut short.
pub(super) fn output(
    parts: &[Part],
    ids: &Ids,
    tools: &ToolNames,
    complete: bool,
    losses: &mut Losses,
) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for part in parts {
        let place = items.len();
        let opaque = part.opaque.as_ref();
        let piece = match &part.content {
            Content::Text(text) => output_text(text.clone(), &part.logprobs, opaque),
            Content::Refusal(refusal) => Piece::Refusal { refusal: refusal.clone() },
            Content::Thinking(text) => {
                items.push(Item::Reasoning {
                    id: ids.reasoning(opaque, place),
                    summary: vec![Summary::SummaryText { text: text.clone() }],
                    encrypted_content: opaque.and_then(sealed),
                });
                continue;
            }
            Content::RedactedThinking => {
                items.push(Item::Reasoning {
                    id: ids.reasoning(opaque, place),
                    summary: Vec::new(),
                    encrypted_content: opaque.and_then(sealed),
                });
                continue;
            }
            Content::ToolUse(call) => {
                items.push(call_item(call, opaque, ids, tools, place));
                continue;
            }
            Content::Image(media) if drawn(media).is_some() => {
                items.extend(drawn(media).map(|image| image_item(image, ids, place)));
                continue;
            }
            // Server tools' doings have no place here.
            other => {
                losses.unsaid(other.kind());
                continue;
            }
        };
        match items.last_mut() {
            Some(Item::Message { content, .. }) => content.push(piece),
            _ => items.push(Item::Message {
                id: ids.id("msg", place),
                status: "completed",
                role: "assistant",
                content: vec![piece],
            }),
        }
    }
    if !complete && let Some(last) = items.last_mut() {
        last.cut();
    }
    items
}

fn call_item(call: &ToolUse, opaque: Option<&Opaque>, ids: &Ids, tools: &ToolNames, place: usize) -> Item {
    let mut item = begun_call(&call.id, tools.known(&call.name), ids, place);
    match &mut item {
        Item::CustomToolCall { input, extra_content, .. } => {
            *input = Custom::input(&call.arguments).into_owned();
            *extra_content = opaque.map(Extra::of);
        }
        Item::FunctionCall { arguments, extra_content, .. } => {
            *arguments = arguments_or_empty(&call.arguments).into_owned();
            *extra_content = opaque.map(Extra::of);
        }
        _ => {}
    }
    item.set_status("completed");
    item
}

/// What a model drew.
pub(super) fn image_item((data, format): (&str, &str), ids: &Ids, place: usize) -> Item {
    let (result, output_format) = (Some(data.to_owned()), format.to_owned());
    Item::ImageGenerationCall { id: ids.id("ig", place), status: "completed", result, output_format }
}

/// A call that has begun, of the tool as its client knows it.
pub(super) fn begun_call(call_id: &str, tool: Known, ids: &Ids, place: usize) -> Item {
    let (status, call_id, extra_content) = ("in_progress", call_id.to_owned(), None);
    let Known { namespace, name, custom } = tool;
    if custom {
        let (id, input) = (ids.id("ctc", place), String::new());
        return Item::CustomToolCall { id, status, call_id, namespace, name, input, extra_content };
    }
    let (id, arguments) = (ids.id("fc", place), String::new());
    Item::FunctionCall { id, status, call_id, namespace, name, arguments, extra_content }
}

impl Item {
    /// The answer ended before it did.
    pub(super) fn cut(&mut self) {
        self.set_status("incomplete");
    }

    pub(super) fn set_status(&mut self, to: &'static str) {
        match self {
            Self::Message { status, .. }
            | Self::FunctionCall { status, .. }
            | Self::CustomToolCall { status, .. } => *status = to,
            // An image is whole.
            Self::Reasoning { .. } | Self::ImageGenerationCall { .. } => {}
        }
    }
}

/// Arguments, which are an object even when there are none.
pub(super) fn arguments_or_empty(arguments: &str) -> Cow<'_, str> {
    if arguments.trim().is_empty() { "{}".into() } else { arguments.into() }
}
