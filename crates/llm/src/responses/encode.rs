//! Writes a stream: the response has begun, then its items, part by part, then how it ended.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use weir_error::Error;

use super::{
    error,
    item::{self, Ids, Item, Piece, Summary},
    object::{self, Response, State},
    out::{Out, OutPart, Writer},
    tools::ToolNames,
};
use crate::{
    Call, Usage,
    canonical::{Delta, Event, Finish, Logprob, Media, PartStart},
    wire::Encode,
};

/// The end of a stream repeats all of it: so many bytes of a model's words are kept.
const MOST_SAID: usize = 16 * 1024 * 1024;

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
    tools: ToolNames,
    writer: Writer,
    started: bool,
    items: Vec<Item>,
    /// Bytes in these.
    said: usize,
    open: Vec<Open>,
    /// The message that goes on, should the next part be one of a message.
    message: Option<usize>,
    /// An item whose end waits for what comes next: if that is the response's, it may have been cut.
    held: Option<usize>,
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
            tools: ToolNames::of_request(&call.request),
            writer: Writer::default(),
            started: false,
            items: Vec::new(),
            said: 0,
            open: Vec::new(),
            message: None,
            held: None,
            refused: false,
            finish: None,
        }
    }

    fn start(&mut self, id: &str, model: &str, created: i64, out: &mut BytesMut) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let id = item::response_id(self.ours.as_deref(), id);
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
            self.writer.write(Out { r#type, response: Some(&response), ..Out::default() }, out);
        }
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
            PartStart::ToolUse { id, name } => item::begun_call(id, self.tools.known(name), &self.ids, place),
            PartStart::Image(media) => return self.image(media, out),
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
            self.writer.write(event, out);
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
        self.writer.write(event, out);
    }

    /// One that a model drew, which comes whole.
    fn image(&mut self, media: &Media, out: &mut BytesMut) {
        let Some((data, format)) = item::drawn(media) else { return };
        self.end_message(out);
        self.said += data.len();
        let place = self.items.len();
        let (id, output_format) = (self.ids.id("ig", place), format.to_owned());
        let begun =
            Item::ImageGenerationCall { id: id.clone(), status: "in_progress", result: None, output_format };
        self.add(begun, out);
        for r#type in [
            "response.image_generation_call.in_progress",
            "response.image_generation_call.generating",
            "response.image_generation_call.completed",
        ] {
            self.writer
                .write(Out { r#type, item_id: Some(&id), output_index: Some(place), ..Out::default() }, out);
        }
        if let Some(item) = self.items.get_mut(place) {
            *item = item::image_item((data, format), &self.ids, place);
        }
        self.item_done(place, out);
    }

    fn add(&mut self, item: Item, out: &mut BytesMut) {
        self.release("completed", out);
        let output_index = Some(self.items.len());
        self.writer.write(
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

    fn item_done(&mut self, place: usize, out: &mut BytesMut) {
        self.release("completed", out);
        self.held = Some(place);
    }

    /// Tells the end that was held back.
    fn release(&mut self, status: &'static str, out: &mut BytesMut) {
        if let Some(place) = self.held.take() {
            self.item_ends(place, status, out);
        }
    }

    fn delta(&mut self, part: usize, delta: &Delta, out: &mut BytesMut) {
        let Some(open) = self.open.iter().find(|open| open.part == part) else { return };
        let Some(item) = self.items.get_mut(open.item) else { return };
        self.said += match delta {
            Delta::Text(t) | Delta::Thinking(t) | Delta::Arguments(t) | Delta::Refusal(t) => t.len(),
            Delta::Opaque(opaque) => opaque.data.len(),
            Delta::Logprobs(tokens) => tokens.len() * size_of::<Logprob>(),
        };
        self.writer.said(item, open.item, open.content, delta, out);
    }

    fn stop(&mut self, part: usize, out: &mut BytesMut) {
        let Some(at) = self.open.iter().position(|open| open.part == part) else { return };
        let open = self.open.remove(at);
        let Some(item) = self.items.get_mut(open.item) else { return };
        self.writer.done(item, open.item, open.content, out);
        // A message may go on, or have other parts that do.
        let goes_on =
            self.message == Some(open.item) || self.open.iter().any(|other| other.item == open.item);
        if !goes_on {
            self.item_done(open.item, out);
        }
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
        self.writer.write(event, out);
    }

    fn ended(&mut self, r#type: &'static str, response: &RawValue) -> Bytes {
        let mut out = BytesMut::new();
        self.writer.write(Out { r#type, response: Some(response), ..Out::default() }, &mut out);
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

    fn draws(&self) -> bool {
        true
    }

    fn overflown(&self) -> bool {
        self.said > MOST_SAID
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
            self.item_done(place, &mut out);
        }
        // Only what came last can have been cut.
        self.release(if incomplete.is_some() { "incomplete" } else { "completed" }, &mut out);
        let now =
            self.now_s.saturating_add(i64::try_from(self.since.elapsed().as_secs()).unwrap_or_default());
        let state = State {
            status: if incomplete.is_some() { "incomplete" } else { "completed" },
            completed_at: incomplete.is_none().then_some(now.max(self.response.created)),
            error: None,
            incomplete,
            output: &self.items,
            usage: Some(usage.into()),
            tier: object::tier(usage.tier),
        };
        let response = self.response.json(&state);
        let name = if incomplete.is_some() { "response.incomplete" } else { "response.completed" };
        out.extend_from_slice(&self.ended(name, &response));
        out.freeze()
    }

    fn fail(&mut self, error: &Error) -> Bytes {
        let mut out = BytesMut::new();
        self.start("", "", 0, &mut out);
        self.release("completed", &mut out);
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
