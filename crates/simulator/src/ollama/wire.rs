//! Answers as lines of JSON, and the whole one as the last line with all in it.

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};

use crate::{
    answer::{Answer, Choice, ToolCall, joined},
    dialect::{Form, Head},
    error::ApiError,
    native::{object, plain},
    seed::hash,
    wire::{Event, Logprobs, Plain, token_logprob},
};

/// Writes one answer.
#[derive(Debug)]
pub(super) struct Lines {
    logprobs: Logprobs,
    head: Option<Head>,
}

fn call(index: usize, made: &ToolCall) -> Value {
    let arguments = object(&joined(&made.arguments));
    json!({"id": made.id, "function": {"index": index, "name": made.name, "arguments": arguments}})
}

fn done_reason(choice: &Choice) -> &'static str {
    if choice.finish == "length" { "length" } else { "stop" }
}

impl Lines {
    pub(super) fn new(logprobs: Logprobs) -> Self {
        Self { logprobs, head: None }
    }

    fn line(&self, message: &Value) -> Value {
        let model = self.head.as_ref().map(|head| head.model.clone()).unwrap_or_default();
        // Times of day would need a calendar; one for all will do.
        json!({"model": &*model, "created_at": "2025-01-01T00:00:00.123456789Z", "message": message, "done": false})
    }

    fn said(&self, name: &str, text: &str, logprobs: Option<Value>) -> Bytes {
        let mut line = self.line(&json!({"role": "assistant", "content": "", name: text}));
        if let Some(logprobs) = logprobs {
            line["logprobs"] = logprobs;
        }
        format!("{line}\n").into()
    }

    fn finish(&self, mut line: Value, answer: &Answer, choice: &Choice) -> Value {
        line["done"] = json!(true);
        line["done_reason"] = json!(done_reason(choice));
        line["total_duration"] = json!(4_883_583_458_u64);
        line["load_duration"] = json!(1_334_875_u64);
        if self.head.as_ref().is_some_and(|head| head.usage) {
            line["prompt_eval_count"] = json!(answer.prompt_tokens);
            line["prompt_eval_duration"] = json!(342_546_000_u64);
            line["eval_count"] = json!(answer.completion_tokens);
            line["eval_duration"] = json!(4_535_599_000_u64);
        }
        line
    }

    fn logprob(&self, choice: &Choice, at: usize) -> Option<Value> {
        let mut written = Vec::new();
        let seed = hash(choice.seed, &at.to_le_bytes());
        token_logprob(&mut written, &choice.content[at], seed, self.logprobs?);
        serde_json::from_slice(&written).ok()
    }
}

impl Form for Lines {
    fn begin(&mut self, head: Head, _: &Answer) {
        self.head = Some(head);
    }

    fn content_type(&self, stream: bool) -> HeaderValue {
        HeaderValue::from_static(if stream {
            "application/x-ndjson"
        } else {
            "application/json; charset=utf-8"
        })
    }

    fn plain(&self, answer: &Answer, cut_after: u64) -> Plain {
        let Some(choice) = answer.choices.first() else { return plain(&Value::Null, answer, cut_after) };
        let mut message = json!({"role": "assistant", "content": joined(&choice.content)});
        if !choice.thinking.is_empty() {
            message["thinking"] = json!(joined(&choice.thinking));
        }
        let calls: Vec<_> = choice.tool_calls.iter().enumerate().map(|(at, made)| call(at, made)).collect();
        if !calls.is_empty() {
            message["tool_calls"] = Value::Array(calls);
        }
        let mut line = self.finish(self.line(&message), answer, choice);
        if self.logprobs.is_some() {
            let all = (0..choice.content.len()).filter_map(|at| self.logprob(choice, at));
            line["logprobs"] = Value::Array(all.collect());
        }
        plain(&line, answer, cut_after)
    }

    fn write(&mut self, answer: &Answer, event: Event) -> (Bytes, u64) {
        let Some(choice) = answer.choices.first() else { return (Bytes::new(), 0) };
        let whole = |at: usize, made: &ToolCall| -> Bytes {
            let message = json!({"role": "assistant", "content": "", "tool_calls": [call(at, made)]});
            format!("{}\n", self.line(&message)).into()
        };
        match event {
            Event::Role { .. } | Event::Finish { .. } | Event::Usage => (Bytes::new(), 0),
            Event::Thought { piece, .. } => {
                let said = &choice.thinking[piece];
                (self.said("thinking", &said.text, None), said.tokens)
            }
            Event::Word { piece, .. } => {
                let said = &choice.content[piece];
                let logprobs = self.logprob(choice, piece).map(|one| json!([one]));
                (self.said("content", &said.text, logprobs), said.tokens)
            }
            Event::Call { call: at, .. } => {
                let made = &choice.tool_calls[at];
                let bytes = if made.arguments.is_empty() { whole(at, made) } else { Bytes::new() };
                (bytes, made.name_tokens)
            }
            Event::Argument { call: at, piece, .. } => {
                let made = &choice.tool_calls[at];
                let last = piece + 1 == made.arguments.len();
                (if last { whole(at, made) } else { Bytes::new() }, made.arguments[piece].tokens)
            }
            Event::Done => {
                let line = self.line(&json!({"role": "assistant", "content": ""}));
                (format!("{}\n", self.finish(line, answer, choice)).into(), 0)
            }
        }
    }

    fn error_event(&mut self, _: &Answer, error: &ApiError) -> Bytes {
        format!("{}\n", json!({"error": error.message})).into()
    }

    fn malformed(&mut self, answer: &Answer, event: Event) -> Bytes {
        let whole = self.write(answer, event).0;
        let whole = if whole.is_empty() { self.said("content", "x", None) } else { whole };
        [&whole[..whole.len() / 2], b"\n"].concat().into()
    }
}
