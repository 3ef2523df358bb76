//! The dialects.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use weir_error::Error;

use crate::{
    Call, Usage, anthropic, bedrock,
    canonical::{Answer, Failure, Losses, Raw, Request, Vendor},
    extent, gemini, media, mistral,
    models::{Maker, Thinks, facts},
    names::Names,
    ollama, openai, responses,
    wire::{Client, Provider},
};

/// A wire dialect of chat. Clients speak some of them, providers all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    OpenAi,
    Responses,
    Anthropic,
    Gemini,
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

impl<'a> Target<'a> {
    /// What is known of a model of whose provider nothing is.
    #[must_use]
    pub fn known(model: &'a str) -> Self {
        let facts = facts(model);
        Self {
            model,
            max_output: facts.and_then(|facts| facts.max_output),
            adaptive_thinking: facts.is_some_and(|facts| facts.thinks == Some(Thinks::Adaptive)),
            fixed_sampling: facts.is_some_and(|facts| facts.fixed_sampling),
        }
    }
}

/// What a client says of a stream's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOptions {
    None,
    /// Whether it wants the usage chunk, and nothing else.
    Usage,
    Others,
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
    Responses(responses::ResponsesView),
    Anthropic(anthropic::MessagesView),
    Gemini(gemini::GenerateView),
}

impl View {
    /// With what the path says, in the dialect whose bodies don't.
    ///
    /// # Errors
    /// As [`View::scan`].
    pub fn scan_for(dialect: Dialect, body: &[u8], model: &str, stream: bool) -> Result<Self, Error> {
        match dialect {
            Dialect::Gemini => {
                extent::check(dialect, body)?;
                gemini::GenerateView::scan(body, model, stream).map(Self::Gemini)
            }
            _ => Self::scan(dialect, body),
        }
    }

    /// # Errors
    /// What is wrong with the body, as its dialect names it.
    pub fn scan(dialect: Dialect, body: &[u8]) -> Result<Self, Error> {
        extent::check(dialect, body)?;
        match dialect {
            Dialect::OpenAi => openai::ChatView::scan(body).map(Self::OpenAi),
            Dialect::Responses => responses::ResponsesView::scan(body).map(Self::Responses),
            Dialect::Anthropic => anthropic::MessagesView::scan(body).map(Self::Anthropic),
            Dialect::Gemini => Err(Error::invalid("model", "the path names no model")),
            Dialect::Mistral | Dialect::Ollama | Dialect::Bedrock => {
                Err(Error::invalid("dialect", "this dialect is not spoken here"))
            }
        }
    }

    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::OpenAi(_) => Dialect::OpenAi,
            Self::Responses(_) => Dialect::Responses,
            Self::Anthropic(_) => Dialect::Anthropic,
            Self::Gemini(_) => Dialect::Gemini,
        }
    }

    /// The body for a provider of the same dialect. Thoughts that it would refuse are left out, and named.
    #[must_use]
    pub fn upstream_body(&self, body: &Bytes, model: &str, losses: &mut Losses) -> Bytes {
        match self {
            Self::OpenAi(view) => openai::upstream_body(view, body, model),
            Self::Responses(view) => responses::upstream_body(view, body, model, losses),
            Self::Anthropic(view) => anthropic::upstream_body(view, body, model, losses),
            Self::Gemini(view) => view.upstream_body(body, model),
        }
    }

    #[must_use]
    pub fn stream(&self) -> bool {
        match self {
            Self::OpenAi(view) => view.stream,
            Self::Responses(view) => view.stream,
            Self::Anthropic(view) => view.stream,
            Self::Gemini(view) => view.stream,
        }
    }

    /// The client asks the model to think.
    #[must_use]
    pub fn thinks(&self) -> bool {
        match self {
            Self::OpenAi(view) => view.thinks,
            Self::Responses(view) => view.thinks,
            Self::Anthropic(view) => view.thinks,
            Self::Gemini(view) => view.thinks,
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
            Self::Responses(view) => view.max_output,
            Self::Anthropic(view) => Some(view.max_tokens),
            Self::Gemini(view) => view.max_output,
        }
    }

    /// The model as the client names it.
    #[must_use]
    pub fn into_model(self) -> String {
        match self {
            Self::OpenAi(view) => view.model,
            Self::Responses(view) => view.model,
            Self::Anthropic(view) => view.model,
            Self::Gemini(view) => view.model,
        }
    }

    /// What the client says itself of the usage chunk, in the dialect that has one.
    #[must_use]
    pub fn stream_options(&self, body: &[u8]) -> StreamOptions {
        match self {
            Self::OpenAi(view) => view.stream_options(body),
            Self::Responses(_) | Self::Anthropic(_) | Self::Gemini(_) => StreamOptions::None,
        }
    }

    /// Answers asked for.
    #[must_use]
    pub fn choices(&self) -> u64 {
        match self {
            Self::OpenAi(view) => view.n,
            Self::Responses(_) | Self::Anthropic(_) => 1,
            Self::Gemini(view) => view.candidates,
        }
    }
}

