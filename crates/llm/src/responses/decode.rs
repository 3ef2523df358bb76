//! Reads a provider's stream. Items may come interleaved; what a provider says only at the end of an item, or of the
//! response, counts as said then.

use std::{borrow::Cow, collections::BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    answer::{self, Whole, WireLogprob},
    content::kind,
    error, event,
    request_in::PARAGRAPH,
    usage::WireUsage,
};
use crate::{
    canonical::{Content, Delta, Event, Logprob, Part, PartStart, ToolUse},
    lenient, sse,
    wire::Decode,
};

#[derive(Deserialize)]
struct Step<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    output_index: u64,
    /// Of a message's parts, or a thought's.
    #[serde(default, alias = "summary_index", deserialize_with = "lenient::read")]
    content_index: u64,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    delta: Option<Cow<'a, str>>,
    /// What was said, all of it: by the names of its kinds.
    #[serde(borrow, default, alias = "refusal", alias = "arguments", deserialize_with = "lenient::text")]
    text: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::list")]
    logprobs: Vec<WireLogprob>,
    #[serde(borrow, default)]
    item: Option<&'a RawValue>,
    #[serde(borrow, default)]
    part: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Called {
    #[serde(default)]
    call_id: String,
    #[serde(default)]
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Thinking,
    Call,
}

/// A part that has begun.
#[derive(Debug)]
struct Open {
    item: u64,
    /// A thought is one part, however many its summary has.
    content: u64,
    kind: Kind,
    index: usize,
    said: bool,
}

#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    ended: bool,
    /// Parts begun.
    parts: usize,
    open: Vec<Open>,
    /// Items of which something was told, or that are whole.
    told: BTreeSet<u64>,
    calls: bool,
    refused: bool,
    cites: bool,
}

impl Decode for Decoder {
    fn decode(&mut self, event: &[u8], out: &mut Vec<Event>) {
        let kind = event::kind(event);
        if kind.is_empty() || self.ended {
            return;
        }
        let Some(data) = sse::data(event) else { return };
        if kind == "error" {
            out.push(Event::Error(error::of_event(&data)));
            return;
        }
        let Ok(step) = serde_json::from_slice::<Step<'_>>(&data) else { return };
        match kind.as_ref() {
            "response.created" | "response.in_progress" => self.start(step.response, out),
            "response.output_item.added" => self.item_added(&step, out),
            "response.content_part.added" => self.part_added(&step, out),
            "response.output_text.annotation.added" => self.cites = true,
            "response.output_text.delta" => self.said(&step, Kind::Text, false, out),
            "response.refusal.delta" => self.said(&step, Kind::Refusal, false, out),
            "response.function_call_arguments.delta" => self.said(&step, Kind::Call, false, out),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.said(&step, Kind::Thinking, false, out);
            }
            "response.output_text.done" => self.said(&step, Kind::Text, true, out),
            "response.refusal.done" => self.said(&step, Kind::Refusal, true, out),
            "response.function_call_arguments.done" => self.said(&step, Kind::Call, true, out),
            "response.content_part.done" => self.part_done(&step, out),
            "response.output_item.done" => self.item_done(&step, out),
            terminal if event::is_terminal(terminal) => self.end(terminal, step.response, out),
            _ => {}
        }
    }

    fn cites(&self) -> bool {
        self.cites
    }

    fn ended(&self) -> bool {
        self.ended
    }
}

impl Decoder {
    fn start(&mut self, response: Option<&RawValue>, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let whole: Whole<'_> =
            response.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        out.push(Event::Start {
            id: whole.id.unwrap_or_default().into_owned(),
            model: whole.model.unwrap_or_default().into_owned(),
            created: answer::seconds(whole.created_at),
            usage: None,
        });
    }

    fn item_added(&mut self, step: &Step<'_>, out: &mut Vec<Event>) {
        let Some(item) = step.item else { return };
        if kind(item) == "function_call" {
            self.begin_call(step.output_index, item, out);
        }
    }

    fn begin_call(&mut self, item: u64, raw: &RawValue, out: &mut Vec<Event>) -> Option<usize> {
        let called: Called = serde_json::from_str(raw.get()).ok()?;
        if let Some(at) = self.find(item, 0, Kind::Call) {
            return Some(at);
        }
        let id = if called.call_id.is_empty() { format!("call_{item}") } else { called.call_id };
        self.calls = true;
        let start = PartStart::ToolUse { id, name: called.name };
        Some(self.begin(item, 0, Kind::Call, start, out))
    }

