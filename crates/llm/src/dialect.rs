//! The dialects, and the one place where one becomes another.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use weir_error::{Code, Error};

use crate::{
    Usage, anthropic,
    canonical::{Event, Failure, Losses, Raw, Request},
    openai::{self, FrameKind},
    tokens,
};

/// A wire dialect of chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    OpenAi,
    Anthropic,
}

/// Whom a translated request goes to.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub model: &'a str,
    /// The most the model can answer, in tokens, if known.
    pub max_output: Option<u64>,
    /// The model decides itself how much to think.
    pub adaptive_thinking: bool,
    /// The model samples as it does, whatever it is asked for.
    pub fixed_sampling: bool,
}

/// Members named `x_…` are extensions of whoever reads them, in any dialect; all others are lost.
pub(crate) fn extensions<'a>(
    extras: &'a BTreeMap<String, Raw>,
    losses: &mut Losses,
) -> BTreeMap<&'a str, &'a RawValue> {
    let (pass, lost): (BTreeMap<_, _>, BTreeMap<_, _>) = extras
        .iter()
        .map(|(name, raw)| (name.as_str(), &**raw))
        .partition(|(name, _)| name.starts_with("x_"));
    lost.keys().for_each(|name| losses.dropped(name));
    pass
}

/// A client's body as its dialect's view has it.
#[derive(Debug)]
pub enum View {
    OpenAi(openai::ChatView),
    Anthropic(anthropic::MessagesView),
}

impl View {
    /// # Errors
    /// What is wrong with the body, as its dialect names it.
    pub fn scan(dialect: Dialect, body: &[u8]) -> Result<Self, Error> {
        match dialect {
            Dialect::OpenAi => openai::ChatView::scan(body).map(Self::OpenAi),
            Dialect::Anthropic => anthropic::MessagesView::scan(body).map(Self::Anthropic),
        }
    }

    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::OpenAi(_) => Dialect::OpenAi,
            Self::Anthropic(_) => Dialect::Anthropic,
        }
    }

    /// The body for a provider of the same dialect.
    #[must_use]
    pub fn upstream_body(&self, body: &Bytes, model: &str) -> Bytes {
        match self {
            Self::OpenAi(view) => openai::upstream_body(view, body, model),
            Self::Anthropic(view) => anthropic::upstream_body(view, body, model),
        }
    }

    #[must_use]
    pub fn stream(&self) -> bool {
        match self {
            Self::OpenAi(view) => view.stream,
            Self::Anthropic(view) => view.stream,
        }
    }

    /// The client asked for the usage chunk, in the dialect that has one.
    #[must_use]
    pub fn include_usage(&self) -> bool {
        matches!(self, Self::OpenAi(view) if view.include_usage)
    }

    /// The bound on the answer, in tokens.
    #[must_use]
    pub fn max_output(&self) -> Option<u64> {
        match self {
            Self::OpenAi(view) => view.max_output,
            Self::Anthropic(view) => Some(view.max_tokens),
        }
    }

    /// The model as the client names it.
    #[must_use]
    pub fn into_model(self) -> String {
        match self {
            Self::OpenAi(view) => view.model,
            Self::Anthropic(view) => view.model,
        }
    }

    /// Answers asked for.
    #[must_use]
    pub fn choices(&self) -> u64 {
        match self {
            Self::OpenAi(view) => view.n,
            Self::Anthropic(_) => 1,
        }
    }
}

