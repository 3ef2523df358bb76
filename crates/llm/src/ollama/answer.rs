//! Whole answers and refusals; a line of a stream has the same members.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    Usage,
    canonical::{Answer, Choice, Content, Failure, Finish, Logprob, Part, ToolUse},
    ids, lenient,
};

#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) model: String,
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) created_at: String,
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    pub(super) message: Option<Message<'a>>,
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) done: bool,
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) done_reason: Option<String>,
    #[serde(default, deserialize_with = "lenient::read")]
    prompt_eval_count: Option<u64>,
    #[serde(default, deserialize_with = "lenient::read")]
    eval_count: Option<u64>,
    #[serde(default, deserialize_with = "lenient::list")]
    pub(super) logprobs: Vec<WireLogprob>,
    #[serde(default)]
    pub(super) error: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) content: Option<String>,
    #[serde(default, deserialize_with = "lenient::read")]
    pub(super) thinking: Option<String>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    pub(super) tool_calls: Vec<Call<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    id: Option<String>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct WireLogprob {
    token: String,
    logprob: f64,
    #[serde(default, deserialize_with = "lenient::read")]
    bytes: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "lenient::list")]
    top_logprobs: Vec<WireLogprob>,
}

impl From<WireLogprob> for Logprob {
    fn from(said: WireLogprob) -> Self {
        let top = said.top_logprobs.into_iter().map(Into::into).collect();
        Self { token: said.token, logprob: said.logprob, bytes: said.bytes, top }
    }
}

impl Line<'_> {
    /// Ollama leaves the prompt's count out when it had it all in memory.
    pub(super) fn usage(&self) -> Option<Usage> {
        let usage = Usage {
            input_tokens: self.prompt_eval_count?,
            output_tokens: self.eval_count.unwrap_or_default(),
            ..Usage::default()
        };
        usage.believable()
    }
}

impl Call<'_> {
    /// Older versions give calls no ids: one that no other turn has is made of when and where the call was made.
    pub(super) fn named(self, created_at: &str, number: usize) -> ToolUse {
        let id = self.id.filter(|id| !id.is_empty());
        ToolUse {
            id: id.unwrap_or_else(|| {
                let seed = format!("{created_at} {number}");
                format!("call_{:08x}", crc32fast::hash(seed.as_bytes()))
            }),
            name: self.function.name,
            arguments: self.function.arguments.map_or("{}", RawValue::get).to_owned(),
        }
    }
}

pub(super) fn finish(reason: Option<&str>, called: bool) -> Finish {
    match reason {
        Some("length") => Finish::MaxTokens,
        _ if called => Finish::ToolUse,
        None | Some("stop" | "load" | "unload" | "") => Finish::Stop,
        Some(other) => Finish::Other(other.to_owned()),
    }
}

/// `None` for what is no answer.
pub(super) fn decode_answer(body: &[u8]) -> Option<Answer> {
    let mut line: Line<'_> = serde_json::from_slice(body).ok()?;
    let usage = line.usage();
    let message = line.message.take()?;
    let mut parts = Vec::new();
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    parts.extend(said(message.thinking).map(|text| Part::from(Content::Thinking(text))));
    if let Some(text) = said(message.content) {
        let logprobs = std::mem::take(&mut line.logprobs);
        let logprobs = logprobs.into_iter().map(Into::into).collect();
        parts.push(Part { logprobs, ..Part::text(text) });
    }
    let calls = message.tool_calls;
    let called = !calls.is_empty();
    let calls = calls.into_iter().enumerate().map(|(n, call)| call.named(&line.created_at, n));
    parts.extend(calls.map(|call| Content::ToolUse(call).into()));
    let finish = finish(line.done_reason.as_deref(), called);
    Some(Answer {
        // Ollama gives its answers none.
        id: ids::plain_or_random(""),
        model: line.model,
        created: 0,
        choices: vec![Choice { parts, finish }],
        usage,
    })
}

/// The provider's own numbers, when a whole answer carries them.
pub(super) fn usage_of_answer(body: &[u8]) -> Option<Usage> {
    serde_json::from_slice::<Line<'_>>(body).ok()?.usage()
}

/// `{"error":"…"}`
pub(super) fn decode_error(status: u16, body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Theirs {
        error: Value,
    }
    match serde_json::from_slice::<Theirs>(body) {
        Ok(Theirs { error }) => failure(status, &error),
        Err(_) => Failure { status, ..Failure::default() },
    }
}

/// A text; of those who imitate OpenAI an object.
pub(super) fn failure(status: u16, error: &Value) -> Failure {
    let message = error.as_str().or_else(|| error.get("message")?.as_str()).unwrap_or_default().to_owned();
    // The context is full, whichever of its parts says so.
    let said = message.to_ascii_lowercase();
    let too_long = said.contains("context length") || said.contains("context window");
    let code = (status == 400 && too_long).then(|| "context_length_exceeded".to_owned());
    Failure { status, message, code, param: None }
}