    fn part_added(&mut self, step: &Step<'_>, out: &mut Vec<Event>) {
        let Some(part) = step.part else { return };
        let kind = match kind(part).as_ref() {
            "output_text" => Kind::Text,
            "refusal" => Kind::Refusal,
            _ => return,
        };
        self.part(step, kind, out);
    }

    fn find(&self, item: u64, content: u64, kind: Kind) -> Option<usize> {
        let one = matches!(kind, Kind::Thinking | Kind::Call);
        self.open.iter().position(|o| o.item == item && o.kind == kind && (one || o.content == content))
    }

    /// The open part that a step speaks of, or a new one; a call can't begin without its name.
    fn part(&mut self, step: &Step<'_>, kind: Kind, out: &mut Vec<Event>) -> Option<usize> {
        if let Some(at) = self.find(step.output_index, step.content_index, kind) {
            return Some(at);
        }
        let start = match kind {
            Kind::Text => PartStart::Text,
            Kind::Refusal => PartStart::Refusal,
            Kind::Thinking => PartStart::Thinking,
            Kind::Call => return None,
        };
        self.refused |= kind == Kind::Refusal;
        Some(self.begin(step.output_index, step.content_index, kind, start, out))
    }

    fn begin(&mut self, item: u64, content: u64, kind: Kind, part: PartStart, out: &mut Vec<Event>) -> usize {
        if !self.started {
            self.start(None, out);
        }
        self.told.insert(item);
        let index = self.parts;
        self.parts += 1;
        out.push(Event::PartStart { index, choice: 0, part });
        self.open.push(Open { item, content, kind, index, said: false });
        self.open.len() - 1
    }

    /// A piece, or all of it from those who send no pieces.
    fn said(&mut self, step: &Step<'_>, kind: Kind, all: bool, out: &mut Vec<Event>) {
        let text = if all { &step.text } else { &step.delta };
        let Some(text) = text.as_deref() else { return };
        let Some(at) = self.part(step, kind, out) else { return };
        let Some(open) = self.open.get_mut(at) else { return };
        if all && open.said {
            return;
        }
        let index = open.index;
        // Another paragraph of the same thought.
        let paragraph = kind == Kind::Thinking && open.said && open.content != step.content_index;
        if kind == Kind::Thinking {
            open.content = step.content_index;
        }
        open.said |= !text.is_empty();
        let text = if paragraph { format!("{PARAGRAPH}{text}") } else { text.to_owned() };
        if !text.is_empty() {
            out.push(Event::PartDelta { index, delta: delta(kind, text) });
        }
        if !step.logprobs.is_empty() {
            let logprobs = step.logprobs.iter().map(Logprob::from).collect();
            out.push(Event::PartDelta { index, delta: Delta::Logprobs(logprobs) });
        }
    }

    fn part_done(&mut self, step: &Step<'_>, out: &mut Vec<Event>) {
        let of = |open: &Open| {
            let message = matches!(open.kind, Kind::Text | Kind::Refusal);
            message && open.item == step.output_index && open.content == step.content_index
        };
        let Some(at) = self.open.iter().position(of) else { return };
        let open = self.open.remove(at);
        let index = open.index;
        if let Some(part) = step.part.filter(|_| !open.said).and_then(answer::piece) {
            out.extend(text_of(&part).map(|delta| Event::PartDelta { index, delta }));
        }
        out.push(Event::PartStop { index });
    }

    fn item_done(&mut self, step: &Step<'_>, out: &mut Vec<Event>) {
        let Some(item) = step.item else { return };
        if !self.told.contains(&step.output_index) {
            return self.whole(step.output_index, item, out);
        }
        self.rest(step.output_index, item, out);
    }