impl Dialect {
    /// Where chat is asked for, below the base URL.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/chat/completions",
            Self::Anthropic => "/messages",
        }
    }

    /// # Errors
    /// A member that is not of its type.
    pub fn decode_request(self, body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
        match self {
            Self::OpenAi => openai::decode_request(body, losses),
            Self::Anthropic => anthropic::decode_request(body, losses),
        }
    }

    #[must_use]
    pub fn encode_request(self, request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
        match self {
            Self::OpenAi => openai::encode_request(request, target, losses),
            Self::Anthropic => anthropic::encode_request(request, target, losses),
        }
    }

    /// Input tokens of a body, counted here.
    #[must_use]
    pub fn count_prompt(self, body: &[u8]) -> u64 {
        match self {
            Self::OpenAi => tokens::count_prompt(body),
            Self::Anthropic => anthropic::count_prompt(body),
        }
    }

    /// Output tokens of a whole answer, counted here.
    #[must_use]
    pub fn count_answer(self, body: &[u8]) -> u64 {
        match self {
            Self::OpenAi => openai::count_answer(body),
            Self::Anthropic => anthropic::count_answer(body),
        }
    }

    /// What a whole answer says that it used.
    #[must_use]
    pub fn usage_of_answer(self, body: &[u8]) -> Option<Usage> {
        match self {
            Self::OpenAi => openai::usage_of_answer(body),
            Self::Anthropic => anthropic::usage_of_answer(body),
        }
    }

    /// A whole answer of a provider in this dialect, as the client's dialect has it. `usage` is what it was metered
    /// as. `None` when it is no answer.
    #[must_use]
    pub fn translate_answer(self, body: &[u8], client: Self, usage: Usage, now_s: i64) -> Option<Bytes> {
        let answer = match self {
            Self::OpenAi => openai::decode_answer(body)?,
            Self::Anthropic => anthropic::decode_answer(body)?,
        };
        Some(match client {
            Self::OpenAi => openai::encode_answer(&answer, usage, now_s),
            Self::Anthropic => anthropic::encode_answer(&answer, usage),
        })
    }

    /// A provider's refusal, as the client's dialect has it, with the status that goes with it there.
    #[must_use]
    pub fn translate_error(
        self,
        status: u16,
        body: &[u8],
        client: Self,
        request_id: Option<&str>,
    ) -> (u16, Bytes) {
        let mut failure = match self {
            Self::OpenAi => openai::decode_error(status, body),
            Self::Anthropic => anthropic::decode_error(status, body),
        };
        if failure.message.is_empty() {
            failure.message = format!("the model provider answered {status}");
        }
        match client {
            Self::OpenAi => {
                // A status only Anthropic has.
                failure.status = if status == 529 { 503 } else { status };
                (failure.status, openai::encode_error(&failure))
            }
            Self::Anthropic => {
                failure.status = if status == 503 { 529 } else { status };
                (failure.status, anthropic::encode_error(&failure, request_id))
            }
        }
    }

    /// An error of our own.
    #[must_use]
    pub fn error_body(self, error: &Error, request_id: Option<&str>) -> Bytes {
        match self {
            Self::OpenAi => openai::error_body(error),
            Self::Anthropic => anthropic::error_body(error, request_id),
        }
    }

    /// An error of our own in the middle of a stream, and the stream's end.
    #[must_use]
    pub fn error_frames(self, open: &[usize], error: &Error) -> Bytes {
        match self {
            Self::OpenAi => openai::completion_error_frames(error),
            Self::Anthropic => anthropic::error_frames(open, error),
        }
    }

    /// The event that ends a stream.
    #[must_use]
    pub fn terminal(self) -> Bytes {
        Bytes::from_static(match self {
            Self::OpenAi => openai::DONE,
            Self::Anthropic => anthropic::MESSAGE_STOP,
        })
    }
}

/// The side decoder of a provider's stream.
#[derive(Debug)]
pub enum Tap {
    OpenAi(openai::StreamTap),
    Anthropic(anthropic::StreamTap),
}

impl Tap {
    /// For a stream of so many choices.
    #[must_use]
    pub fn new(dialect: Dialect, choices: u64) -> Self {
        match dialect {
            Dialect::OpenAi => Self::OpenAi(openai::StreamTap::new(choices)),
            Dialect::Anthropic => Self::Anthropic(anthropic::StreamTap::default()),
        }
    }

    /// Takes note of one whole event.
    pub fn observe(&mut self, event: &[u8]) -> FrameKind {
        match self {
            Self::OpenAi(tap) => tap.observe(event),
            Self::Anthropic(tap) => tap.observe(event),
        }
    }

