//! Answers as bytes: messages, and events of a stream. Written by hand, as on OpenAI's side.

use bytes::Bytes;

use super::{error_json, signature};
use crate::{
    answer::{Answer, Choice},
    error::ApiError,
    text::Piece,
    wire::{Event, Meter, Plain, push, push_escaped, push_number, push_string},
};

/// What is the same all over an answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) model: String,
    /// With parts that were cached.
    pub(crate) cached: bool,
    /// Whether usage is told.
    pub(crate) usage: bool,
}

fn texts(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| &*piece.text).collect()
}

fn stop_reason(choice: &Choice) -> &'static str {
    match choice.finish {
        "length" => "max_tokens",
        _ if !choice.tool_calls.is_empty() => "tool_use",
        _ if choice.stopped.is_some() => "stop_sequence",
        _ => "end_turn",
    }
}

fn push_stop(out: &mut Vec<u8>, choice: &Choice) {
    push(out, r#""stop_reason":""#);
    push(out, stop_reason(choice));
    push(out, r#"","stop_sequence":"#);
    match &choice.stopped {
        Some(stop) => push_string(out, stop),
        None => push(out, "null"),
    }
}

/// Half of a prompt with cache marks was written, a quarter read.
fn push_usage(out: &mut Vec<u8>, head: &Head, answer: &Answer, output_tokens: u64) {
    let (write, read) =
        if head.cached { (answer.prompt_tokens / 2, answer.prompt_tokens / 4) } else { (0, 0) };
    let input = answer.prompt_tokens - write - read;
    push_number(
        out,
        format_args!(
            "{{\"input_tokens\":{input},\"cache_creation_input_tokens\":{write},\"cache_read_input_tokens\":{read},\
             \"cache_creation\":{{\"ephemeral_5m_input_tokens\":{write},\"ephemeral_1h_input_tokens\":0}},\
             \"output_tokens\":{output_tokens},\"service_tier\":\"standard\"}}"
        ),
    );
}

pub(crate) fn plain(head: &Head, answer: &Answer, cut_after: u64) -> Plain {
    let mut out = Vec::with_capacity(640 + 8 * usize::try_from(answer.completion_tokens).unwrap_or(0));
    let mut meter = Meter::new(cut_after);
    push(&mut out, r#"{"id":"#);
    push_string(&mut out, &head.id);
    push(&mut out, r#","type":"message","role":"assistant","model":"#);
    push_string(&mut out, &head.model);
    push(&mut out, r#","content":["#);
    meter.pass(&out, 0);
    if let Some(choice) = answer.choices.first() {
        content(&mut out, choice, &mut meter);
        push(&mut out, "],");
        push_stop(&mut out, choice);
    }
    if head.usage {
        push(&mut out, r#","usage":"#);
        push_usage(&mut out, head, answer, answer.completion_tokens);
    }
    out.push(b'}');
    meter.plain(out)
}

fn content(out: &mut Vec<u8>, choice: &Choice, meter: &mut Meter) {
    let mut before = "";
    let mut pieces = |out: &mut Vec<u8>, pieces: &[Piece], escaped: bool| {
        for piece in pieces {
            if escaped {
                push_escaped(out, &piece.text);
            } else {
                push(out, &piece.text);
            }
            meter.pass(out, piece.tokens);
        }
    };
    if !choice.thinking.is_empty() {
        push(out, r#"{"type":"thinking","thinking":""#);
        pieces(out, &choice.thinking, true);
        push(out, r#"","signature":""#);
        push(out, &signature(&texts(&choice.thinking)));
        push(out, r#""}"#);
        before = ",";
    }
    if !choice.content.is_empty() {
        push(out, before);
        push(out, r#"{"type":"text","text":""#);
        pieces(out, &choice.content, true);
        push(out, r#""}"#);
        before = ",";
    }
    for call in &choice.tool_calls {
        push(out, before);
        push(out, r#"{"type":"tool_use","id":"#);
        push_string(out, &call.id);
        push(out, r#","name":"#);
        push_string(out, &call.name);
        push(out, r#","input":"#);
        let name = Piece { text: "".into(), tokens: call.name_tokens };
        pieces(out, &[name], false);
        // What was cut short is no object any more; the real one gives none then.
        let whole = serde_json::from_str::<serde_json::Value>(&texts(&call.arguments)).is_ok();
        if whole {
            pieces(out, &call.arguments, false);
        } else {
            push(out, "{}");
        }
        out.push(b'}');
        before = ",";
    }
}

/// Writes the events of one answer.
#[derive(Debug)]
pub(crate) struct Events(pub(crate) Head);

impl Events {
    /// The event's bytes, and the tokens in it.
    pub(crate) fn write(&self, answer: &Answer, event: Event) -> (Bytes, u64) {
        let mut out = Vec::with_capacity(256);
        let Some(choice) = answer.choices.first() else { return (Bytes::new(), 0) };
        let thoughts = usize::from(!choice.thinking.is_empty());
        let tokens = match event {
            Event::Role { .. } => {
                self.start(&mut out, answer);
                0
            }
            Event::Thought { piece, .. } => {
                let open = r#"{"type":"thinking","thinking":"","signature":""}"#;
                let last = piece + 1 == choice.thinking.len();
                let said = &choice.thinking[piece];
                if piece == 0 {
                    block_start(&mut out, 0, open);
                }
                delta(&mut out, 0, r#"{"type":"thinking_delta","thinking":"#, &said.text);
                if last {
                    let signature = signature(&texts(&choice.thinking));
                    delta(&mut out, 0, r#"{"type":"signature_delta","signature":"#, &signature);
                    block_stop(&mut out, 0);
                }
                said.tokens
            }
            Event::Word { piece, .. } => {
                let said = &choice.content[piece];
                if piece == 0 {
                    block_start(&mut out, thoughts, r#"{"type":"text","text":""}"#);
                }
                delta(&mut out, thoughts, r#"{"type":"text_delta","text":"#, &said.text);
                if piece + 1 == choice.content.len() {
                    block_stop(&mut out, thoughts);
                }
                said.tokens
            }
            Event::Call { call, .. } => {
                let made = &choice.tool_calls[call];
                let mut block = br#"{"type":"tool_use","id":"#.to_vec();
                push_string(&mut block, &made.id);
                push(&mut block, r#","name":"#);
                push_string(&mut block, &made.name);
                push(&mut block, r#","input":{}}"#);
                block_start(&mut out, thoughts + call, &String::from_utf8_lossy(&block));
                if made.arguments.is_empty() {
                    block_stop(&mut out, thoughts + call);
                }
                made.name_tokens
            }
            Event::Argument { call, piece, .. } => {
                let made = &choice.tool_calls[call];
                let said = &made.arguments[piece];
                delta(&mut out, thoughts + call, r#"{"type":"input_json_delta","partial_json":"#, &said.text);
                if piece + 1 == made.arguments.len() {
                    block_stop(&mut out, thoughts + call);
                }
                said.tokens
            }
            Event::Finish { .. } => {
                self.finish(&mut out, answer, choice);
                0
            }
            Event::Usage | Event::Done => {
                push(&mut out, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
                0
            }
        };
        (out.into(), tokens)
    }

    fn start(&self, out: &mut Vec<u8>, answer: &Answer) {
        push(out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":");
        push_string(out, &self.0.id);
        push(out, r#","type":"message","role":"assistant","model":"#);
        push_string(out, &self.0.model);
        push(out, r#","content":[],"stop_reason":null,"stop_sequence":null"#);
        if self.0.usage {
            push(out, r#","usage":"#);
            push_usage(out, &self.0, answer, 1);
        }
        push(out, "}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n");
    }

    fn finish(&self, out: &mut Vec<u8>, answer: &Answer, choice: &Choice) {
        push(out, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
        push_stop(out, choice);
        push(out, "}");
        if self.0.usage {
            push(out, r#","usage":"#);
            push_usage(out, &self.0, answer, answer.completion_tokens);
        }
        push(out, "}\n\n");
    }

    pub(crate) fn error_event(error: &ApiError) -> Bytes {
        [&b"event: error\ndata: "[..], &error_json(error, None), b"\n\n"].concat().into()
    }
}

fn block_start(out: &mut Vec<u8>, index: usize, block: &str) {
    push(out, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":");
    push_number(out, index);
    push(out, ",\"content_block\":");
    push(out, block);
    push(out, "}\n\n");
}

fn delta(out: &mut Vec<u8>, index: usize, before: &str, text: &str) {
    push(out, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
    push_number(out, index);
    push(out, ",\"delta\":");
    push(out, before);
    push_string(out, text);
    push(out, "}}\n\n");
}

fn block_stop(out: &mut Vec<u8>, index: usize) {
    push(out, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":");
    push_number(out, index);
    push(out, "}\n\n");
}
