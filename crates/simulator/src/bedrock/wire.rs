//! Answers: whole, and as messages of an event stream.

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};

use super::{exception, frames::push};
use crate::{
    answer::{Answer, Choice, joined},
    anthropic::{redacted, signature},
    dialect::{Form, Head, JSON},
    error::ApiError,
    native::{object, plain},
    wire::{Event, Plain},
};

/// Writes one answer.
#[derive(Debug)]
pub(super) struct Messages {
    /// Thoughts are signed, as Claude's are.
    pub(super) signed: bool,
    /// The stop sequence is told.
    pub(super) tells_stop: bool,
    usage: bool,
}

fn stop_reason(choice: &Choice) -> &'static str {
    match choice.finish {
        "length" => "max_tokens",
        _ if choice.refused => "content_filtered",
        _ if !choice.tool_calls.is_empty() => "tool_use",
        _ if choice.stopped.is_some() => "stop_sequence",
        _ => "end_turn",
    }
}

/// Input without what came from or went into the cache.
fn usage(answer: &Answer) -> Value {
    let cache = answer.cache;
    let written = cache.written + cache.written_1h;
    let mut details = Vec::new();
    for (ttl, tokens) in [("1h", cache.written_1h), ("5m", cache.written)] {
        if tokens > 0 {
            details.push(json!({"ttl": ttl, "inputTokens": tokens}));
        }
    }
    json!({"inputTokens": answer.prompt_tokens.saturating_sub(cache.read + written),
        "outputTokens": answer.completion_tokens, "totalTokens": answer.prompt_tokens + answer.completion_tokens,
        "cacheReadInputTokens": cache.read, "cacheWriteInputTokens": written, "cacheDetails": details})
}

impl Messages {
    pub(super) fn new(signed: bool, tells_stop: bool) -> Self {
        Self { signed, tells_stop, usage: true }
    }

    fn stop(&self, choice: &Choice) -> Value {
        let mut stop = json!({"stopReason": stop_reason(choice)});
        if let Some(sequence) = choice.stopped.as_ref().filter(|_| self.tells_stop) {
            stop["additionalModelResponseFields"] = json!({"stop_sequence": sequence});
        }
        stop
    }

    fn thought(&self, choice: &Choice) -> Value {
        let text = joined(&choice.thinking);
        if choice.redacted {
            return json!({"reasoningContent": {"redactedContent": redacted(&text)}});
        }
        let mut thought = json!({"text": text});
        if self.signed {
            thought["signature"] = json!(signature(&text));
        }
        json!({"reasoningContent": {"reasoningText": thought}})
    }

    fn events(&self, out: &mut Vec<u8>, choice: &Choice, event: Event) -> u64 {
        let thoughts = usize::from(!choice.thinking.is_empty());
        let calls = thoughts + usize::from(!choice.content.is_empty());
        // As the real one pads, so that lengths tell nothing.
        let delta = |out: &mut Vec<u8>, index: usize, delta: Value| {
            push(
                out,
                "event",
                "contentBlockDelta",
                &json!({"contentBlockIndex": index, "delta": delta, "p": "abcdefg"}),
            );
        };
        let stop = |out: &mut Vec<u8>, index: usize| {
            push(out, "event", "contentBlockStop", &json!({"contentBlockIndex": index, "p": "abc"}));
        };
        match event {
            Event::Thought { piece, .. } => {
                let said = &choice.thinking[piece];
                let last = piece + 1 == choice.thinking.len();
                if !choice.redacted {
                    delta(out, 0, json!({"reasoningContent": {"text": said.text}}));
                }
                if last {
                    let whole = joined(&choice.thinking);
                    if choice.redacted {
                        delta(out, 0, json!({"reasoningContent": {"redactedContent": redacted(&whole)}}));
                    } else if self.signed {
                        delta(out, 0, json!({"reasoningContent": {"signature": signature(&whole)}}));
                    }
                    stop(out, 0);
                }
                said.tokens
            }
            Event::Word { piece, .. } => {
                let said = &choice.content[piece];
                delta(out, thoughts, json!({"text": said.text}));
                if piece + 1 == choice.content.len() {
                    stop(out, thoughts);
                }
                said.tokens
            }
            Event::Call { call, .. } => {
                let made = &choice.tool_calls[call];
                let start = json!({"toolUse": {"toolUseId": made.id, "name": made.name}});
                let start = json!({"contentBlockIndex": calls + call, "start": start, "p": "abcd"});
                push(out, "event", "contentBlockStart", &start);
                if made.arguments.is_empty() {
                    stop(out, calls + call);
                }
                made.name_tokens
            }
            Event::Argument { call, piece, .. } => {
                let made = &choice.tool_calls[call];
                delta(out, calls + call, json!({"toolUse": {"input": made.arguments[piece].text}}));
                if piece + 1 == made.arguments.len() {
                    stop(out, calls + call);
                }
                made.arguments[piece].tokens
            }
            _ => 0,
        }
    }
}

