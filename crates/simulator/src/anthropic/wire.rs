//! Answers as bytes: messages, and events of a stream. Written by hand, as on OpenAI's side.

use std::sync::Arc;

use bytes::Bytes;

use super::{error_json, redacted, signature};
use crate::{
    answer::{Answer, Cache, Choice, ToolCall, joined},
    dialect::{Form, Head},
    error::ApiError,
    seed::id,
    text::Piece,
    wire::{Event, Meter, Plain, push, push_escaped, push_number, push_string},
};

/// Writes one message.
#[derive(Debug, Default)]
pub(crate) struct Events {
    id: String,
    model: Arc<str>,
    /// Whether usage is told.
    usage: bool,
    /// Thoughts are signed and not shown.
    omitted: bool,
}

fn stop_reason(choice: &Choice) -> &'static str {
    match choice.finish {
        "length" => "max_tokens",
        _ if choice.refused => "refusal",
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
    let refused = r#"{"type":"refusal","category":null,"explanation":null}"#;
    push(out, r#","stop_details":"#);
    push(out, if choice.refused { refused } else { "null" });
}

fn push_usage(out: &mut Vec<u8>, answer: &Answer, output_tokens: u64) {
    push_counts(out, answer, output_tokens);
    let Cache { written, written_1h, .. } = answer.cache;
    push_number(
        out,
        format_args!(
            ",\"cache_creation\":{{\"ephemeral_5m_input_tokens\":{written},\"ephemeral_1h_input_tokens\":{written_1h}}},\
             \"service_tier\":\"standard\"}}"
        ),
    );
}

/// All that the event at the end of a stream says, but for the closing brace.
fn push_counts(out: &mut Vec<u8>, answer: &Answer, output_tokens: u64) {
    let Cache { read, written, written_1h } = answer.cache;
    let all = written + written_1h;
    let input = answer.prompt_tokens.saturating_sub(all + read);
    push_number(
        out,
        format_args!(
            "{{\"input_tokens\":{input},\"cache_creation_input_tokens\":{all},\"cache_read_input_tokens\":{read},\
             \"output_tokens\":{output_tokens},\"output_tokens_details\":{{\"thinking_tokens\":{}}}",
            answer.reasoning_tokens.min(output_tokens)
        ),
    );
}

fn content(out: &mut Vec<u8>, choice: &Choice, omitted: bool, meter: &mut Meter) {
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
    if choice.redacted {
        push(out, r#"{"type":"redacted_thinking","data":""#);
        push(out, &redacted(&joined(&choice.thinking)));
        push(out, r#""}"#);
        before = ",";
    } else if !choice.thinking.is_empty() {
        push(out, r#"{"type":"thinking","thinking":""#);
        if !omitted {
            pieces(out, &choice.thinking, true);
        }
        push(out, r#"","signature":""#);
        push(out, &signed(choice, omitted));
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
        let whole = serde_json::from_str::<serde_json::Value>(&joined(&call.arguments)).is_ok();
        if whole {
            pieces(out, &call.arguments, false);
        } else {
            push(out, "{}");
        }
        out.push(b'}');
        before = ",";
    }
}

impl Events {
    pub(super) fn new(omitted: bool) -> Self {
        Self { omitted, ..Self::default() }
    }
}

impl Form for Events {
    fn begin(&mut self, head: Head, _: &Answer) {
        (self.id, self.model, self.usage) = (id("msg_01", 22, head.seed), head.model, head.usage);
    }

    fn plain(&self, answer: &Answer, cut_after: u64) -> Plain {
        let mut out = Vec::with_capacity(640 + 8 * usize::try_from(answer.completion_tokens).unwrap_or(0));
        let mut meter = Meter::new(cut_after);
        push(&mut out, r#"{"id":"#);
        push_string(&mut out, &self.id);
        push(&mut out, r#","type":"message","role":"assistant","model":"#);
        push_string(&mut out, &self.model);
        push(&mut out, r#","content":["#);
        meter.pass(&out, 0);
        if let Some(choice) = answer.choices.first() {
            content(&mut out, choice, self.omitted, &mut meter);
            push(&mut out, "],");
            push_stop(&mut out, choice);
        }
        if self.usage {
            push(&mut out, r#","usage":"#);
            push_usage(&mut out, answer, answer.completion_tokens);
        }
        out.push(b'}');
        meter.plain(out)
    }

    fn write(&mut self, answer: &Answer, event: Event) -> (Bytes, u64) {
        let mut out = Vec::with_capacity(256);
        let Some(choice) = answer.choices.first() else { return (Bytes::new(), 0) };
        let thoughts = usize::from(!choice.thinking.is_empty());
        let calls = thoughts + usize::from(!choice.content.is_empty());
        let tokens = match event {
            Event::Role { .. } => {
                self.start(&mut out, answer);
                0
            }
            Event::Thought { piece, .. } => thought(&mut out, choice, piece, self.omitted),
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
                call_start(&mut out, calls + call, made);
                made.name_tokens
            }
            Event::Argument { call, piece, .. } => {
                let made = &choice.tool_calls[call];
                let said = &made.arguments[piece];
                delta(&mut out, calls + call, r#"{"type":"input_json_delta","partial_json":"#, &said.text);
                if piece + 1 == made.arguments.len() {
                    block_stop(&mut out, calls + call);
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

    fn error_event(&mut self, _: &Answer, error: &ApiError) -> Bytes {
        [&b"event: error\ndata: "[..], &error_json(error, None), b"\n\n"].concat().into()
    }
}

fn signed(choice: &Choice, omitted: bool) -> String {
    let thoughts = joined(&choice.thinking);
    if omitted { redacted(&thoughts) } else { signature(&thoughts) }
}

fn thought(out: &mut Vec<u8>, choice: &Choice, piece: usize, omitted: bool) -> u64 {
    let said = &choice.thinking[piece];
    let last = piece + 1 == choice.thinking.len();
    if choice.redacted {
        if last {
            let data = redacted(&joined(&choice.thinking));
            block_start(out, 0, &format!(r#"{{"type":"redacted_thinking","data":"{data}"}}"#));
            block_stop(out, 0);
        }
        return said.tokens;
    }
    if piece == 0 {
        block_start(out, 0, r#"{"type":"thinking","thinking":"","signature":""}"#);
    }
    if !omitted {
        delta(out, 0, r#"{"type":"thinking_delta","thinking":"#, &said.text);
    }
    if last {
        let signature = signed(choice, omitted);
        delta(out, 0, r#"{"type":"signature_delta","signature":"#, &signature);
        block_stop(out, 0);
    }
    said.tokens
}

fn call_start(out: &mut Vec<u8>, index: usize, made: &ToolCall) {
    let mut block = br#"{"type":"tool_use","id":"#.to_vec();
    push_string(&mut block, &made.id);
    push(&mut block, r#","name":"#);
    push_string(&mut block, &made.name);
    push(&mut block, r#","input":{}}"#);
    block_start(out, index, &String::from_utf8_lossy(&block));
    delta(out, index, r#"{"type":"input_json_delta","partial_json":"#, "");
    if made.arguments.is_empty() {
        block_stop(out, index);
    }
}

impl Events {
    fn start(&self, out: &mut Vec<u8>, answer: &Answer) {
        push(out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":");
        push_string(out, &self.id);
        push(out, r#","type":"message","role":"assistant","model":"#);
        push_string(out, &self.model);
        push(out, r#","content":[],"stop_reason":null,"stop_sequence":null,"stop_details":null"#);
        if self.usage {
            push(out, r#","usage":"#);
            push_usage(out, answer, 1);
        }
        push(out, "}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n");
    }

    fn finish(&self, out: &mut Vec<u8>, answer: &Answer, choice: &Choice) {
        push(out, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
        push_stop(out, choice);
        push(out, "}");
        if self.usage {
            push(out, r#","usage":"#);
            push_counts(out, answer, answer.completion_tokens);
            push(out, "}");
        }
        push(out, "}\n\n");
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
