//! Streams of events: read as the steps they mean, and written from such steps.

use std::borrow::Cow;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weir_error::Error;

use super::{
    MESSAGE_STOP,
    answer::{Block, Input, Loose, finish, kind, stop_reason},
    error::decode_error,
    error_frames, state,
    usage::{Counted, OutUsage, WireUsage},
};
use crate::{
    Usage,
    canonical::{Delta, Event, Finish, Opaque, PartStart, Vendor},
    ids, lenient, sse,
    wire::{Decode, Encode},
};

#[derive(Deserialize)]
struct Step<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "lenient::text")]
    kind: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    index: usize,
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "lenient::read")]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    model: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Said {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(rename = "citations_delta")]
    Citations {},
}

#[derive(Deserialize)]
struct Stopped {
    #[serde(default, deserialize_with = "lenient::read")]
    stop_reason: Option<String>,
    #[serde(default, deserialize_with = "lenient::read")]
    stop_sequence: Option<String>,
}

/// Reads events.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    usage: Counted,
    cites: bool,
}

impl Decode for Decoder {
    fn decode(&mut self, event: &[u8], out: &mut Vec<Event>) {
        let Some(data) = sse::data(event) else { return };
        let Ok(step) = serde_json::from_slice::<Step<'_>>(&data) else { return };
        let index = step.index;
        match step.kind.as_deref().unwrap_or_default() {
            "message_start" => {
                let Some(message) = step.message else { return };
                self.usage.add(message.usage);
                out.push(Event::Start {
                    id: message.id.unwrap_or_default().into_owned(),
                    model: message.model.unwrap_or_default().into_owned(),
                    created: 0,
                    usage: self.usage.usage(),
                });
            }
            "content_block_start" => {
                let Some(block) = step.content_block else { return };
                let (part, said) = start(block);
                out.push(Event::PartStart { index, choice: 0, part });
                out.extend(said.into_iter().flatten().map(|delta| Event::PartDelta { index, delta }));
            }
            "content_block_delta" => {
                let said = step.delta.and_then(|delta| serde_json::from_str(delta.get()).ok());
                self.cites |= matches!(said, Some(Said::Citations {}));
                out.extend(said.and_then(delta).map(|delta| Event::PartDelta { index, delta }));
            }
            "content_block_stop" => out.push(Event::PartStop { index }),
            "message_delta" => {
                self.usage.add(step.usage);
                let stopped = step.delta.and_then(|d| serde_json::from_str::<Stopped>(d.get()).ok());
                let reason = stopped.and_then(|s| Some((s.stop_reason?, s.stop_sequence)));
                out.extend(reason.map(|(reason, sequence)| Event::Finish {
                    choice: 0,
                    finish: finish(&reason, sequence),
                }));
                out.extend(self.usage.usage().map(Event::Usage));
            }
            "error" => out.push(Event::Error(decode_error(0, &data))),
            _ => {}
        }
    }

    fn cites(&self) -> bool {
        self.cites
    }
}

/// A block that begins, and what it says already: compatible providers don't all begin with nothing.
fn start(block: &RawValue) -> (PartStart, [Option<Delta>; 2]) {
    let own = |data| Opaque::new(Vendor::Anthropic, data);
    match serde_json::from_str(block.get()) {
        Ok(Block::Text { text }) => (PartStart::Text, [filled(text).map(Delta::Text), None]),
        Ok(Block::Thinking { thinking, signature }) => {
            let said = [filled(thinking).map(Delta::Thinking), filled(signature).map(own).map(Delta::Opaque)];
            (PartStart::Thinking, said)
        }
        Ok(Block::RedactedThinking { data }) => (PartStart::RedactedThinking(own(data)), [None, None]),
        Ok(Block::ToolUse { id, name }) => {
            let id = id.into();
            let input = serde_json::from_str::<Input<'_>>(block.get()).ok().and_then(|block| block.input);
            let input = input.map(RawValue::get).filter(|json| says_something(json));
            (PartStart::ToolUse { id, name }, [input.map(|json| Delta::Arguments(json.to_owned())), None])
        }
        Err(_) => (PartStart::Foreign { kind: kind(block), value: block.to_owned() }, [None, None]),
    }
}

fn filled(text: Loose) -> Option<String> {
    Some(String::from(text)).filter(|text| !text.is_empty())
}

/// `{}` stands for arguments that are still to come.
fn says_something(json: &str) -> bool {
    json.strip_prefix('{').is_some_and(|rest| rest.trim_start() != "}")
}

