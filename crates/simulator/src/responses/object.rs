//! The `response` object, around its output.

use serde_json::{Value, json};

use super::wire::Form;
use crate::{
    answer::{Answer, Choice},
    error::ApiError,
    wire::{push, push_number, push_string},
};

/// What has become of a response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Status<'a> {
    InProgress,
    Ended(&'a Choice),
    Failed(&'a ApiError),
}

impl Form {
    pub(super) fn before_output(&self, out: &mut Vec<u8>, status: Status<'_>) {
        push(out, r#"{"id":""#);
        push(out, &self.id);
        push(out, r#"","object":"response","created_at":"#);
        push_number(out, self.created);
        push(out, r#","model":"#);
        push_string(out, &self.model);
        let (word, completed) = match status {
            Status::InProgress => ("in_progress", false),
            Status::Ended(choice) if choice.finish == "length" => ("incomplete", false),
            Status::Ended(_) => ("completed", true),
            Status::Failed(_) => ("failed", false),
        };
        push(out, r#","status":""#);
        push(out, word);
        push(out, r#"","completed_at":"#);
        if completed {
            push_number(&mut *out, self.created);
        } else {
            push(out, "null");
        }
        push(out, r#","error":"#);
        match status {
            Status::Failed(error) => {
                let code = if error.status.as_u16() == 429 { "rate_limit_exceeded" } else { "server_error" };
                push(out, &json!({"code": code, "message": error.message}).to_string());
            }
            _ => push(out, "null"),
        }
        push(out, r#","incomplete_details":"#);
        push(out, if word == "incomplete" { r#"{"reason":"max_output_tokens"}"# } else { "null" });
        push(out, r#","service_tier":""#);
        push(out, if status == Status::InProgress { "auto" } else { "default" });
        push(out, r#"","output":["#);
    }

    pub(super) fn after_output(&self, out: &mut Vec<u8>, status: Status<'_>, answer: &Answer) {
        push(out, r#"],"usage":"#);
        match status {
            Status::Ended(_) if self.usage => push_usage(out, answer),
            _ => push(out, "null"),
        }
        out.extend_from_slice(&self.echo);
    }

    pub(super) fn response(&self, out: &mut Vec<u8>, status: Status<'_>, answer: &Answer) {
        self.before_output(out, status);
        out.extend_from_slice(&self.items);
        self.after_output(out, status, answer);
    }
}

fn push_usage(out: &mut Vec<u8>, answer: &Answer) {
    push(out, &usage(answer).to_string());
}

pub(super) fn usage(answer: &Answer) -> Value {
    let (input, output) = (answer.prompt_tokens, answer.completion_tokens);
    json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": answer.cache.read, "cache_write_tokens": answer.cache.written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": input + output,
    })
}
