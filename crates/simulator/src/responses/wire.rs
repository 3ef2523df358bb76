//! Answers as bytes: `response` objects, and the events a stream of one has. Written by hand, as for chat completions.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{object::Status, secret};
use crate::{
    answer::{Answer, Choice, joined},
    dialect::{self, Head},
    error::ApiError,
    seed::{hash, id, mix},
    text::Piece,
    wire::{Event, Logprobs, Meter, Plain, push, push_escaped, push_number, push_string, token_logprob},
};

const ID: usize = 48;

/// Writes one response.
#[derive(Debug)]
pub(crate) struct Form {
    /// Members of the response that repeat the request, after a comma.
    pub(super) echo: Vec<u8>,
    logprobs: Logprobs,
    /// Reasoning is sent along, encrypted.
    encrypted: bool,
    obfuscated: bool,
    pub(super) id: String,
    /// What is the same in the ids of all items.
    pub(super) item: String,
    seed: u64,
    pub(super) created: i64,
    pub(super) model: Arc<str>,
    pub(super) usage: bool,
    sequence: u64,
    /// Items that are done, with commas.
    pub(super) items: Vec<u8>,
    /// How many those are: the index of the item at hand.
    index: usize,
}

impl Form {
    pub(super) fn new(
        echo: Map<String, Value>,
        logprobs: Logprobs,
        encrypted: bool,
        obfuscated: bool,
    ) -> Self {
        let mut echo = Value::Object(echo).to_string().into_bytes();
        // The brace becomes the comma after what is written before.
        echo[0] = b',';
        Self {
            echo,
            logprobs,
            encrypted,
            obfuscated,
            id: String::new(),
            item: String::new(),
            seed: 0,
            created: 0,
            model: Arc::default(),
            usage: true,
            sequence: 0,
            items: Vec::new(),
            index: 0,
        }
    }

