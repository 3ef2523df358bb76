//! Answers as bytes: `GenerateContentResponse`s. A stream is as many of them, in events or in an array.

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};

use super::{error_json, secret};
use crate::{
    answer::{Answer, Choice, ToolCall, joined},
    dialect::{self, EVENTS, Head},
    error::ApiError,
    seed::{hash, id},
    text::Piece,
    wire::{Event, Logprobs, Meter, Plain, likely, push, push_escaped, push_string},
    words::NOUNS,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

/// Writes one answer.
#[derive(Debug)]
pub(crate) struct Form {
    /// Events, not an array.
    sse: bool,
    logprobs: Logprobs,
    /// Calls have ids.
    ids: bool,
    /// The answer is a value of an enum, without its quotes.
    enumerated: bool,
    id: String,
    /// `,"modelVersion":…,"responseId":…}`
    after: Vec<u8>,
    usage: bool,
    /// Candidates' tokens that were written.
    said: u64,
    /// Something was written.
    begun: bool,
}

impl Form {
    pub(super) fn new(sse: bool, logprobs: Logprobs, ids: bool, enumerated: bool) -> Self {
        let (id, after) = (String::new(), Vec::new());
        Self { sse, logprobs, ids, enumerated, id, after, usage: true, said: 0, begun: false }
    }

    /// Usage as it is after so many tokens, and the end of a response.
    fn close(&self, out: &mut Vec<u8>, answer: &Answer, said: u64) {
        push(out, "]");
        if self.usage {
            let prompt = answer.prompt_tokens;
            let details = [json!({"modality": "TEXT", "tokenCount": prompt})];
            let mut usage = json!({
                "promptTokenCount": prompt, "candidatesTokenCount": said, "promptTokensDetails": details,
                "totalTokenCount": prompt + said + answer.reasoning_tokens,
            });
            if answer.reasoning_tokens > 0 {
                usage["thoughtsTokenCount"] = answer.reasoning_tokens.into();
            }
            if answer.cache.read > 0 {
                let read = answer.cache.read;
                usage["cachedContentTokenCount"] = read.into();
                usage["cacheTokensDetails"] = json!([{"modality": "TEXT", "tokenCount": read}]);
            }
            push(out, r#","usageMetadata":"#);
            push(out, &usage.to_string());
        }
        out.extend_from_slice(&self.after);
    }

    /// One response of a stream.
    fn chunk(&mut self, answer: &Answer, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut out = Vec::with_capacity(384);
        self.separate(&mut out);
        push(&mut out, r#"{"candidates":["#);
        write(&mut out);
        self.close(&mut out, answer, self.said);
        if self.sse {
            push(&mut out, "\r\n\r\n");
        }
        out.into()
    }

    fn separate(&mut self, out: &mut Vec<u8>) {
        push(
            out,
            if self.sse {
                "data: "
            } else if self.begun {
                ",\r\n"
            } else {
                "["
            },
        );
        self.begun = true;
    }

    fn call(&self, out: &mut Vec<u8>, choice: &Choice, at: usize, meter: &mut Meter) {
        let made = &choice.tool_calls[at];
        push(out, r#"{"functionCall":{"name":"#);
        push_string(out, &made.name);
        if self.ids {
            push(out, r#","id":"#);
            push_string(out, &made.id);
        }
        push(out, r#","args":"#);
        meter.pass(out, made.name_tokens);
        if args(made).is_null() {
            push(out, "{}");
        } else {
            for piece in &made.arguments {
                push(out, &piece.text);
                meter.pass(out, piece.tokens);
            }
        }
        push(out, "}");
        // Of parallel calls the first.
        if at == 0 && thought(choice) {
            push_signature(out, &secret::of_call(&made.name, &args(made)));
        }
        push(out, "}");
    }

    /// The text as it is meant: an enum's value without the quotes of JSON.
    fn text<'a>(&self, piece: &'a Piece) -> &'a str {
        if self.enumerated { piece.text.trim_matches('"') } else { &piece.text }
    }

    fn parts(&self, out: &mut Vec<u8>, choice: &Choice, meter: &mut Meter) {
        let start = out.len();
        let comma = |out: &mut Vec<u8>| {
            if out.len() > start {
                out.push(b',');
            }
        };
        if !choice.thinking.is_empty() {
            push(out, r#"{"text":""#);
            for piece in &choice.thinking {
                push_escaped(out, &piece.text);
                meter.pass(out, piece.tokens);
            }
            push(out, r#"","thought":true}"#);
        }
        if !choice.content.is_empty() && !choice.refused {
            comma(out);
            push(out, r#"{"text":""#);
            for piece in &choice.content {
                push_escaped(out, self.text(piece));
                meter.pass(out, piece.tokens);
            }
            push(out, "\"");
            if choice.tool_calls.is_empty() && thought(choice) {
                push_signature(out, &secret::of_text(&self.id));
            }
            push(out, "}");
        }
        for call in 0..choice.tool_calls.len() {
            comma(out);
            self.call(out, choice, call, meter);
        }
    }

    /// The chosen tokens, and what else they could have been.
    fn logprobs(&self, out: &mut Vec<u8>, choice: &Choice, pieces: std::ops::Range<usize>) {
        let Some(top) = self.logprobs else { return };
        let token = |text: &str, logprob: f64| json!({"token": text, "tokenId": hash(0, text.as_bytes()) % 256_000, "logProbability": logprob});
        let (mut chosen, mut others) = (Vec::new(), Vec::new());
        for at in pieces {
            let piece = &choice.content[at];
            let likely = likely(hash(choice.seed, &at.to_le_bytes()), top.max(1));
            chosen.push(token(&piece.text, likely[0]));
            let name = |rank: usize| if rank == 0 { &*piece.text } else { NOUNS[rank % NOUNS.len()] };
            let all: Vec<_> =
                likely[..top].iter().enumerate().map(|(rank, p)| token(name(rank), *p)).collect();
            others.push(json!({"candidates": all}));
        }
        let result = json!({"chosenCandidates": chosen, "topCandidates": others});
        push(out, r#","logprobsResult":"#);
        push(out, &result.to_string());
    }

    fn finish(&self, out: &mut Vec<u8>, choice: &Choice) {
        push(out, r#","finishReason":""#);
        push(
            out,
            match choice.finish {
                "length" => "MAX_TOKENS",
                _ if choice.refused => "SAFETY",
                _ => "STOP",
            },
        );
        push(out, "\"");
    }
}

/// Whether there were thoughts, which whoever answers signs.
fn thought(choice: &Choice) -> bool {
    choice.hidden > 0 || !choice.thinking.is_empty()
}

/// Null if they were cut short.
fn args(made: &ToolCall) -> Value {
    serde_json::from_str(&joined(&made.arguments)).unwrap_or_default()
}

fn push_signature(out: &mut Vec<u8>, signature: &str) {
    push(out, r#","thoughtSignature":""#);
    push(out, signature);
    push(out, "\"");
}

/// A candidate with one part.
fn candidate(out: &mut Vec<u8>, part: &[u8]) {
    push(out, r#"{"content":{"parts":["#);
    out.extend_from_slice(part);
    push(out, r#"],"role":"model"}"#);
}

fn end(out: &mut Vec<u8>, index: usize) {
    push(out, r#","index":"#);
    push(out, &index.to_string());
    push(out, "}");
}

fn text_part(text: &str, thought: bool) -> Vec<u8> {
    let mut part = br#"{"text":"#.to_vec();
    push_string(&mut part, text);
    push(&mut part, if thought { r#","thought":true}"# } else { "}" });
    part
}

impl dialect::Form for Form {
    fn begin(&mut self, head: Head, _: &Answer) {
        self.id = id("", 22, head.seed);
        self.usage = head.usage;
        let after = format!(r#","modelVersion":"{}","responseId":"{}"}}"#, head.model, self.id);
        self.after = after.into_bytes();
    }

    fn content_type(&self, stream: bool) -> HeaderValue {
        if stream && self.sse { EVENTS } else { JSON }
    }

    fn plain(&self, answer: &Answer, cut_after: u64) -> Plain {
        let mut out = Vec::with_capacity(640 + 8 * usize::try_from(answer.completion_tokens).unwrap_or(0));
        let mut meter = Meter::new(cut_after);
        push(&mut out, r#"{"candidates":["#);
        for (index, choice) in answer.choices.iter().enumerate() {
            push(&mut out, if index == 0 { r#"{"content":{"parts":["# } else { r#",{"content":{"parts":["# });
            meter.pass(&out, 0);
            self.parts(&mut out, choice, &mut meter);
            push(&mut out, r#"],"role":"model"}"#);
            self.finish(&mut out, choice);
            if self.logprobs.is_some() && !choice.content.is_empty() {
                self.logprobs(&mut out, choice, 0..choice.content.len());
                let seeds = (0..choice.content.len()).map(|at| hash(choice.seed, &at.to_le_bytes()));
                let (sum, all) =
                    seeds.fold((0.0, 0.0), |(sum, all), seed| (sum + likely(seed, 1)[0], all + 1.0));
                push(&mut out, &format!(r#","avgLogprobs":{:.6}"#, sum / all));
            }
            end(&mut out, index);
        }
        self.close(&mut out, answer, answer.completion_tokens - answer.reasoning_tokens);
        meter.plain(out)
    }

    fn write(&mut self, answer: &Answer, event: Event) -> (Bytes, u64) {
        match event {
            Event::Thought { choice, piece } => {
                let said = &answer.choices[choice].thinking[piece];
                let part = text_part(&said.text, true);
                let bytes = self.chunk(answer, |out| {
                    candidate(out, &part);
                    end(out, choice);
                });
                (bytes, said.tokens)
            }
            Event::Word { choice, piece } => {
                let made = &answer.choices[choice];
                let said = &made.content[piece];
                self.said += said.tokens;
                if made.refused {
                    return (Bytes::new(), said.tokens);
                }
                let part = text_part(self.text(said), false);
                let mut logprobs = Vec::new();
                self.logprobs(&mut logprobs, made, piece..piece + 1);
                let bytes = self.chunk(answer, |out| {
                    candidate(out, &part);
                    out.extend_from_slice(&logprobs);
                    end(out, choice);
                });
                (bytes, said.tokens)
            }
            // A call comes whole.
            Event::Call { choice, call } => {
                let made = &answer.choices[choice].tool_calls[call];
                self.said += made.name_tokens;
                let bytes = if made.arguments.is_empty() {
                    self.whole_call(answer, choice, call)
                } else {
                    Bytes::new()
                };
                (bytes, made.name_tokens)
            }
            Event::Argument { choice, call, piece } => {
                let made = &answer.choices[choice].tool_calls[call];
                let tokens = made.arguments[piece].tokens;
                self.said += tokens;
                let last = piece + 1 == made.arguments.len();
                let bytes = if last { self.whole_call(answer, choice, call) } else { Bytes::new() };
                (bytes, tokens)
            }
            Event::Finish { choice } => (self.last(answer, choice), 0),
            Event::Done if !self.sse => (Bytes::from_static(if self.begun { b"]" } else { b"[]" }), 0),
            Event::Role { .. } | Event::Usage | Event::Done => (Bytes::new(), 0),
        }
    }

    fn error_event(&mut self, _: &Answer, error: &ApiError) -> Bytes {
        let mut out = Vec::new();
        self.separate(&mut out);
        push(&mut out, &error_json(error).to_string());
        push(&mut out, if self.sse { "\r\n\r\n" } else { "]" });
        out.into()
    }
}

impl Form {
    fn whole_call(&mut self, answer: &Answer, choice: usize, call: usize) -> Bytes {
        let mut part = Vec::new();
        self.call(&mut part, &answer.choices[choice], call, &mut Meter::new(u64::MAX));
        self.chunk(answer, |out| {
            candidate(out, &part);
            end(out, choice);
        })
    }

    /// The finish, with the signature of a text, in a part that says nothing.
    fn last(&mut self, answer: &Answer, choice: usize) -> Bytes {
        let made = &answer.choices[choice];
        let mut part = br#"{"text":"""#.to_vec();
        if made.tool_calls.is_empty() && !made.content.is_empty() && thought(made) {
            push_signature(&mut part, &secret::of_text(&self.id));
        }
        push(&mut part, "}");
        let mut rest = Vec::new();
        self.finish(&mut rest, made);
        let silent = made.refused;
        self.chunk(answer, |out| {
            candidate(out, if silent { b"" } else { &part });
            out.extend_from_slice(&rest);
            end(out, choice);
        })
    }
}
