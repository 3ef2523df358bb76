//! Answers: whole, and as chunks. Calls come whole, thoughts as chunks of content, usage with the finish.

use bytes::Bytes;
use serde_json::{Value, json};

use super::error_json;
use crate::{
    answer::{Answer, Choice, ToolCall, joined},
    dialect::{Form, Head},
    error::ApiError,
    native::plain,
    seed::{hash, id},
    wire::{Event, Plain},
};

/// Writes one answer.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    head: Option<Head>,
    finished: usize,
}

fn usage(answer: &Answer) -> Value {
    json!({"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cache.read}, "num_cached_tokens": answer.cache.read})
}

/// Mistral's ids have nine letters.
fn call(index: usize, made: &ToolCall) -> Value {
    let id = id("", 9, hash(0, made.id.as_bytes()));
    let arguments = joined(&made.arguments);
    json!({"id": id, "type": "function", "function": {"name": made.name, "arguments": arguments}, "index": index})
}

fn finish_reason(choice: &Choice) -> &'static str {
    match choice.finish {
        "length" => "length",
        _ if !choice.tool_calls.is_empty() => "tool_calls",
        _ => "stop",
    }
}

fn thinking(text: &str) -> Value {
    json!([{"type": "thinking", "thinking": [{"type": "text", "text": text}]}])
}

impl Chunks {
    fn chunk(&self, choice: usize, delta: &Value, finish: Option<&str>, usage: Option<Value>) -> Bytes {
        let choice = json!({"index": choice, "delta": delta, "finish_reason": finish});
        let Some(head) = &self.head else { return Bytes::new() };
        let mut chunk = json!({"id": id("", 32, head.seed), "object": "chat.completion.chunk",
            "created": head.created(), "model": &*head.model, "choices": [choice]});
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n").into()
    }
}

impl Form for Chunks {
    fn begin(&mut self, head: Head, _: &Answer) {
        self.head = Some(head);
    }

    fn plain(&self, answer: &Answer, cut_after: u64) -> Plain {
        let choice = |(index, choice): (usize, &Choice)| {
            let text = joined(&choice.content);
            let mut content = Value::String(text.clone());
            if !choice.thinking.is_empty() {
                content = thinking(&joined(&choice.thinking));
                if let Some(chunks) = content.as_array_mut() {
                    chunks.push(json!({"type": "text", "text": text}));
                }
            }
            let calls: Vec<_> =
                choice.tool_calls.iter().enumerate().map(|(at, made)| call(at, made)).collect();
            let calls = if calls.is_empty() { Value::Null } else { Value::Array(calls) };
            let message =
                json!({"role": "assistant", "content": content, "tool_calls": calls, "prefix": false});
            json!({"index": index, "message": message, "finish_reason": finish_reason(choice)})
        };
        let choices: Vec<_> = answer.choices.iter().enumerate().map(choice).collect();
        let Some(head) = &self.head else { return plain(&Value::Null, answer, cut_after) };
        let mut body = json!({"id": id("", 32, head.seed), "object": "chat.completion", "created": head.created(),
            "model": &*head.model, "choices": choices});
        if head.usage {
            body["usage"] = usage(answer);
        }
        plain(&body, answer, cut_after)
    }

    fn write(&mut self, answer: &Answer, event: Event) -> (Bytes, u64) {
        let none = (Bytes::new(), 0);
        match event {
            Event::Role { choice } => {
                (self.chunk(choice, &json!({"role": "assistant", "content": ""}), None, None), 0)
            }
            Event::Thought { choice, piece } => {
                let said = &answer.choices[choice].thinking[piece];
                (self.chunk(choice, &json!({"content": thinking(&said.text)}), None, None), said.tokens)
            }
            Event::Word { choice, piece } => {
                let said = &answer.choices[choice].content[piece];
                (self.chunk(choice, &json!({"content": said.text}), None, None), said.tokens)
            }
            Event::Call { choice, call: at } => {
                let made = &answer.choices[choice].tool_calls[at];
                let bytes = if made.arguments.is_empty() {
                    self.chunk(choice, &json!({"tool_calls": [call(at, made)]}), None, None)
                } else {
                    Bytes::new()
                };
                (bytes, made.name_tokens)
            }
            Event::Argument { choice, call: at, piece } => {
                let made = &answer.choices[choice].tool_calls[at];
                let last = piece + 1 == made.arguments.len();
                let bytes = if last {
                    self.chunk(choice, &json!({"content": "", "tool_calls": [call(at, made)]}), None, None)
                } else {
                    Bytes::new()
                };
                (bytes, made.arguments[piece].tokens)
            }
            Event::Finish { choice } => {
                self.finished += 1;
                let told = self.head.as_ref().is_some_and(|head| head.usage);
                let last = self.finished == answer.choices.len() && told;
                let reason = finish_reason(&answer.choices[choice]);
                let usage = last.then(|| usage(answer));
                (self.chunk(choice, &json!({"content": ""}), Some(reason), usage), 0)
            }
            Event::Usage => none,
            Event::Done => (crate::wire::DONE, 0),
        }
    }

    fn error_event(&mut self, _: &Answer, error: &ApiError) -> Bytes {
        format!("data: {}\n\n", error_json(error)).into()
    }
}