    /// An event up to the members of its own.
    fn open(&mut self, out: &mut Vec<u8>, kind: &str) {
        push(out, "event: ");
        push(out, kind);
        push(out, "\ndata: {\"type\":\"");
        push(out, kind);
        push(out, r#"","sequence_number":"#);
        push_number(&mut *out, self.sequence);
        self.sequence += 1;
    }

    fn of_response(&mut self, out: &mut Vec<u8>, kind: &str, status: Status<'_>, answer: &Answer) {
        self.open(out, kind);
        push(out, r#","response":"#);
        self.response(out, status, answer);
        push(out, "}\n\n");
    }

    pub(super) fn of_item(&mut self, out: &mut Vec<u8>, kind: &str, item: &[u8]) {
        self.open(out, kind);
        push(out, r#","output_index":"#);
        push_number(&mut *out, self.index);
        push(out, r#","item":"#);
        out.extend_from_slice(item);
        push(out, "}\n\n");
    }

    pub(super) fn item_done(&mut self, out: &mut Vec<u8>, item: &[u8]) {
        self.of_item(out, "response.output_item.done", item);
        if self.index > 0 {
            self.items.push(b',');
        }
        self.items.extend_from_slice(item);
        self.index += 1;
    }

    /// An event within an item. `place`: of the part, if there are parts.
    pub(super) fn within(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        item: &str,
        place: &str,
        name: &str,
        value: &[u8],
    ) {
        self.open(out, kind);
        push(out, r#","item_id":""#);
        push(out, item);
        push(out, r#"","output_index":"#);
        push_number(&mut *out, self.index);
        push(out, place);
        push(out, ",\"");
        push(out, name);
        push(out, "\":");
        out.extend_from_slice(value);
    }

    /// A piece of something. Padded, as OpenAI does, so that its length tells less.
    pub(super) fn delta(&mut self, out: &mut Vec<u8>, kind: &str, item: &str, place: &str, text: &str) {
        self.within(out, kind, item, place, "delta", &quoted(text));
        if self.obfuscated {
            let padding = 16_usize.saturating_sub(text.len() % 16);
            push(out, r#","obfuscation":""#);
            push(out, &id("", padding, mix(self.seed ^ self.sequence)));
            push(out, "\"");
        }
    }

    fn reasoning_id(&self) -> String {
        format!("rs_{}", self.item)
    }

    fn message_id(&self) -> String {
        format!("msg_{}", self.item)
    }

    fn reasoning(&self, out: &mut Vec<u8>, choice: &Choice, meter: &mut Meter) {
        push(out, r#"{"id":""#);
        push(out, &self.reasoning_id());
        push(out, r#"","type":"reasoning""#);
        if self.encrypted {
            push(out, r#","encrypted_content":""#);
            push(out, &secret::encrypted(&self.reasoning_id()));
            push(out, "\"");
        }
        push(out, r#","summary":["#);
        if !choice.thinking.is_empty() {
            push(out, r#"{"type":"summary_text","text":"#);
            push_pieces(out, &choice.thinking, meter);
            push(out, "}");
        }
        push(out, "]}");
    }

    fn message(&self, out: &mut Vec<u8>, choice: &Choice, meter: &mut Meter) {
        push(out, r#"{"id":""#);
        push(out, &self.message_id());
        push(out, r#"","type":"message","status":""#);
        push(out, if choice.tool_calls.is_empty() { ended(choice) } else { "completed" });
        push(out, r#"","role":"assistant","content":["#);
        self.part(out, choice, meter);
        push(out, "]}");
    }

    fn part(&self, out: &mut Vec<u8>, choice: &Choice, meter: &mut Meter) {
        if choice.refused {
            push(out, r#"{"type":"refusal","refusal":"#);
            push_pieces(out, &choice.content, meter);
            push(out, "}");
            return;
        }
        push(out, r#"{"type":"output_text","annotations":[],"logprobs":"#);
        self.logprobs(out, choice, 0..choice.content.len());
        push(out, r#","text":"#);
        push_pieces(out, &choice.content, meter);
        push(out, "}");
    }

    fn logprobs(&self, out: &mut Vec<u8>, choice: &Choice, pieces: std::ops::Range<usize>) {
        push(out, "[");
        if let Some(top) = self.logprobs {
            for at in pieces.clone() {
                if at > pieces.start {
                    push(out, ",");
                }
                token_logprob(out, &choice.content[at], hash(choice.seed, &at.to_le_bytes()), top);
            }
        }
        push(out, "]");
    }

    fn thought(&mut self, out: &mut Vec<u8>, choice: &Choice, piece: usize) {
        const PLACE: &str = r#","summary_index":0"#;
        let item = self.reasoning_id();
        if piece == 0 {
            self.reasoning_added(out);
            let part = br#"{"type":"summary_text","text":""}"#;
            self.within(out, "response.reasoning_summary_part.added", &item, PLACE, "part", part);
            push(out, "}\n\n");
        }
        self.delta(out, "response.reasoning_summary_text.delta", &item, PLACE, &choice.thinking[piece].text);
        push(out, "}\n\n");
        if piece + 1 == choice.thinking.len() {
            let text = quoted(&joined(&choice.thinking));
            self.within(out, "response.reasoning_summary_text.done", &item, PLACE, "text", &text);
            push(out, "}\n\n");
            let part = [br#"{"type":"summary_text","text":"#, &text[..], b"}"].concat();
            self.within(out, "response.reasoning_summary_part.done", &item, PLACE, "part", &part);
            push(out, "}\n\n");
            self.reasoning_done(out, choice);
        }
    }

    fn reasoning_added(&mut self, out: &mut Vec<u8>) {
        let item = format!(r#"{{"id":"{}","type":"reasoning","summary":[]}}"#, self.reasoning_id());
        self.of_item(out, "response.output_item.added", item.as_bytes());
    }

    fn reasoning_done(&mut self, out: &mut Vec<u8>, choice: &Choice) {
        let mut item = Vec::new();
        self.reasoning(&mut item, choice, &mut Meter::new(u64::MAX));
        self.item_done(out, &item);
    }

    fn word(&mut self, out: &mut Vec<u8>, choice: &Choice, piece: usize) {
        if piece == 0 {
            self.message_added(out, choice);
        }
        let item = self.message_id();
        let kind = if choice.refused { "response.refusal.delta" } else { "response.output_text.delta" };
        self.delta(out, kind, &item, CONTENT, &choice.content[piece].text);
        if !choice.refused {
            push(out, r#","logprobs":"#);
            self.logprobs(out, choice, piece..piece + 1);
        }
        push(out, "}\n\n");
        if piece + 1 == choice.content.len() {
            self.message_done(out, choice);
        }
    }

    fn message_added(&mut self, out: &mut Vec<u8>, choice: &Choice) {
        let id = self.message_id();
        let item = format!(
            r#"{{"id":"{id}","type":"message","status":"in_progress","content":[],"role":"assistant"}}"#
        );
        self.of_item(out, "response.output_item.added", item.as_bytes());
        let empty = Choice { refused: choice.refused, ..Choice::default() };
        let mut part = Vec::new();
        self.part(&mut part, &empty, &mut Meter::new(u64::MAX));
        self.within(out, "response.content_part.added", &id, CONTENT, "part", &part);
        push(out, "}\n\n");
    }

    fn message_done(&mut self, out: &mut Vec<u8>, choice: &Choice) {
        let id = self.message_id();
        let text = quoted(&joined(&choice.content));
        if choice.refused {
            self.within(out, "response.refusal.done", &id, CONTENT, "refusal", &text);
        } else {
            self.within(out, "response.output_text.done", &id, CONTENT, "text", &text);
            push(out, r#","logprobs":"#);
            self.logprobs(out, choice, 0..choice.content.len());
        }
        push(out, "}\n\n");
        let meter = &mut Meter::new(u64::MAX);
        let mut part = Vec::new();
        self.part(&mut part, choice, meter);
        self.within(out, "response.content_part.done", &id, CONTENT, "part", &part);
        push(out, "}\n\n");
        let mut item = Vec::new();
        self.message(&mut item, choice, meter);
        self.item_done(out, &item);
    }
}

const CONTENT: &str = r#","content_index":0"#;

pub(super) fn reasoned(choice: &Choice) -> bool {
    choice.hidden > 0 || !choice.thinking.is_empty()
}

/// There is a message, though perhaps an empty one, unless tools are called or there was no room.
fn has_message(choice: &Choice) -> bool {
    !choice.content.is_empty() || choice.tool_calls.is_empty() && choice.finish != "length"
}

pub(super) fn ended(choice: &Choice) -> &'static str {
    if choice.finish == "length" { "incomplete" } else { "completed" }
}

pub(super) fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_string(&mut out, text);
    out
}

fn push_pieces(out: &mut Vec<u8>, pieces: &[Piece], meter: &mut Meter) {
    out.push(b'"');
    for piece in pieces {
        push_escaped(out, &piece.text);
        meter.pass(out, piece.tokens);
    }
    out.push(b'"');
}

impl dialect::Form for Form {
    fn begin(&mut self, head: Head, _: &Answer) {
        self.id = id("resp_", ID, head.seed);
        self.item = id("", ID, mix(head.seed));
        (self.seed, self.created, self.usage) = (head.seed, head.created(), head.usage);
        self.model = head.model;
    }

    fn plain(&self, answer: &Answer, cut_after: u64) -> Plain {
        let mut out = Vec::with_capacity(2048 + 8 * usize::try_from(answer.completion_tokens).unwrap_or(0));
        let mut meter = Meter::new(cut_after);
        let Some(choice) = answer.choices.first() else { return meter.plain(out) };
        let status = Status::Ended(choice);
        self.before_output(&mut out, status);
        meter.pass(&out, 0);
        let start = out.len();
        let comma = |out: &mut Vec<u8>| {
            if out.len() > start {
                out.push(b',');
            }
        };
        if reasoned(choice) {
            self.reasoning(&mut out, choice, &mut meter);
        }
        if has_message(choice) {
            comma(&mut out);
            self.message(&mut out, choice, &mut meter);
        }
        for call in 0..choice.tool_calls.len() {
            comma(&mut out);
            self.call(&mut out, choice, call, &mut meter);
        }
        self.after_output(&mut out, status, answer);
        meter.plain(out)
    }

    fn write(&mut self, answer: &Answer, event: Event) -> (Bytes, u64) {
        let mut out = Vec::with_capacity(512);
        let Some(choice) = answer.choices.first() else { return (Bytes::new(), 0) };
        let tokens = match event {
            Event::Role { .. } => {
                self.of_response(&mut out, "response.created", Status::InProgress, answer);
                self.of_response(&mut out, "response.in_progress", Status::InProgress, answer);
                if reasoned(choice) && choice.thinking.is_empty() {
                    self.reasoning_added(&mut out);
                    self.reasoning_done(&mut out, choice);
                }
                0
            }
            Event::Thought { piece, .. } => {
                self.thought(&mut out, choice, piece);
                choice.thinking[piece].tokens
            }
            Event::Word { piece, .. } => {
                self.word(&mut out, choice, piece);
                choice.content[piece].tokens
            }
            Event::Call { call, .. } => {
                self.call_added(&mut out, choice, call);
                choice.tool_calls[call].name_tokens
            }
            Event::Argument { call, piece, .. } => {
                let made = &choice.tool_calls[call];
                self.argument(&mut out, choice, call, piece);
                made.arguments[piece].tokens
            }
            Event::Finish { .. } => {
                if choice.content.is_empty() && has_message(choice) {
                    self.message_added(&mut out, choice);
                    self.message_done(&mut out, choice);
                }
                let kind =
                    if choice.finish == "length" { "response.incomplete" } else { "response.completed" };
                self.of_response(&mut out, kind, Status::Ended(choice), answer);
                0
            }
            Event::Usage | Event::Done => 0,
        };
        (out.into(), tokens)
    }

    fn error_event(&mut self, answer: &Answer, error: &ApiError) -> Bytes {
        let mut out = Vec::with_capacity(1024);
        self.of_response(&mut out, "response.failed", Status::Failed(error), answer);
        out.into()
    }
}
