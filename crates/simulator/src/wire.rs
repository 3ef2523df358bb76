//! Answers as bytes: `chat.completion` objects, and events of `chat.completion.chunk` objects.
//!
//! Written by hand, in OpenAI's order of fields: it is what the simulator does most.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    answer::{Answer, Choice, ToolCall},
    error::ApiError,
    seed::{Rng, hash},
    text::Piece,
    words::NOUNS,
};

pub(crate) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// What is the same in every chunk of an answer.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) id: String,
    /// Unix seconds.
    pub(crate) created: i64,
    pub(crate) model: Arc<str>,
    pub(crate) service_tier: &'static str,
    /// Thoughts are shown.
    pub(crate) aloud: bool,
}

/// Log probabilities: how many alternatives each token has.
pub(crate) type Logprobs = Option<usize>;

pub(crate) fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn push_number(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    use std::io::Write as _;
    // Writing to a vector does not fail.
    let _ = write!(out, "{number}");
}

/// What goes between the quotes of a JSON string.
pub(crate) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        push(out, text);
        return;
    }
    let start = out.len();
    if serde_json::to_writer(&mut *out, text).is_ok() {
        out.remove(start);
        out.pop();
    }
}

pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

impl Head {
    fn push(&self, out: &mut Vec<u8>, object: &str) {
        push(out, r#"{"id":"#);
        push_string(out, &self.id);
        push(out, r#","object":""#);
        push(out, object);
        push(out, r#"","created":"#);
        push_number(out, self.created);
        push(out, r#","model":"#);
        push_string(out, &self.model);
    }

    fn push_service(&self, out: &mut Vec<u8>) {
        push(out, r#","service_tier":"#);
        push_string(out, self.service_tier);
        push(out, r#","system_fingerprint":"fp_"#);
        let fingerprint = hash(0, self.model.as_bytes()) >> 24;
        push_number(out, format_args!("{fingerprint:010x}\""));
    }
}

/// A whole answer, and where in it the token is that `cut_after` asks for.
pub(crate) struct Plain {
    pub(crate) bytes: Vec<u8>,
    /// None: the text has fewer tokens.
    pub(crate) cut_at: Option<usize>,
    /// Tokens before the cut.
    pub(crate) cut_tokens: u64,
}

/// Notes where the text reaches a number of tokens.
#[derive(Debug)]
pub(crate) struct Meter {
    goal: u64,
    tokens: u64,
    cut_at: Option<usize>,
}

impl Meter {
    pub(crate) fn new(goal: u64) -> Self {
        Self { goal, tokens: 0, cut_at: None }
    }

    pub(crate) fn plain(self, bytes: Vec<u8>) -> Plain {
        Plain { bytes, cut_at: self.cut_at, cut_tokens: self.tokens }
    }

    pub(crate) fn pass(&mut self, out: &[u8], tokens: u64) {
        if self.cut_at.is_none() {
            self.tokens += tokens;
            if self.tokens >= self.goal {
                self.cut_at = Some(out.len());
            }
        }
    }
}

pub(crate) fn plain(head: &Head, answer: &Answer, logprobs: Logprobs, usage: bool, cut_after: u64) -> Plain {
    let mut out = Vec::with_capacity(640 + 8 * usize::try_from(answer.completion_tokens).unwrap_or(0));
    let mut meter = Meter::new(cut_after);
    head.push(&mut out, "chat.completion");
    push(&mut out, r#","choices":["#);
    for (index, choice) in answer.choices.iter().enumerate() {
        push(&mut out, if index == 0 { r#"{"index":"# } else { r#",{"index":"# });
        push_number(&mut out, index);
        push(&mut out, r#","message":{"role":"assistant""#);
        message(&mut out, head, choice, &mut meter);
        push(&mut out, r#","logprobs":"#);
        whole_logprobs(&mut out, choice, logprobs);
        push(&mut out, r#","finish_reason":""#);
        push(&mut out, choice.finish);
        push(&mut out, r#""}"#);
    }
    push(&mut out, "]");
    if usage {
        push(&mut out, r#","usage":"#);
        push_usage(&mut out, answer);
    }
    head.push_service(&mut out);
    out.push(b'}');
    meter.plain(out)
}

fn message(out: &mut Vec<u8>, head: &Head, choice: &Choice, meter: &mut Meter) {
    if head.aloud && !choice.thinking.is_empty() {
        push(out, r#","reasoning_content":"#);
        quoted(out, &choice.thinking, meter);
    }
    push(out, r#","content":"#);
    meter.pass(out, 0);
    if choice.refused || choice.content.is_empty() && !choice.tool_calls.is_empty() {
        push(out, "null");
    } else {
        quoted(out, &choice.content, meter);
    }
    for (index, call) in choice.tool_calls.iter().enumerate() {
        push(out, if index == 0 { r#","tool_calls":[{"# } else { ",{" });
        call_head(out, call);
        meter.pass(out, call.name_tokens);
        for piece in &call.arguments {
            push_escaped(out, &piece.text);
            meter.pass(out, piece.tokens);
        }
        push(out, r#""}}"#);
    }
    push(out, if choice.tool_calls.is_empty() { r#","refusal":"# } else { r#"],"refusal":"# });
    if choice.refused {
        quoted(out, &choice.content, meter);
    } else {
        push(out, "null");
    }
    push(out, r#","annotations":[]}"#);
}

fn quoted(out: &mut Vec<u8>, pieces: &[Piece], meter: &mut Meter) {
    out.push(b'"');
    for piece in pieces {
        push_escaped(out, &piece.text);
        meter.pass(out, piece.tokens);
    }
    out.push(b'"');
}

/// Up to within the quotes of the arguments.
fn call_head(out: &mut Vec<u8>, call: &ToolCall) {
    push(out, r#""id":"#);
    push_string(out, &call.id);
    let custom = r#","type":"custom","custom":{"name":"#;
    push(out, if call.custom { custom } else { r#","type":"function","function":{"name":"# });
    push_string(out, &call.name);
    push(out, if call.custom { r#","input":""# } else { r#","arguments":""# });
}

fn push_usage(out: &mut Vec<u8>, answer: &Answer) {
    push(out, r#"{"prompt_tokens":"#);
    push_number(out, answer.prompt_tokens);
    push(out, r#","completion_tokens":"#);
    push_number(out, answer.completion_tokens);
    push(out, r#","total_tokens":"#);
    push_number(out, answer.prompt_tokens + answer.completion_tokens);
    push(out, r#","prompt_tokens_details":{"cached_tokens":"#);
    push_number(out, answer.cache.read);
    push(out, r#","cache_write_tokens":"#);
    push_number(out, answer.cache.written);
    push(out, r#","audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":"#);
    push_number(out, answer.reasoning_tokens);
    push(out, r#","audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#);
}

fn whole_logprobs(out: &mut Vec<u8>, choice: &Choice, logprobs: Logprobs) {
    let Some(top) = logprobs else { return push(out, "null") };
    push(out, r#"{"content":["#);
    for (at, piece) in choice.content.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        token_logprob(out, piece, hash(choice.seed, &at.to_le_bytes()), top);
    }
    push(out, r#"],"refusal":null}"#);
}

/// Log probabilities of a place: the token that was chosen is the likeliest, `top` others follow in order.
pub(crate) fn likely(seed: u64, top: usize) -> Vec<f64> {
    let mut rng = Rng::new(seed);
    let mut logprob = -0.4 * rng.unit();
    let mut all = Vec::with_capacity(top + 1);
    for _ in 0..=top {
        all.push(logprob);
        logprob -= 1.0 + rng.unit();
    }
    all
}

pub(crate) fn token_logprob(out: &mut Vec<u8>, piece: &Piece, seed: u64, top: usize) {
    let likely = likely(seed, top);
    push(out, "{");
    logprob_fields(out, &piece.text, likely[0]);
    push(out, r#","top_logprobs":["#);
    for (rank, logprob) in likely[..top].iter().enumerate() {
        push(out, if rank == 0 { "{" } else { ",{" });
        logprob_fields(out, if rank == 0 { &piece.text } else { NOUNS[rank % NOUNS.len()] }, *logprob);
        push(out, "}");
    }
    push(out, "]}");
}

fn logprob_fields(out: &mut Vec<u8>, token: &str, logprob: f64) {
    push(out, r#""token":"#);
    push_string(out, token);
    push_number(out, format_args!(r#","logprob":{logprob:.6},"bytes":["#));
    for (at, byte) in token.bytes().enumerate() {
        push_number(out, format_args!("{}{byte}", if at == 0 { "" } else { "," }));
    }
    out.push(b']');
}

/// A step of a streamed answer. Numbers are places in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Role { choice: usize },
    Thought { choice: usize, piece: usize },
    Word { choice: usize, piece: usize },
    Call { choice: usize, call: usize },
    Argument { choice: usize, call: usize, piece: usize },
    Finish { choice: usize },
    Usage,
    Done,
}

/// The events of an answer, in order, with the round each belongs to: choices take turns, token by token.
pub(crate) fn script(answer: &Answer, usage: bool) -> Vec<(u64, Event)> {
    let mut script: Vec<_> = (0..answer.choices.len()).map(|choice| (0, Event::Role { choice })).collect();
    let mut tracks: Vec<_> =
        answer.choices.iter().enumerate().map(|(at, choice)| track(at, choice)).collect();
    let mut round = 0;
    let mut going = true;
    while going {
        going = false;
        for event in tracks.iter_mut().filter_map(Iterator::next) {
            // The finish belongs to the last token.
            let finish = matches!(event, Event::Finish { .. });
            script.push((if finish && round > 0 { round - 1 } else { round }, event));
            going = true;
        }
        round += 1;
    }
    let last = script.iter().map(|(round, _)| *round).max().unwrap_or(0);
    script.extend(usage.then_some((last, Event::Usage)));
    script.push((last, Event::Done));
    script
}

fn track(choice: usize, said: &Choice) -> impl Iterator<Item = Event> {
    let thoughts = (0..said.thinking.len()).map(move |piece| Event::Thought { choice, piece });
    let words = (0..said.content.len()).map(move |piece| Event::Word { choice, piece });
    let calls = said.tool_calls.iter().enumerate().flat_map(move |(call, made)| {
        let arguments = (0..made.arguments.len()).map(move |piece| Event::Argument { choice, call, piece });
        [Event::Call { choice, call }].into_iter().chain(arguments)
    });
    thoughts.chain(words).chain(calls).chain([Event::Finish { choice }])
}

/// Writes the events of one answer.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    /// `data: {"id":…,"choices":[`
    before: Vec<u8>,
    logprobs: Logprobs,
    /// Every chunk says `"usage":null` when the client asked for usage.
    usage: bool,
    aloud: bool,
}

impl Chunks {
    pub(crate) fn new(head: &Head, logprobs: Logprobs, usage: bool) -> Self {
        let mut before = b"data: ".to_vec();
        head.push(&mut before, "chat.completion.chunk");
        head.push_service(&mut before);
        push(&mut before, r#","choices":["#);
        Self { before, logprobs, usage, aloud: head.aloud }
    }

    /// The event's bytes, and the tokens in it.
    pub(crate) fn write(&self, answer: &Answer, event: Event) -> (Bytes, u64) {
        let mut out = Vec::with_capacity(self.before.len() + 160);
        out.extend_from_slice(&self.before);
        let tokens = match event {
            Event::Done => return (DONE, 0),
            Event::Usage => {
                push(&mut out, r#"],"usage":"#);
                push_usage(&mut out, answer);
                push(&mut out, "}\n\n");
                return (out.into(), 0);
            }
            Event::Role { choice }
            | Event::Thought { choice, .. }
            | Event::Word { choice, .. }
            | Event::Call { choice, .. }
            | Event::Argument { choice, .. }
            | Event::Finish { choice } => self.choice(&mut out, choice, &answer.choices[choice], event),
        };
        push(&mut out, if self.usage { "],\"usage\":null}\n\n" } else { "]}\n\n" });
        (out.into(), tokens)
    }

    fn choice(&self, out: &mut Vec<u8>, index: usize, choice: &Choice, event: Event) -> u64 {
        push(out, r#"{"index":"#);
        push_number(out, index);
        push(out, r#","delta":"#);
        let tokens = delta(out, choice, event, self.aloud);
        push(out, r#","logprobs":"#);
        match (event, self.logprobs) {
            (Event::Word { piece, .. }, Some(top)) => {
                push(out, r#"{"content":["#);
                token_logprob(out, &choice.content[piece], hash(choice.seed, &piece.to_le_bytes()), top);
                push(out, r#"],"refusal":null}"#);
            }
            _ => push(out, "null"),
        }
        push(out, r#","finish_reason":"#);
        match event {
            Event::Finish { .. } => push_string(out, choice.finish),
            _ => push(out, "null"),
        }
        out.push(b'}');
        tokens
    }
}

fn delta(out: &mut Vec<u8>, choice: &Choice, event: Event, aloud: bool) -> u64 {
    match event {
        Event::Role { .. } => {
            let spoken = choice.tool_calls.is_empty() && !choice.refused || !choice.content.is_empty();
            let content = if spoken { r#""""# } else { "null" };
            push(out, r#"{"role":"assistant","content":"#);
            push(out, content);
            push(out, r#","refusal":null}"#);
            0
        }
        Event::Word { piece, .. } => {
            let piece = &choice.content[piece];
            push(out, if choice.refused { r#"{"refusal":"# } else { r#"{"content":"# });
            push_string(out, &piece.text);
            out.push(b'}');
            piece.tokens
        }
        Event::Thought { piece, .. } if aloud => {
            let piece = &choice.thinking[piece];
            push(out, r#"{"reasoning_content":"#);
            push_string(out, &piece.text);
            out.push(b'}');
            piece.tokens
        }
        Event::Call { call, .. } => {
            push(out, r#"{"tool_calls":[{"index":"#);
            push_number(out, call);
            out.push(b',');
            call_head(out, &choice.tool_calls[call]);
            push(out, r#""}}]}"#);
            choice.tool_calls[call].name_tokens
        }
        Event::Argument { call, piece, .. } => {
            let ToolCall { arguments, custom, .. } = &choice.tool_calls[call];
            let piece = &arguments[piece];
            push(out, r#"{"tool_calls":[{"index":"#);
            push_number(out, call);
            push(out, if *custom { r#","custom":{"input":"# } else { r#","function":{"arguments":"# });
            push_string(out, &piece.text);
            push(out, "}}]}");
            piece.tokens
        }
        // OpenAI's models keep their thoughts to themselves.
        Event::Thought { .. } | Event::Finish { .. } | Event::Usage | Event::Done => {
            push(out, "{}");
            0
        }
    }
}

/// An error in the middle of a stream.
pub(crate) fn error_event(error: &ApiError) -> Bytes {
    [&b"data: "[..], &error.json(), b"\n\n"].concat().into()
}

/// An event that says it is JSON and is not.
pub(crate) fn malformed_event(whole: &[u8]) -> Bytes {
    let json = whole.trim_ascii_end();
    let from = json.windows(6).rposition(|window| window == b"data: ").map_or(0, |at| at + 6);
    let half = from.max(usize::midpoint(from, json.len()));
    [&json[..half], b"\n\n"].concat().into()
}

#[cfg(test)]
mod tests;