fn delta(said: Said) -> Option<Delta> {
    Some(match said {
        Said::Text { text } => Delta::Text(text),
        Said::Thinking { thinking } => Delta::Thinking(thinking),
        Said::Signature { signature } => Delta::Opaque(Opaque::new(Vendor::Anthropic, signature)),
        Said::InputJson { partial_json } => Delta::Arguments(partial_json),
        Said::Citations {} => return None,
    })
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Out<'a> {
    MessageStart { message: OutMessage<'a> },
    ContentBlockStart { index: usize, content_block: OutBlock<'a> },
    ContentBlockDelta { index: usize, delta: OutDelta<'a> },
    ContentBlockStop { index: usize },
    MessageDelta { delta: OutStop<'a>, usage: OutUsage },
}

#[derive(Serialize)]
struct OutMessage<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: [(); 0],
    stop_reason: (),
    stop_sequence: (),
    usage: OutUsage,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum OutBlock<'a> {
    Text { text: &'static str },
    Thinking { thinking: &'static str, signature: &'static str },
    RedactedThinking { data: Cow<'a, str> },
    ToolUse { id: Cow<'a, str>, name: &'a str, input: Empty },
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(tag = "type")]
enum OutDelta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: Cow<'a, str> },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}

#[derive(Serialize)]
struct OutStop<'a> {
    stop_reason: &'a str,
    stop_sequence: Option<&'a str>,
}

/// Writes events. Blocks are numbered as they come; what has no place here is left out.
#[derive(Debug)]
pub(super) struct Encoder {
    model: String,
    started: bool,
    /// Blocks begun.
    count: usize,
    /// Blocks not ended, in their order.
    open: Vec<Open>,
    /// A call that waits for its state, which comes with it and stands before it: its part, id and name.
    call: Option<(usize, String, String)>,
    /// State of a text that has ended, which stands before what comes next: an answer doesn't end in a thought.
    of_text: Option<Opaque>,
    called: bool,
    finish: Option<Finish>,
}

/// A block, and the canonical part it is.
#[derive(Debug)]
struct Open {
    part: usize,
    index: usize,
    kind: Kind,
    /// State that goes into a block of its own, once this one has ended.
    beside: Option<Opaque>,
}

#[derive(Debug)]
enum Kind {
    Text,
    Thinking,
    Call(String),
}

impl Encoder {
    /// `model` stands in for a name the provider doesn't say.
    pub(super) fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            started: false,
            count: 0,
            open: Vec::new(),
            call: None,
            of_text: None,
            called: false,
            finish: None,
        }
    }

    fn start(&mut self, id: &str, model: &str, usage: Option<Usage>, out: &mut BytesMut) {
        self.started = true;
        let message = OutMessage {
            id: &ids::with_prefix("msg_", id),
            r#type: "message",
            role: "assistant",
            model: if model.is_empty() { &self.model } else { model },
            content: [],
            stop_reason: (),
            stop_sequence: (),
            usage: usage.unwrap_or_default().into(),
        };
        write("message_start", &Out::MessageStart { message }, out);
    }

    fn part(&mut self, part: usize, start: &PartStart, out: &mut BytesMut) {
        self.call(out);
        if let Some(opaque) = self.of_text.take() {
            self.state(&state::of_text(&opaque), out);
        }
        let (content_block, kind) = match start {
            PartStart::Text | PartStart::Refusal => (OutBlock::Text { text: "" }, Kind::Text),
            PartStart::Thinking => (OutBlock::Thinking { thinking: "", signature: "" }, Kind::Thinking),
            PartStart::RedactedThinking(opaque) => {
                (OutBlock::RedactedThinking { data: opaque.seal(Vendor::Anthropic) }, Kind::Thinking)
            }
            PartStart::ToolUse { id, name } => {
                self.called = true;
                return self.call = Some((part, id.clone(), name.clone()));
            }
            PartStart::Image(_) | PartStart::Foreign { .. } => return,
        };
        self.begin(part, content_block, kind, out);
    }

    fn begin(&mut self, part: usize, content_block: OutBlock<'_>, kind: Kind, out: &mut BytesMut) {
        let index = self.count;
        self.count += 1;
        self.open.push(Open { part, index, kind, beside: None });
        write("content_block_start", &Out::ContentBlockStart { index, content_block }, out);
    }

    /// The call that waited.
    fn call(&mut self, out: &mut BytesMut) {
        let Some((part, id, name)) = self.call.take() else { return };
        let block = OutBlock::ToolUse { id: ids::plain(&id), name: &name, input: Empty {} };
        self.begin(part, block, Kind::Call(id.clone()), out);
    }

    /// State that has a block of its own.
    fn state(&mut self, sealed: &str, out: &mut BytesMut) {
        let index = self.count;
        self.count += 1;
        let content_block = OutBlock::RedactedThinking { data: sealed.into() };
        write("content_block_start", &Out::ContentBlockStart { index, content_block }, out);
        write("content_block_stop", &Out::ContentBlockStop { index }, out);
    }

    fn delta(&mut self, part: usize, delta: &Delta, out: &mut BytesMut) {
        if let Some((_, id, _)) = self.call.as_ref().filter(|(waiting, ..)| *waiting == part) {
            if let Delta::Opaque(opaque) = delta {
                let sealed = state::of_call(id, opaque);
                self.state(&sealed, out);
                return self.call(out);
            }
            self.call(out);
        }
        let Some(open) = self.open.iter_mut().find(|open| open.part == part) else { return };
        let index = open.index;
        let delta = match delta {
            Delta::Text(text) | Delta::Refusal(text) => OutDelta::Text { text },
            Delta::Thinking(thinking) => OutDelta::Thinking { thinking },
            Delta::Opaque(opaque) if matches!(open.kind, Kind::Thinking) => {
                OutDelta::Signature { signature: opaque.seal(Vendor::Anthropic) }
            }
            Delta::Opaque(opaque) => return open.beside = Some(opaque.clone()),
            Delta::Logprobs(_) => return,
            Delta::Arguments(partial_json) => OutDelta::InputJson { partial_json },
        };
        write("content_block_delta", &Out::ContentBlockDelta { index, delta }, out);
    }

    fn stop(&mut self, part: usize, out: &mut BytesMut) {
        if self.call.as_ref().is_some_and(|(waiting, ..)| *waiting == part) {
            self.call(out);
        }
        let Some(at) = self.open.iter().position(|open| open.part == part) else { return };
        let Open { index, kind, beside, .. } = self.open.remove(at);
        write("content_block_stop", &Out::ContentBlockStop { index }, out);
        match (&kind, beside) {
            (Kind::Call(id), Some(opaque)) => self.state(&state::of_call(id, &opaque), out),
            // At the answer's end nobody needs it, and whoever keeps turns has it.
            (_, Some(opaque)) => self.of_text = Some(opaque),
            _ => {}
        }
    }

    fn open_indices(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.open).into_iter().map(|open| open.index).collect()
    }
}

impl Encode for Encoder {
    fn encode(&mut self, event: &Event, out: &mut BytesMut) {
        match event {
            Event::Start { id, model, usage, .. } => self.start(id, model, *usage, out),
            // Messages have one choice.
            Event::PartStart { choice: 1.., .. } | Event::Finish { choice: 1.., .. } => {}
            Event::PartStart { index, part, .. } => self.part(*index, part, out),
            Event::PartDelta { index, delta } => self.delta(*index, delta, out),
            Event::PartStop { index } => self.stop(*index, out),
            Event::Finish { finish, .. } => {
                self.finish.get_or_insert_with(|| finish.clone());
            }
            // Usage goes with the finish, and an error ends it all.
            Event::Usage(_) | Event::Error(_) => {}
        }
    }

    fn end(&mut self, usage: Usage) -> Bytes {
        let mut out = BytesMut::new();
        if !self.started {
            self.start("", "", None, &mut out);
        }
        self.call(&mut out);
        let parts: Vec<_> = self.open.iter().map(|open| open.part).collect();
        parts.into_iter().for_each(|part| self.stop(part, &mut out));
        let unsaid = if self.called { Finish::ToolUse } else { Finish::Stop };
        let finish = self.finish.take().unwrap_or(unsaid);
        let stop_sequence = match &finish {
            Finish::StopSequence(sequence) => sequence.as_deref(),
            _ => None,
        };
        let delta = OutStop { stop_reason: stop_reason(&finish), stop_sequence };
        write("message_delta", &Out::MessageDelta { delta, usage: usage.into() }, &mut out);
        out.extend_from_slice(MESSAGE_STOP);
        out.freeze()
    }

    fn fail(&mut self, error: &Error) -> Bytes {
        error_frames(&self.open_indices(), error)
    }
}

fn write(name: &str, event: &Out<'_>, out: &mut BytesMut) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // Serializing into memory can't fail.
    drop(serde_json::to_writer(out.writer(), event));
    out.extend_from_slice(b"\n\n");
}
