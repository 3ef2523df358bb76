//! Streams of chunks: read as the steps they mean, and written from such steps.

use std::borrow::Cow;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{
    DONE,
    answer::WireUsage,
    error_body, error_in_stream,
    whole::{Counts, Thought, finish, finish_reason},
};
use crate::{
    Usage,
    canonical::{Delta, Event, Finish, PartStart, Vendor},
    ids, sse,
    wire::{Decode, Encode},
};
use weir_error::Error;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(default)]
    created: i64,
    #[serde(borrow, default)]
    model: Cow<'a, str>,
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    #[serde(default)]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    delta: Said<'a>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
struct Said<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Cow<'a, str>>,
    /// The same, as other providers name it.
    #[serde(borrow, default)]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    /// Some providers leave it out when there is one call only.
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Refusal,
    /// By the provider's index.
    Tool(u64),
}

/// Reads chunks. Of several choices, the first.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    finished: bool,
    open: Option<(usize, Open)>,
    /// Parts begun.
    parts: usize,
    /// Indices of the provider's calls, and the parts they became.
    calls: Vec<(u64, usize)>,
    refused: bool,
}

impl Decode for Decoder {
    fn decode(&mut self, event: &[u8], out: &mut Vec<Event>) {
        let Some(data) = sse::data(event) else { return };
        if data.as_ref() == b"[DONE]" {
            return;
        }
        if let Some(failure) = error_in_stream(&data) {
            out.push(Event::Error(failure));
            return;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(&data) else { return };
        if !self.started {
            self.started = true;
            out.push(Event::Start {
                id: chunk.id.into_owned(),
                model: chunk.model.into_owned(),
                created: chunk.created,
                usage: None,
            });
        }
        for choice in chunk.choices.into_iter().filter(|c| c.index == 0) {
            self.choice(choice, out);
        }
        out.extend(chunk.usage.and_then(WireUsage::believable).map(Event::Usage));
    }
}

impl Decoder {
    fn choice(&mut self, choice: Choice<'_>, out: &mut Vec<Event>) {
        let said = choice.delta;
        let pieces = [
            (said.reasoning_content.or(said.reasoning), Open::Thinking),
            (said.content, Open::Text),
            (said.refusal, Open::Refusal),
        ];
        for (text, kind) in pieces {
            let Some(text) = text.filter(|t| !t.is_empty()) else { continue };
            let text = text.into_owned();
            let (part, delta) = match kind {
                Open::Thinking => (PartStart::Thinking, Delta::Thinking(text)),
                Open::Refusal => (PartStart::Refusal, Delta::Refusal(text)),
                _ => (PartStart::Text, Delta::Text(text)),
            };
            self.refused |= kind == Open::Refusal;
            let index = self.open(kind, part, out);
            out.push(Event::PartDelta { index, delta });
        }
        for call in said.tool_calls.into_iter().flatten() {
            self.call(call, out);
        }
        if let Some(reason) = choice.finish_reason.filter(|_| !self.finished) {
            self.finished = true;
            self.close(out);
            let finish = finish(&reason, !self.calls.is_empty(), self.refused);
            out.push(Event::Finish { choice: 0, finish });
        }
    }

    fn call(&mut self, call: Call<'_>, out: &mut Vec<Event>) {
        let function = call.function;
        let (name, arguments) = function.map_or((None, None), |f| (f.name, f.arguments));
        let known = |index: u64| self.calls.iter().find(|(i, _)| *i == index).map(|(_, part)| *part);
        let last = self.calls.last().map_or(0, |(i, _)| *i);
        // Without an index, an id begins the next call.
        let index = call
            .index
            .unwrap_or_else(|| if call.id.is_some() && !self.calls.is_empty() { last + 1 } else { last });
        let part = known(index).unwrap_or_else(|| {
            let id = call.id.map_or_else(|| format!("call_{index}"), Cow::into_owned);
            let start = PartStart::ToolUse { id, name: name.unwrap_or_default().into_owned() };
            let part = self.open(Open::Tool(index), start, out);
            self.calls.push((index, part));
            part
        });
        if let Some(arguments) = arguments.filter(|a| !a.is_empty()) {
            let delta = Delta::Arguments(arguments.into_owned());
            out.push(Event::PartDelta { index: part, delta });
        }
    }

