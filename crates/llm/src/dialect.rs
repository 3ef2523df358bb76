//! The dialects, and the one place where one becomes another.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use weir_error::{Code, Error};

use crate::{
    Call, Usage, anthropic, bedrock,
    canonical::{Event, Failure, Losses, Raw, Request},
    mistral, ollama, openai,
    wire::{Client, Decode, Encode, Provider},
};

/// A wire dialect of chat. Clients speak some of them, providers all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    /// Spoken by providers only, like all that follow.
    Mistral,
    Ollama,
    Bedrock,
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
            Dialect::Mistral | Dialect::Ollama | Dialect::Bedrock => {
                Err(Error::invalid("dialect", "this dialect is not spoken here"))
            }
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
    /// As providers speak it.
    #[must_use]
    pub fn provider(self) -> &'static dyn Provider {
        match self {
            Self::OpenAi => &openai::Chat,
            Self::Anthropic => &anthropic::Messages,
            Self::Mistral => &mistral::Chat,
            Self::Ollama => &ollama::Chat,
            Self::Bedrock => &bedrock::Converse,
        }
    }

    /// As clients speak it. A dialect that only providers speak answers as OpenAI's: nobody asks in it.
    #[must_use]
    pub fn client(self) -> &'static dyn Client {
        match self {
            Self::OpenAi | Self::Mistral | Self::Ollama | Self::Bedrock => &openai::Chat,
            Self::Anthropic => &anthropic::Messages,
        }
    }

    /// # Errors
    /// A member that is not of its type.
    pub fn decode_request(self, body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
        self.client().decode_request(body, losses)
    }

    #[must_use]
    pub fn encode_request(self, request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
        self.provider().encode_request(request, target, losses)
    }

    /// A whole answer of a provider in this dialect, as the client's dialect has it. `usage` is what it was metered
    /// as. `None` when it is no answer.
    #[must_use]
    pub fn translate_answer(self, body: &[u8], client: Self, usage: Usage, call: &Call) -> Option<Bytes> {
        let mut answer = self.provider().decode_answer(body)?;
        if answer.created == 0 {
            answer.created = call.now_s;
        }
        if answer.model.is_empty() {
            answer.model.clone_from(&call.model);
        }
        Some(client.client().encode_answer(&answer, usage, call))
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
        let mut failure = self.provider().decode_error(status, body);
        failure.status = status;
        if failure.message.is_empty() {
            failure.message = format!("the model provider answered {status}");
        }
        client.client().encode_error(failure, request_id)
    }

    /// An error of our own.
    #[must_use]
    pub fn error_body(self, error: &Error, request_id: Option<&str>) -> Bytes {
        self.client().error_body(error, request_id)
    }

    /// An error of our own in a stream of which nothing is known, and the stream's end.
    #[must_use]
    pub fn error_frames(self, error: &Error) -> Bytes {
        self.client().error_frames(error)
    }

    /// The event that ends a client's stream; empty in dialects that have none.
    #[must_use]
    pub fn terminal(self) -> Bytes {
        self.client().terminal()
    }
}

/// A stream of one dialect becoming one of another, event by event.
#[derive(Debug)]
pub struct Translator {
    from: Box<dyn Decode>,
    into: Box<dyn Encode>,
    steps: Vec<Event>,
}

impl Translator {
    #[must_use]
    pub fn new(provider: Dialect, client: Dialect, call: &Call) -> Self {
        let (from, into) = (provider.provider().decoder(), client.client().encoder(call));
        Self { from, into, steps: Vec::new() }
    }

    /// The client's events for one whole event of the provider's; may be none.
    ///
    /// # Errors
    /// The provider's error in the middle of its stream.
    pub fn event(&mut self, event: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        self.steps.clear();
        self.from.decode(event, &mut self.steps);
        for step in &self.steps {
            if let Event::Error(failure) = step {
                return Err(in_stream(failure));
            }
            self.into.encode(step, out);
        }
        Ok(())
    }

    /// The end of a whole answer.
    #[must_use]
    pub fn end(&mut self, usage: Usage) -> Bytes {
        self.into.end(usage)
    }

    /// The end of one that broke off.
    #[must_use]
    pub fn fail(&mut self, error: &Error) -> Bytes {
        self.into.fail(error)
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
