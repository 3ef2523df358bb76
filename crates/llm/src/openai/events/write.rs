//! Writes chunks.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use weir_error::Error;

use super::super::{
    DONE, error_body,
    logprobs::OutLogprobs,
    state::{Detail, Extra, Thought},
    whole::{Counts, finish_reason},
};
use crate::{
    Usage,
    canonical::{Delta, Event, Finish, Opaque, PartStart, Vendor},
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
}

#[derive(Serialize)]
struct OutCall<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: OutFunction<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
}

#[derive(Serialize)]
struct OutFunction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

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
    Thinking,
    /// By its number among the choice's calls.
    Call(usize),
}

/// A choice that has begun.
#[derive(Debug)]
struct Side {
    choice: u64,
    finished: bool,
    calls: usize,
    details: usize,
}

impl Encoder {
    /// `id`, `model` and `now_s` stand in for what the provider's dialect doesn't say.
    pub(in crate::openai) fn new(include_usage: bool, model: &str, now_s: i64) -> Self {
        Self {
            include_usage,
            id: String::new(),
            model: model.to_owned(),
            created: now_s,
            started: false,
            parts: Vec::new(),
            sides: Vec::new(),
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
            self.sides.push(Side { choice, finished: false, calls: 0, details: 0 });
            let delta = OutDelta { role: Some("assistant"), content: Some(""), ..OutDelta::default() };
            self.chunk(choice, delta, out);
        }
        self.sides.iter_mut().find(|side| side.choice == choice)
    }

    fn part(&mut self, index: usize, choice: u64, part: &PartStart, out: &mut BytesMut) {
        let Some(side) = self.side(choice, out) else { return };
        let kind = match part {
            PartStart::Text => Kind::Text,
            PartStart::Refusal => Kind::Refusal,
            PartStart::Thinking => Kind::Thinking,
            PartStart::ToolUse { id, name } => {
                let number = side.calls;
                side.calls += 1;
                let function = OutFunction { name: Some(name), arguments: "" };
                let call = OutCall {
                    index: number,
                    id: Some(id),
                    r#type: Some("function"),
                    function,
                    extra_content: None,
                };
                self.chunk(choice, OutDelta { tool_calls: Some([call]), ..OutDelta::default() }, out);
                Kind::Call(number)
            }
            PartStart::RedactedThinking(opaque) => return self.redacted(choice, opaque, out),
            PartStart::Foreign { .. } => return,
        };
        self.parts.push(Part { index, choice, kind });
    }

    fn redacted(&mut self, choice: u64, opaque: &Opaque, out: &mut BytesMut) {
        if opaque.vendor == Vendor::OpenAi {
            return self.detail(choice, opaque, out);
        }
        let block = Thought::RedactedThinking { data: opaque.seal(Vendor::Anthropic) };
        self.chunk(choice, OutDelta { thinking_blocks: Some([block]), ..OutDelta::default() }, out);
    }

    /// OpenAI's state. Its summary went before it, as text.
    fn detail(&mut self, choice: u64, opaque: &Opaque, out: &mut BytesMut) {
        let Some(side) = self.side(choice, out) else { return };
        let detail = Detail::encrypted(opaque, side.details);
        side.details += 1;
        self.chunk(choice, OutDelta { reasoning_details: Some([detail]), ..OutDelta::default() }, out);
    }

    fn delta(&mut self, index: usize, delta: &Delta, out: &mut BytesMut) {
        let Some(Part { choice, kind, .. }) = self.parts.iter().rev().find(|p| p.index == index).copied()
        else {
            return;
        };
        let call = |number, arguments, extra_content| {
            let function = OutFunction { name: None, arguments };
            let call = OutCall { index: number, id: None, r#type: None, function, extra_content };
            OutDelta { tool_calls: Some([call]), ..OutDelta::default() }
        };
        let delta = match (delta, kind) {
            (Delta::Text(text), _) => OutDelta { content: Some(text), ..OutDelta::default() },
            (Delta::Refusal(text), _) => OutDelta { refusal: Some(text), ..OutDelta::default() },
            (Delta::Thinking(text), _) => OutDelta {
                reasoning_content: Some(text),
                thinking_blocks: Some([Thought::Thinking { thinking: text, signature: "".into() }]),
                ..OutDelta::default()
            },
            (Delta::Arguments(arguments), Kind::Call(number)) => call(number, arguments.as_str(), None),
            (Delta::Arguments(_), _) => return,
            (Delta::Opaque(opaque), Kind::Call(number)) => call(number, "", Some(Extra::new(opaque))),
            (Delta::Opaque(opaque), Kind::Text | Kind::Refusal) => {
                OutDelta { extra_content: Some(Extra::new(opaque)), ..OutDelta::default() }
            }
            (Delta::Opaque(opaque), Kind::Thinking) if opaque.vendor == Vendor::OpenAi => {
                return self.detail(choice, opaque, out);
            }
            (Delta::Opaque(opaque), Kind::Thinking) => {
                let signature = opaque.seal(Vendor::Anthropic);
                let block = Thought::Thinking { thinking: "", signature };
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
        let Some(side) = self.side(choice, out) else { return };
        if !std::mem::replace(&mut side.finished, true) {
            let finish_reason = Some(finish_reason(finish));
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
            // Usage comes last, and an error ends it all.
            Event::PartStop { .. } | Event::Usage(_) | Event::Error(_) => {}
        }
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