    /// The provider's own numbers, once they came.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match self {
            Self::OpenAi(tap) => tap.usage(),
            Self::Anthropic(tap) => tap.usage(),
        }
    }

    /// Whether the answer has told why it ended.
    #[must_use]
    pub fn finished(&self) -> bool {
        match self {
            Self::OpenAi(tap) => tap.finished(),
            Self::Anthropic(tap) => tap.finished(),
        }
    }

    /// Whether the provider sent an error.
    #[must_use]
    pub fn failed(&self) -> bool {
        match self {
            Self::OpenAi(tap) => tap.failed(),
            Self::Anthropic(tap) => tap.failed(),
        }
    }

    /// Tokens of the text that passed, counted here.
    #[must_use]
    pub fn count_output(&self) -> u64 {
        match self {
            Self::OpenAi(tap) => tap.count_output(),
            Self::Anthropic(tap) => tap.count_output(),
        }
    }

    /// Blocks that have begun and not ended, in dialects that have such.
    #[must_use]
    pub fn open_blocks(&self) -> &[usize] {
        match self {
            Self::OpenAi(_) => &[],
            Self::Anthropic(tap) => tap.open_blocks(),
        }
    }
}

#[derive(Debug)]
enum From {
    OpenAi(openai::Decoder),
    Anthropic(anthropic::Decoder),
}

#[derive(Debug)]
enum Into {
    OpenAi(openai::Encoder),
    Anthropic(anthropic::Encoder),
}

/// A stream of one dialect becoming one of another, event by event.
#[derive(Debug)]
pub struct Translator {
    from: From,
    into: Into,
    steps: Vec<Event>,
}

impl Translator {
    /// `include_usage`: the client asked for the usage chunk. `model` and `now_s` (Unix seconds) stand in for what
    /// the provider's dialect doesn't say.
    #[must_use]
    pub fn new(provider: Dialect, client: Dialect, include_usage: bool, model: &str, now_s: i64) -> Self {
        let from = match provider {
            Dialect::OpenAi => From::OpenAi(openai::Decoder::default()),
            Dialect::Anthropic => From::Anthropic(anthropic::Decoder::default()),
        };
        let into = match client {
            Dialect::OpenAi => Into::OpenAi(openai::Encoder::new(include_usage, model, now_s)),
            Dialect::Anthropic => Into::Anthropic(anthropic::Encoder::new(model)),
        };
        Self { from, into, steps: Vec::new() }
    }

    /// The client's events for one whole event of the provider's; may be none.
    ///
    /// # Errors
    /// The provider's error in the middle of its stream.
    pub fn event(&mut self, event: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        self.steps.clear();
        match &mut self.from {
            From::OpenAi(decoder) => decoder.decode(event, &mut self.steps),
            From::Anthropic(decoder) => decoder.decode(event, &mut self.steps),
        }
        for step in &self.steps {
            if let Event::Error(failure) = step {
                return Err(in_stream(failure));
            }
            match &mut self.into {
                Into::OpenAi(encoder) => encoder.encode(step, out),
                Into::Anthropic(encoder) => encoder.encode(step, out),
            }
        }
        Ok(())
    }

    /// The end of a whole answer.
    #[must_use]
    pub fn end(&mut self, usage: Usage) -> Bytes {
        match &mut self.into {
            Into::OpenAi(encoder) => encoder.end(usage),
            Into::Anthropic(encoder) => encoder.end(usage),
        }
    }

    /// The end of one that broke off.
    #[must_use]
    pub fn fail(&mut self, error: &Error) -> Bytes {
        match &mut self.into {
            Into::OpenAi(encoder) => encoder.fail(error),
            Into::Anthropic(encoder) => encoder.fail(error),
        }
    }
}

/// A provider's error as ours, with its words.
fn in_stream(failure: &Failure) -> Error {
    let code = match failure.status {
        429 => Code::RateLimited,
        503 | 529 => Code::Overloaded,
        400 | 413 => Code::InvalidArgument,
        504 => Code::UpstreamTimeout,
        _ => Code::UpstreamFailed,
    };
    let message = if failure.message.is_empty() {
        "the model provider failed in the middle of its answer"
    } else {
        &failure.message
    };
    Error::new(code, message.to_owned())
}
