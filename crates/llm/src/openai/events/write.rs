//! Writes chunks.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use weir_error::Error;

use super::super::{
    DONE, error_body,
    logprobs::OutLogprobs,
    state::{Detail, Extra, Thought},
    told::Style,
    whole::{Counts, OutImage, finish_reason},
};
use crate::{
    Usage,
    canonical::{Custom, Delta, Event, Finish, Opaque, PartStart, Vendor},
    ids,
    wire::Encode,
};

#[derive(Serialize)]
struct OutChunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: &'a [OutChoice<'a>],
    /// Said, as null, to those who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Counts>>,
}

#[derive(Serialize)]
struct OutChoice<'a> {
    index: u64,
    delta: OutDelta<'a>,
    logprobs: Option<OutLogprobs<'a>>,
    finish_reason: Option<&'a str>,
}

#[derive(Serialize, Default)]
struct OutDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_blocks: Option<[Thought<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_details: Option<[Detail<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[OutCall<'a>; 1]>,
    /// As it was before there were tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<OutFunction<'a>>,
    /// OpenRouter's name for what a model drew.
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<[OutImage<'a>; 1]>,
}

#[derive(Serialize)]
struct OutCall<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<OutFunction<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<OutCustom<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
}

#[derive(Serialize)]
struct OutFunction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct OutCustom<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    input: &'a str,
}

/// Arguments of calls of custom tools that are not whole yet, in bytes.
const MOST_ARGUMENTS: usize = 1024 * 1024;

/// Writes chunks: one finish a choice, then the usage for those who asked, then `[DONE]`.
#[derive(Debug)]
pub(in crate::openai) struct Encoder {
    include_usage: bool,
    id: String,
    model: String,
    created: i64,
    started: bool,
    parts: Vec<Part>,
    sides: Vec<Side>,
    style: Style,
    /// Arguments of calls of custom tools, by their parts: the text in them is known when they are whole.
    held: BTreeMap<usize, String>,
    held_bytes: usize,
}

/// A part of the answer, by its number there.
#[derive(Debug, Clone, Copy)]
struct Part {
    index: usize,
    choice: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    /// By its number among the choice's blocks, as soon as there is something to put there.
    Thinking(Option<usize>),
    /// By its number among the choice's calls.
    Call(usize),
    /// The same, of a custom tool.
    Custom(usize),
    /// The only call.
    Older,
}

/// A choice that has begun.
#[derive(Debug)]
struct Side {
    choice: u64,
    finished: bool,
    calls: usize,
    blocks: usize,
    details: usize,
    images: usize,
    refused: bool,
}

/// The number of the next one of a list: places are told without gaps.
fn next(count: &mut usize) -> usize {
    std::mem::replace(count, *count + 1)
}

impl Encoder {
    pub(in crate::openai) fn new(call: &crate::Call) -> Self {
        Self {
            include_usage: call.include_usage,
            id: String::new(),
            model: call.model.clone(),
            created: call.now_s,
            started: false,
            parts: Vec::new(),
            sides: Vec::new(),
            style: Style::of_request(&call.request),
            held: BTreeMap::new(),
            held_bytes: 0,
        }
    }

    fn start(&mut self, id: &str, model: &str, created: i64, out: &mut BytesMut) {
        self.started = true;
        self.id = ids::with_prefix("chatcmpl-", id);
        if !model.is_empty() {
            model.clone_into(&mut self.model);
        }
        if created != 0 {
            self.created = created;
        }
        self.side(0, out);
    }

    /// The choice, begun with its role.
    fn side(&mut self, choice: u64, out: &mut BytesMut) -> Option<&mut Side> {
        if !self.sides.iter().any(|side| side.choice == choice) {
            let (calls, blocks, details, images) = (0, 0, 0, 0);
            self.sides.push(Side { choice, finished: false, calls, blocks, details, images, refused: false });
            let delta = OutDelta { role: Some("assistant"), content: Some(""), ..OutDelta::default() };
            self.chunk(choice, delta, out);
        }
        self.sides.iter_mut().find(|side| side.choice == choice)
    }

    fn part(&mut self, index: usize, choice: u64, part: &PartStart, out: &mut BytesMut) {
        let Some(side) = self.side(choice, out) else { return };
        let kind = match part {
            PartStart::Text => Kind::Text,
            PartStart::Refusal => {
                side.refused = true;
                Kind::Refusal
            }
            PartStart::Thinking => Kind::Thinking(None),
            PartStart::ToolUse { id, name } => {
                let number = next(&mut side.calls);
                let Some(kind) = self.call(choice, number, (id, name), out) else { return };
                kind
            }
            PartStart::RedactedThinking(opaque) => return self.redacted(choice, opaque, out),
            PartStart::Image(media) => {
                let Some(image) = OutImage::of(media) else { return };
                let images = Some([image.at(next(&mut side.images))]);
                return self.chunk(choice, OutDelta { images, ..OutDelta::default() }, out);
            }
            PartStart::Foreign { .. } => return,
        };
        if matches!(kind, Kind::Custom(_)) {
            self.held.insert(index, String::new());
        }
        self.parts.push(Part { index, choice, kind });
    }

    /// The beginning of a call, as the client has it told; `None` where there is no place for one more.
    fn call(&self, choice: u64, number: usize, (id, name): (&str, &str), out: &mut BytesMut) -> Option<Kind> {
        let begun = || OutFunction { name: Some(name), arguments: "" };
        if self.style.older {
            let function_call = Some(begun()).filter(|_| number == 0)?;
            self.chunk(choice, OutDelta { function_call: Some(function_call), ..OutDelta::default() }, out);
            return Some(Kind::Older);
        }
        let custom = self.style.is_custom(name);
        let call = OutCall {
            index: number,
            id: Some(id),
            r#type: Some(if custom { "custom" } else { "function" }),
            function: (!custom).then(begun),
            custom: custom.then_some(OutCustom { name: Some(name), input: "" }),
            extra_content: None,
        };
        self.chunk(choice, OutDelta { tool_calls: Some([call]), ..OutDelta::default() }, out);
        Some(if custom { Kind::Custom(number) } else { Kind::Call(number) })
    }

    /// The text of a custom tool's call goes out in one piece.
    fn stop(&mut self, index: usize, out: &mut BytesMut) {
        let Some(arguments) = self.held.remove(&index) else { return };
        self.held_bytes = self.held_bytes.saturating_sub(arguments.len());
        let part = self.parts.iter().rev().find(|p| p.index == index).copied();
        if let Some(Part { choice, kind: Kind::Custom(number), .. }) = part {
            let input = Custom::input(&arguments);
            let custom = Some(OutCustom { name: None, input: &input });
            let call = OutCall {
                index: number,
                id: None,
                r#type: None,
                function: None,
                custom,
                extra_content: None,
            };
            self.chunk(choice, OutDelta { tool_calls: Some([call]), ..OutDelta::default() }, out);
        }
    }

    fn redacted(&mut self, choice: u64, opaque: &Opaque, out: &mut BytesMut) {
        if opaque.vendor == Vendor::OpenAi {
            return self.detail(choice, opaque, out);
        }
        let index = self.side(choice, out).map(|side| next(&mut side.blocks));
        let block = Thought::RedactedThinking { data: opaque.seal(Vendor::Anthropic), index };
        self.chunk(choice, OutDelta { thinking_blocks: Some([block]), ..OutDelta::default() }, out);
    }

    /// OpenAI's state. Its summary went before it, as text.
    fn detail(&mut self, choice: u64, opaque: &Opaque, out: &mut BytesMut) {
        let Some(side) = self.side(choice, out) else { return };
        let detail = Detail::encrypted(opaque, next(&mut side.details));
        self.chunk(choice, OutDelta { reasoning_details: Some([detail]), ..OutDelta::default() }, out);
    }

    /// The place of a thought among the choice's blocks.
    fn block(&mut self, index: usize) -> Option<usize> {
        let part = self.parts.iter_mut().rev().find(|p| p.index == index)?;
        if part.kind == Kind::Thinking(None) {
            let side = self.sides.iter_mut().find(|side| side.choice == part.choice)?;
            part.kind = Kind::Thinking(Some(next(&mut side.blocks)));
        }
        match part.kind {
            Kind::Thinking(place) => place,
            _ => None,
        }
    }

    fn delta(&mut self, index: usize, delta: &Delta, out: &mut BytesMut) {
        let Some(Part { choice, kind, .. }) = self.parts.iter().rev().find(|p| p.index == index).copied()
        else {
            return;
        };
        let call = |number, arguments, extra_content| {
            let function = Some(OutFunction { name: None, arguments });
            let call =
                OutCall { index: number, id: None, r#type: None, function, custom: None, extra_content };
            OutDelta { tool_calls: Some([call]), ..OutDelta::default() }
        };
        let delta = match (delta, kind) {
            (Delta::Text(text), _) => OutDelta { content: Some(text), ..OutDelta::default() },
            (Delta::Refusal(text), _) => OutDelta { refusal: Some(text), ..OutDelta::default() },
            (Delta::Thinking(text), _) => OutDelta {
                reasoning_content: Some(text),
                thinking_blocks: Some([Thought::Thinking {
                    thinking: text,
                    signature: "".into(),
                    index: self.block(index),
                }]),
                ..OutDelta::default()
            },
            (Delta::Arguments(arguments), Kind::Call(number)) => call(number, arguments.as_str(), None),
            (Delta::Arguments(arguments), Kind::Custom(_)) => {
                self.held_bytes += arguments.len();
                self.held.entry(index).or_default().push_str(arguments);
                return;
            }
            (Delta::Arguments(arguments), Kind::Older) => {
                let function_call = Some(OutFunction { name: None, arguments });
                OutDelta { function_call, ..OutDelta::default() }
            }
            (Delta::Arguments(_), _) => return,
            (Delta::Opaque(opaque), Kind::Call(number)) => call(number, "", Some(Extra::new(opaque))),
            (Delta::Opaque(opaque), Kind::Custom(number)) => {
                let call = OutCall {
                    index: number,
                    id: None,
                    r#type: None,
                    function: None,
                    custom: None,
                    extra_content: Some(Extra::new(opaque)),
                };
                OutDelta { tool_calls: Some([call]), ..OutDelta::default() }
            }
            (Delta::Opaque(_), Kind::Older) => return,
            (Delta::Opaque(opaque), Kind::Text | Kind::Refusal) => {
                OutDelta { extra_content: Some(Extra::new(opaque)), ..OutDelta::default() }
            }
            (Delta::Opaque(opaque), Kind::Thinking(_)) if opaque.vendor == Vendor::OpenAi => {
                return self.detail(choice, opaque, out);
            }
            (Delta::Opaque(opaque), Kind::Thinking(_)) => {
                let signature = opaque.seal(Vendor::Anthropic);
                let block = Thought::Thinking { thinking: "", signature, index: self.block(index) };
                OutDelta { thinking_blocks: Some([block]), ..OutDelta::default() }
            }
            (Delta::Logprobs(logprobs), kind) => {
                let logprobs = OutLogprobs::new(logprobs, kind == Kind::Refusal);
                let choice =
                    OutChoice { index: choice, delta: OutDelta::default(), logprobs, finish_reason: None };
                return self.write(&[choice], self.include_usage.then_some(None), out);
            }
        };
        self.chunk(choice, delta, out);
    }

    fn finish(&mut self, choice: u64, finish: &Finish, out: &mut BytesMut) {
        let older = self.style.older;
        let Some(side) = self.side(choice, out) else { return };
        if !std::mem::replace(&mut side.finished, true) {
            let finish_reason = Some(finish_reason(finish, side.refused, older));
            let end = OutChoice { index: choice, delta: OutDelta::default(), logprobs: None, finish_reason };
            self.write(&[end], self.include_usage.then_some(None), out);
        }
    }

    fn chunk(&self, index: u64, delta: OutDelta<'_>, out: &mut BytesMut) {
        let choice = OutChoice { index, delta, logprobs: None, finish_reason: None };
        self.write(&[choice], self.include_usage.then_some(None), out);
    }

    fn write(&self, choices: &[OutChoice<'_>], usage: Option<Option<Counts>>, out: &mut BytesMut) {
        let (id, model) = (self.id.as_str(), self.model.as_str());
        let object = "chat.completion.chunk";
        let chunk = OutChunk { id, object, created: self.created, model, choices, usage };
        out.extend_from_slice(b"data: ");
        // Serializing into memory can't fail.
        drop(serde_json::to_writer(out.writer(), &chunk));
        out.extend_from_slice(b"\n\n");
    }
}

impl Encode for Encoder {
    fn encode(&mut self, event: &Event, out: &mut BytesMut) {
        match event {
            Event::Start { id, model, created, .. } => self.start(id, model, *created, out),
            Event::PartStart { index, choice, part } => self.part(*index, *choice, part, out),
            Event::PartDelta { index, delta } => self.delta(*index, delta, out),
            Event::Finish { choice, finish } => self.finish(*choice, finish, out),
            Event::PartStop { index } => self.stop(*index, out),
            // Usage comes last, and an error ends it all.
            Event::Usage(_) | Event::Error(_) => {}
        }
    }

    fn draws(&self) -> bool {
        true
    }

    fn overflown(&self) -> bool {
        self.held_bytes > MOST_ARGUMENTS
    }

    fn end(&mut self, usage: Usage) -> Bytes {
        let mut out = BytesMut::new();
        if !self.started {
            self.start("", "", 0, &mut out);
        }
        let unfinished = self.sides.iter().filter(|side| !side.finished);
        let unfinished: Vec<_> = unfinished.map(|side| (side.choice, side.calls > 0)).collect();
        for (choice, called) in unfinished {
            self.finish(choice, if called { &Finish::ToolUse } else { &Finish::Stop }, &mut out);
        }
        if self.include_usage {
            self.write(&[], Some(Some(usage.into())), &mut out);
        }
        out.extend_from_slice(DONE);
        out.freeze()
    }

    fn fail(&mut self, error: &Error) -> Bytes {
        [b"data: ", &*error_body(error), b"\n\n", DONE].concat().into()
    }
}