impl Form for Messages {
    fn begin(&mut self, head: Head, _: &Answer) {
        self.usage = head.usage;
    }

    fn content_type(&self, stream: bool) -> HeaderValue {
        if stream { HeaderValue::from_static("application/vnd.amazon.eventstream") } else { JSON }
    }

    fn plain(&self, answer: &Answer, cut_after: u64) -> Plain {
        let Some(choice) = answer.choices.first() else { return plain(&Value::Null, answer, cut_after) };
        let mut content = Vec::new();
        if !choice.thinking.is_empty() {
            content.push(self.thought(choice));
        }
        if !choice.content.is_empty() {
            content.push(json!({"text": joined(&choice.content)}));
        }
        content.extend(choice.tool_calls.iter().map(|made| {
            let input = object(&joined(&made.arguments));
            json!({"toolUse": {"toolUseId": made.id, "name": made.name, "input": input}})
        }));
        let mut body = self.stop(choice);
        body["output"] = json!({"message": {"role": "assistant", "content": content}});
        body["metrics"] = json!({"latencyMs": 551});
        if self.usage {
            body["usage"] = usage(answer);
        }
        plain(&body, answer, cut_after)
    }

    fn write(&mut self, answer: &Answer, event: Event) -> (Bytes, u64) {
        let mut out = Vec::with_capacity(256);
        let Some(choice) = answer.choices.first() else { return (Bytes::new(), 0) };
        let tokens = match event {
            Event::Role { .. } => {
                push(&mut out, "event", "messageStart", &json!({"role": "assistant", "p": "abcdefghij"}));
                0
            }
            Event::Finish { .. } => {
                push(&mut out, "event", "messageStop", &self.stop(choice));
                0
            }
            Event::Usage => 0,
            Event::Done => {
                let mut told = json!({"metrics": {"latencyMs": 551}, "p": "abcdefghijklmno"});
                if self.usage {
                    told["usage"] = usage(answer);
                }
                push(&mut out, "event", "metadata", &told);
                0
            }
            event => self.events(&mut out, choice, event),
        };
        (out.into(), tokens)
    }

    fn error_event(&mut self, _: &Answer, error: &ApiError) -> Bytes {
        let mut out = Vec::new();
        let name = match exception(error.status) {
            "ThrottlingException" => "throttlingException",
            "ValidationException" => "validationException",
            "ServiceUnavailableException" => "serviceUnavailableException",
            "ModelErrorException" => "modelStreamErrorException",
            _ => "internalServerException",
        };
        push(&mut out, "exception", name, &json!({"message": error.message}));
        out.into()
    }

    /// With a bit that the checksum does not know of.
    fn malformed(&mut self, answer: &Answer, event: Event) -> Bytes {
        let mut whole = self.write(answer, event).0.to_vec();
        if whole.is_empty() {
            push(&mut whole, "event", "messageStart", &json!({"role": "assistant"}));
        }
        let middle = whole.len() / 2;
        whole[middle] ^= 1;
        whole.into()
    }
}