impl Dialect {
    /// As providers speak it.
    #[must_use]
    pub fn provider(self) -> &'static dyn Provider {
        match self {
            Self::OpenAi => &openai::Chat,
            Self::Responses => &responses::Responses,
            Self::Anthropic => &anthropic::Messages,
            Self::Gemini => &gemini::Generate,
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
            Self::Responses => &responses::Responses,
            Self::Anthropic => &anthropic::Messages,
            Self::Gemini => &gemini::Generate,
        }
    }

    /// # Errors
    /// A member that is not of its type.
    pub fn decode_request(self, body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
        let mut request = self.client().decode_request(body, losses)?;
        media::standard(&mut request);
        Ok(request)
    }

    #[must_use]
    pub fn encode_request(self, request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
        let provider = self.provider();
        let named = Names::of(request, self).told(request);
        let request = &*named;
        if !matches!(self, Self::OpenAi | Self::Responses) {
            request.name_openai_s_own(losses);
            if request.metadata.is_some() && self != Self::Mistral {
                losses.dropped("metadata");
            }
        }
        if request.custom_tools().next().is_some() && !provider.takes_custom_tools(target.model) {
            losses.emulated("tools.custom");
        }
        provider.encode_request(request, target, losses)
    }

    /// A whole answer of a provider in this dialect, as the client's dialect has it. `usage` is what it was metered
    /// as. `None` when it is no answer.
    #[must_use]
    pub fn translate_answer(self, body: &[u8], client: Self, usage: Usage, call: &Call) -> Option<Bytes> {
        let answer = self.decode_answer(body, call)?;
        Some(client.client().encode_answer(&answer, usage, call, &mut Losses::default()))
    }

    /// A whole answer of a provider in this dialect, with what its call knows where it says nothing. One that failed is
    /// none.
    #[must_use]
    pub fn decode_answer(self, body: &[u8], call: &Call) -> Option<Answer> {
        let mut answer = self.provider().decode_answer(body)?;
        if answer.choices.iter().any(|choice| choice.finish.failure().is_some()) {
            return None;
        }
        call.names.in_answer(&mut answer);
        if answer.created == 0 {
            answer.created = call.now_s;
        }
        if answer.model.is_empty() {
            answer.model.clone_from(&call.model);
        }
        Some(answer)
    }

    /// Why a whole answer is none, where its provider says that it failed.
    #[must_use]
    pub fn failed(self, body: &[u8]) -> Option<Failure> {
        let answer = self.provider().decode_answer(body)?;
        answer.choices.iter().find_map(|choice| choice.finish.failure())
    }

    /// Whose opaque state a provider of this dialect takes back for a model of its; `None`: nobody's.
    #[must_use]
    pub fn vendor(self, model: &str) -> Option<Vendor> {
        match self {
            Self::OpenAi => openai::carries(model),
            Self::Responses => Some(Vendor::OpenAi),
            Self::Anthropic => Some(Vendor::Anthropic),
            Self::Gemini => Some(Vendor::Google),
            Self::Bedrock => {
                facts(model).filter(|facts| facts.maker == Maker::Anthropic).map(|_| Vendor::Anthropic)
            }
            Self::Mistral | Self::Ollama => None,
        }
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
        if failure.status == 0 {
            failure.status = status;
        }
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
