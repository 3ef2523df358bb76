//! Writes a stream: the response has begun, then its items, part by part, then how it ended.

use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;
use weir_error::Error;

use super::{
    custom::CustomTools,
    error,
    item::{self, Extra, Ids, Item, Piece, Summary, WireLogprob},
    object::{self, Response, State},
};
use crate::{
    Call, Usage,
    canonical::{Delta, Event, Finish, Opaque, PartStart},
    wire::Encode,
};

/// An event: each has some of these.
#[derive(Serialize, Default)]
struct Out<'a> {
    r#type: &'static str,
    sequence_number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a [WireLogprob]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<OutPart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<&'a Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OutPart<'a> {
    Piece(&'a Piece),
    Summary(&'a Summary),
}

/// A part that has begun: where it stands.
#[derive(Debug, Clone, Copy)]
struct Open {
    part: usize,
    item: usize,
    content: usize,
}

#[derive(Debug)]
pub(super) struct Encoder {
    /// The id that the response has with us.
    ours: Option<String>,
    response: Response,
    now_s: i64,
    since: Instant,
    ids: Ids,
    custom: CustomTools,
    sequence: u64,
    started: bool,
    items: Vec<Item>,
    open: Vec<Open>,
    /// The message that goes on, should the next part be one of a message.
    message: Option<usize>,
    refused: bool,
    finish: Option<Finish>,
}

impl Encoder {
    pub(super) fn new(call: &Call) -> Self {
        Self {
            ours: call.id.clone(),
            response: Response::new(String::new(), &call.model, call.now_s, &call.request),
            now_s: call.now_s,
            since: Instant::now(),
            ids: Ids::new(""),
            custom: CustomTools::of_request(&call.request),
            sequence: 0,
            started: false,
            items: Vec::new(),
            open: Vec::new(),
            message: None,
            refused: false,
            finish: None,
        }
    }

    fn start(&mut self, id: &str, model: &str, created: i64, out: &mut BytesMut) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let id = item::response_id(self.ours.as_deref(), id, self.now_s);
        self.ids = Ids::new(&id);
        self.response.id = id;
        if !model.is_empty() {
            model.clone_into(&mut self.response.model);
        }
        if created != 0 {
            self.response.created = created;
        }
        let response = self.response.json(&State { status: "in_progress", ..State::default() });
        for r#type in ["response.created", "response.in_progress"] {
            self.write(Out { r#type, response: Some(&response), ..Out::default() }, out);
        }
    }

    fn write(&mut self, event: Out<'_>, out: &mut BytesMut) {
        write(&mut self.sequence, event, out);
    }

    fn part(&mut self, part: usize, start: &PartStart, out: &mut BytesMut) {
        self.start("", "", 0, out);
        let place = self.items.len();
        let item = match start {
            PartStart::Text => return self.piece(part, item::output_text(String::new(), &[], None), out),
            PartStart::Refusal => {
                self.refused = true;
                return self.piece(part, Piece::Refusal { refusal: String::new() }, out);
            }
            PartStart::Thinking => {
                let id = self.ids.id("rs", place);
                Item::Reasoning { id, summary: Vec::new(), encrypted_content: None }
            }
            PartStart::RedactedThinking(opaque) => Item::Reasoning {
                id: self.ids.reasoning(Some(opaque), place),
                summary: Vec::new(),
                encrypted_content: item::sealed(opaque),
            },
            PartStart::ToolUse { id, name } if self.custom.has(name) => Item::CustomToolCall {
                id: self.ids.id("ctc", place),
                status: "in_progress",
                call_id: id.clone(),
                name: name.clone(),
                input: String::new(),
                extra_content: None,
            },
            PartStart::ToolUse { id, name } => Item::FunctionCall {
                id: self.ids.id("fc", place),
                status: "in_progress",
                call_id: id.clone(),
                name: name.clone(),
                arguments: String::new(),
                extra_content: None,
            },
            // Server tools' doings have no place here.
            PartStart::Foreign { .. } => return,
        };
        self.end_message(out);
        self.add(item, out);
        self.open.push(Open { part, item: place, content: 0 });
        if let (PartStart::Thinking, Some(Item::Reasoning { id, summary, .. })) =
            (start, self.items.get_mut(place))
        {
            summary.push(Summary::SummaryText { text: String::new() });
            let event = Out {
                r#type: "response.reasoning_summary_part.added",
                item_id: Some(id),
                output_index: Some(place),
                summary_index: Some(0),
                part: summary.first().map(OutPart::Summary),
                ..Out::default()
            };
            write(&mut self.sequence, event, out);
        }
    }

    /// A part of a message, which goes on where it can.
    fn piece(&mut self, part: usize, piece: Piece, out: &mut BytesMut) {
        let place = match self.message {
            Some(place) => place,
            None => {
                let place = self.items.len();
                let id = self.ids.id("msg", place);
                let message =
                    Item::Message { id, status: "in_progress", role: "assistant", content: Vec::new() };
                self.add(message, out);
                self.message = Some(place);
                place
            }
        };
        let Some(Item::Message { id, content, .. }) = self.items.get_mut(place) else { return };
        let index = content.len();
        content.push(piece);
        self.open.push(Open { part, item: place, content: index });
        let event = Out {
            r#type: "response.content_part.added",
            item_id: Some(id),
            output_index: Some(place),
            content_index: Some(index),
            part: content.last().map(OutPart::Piece),
            ..Out::default()
        };
        write(&mut self.sequence, event, out);
    }

    fn add(&mut self, item: Item, out: &mut BytesMut) {
        let output_index = Some(self.items.len());
        self.write(
            Out { r#type: "response.output_item.added", output_index, item: Some(&item), ..Out::default() },
            out,
        );
        self.items.push(item);
    }

    /// Another item begins: the message is over, as soon as its parts are.
    fn end_message(&mut self, out: &mut BytesMut) {
        let Some(place) = self.message.take() else { return };
        if !self.open.iter().any(|open| open.item == place) {
            self.item_done(place, out);
        }
    }

    fn delta(&mut self, part: usize, delta: &Delta, out: &mut BytesMut) {
        let Some(open) = self.open.iter().find(|open| open.part == part).copied() else { return };
        let Some(item) = self.items.get_mut(open.item) else { return };
        let mut event = Out { output_index: Some(open.item), ..Out::default() };
        match (item, delta) {
            (Item::Message { id, content, .. }, delta) => {
                event.item_id = Some(id);
                event.content_index = Some(open.content);
                let Some(piece) = content.get_mut(open.content) else { return };
                if let Delta::Logprobs(logprobs) = delta {
                    let new: Vec<_> = logprobs.iter().map(WireLogprob::from).collect();
                    event.r#type = "response.output_text.delta";
                    event.delta = Some("");
                    event.logprobs = Some(&new);
                    write(&mut self.sequence, event, out);
                    if let Piece::OutputText { logprobs, .. } = piece {
                        logprobs.extend(new);
                    }
                    return;
                }
                match (piece, delta) {
                    (Piece::OutputText { text, .. }, Delta::Text(said) | Delta::Refusal(said)) => {
                        text.push_str(said);
                        event.r#type = "response.output_text.delta";
                        event.logprobs = Some(&[]);
                        event.delta = Some(said);
                    }
                    (Piece::Refusal { refusal }, Delta::Text(said) | Delta::Refusal(said)) => {
                        refusal.push_str(said);
                        event.r#type = "response.refusal.delta";
                        event.delta = Some(said);
                    }
                    (Piece::OutputText { extra_content, .. }, Delta::Opaque(opaque)) => {
                        *extra_content = Some(Extra::of(opaque));
                        return;
                    }
                    _ => return,
                }
            }
            (Item::Reasoning { id, summary, .. }, Delta::Thinking(said)) => {
                let Some(Summary::SummaryText { text }) = summary.first_mut() else { return };
                text.push_str(said);
                event.r#type = "response.reasoning_summary_text.delta";
                event.item_id = Some(id);
                event.summary_index = Some(0);
                event.delta = Some(said);
            }
            (Item::Reasoning { encrypted_content, .. }, Delta::Opaque(opaque)) => {
                *encrypted_content = item::sealed(opaque);
                return;
            }
            (Item::FunctionCall { id, arguments, .. }, Delta::Arguments(said)) => {
                arguments.push_str(said);
                event.r#type = "response.function_call_arguments.delta";
                event.item_id = Some(id);
                event.delta = Some(said);
            }
            // Its text is known when its JSON is whole.
            (Item::CustomToolCall { input, .. }, Delta::Arguments(said)) => return input.push_str(said),
            (
                Item::FunctionCall { extra_content, .. } | Item::CustomToolCall { extra_content, .. },
                Delta::Opaque(opaque),
            ) => return signed(extra_content, opaque),
            _ => return,
        }
        write(&mut self.sequence, event, out);
    }

    fn stop(&mut self, part: usize, out: &mut BytesMut) {
        let Some(at) = self.open.iter().position(|open| open.part == part) else { return };
        let open = self.open.remove(at);
        let Some(item) = self.items.get_mut(open.item) else { return };
        let mut event = Out { output_index: Some(open.item), ..Out::default() };
        let sequence = &mut self.sequence;
        match item {
            Item::Message { id, content, .. } => {
                event.item_id = Some(id);
                event.content_index = Some(open.content);
                let Some(piece) = content.get(open.content) else { return };
                part_done(piece, event, sequence, out);
                let over = self.message != Some(open.item);
                if over && !self.open.iter().any(|other| other.item == open.item) {
                    self.item_done(open.item, out);
                }
                return;
            }
            Item::Reasoning { id, summary, .. } => {
                if let Some(Summary::SummaryText { text }) = summary.first() {
                    event.r#type = "response.reasoning_summary_text.done";
                    event.item_id = Some(id);
                    event.summary_index = Some(0);
                    event.text = Some(text);
                    write(sequence, event, out);
                    let event = Out {
                        r#type: "response.reasoning_summary_part.done",
                        item_id: Some(id),
                        output_index: Some(open.item),
                        summary_index: Some(0),
                        part: summary.first().map(OutPart::Summary),
                        ..Out::default()
                    };
                    write(sequence, event, out);
                }
            }
            Item::FunctionCall { id, name, arguments, .. } => {
                if arguments.trim().is_empty() {
                    "{}".clone_into(arguments);
                    let delta = Out {
                        r#type: "response.function_call_arguments.delta",
                        item_id: Some(id),
                        output_index: Some(open.item),
                        delta: Some(arguments),
                        ..Out::default()
                    };
                    write(sequence, delta, out);
                }
                event.r#type = "response.function_call_arguments.done";
                event.item_id = Some(id);
                event.name = Some(name);
                event.arguments = Some(arguments);
                write(sequence, event, out);
            }
            Item::CustomToolCall { id, input, .. } => {
                *input = CustomTools::input(input).into_owned();
                let delta = Out {
                    r#type: "response.custom_tool_call_input.delta",
                    item_id: Some(id),
                    output_index: Some(open.item),
                    delta: Some(input),
                    ..Out::default()
                };
                write(sequence, delta, out);
                event.r#type = "response.custom_tool_call_input.done";
                event.item_id = Some(id);
                event.input = Some(input);
                write(sequence, event, out);
            }
        }
        self.item_done(open.item, out);
    }

    fn item_done(&mut self, place: usize, out: &mut BytesMut) {
        self.item_ends(place, "completed", out);
    }

    fn item_ends(&mut self, place: usize, status: &'static str, out: &mut BytesMut) {
        let Some(item) = self.items.get_mut(place) else { return };
        item.set_status(status);
        let event = Out {
            r#type: "response.output_item.done",
            output_index: Some(place),
            item: Some(item),
            ..Out::default()
        };
        write(&mut self.sequence, event, out);
    }

    fn ended(&mut self, r#type: &'static str, response: &RawValue) -> Bytes {
        let mut out = BytesMut::new();
        self.write(Out { r#type, response: Some(response), ..Out::default() }, &mut out);
        out.freeze()
    }
}

impl Encode for Encoder {
    fn encode(&mut self, event: &Event, out: &mut BytesMut) {
        match event {
            Event::Start { id, model, created, .. } => self.start(id, model, *created, out),
            // A response has one choice.
            Event::PartStart { choice: 1.., .. } | Event::Finish { choice: 1.., .. } => {}
            Event::PartStart { index, part, .. } => self.part(*index, part, out),
            Event::PartDelta { index, delta } => self.delta(*index, delta, out),
            Event::PartStop { index } => self.stop(*index, out),
            Event::Finish { finish, .. } => {
                self.finish.get_or_insert_with(|| finish.clone());
            }
            // Usage goes with the end, and an error is one.
            Event::Usage(_) | Event::Error(_) => {}
        }
    }

    fn end(&mut self, usage: Usage) -> Bytes {
        let mut out = BytesMut::new();
        self.start("", "", 0, &mut out);
        let finish = self.finish.take().unwrap_or(Finish::Stop);
        let incomplete = object::incomplete(&finish, self.refused);
        while let Some(open) = self.open.first() {
            let part = open.part;
            self.stop(part, &mut out);
        }
        if let Some(place) = self.message.take() {
            let cut = incomplete.is_some();
            self.item_ends(place, if cut { "incomplete" } else { "completed" }, &mut out);
        }
        let now =
            self.now_s.saturating_add(i64::try_from(self.since.elapsed().as_secs()).unwrap_or_default());
        let state = State {
            status: if incomplete.is_some() { "incomplete" } else { "completed" },
            completed_at: incomplete.is_none().then_some(now.max(self.response.created)),
            error: None,
            incomplete,
            output: &self.items,
            usage: Some(usage.into()),
        };
        let response = self.response.json(&state);
        let name = if incomplete.is_some() { "response.incomplete" } else { "response.completed" };
        out.extend_from_slice(&self.ended(name, &response));
        out.freeze()
    }

    fn fail(&mut self, error: &Error) -> Bytes {
        let mut out = BytesMut::new();
        self.start("", "", 0, &mut out);
        let open = std::mem::take(&mut self.open);
        for place in open.iter().map(|open| open.item).chain(self.message.take()) {
            if let Some(item) = self.items.get_mut(place) {
                item.cut();
            }
        }
        let state = State {
            status: "failed",
            error: Some(error::failed(error)),
            output: &self.items,
            ..State::default()
        };
        let response = self.response.json(&state);
        out.extend_from_slice(&self.ended("response.failed", &response));
        out.freeze()
    }
}

/// The end of a message's part: its text, then all of it.
fn part_done(piece: &Piece, event: Out<'_>, sequence: &mut u64, out: &mut BytesMut) {
    let Out { item_id, output_index, content_index, .. } = event;
    let done = match piece {
        Piece::OutputText { text, logprobs, .. } => {
            Out { r#type: "response.output_text.done", text: Some(text), logprobs: Some(logprobs), ..event }
        }
        Piece::Refusal { refusal } => {
            Out { r#type: "response.refusal.done", refusal: Some(refusal), ..event }
        }
    };
    write(sequence, done, out);
    let event = Out {
        r#type: "response.content_part.done",
        item_id,
        output_index,
        content_index,
        part: Some(OutPart::Piece(piece)),
        ..Out::default()
    };
    write(sequence, event, out);
}

fn signed(extra: &mut Option<Extra>, opaque: &Opaque) {
    *extra = Some(Extra::of(opaque));
}

fn write(sequence: &mut u64, event: Out<'_>, out: &mut BytesMut) {
    let event = Out { sequence_number: *sequence, ..event };
    *sequence += 1;
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.r#type.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // Serializing into memory can't fail.
    drop(serde_json::to_writer(out.writer(), &event));
    out.extend_from_slice(b"\n\n");
}