    /// What an item that has begun says at its end, and its parts' ends.
    fn rest(&mut self, item: u64, raw: &RawValue, out: &mut Vec<Event>) {
        let parts = answer::parts_of(raw);
        let (of, open): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.open).into_iter().partition(|open| open.item == item);
        self.open = open;
        for open in of {
            let index = open.index;
            let place = if matches!(open.kind, Kind::Thinking | Kind::Call) { 0 } else { open.content };
            if let Some(part) = usize::try_from(place).ok().and_then(|at| parts.get(at)) {
                if !open.said {
                    out.extend(text_of(part).map(|delta| Event::PartDelta { index, delta }));
                }
                let opaque = part.opaque.clone();
                out.extend(opaque.map(|o| Event::PartDelta { index, delta: Delta::Opaque(o) }));
            }
            out.push(Event::PartStop { index });
        }
    }

    /// An item of which nothing was told before.
    fn whole(&mut self, item: u64, raw: &RawValue, out: &mut Vec<Event>) {
        if !self.started {
            self.start(None, out);
        }
        self.told.insert(item);
        for part in answer::parts_of(raw) {
            let index = self.parts;
            self.parts += 1;
            let Some(start) = start_of(&part) else { continue };
            self.calls |= matches!(start, PartStart::ToolUse { .. });
            self.refused |= matches!(start, PartStart::Refusal);
            let redacted = matches!(start, PartStart::RedactedThinking(_));
            out.push(Event::PartStart { index, choice: 0, part: start });
            out.extend(text_of(&part).map(|delta| Event::PartDelta { index, delta }));
            if !part.logprobs.is_empty() {
                out.push(Event::PartDelta { index, delta: Delta::Logprobs(part.logprobs) });
            }
            if let Some(opaque) = part.opaque.filter(|_| !redacted) {
                out.push(Event::PartDelta { index, delta: Delta::Opaque(opaque) });
            }
            out.push(Event::PartStop { index });
        }
    }

    /// The verdict is in the event's name, whatever else its object says.
    fn end(&mut self, kind: &str, response: Option<&RawValue>, out: &mut Vec<Event>) {
        self.ended = true;
        let whole: Whole<'_> =
            response.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        if kind == "response.failed" || whole.failed() {
            let failure = error::of_response(response.map_or("", RawValue::get));
            out.push(Event::Error(failure));
            return;
        }
        self.start(response, out);
        for (at, raw) in (0..).zip(whole.output.iter().flatten()) {
            if !self.told.contains(&at) {
                self.whole(at, raw, out);
            } else if self.open.iter().any(|open| open.item == at) {
                self.rest(at, raw, out);
            }
        }
        out.extend(self.open.drain(..).map(|open| Event::PartStop { index: open.index }));
        let incomplete = kind == "response.incomplete" || whole.is_incomplete();
        let cut = incomplete.then_some(whole.incomplete_details.as_ref());
        let finish = answer::finish(cut, self.calls, self.refused);
        out.push(Event::Finish { choice: 0, finish });
        out.extend(whole.usage.and_then(WireUsage::believable).map(Event::Usage));
    }
}

fn delta(kind: Kind, text: String) -> Delta {
    match kind {
        Kind::Text => Delta::Text(text),
        Kind::Refusal => Delta::Refusal(text),
        Kind::Thinking => Delta::Thinking(text),
        Kind::Call => Delta::Arguments(text),
    }
}

fn start_of(part: &Part) -> Option<PartStart> {
    Some(match &part.content {
        Content::Text(_) => PartStart::Text,
        Content::Refusal(_) => PartStart::Refusal,
        Content::Thinking(_) => PartStart::Thinking,
        Content::RedactedThinking => PartStart::RedactedThinking(part.opaque.clone()?),
        Content::ToolUse(ToolUse { id, name, .. }) => {
            PartStart::ToolUse { id: id.clone(), name: name.clone() }
        }
        Content::Image(media) => PartStart::Image(media.clone()),
        Content::Foreign { kind, value } => PartStart::Foreign { kind: kind.clone(), value: value.clone() },
        _ => return None,
    })
}

fn text_of(part: &Part) -> Option<Delta> {
    let (text, delta): (&str, fn(String) -> Delta) = match &part.content {
        Content::Text(text) => (text, Delta::Text),
        Content::Refusal(text) => (text, Delta::Refusal),
        Content::Thinking(text) => (text, Delta::Thinking),
        Content::ToolUse(call) => (&call.arguments, Delta::Arguments),
        _ => return None,
    };
    (!text.is_empty()).then(|| delta(text.to_owned()))
}