    /// The open part, if it is of this kind, else a new one in its place.
    fn open(&mut self, kind: Open, part: PartStart, out: &mut Vec<Event>) -> usize {
        match self.open {
            Some((index, open)) if open == kind => return index,
            Some(_) => self.close(out),
            None => {}
        }
        let index = self.parts;
        self.parts += 1;
        self.open = Some((index, kind));
        out.push(Event::PartStart { index, choice: 0, part });
        index
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        out.extend(self.open.take().map(|(index, _)| Event::PartStop { index }));
    }
}

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
    logprobs: (),
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
}

#[derive(Serialize)]
struct OutFunction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

/// Writes chunks: one finish, then the usage for those who asked, then `[DONE]`.
#[derive(Debug)]
pub(super) struct Encoder {
    include_usage: bool,
    id: String,
    model: String,
    created: i64,
    started: bool,
    finished: bool,
    /// Parts that are tool calls, in their order.
    calls: Vec<usize>,
}

impl Encoder {
    /// `id`, `model` and `now_s` stand in for what the provider's dialect doesn't say.
    pub(super) fn new(include_usage: bool, model: &str, now_s: i64) -> Self {
        Self {
            include_usage,
            id: String::new(),
            model: model.to_owned(),
            created: now_s,
            started: false,
            finished: false,
            calls: Vec::new(),
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
        let delta = OutDelta { role: Some("assistant"), content: Some(""), ..OutDelta::default() };
        self.chunk(delta, None, out);
    }

    fn part(&mut self, index: usize, part: &PartStart, out: &mut BytesMut) {
        let delta = match part {
            PartStart::ToolUse { id, name } => {
                self.calls.push(index);
                let call = OutCall {
                    index: self.calls.len() - 1,
                    id: Some(id),
                    r#type: Some("function"),
                    function: OutFunction { name: Some(name), arguments: "" },
                };
                OutDelta { tool_calls: Some([call]), ..OutDelta::default() }
            }
            PartStart::RedactedThinking(opaque) => {
                let block = Thought::RedactedThinking { data: opaque.seal(Vendor::Anthropic) };
                OutDelta { thinking_blocks: Some([block]), ..OutDelta::default() }
            }
            _ => return,
        };
        self.chunk(delta, None, out);
    }

    fn delta(&mut self, index: usize, delta: &Delta, out: &mut BytesMut) {
        let delta = match delta {
            Delta::Text(text) => OutDelta { content: Some(text), ..OutDelta::default() },
            Delta::Refusal(text) => OutDelta { refusal: Some(text), ..OutDelta::default() },
            Delta::Thinking(text) => OutDelta {
                reasoning_content: Some(text),
                thinking_blocks: Some([Thought::Thinking { thinking: text, signature: "".into() }]),
                ..OutDelta::default()
            },
            // A thought's, not that of any other part.
            Delta::Opaque(opaque) => {
                let signature = opaque.seal(Vendor::Anthropic);
                OutDelta {
                    thinking_blocks: Some([Thought::Thinking { thinking: "", signature }]),
                    ..OutDelta::default()
                }
            }
            Delta::Logprobs(_) => return,
            Delta::Arguments(arguments) => {
                let Some(call) = self.calls.iter().position(|part| *part == index) else { return };
                let function = OutFunction { name: None, arguments };
                let call = OutCall { index: call, id: None, r#type: None, function };
                OutDelta { tool_calls: Some([call]), ..OutDelta::default() }
            }
        };
        self.chunk(delta, None, out);
    }

    fn finish(&mut self, finish: &Finish, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.finished, true) {
            self.chunk(OutDelta::default(), Some(finish_reason(finish)), out);
        }
    }

    fn chunk(&self, delta: OutDelta<'_>, finish_reason: Option<&str>, out: &mut BytesMut) {
        let choice = OutChoice { index: 0, delta, logprobs: (), finish_reason };
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
            Event::PartStart { index, part, .. } => self.part(*index, part, out),
            Event::PartDelta { index, delta } => self.delta(*index, delta, out),
            Event::Finish { finish, .. } => self.finish(finish, out),
            // Usage comes last, and an error ends it all.
            Event::PartStop { .. } | Event::Usage(_) | Event::Error(_) => {}
        }
    }

    fn end(&mut self, usage: Usage) -> Bytes {
        let mut out = BytesMut::new();
        self.finish(&Finish::Stop, &mut out);
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
