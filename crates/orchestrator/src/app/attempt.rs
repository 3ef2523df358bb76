//! What one attempt sends: the client's own bytes where the provider speaks its dialect, else their translation.

use std::{borrow::Cow, collections::HashMap};

use super::{
    catalog::{Candidate, Catalog, Model},
    heavy,
    vault::{Owner, Vault, restored, restored_all},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use weir_error::{Code, Error};
use weir_llm::{
    Dialect, Names, Target, View, adapted,
    canonical::{self, Message},
    gemini, models, ollama, openai, responses,
    schema::Check,
    turn::Before,
    upstream::Wait,
};
use weir_proto::chat::CompleteRequest;
use weir_types::RequestContext;

pub(crate) const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// Headers of the client that reach a provider of its dialect.
const FORWARDED: [&str; 2] = ["anthropic-beta", "anthropic-version"];

/// A client's request, and what it means once somebody had to know.
pub(crate) struct Asked {
    pub(crate) request: CompleteRequest,
    pub(crate) view: View,
    /// The id that its answer has with us.
    pub(super) id: Option<String>,
    /// The conversation is to become shorter, in the one dialect that has a path for it.
    compacts: bool,
    meaning: Option<Box<(canonical::Request, canonical::Losses)>>,
    /// What is still to be known of the meaning once it was let go.
    before: Option<Box<Before>>,
    asks_to_think: bool,
}

/// A body for a provider, and what it could not say.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub(crate) body: Bytes,
    pub(crate) losses: canonical::Losses,
    /// What the answer is to be held against, and what was meant.
    pub(crate) checked: Option<Box<(Check, canonical::Request)>>,
    /// Names of functions that the provider is told otherwise.
    pub(crate) names: Names,
}

/// A body in the dialect of another provider than its client's.
fn translated(
    meaning: &canonical::Request,
    candidate: &Candidate,
    target: &Target<'_>,
    mut losses: canonical::Losses,
) -> Outgoing {
    let spoken = candidate.provider.dialect;
    let thoughtless = thoughtless(meaning, candidate, &mut losses);
    let meaning = thoughtless.as_ref().unwrap_or(meaning);
    let body = fitted(spoken.encode_request(meaning, target, &mut losses), candidate);
    let checked = meaning.format.as_ref().filter(|_| losses.is_inexact("response_format"));
    let checked = checked.and_then(|_| Check::of(meaning)).map(|check| Box::new((check, meaning.clone())));
    Outgoing { body, losses, checked, names: Names::of(meaning, spoken) }
}

/// A translated body as this model of its provider was seen to want it, or is to be asked.
pub(super) fn fitted(mut body: Bytes, candidate: &Candidate) -> Bytes {
    let Candidate { provider, model, .. } = candidate;
    if let Some(tokens) = provider.num_ctx {
        return ollama::with_window(&body, tokens);
    }
    if provider.dialect != Dialect::OpenAi {
        return body;
    }
    if provider.quirks.no_stream_options.holds(model) {
        body = openai::without_stream_options(&body);
    }
    if provider.quirks.newer_limit.holds(model) {
        body = openai::with_newer_limit(&body).unwrap_or(body);
    }
    body
}

fn thinks(meaning: &canonical::Request) -> bool {
    meaning.reasoning.as_ref().is_some_and(|reasoning| reasoning.enabled != Some(false))
}

/// What is meant, for a model of Ollama's that was seen not to think. `None`: it is as it was.
fn thoughtless(
    meaning: &canonical::Request,
    candidate: &Candidate,
    losses: &mut canonical::Losses,
) -> Option<canonical::Request> {
    if !thinks(meaning) || !candidate.provider.quirks.no_think.holds(&candidate.model) {
        return None;
    }
    losses.dropped("reasoning_effort");
    Some(canonical::Request { reasoning: None, ..meaning.clone() })
}

/// What an encoder is told of the model: what its provider's list says, else what is known of its family.
pub(super) fn target<'a>(candidate: &'a Candidate, model: Option<&Model>) -> Target<'a> {
    let known = Target::known(&candidate.model);
    Target {
        max_output: model.and_then(|m| m.max_tokens).or(known.max_output),
        adaptive_thinking: model.and_then(Model::adaptive_thinking).unwrap_or(known.adaptive_thinking),
        fixed_sampling: model.and_then(Model::fixed_sampling).unwrap_or(known.fixed_sampling),
        ..known
    }
}

impl Asked {
    pub(crate) fn new(request: CompleteRequest, dialect: Dialect) -> Result<Self, Error> {
        let scan = || View::scan_for(dialect, &request.body, &request.model, request.stream);
        let view = if heavy::is_large(request.body.len()) { heavy::apart(scan) } else { scan() }?;
        Ok(Self {
            request,
            view,
            id: None,
            compacts: false,
            meaning: None,
            before: None,
            asks_to_think: false,
        })
    }

    /// For `/responses/compact`, of providers that serve it.
    pub(crate) fn compacting(request: CompleteRequest) -> Result<Self, Error> {
        Ok(Self { compacts: true, ..Self::new(request, Dialect::Responses)? })
    }

    /// Where it is asked.
    pub(crate) fn path(&self, candidate: &Candidate) -> Cow<'static, str> {
        let provider = &candidate.provider;
        if self.compacts {
            return provider.path(responses::COMPACT.into(), &candidate.model);
        }
        provider.chat_path(provider.spoken(self.view.dialect()), &candidate.model, self.request.stream)
    }

    /// # Errors
    /// The body can't be understood as far as translation needs it; or something would be lost that the client
    /// insists on.
    pub(crate) async fn body_for(
        &mut self,
        candidate: &Candidate,
        catalog: &Catalog,
        state: (&Vault, Option<&Owner>),
    ) -> Result<Outgoing, Error> {
        let provider = &candidate.provider;
        let spoken = provider.spoken(self.view.dialect());
        let client = self.view.dialect().client();
        let mut losses = canonical::Losses::default();
        if spoken == self.view.dialect() {
            let size = self.request.body.len();
            let body = heavy::body(size, || self.own_body(candidate, &mut losses)).await;
            let body = self.same_dialect(body, candidate, state).await;
            let mut body = heavy::body(size, || self.own_state(body, candidate, &mut losses)).await;
            if candidate.successor {
                body = self.succeeded(&body, candidate, catalog).await;
            }
            let losses = self.redirected(candidate, losses.told(client))?;
            self.allowed(&losses)?;
            return Ok(Outgoing { body, losses, ..Outgoing::default() });
        }
        let model = catalog.model(&provider.name, &candidate.model);
        let target = target(candidate, model.as_ref());
        let size = self.request.body.len();
        let (meaning, lost) = self.meaning().await?;
        let vendor = spoken.vendor(&candidate.model);
        let found = match (state, vendor) {
            ((vault, Some(owner)), Some(vendor)) => {
                Some((vault.find(owner, &meaning.messages).await, vendor))
            }
            _ => None,
        };
        losses.clone_from(lost);
        let translate = || {
            let back = found.and_then(|(found, vendor)| restored(meaning, &found, vendor));
            translated(back.as_ref().unwrap_or(meaning), candidate, &target, losses)
        };
        let mut outgoing = heavy::body(size, translate).await;
        outgoing.losses = self.redirected(candidate, outgoing.losses.told(client))?;
        self.allowed(&outgoing.losses)?;
        Ok(outgoing)
    }

    /// Nobody else is asked: of what the body means only so much is kept.
    pub(crate) async fn let_go(&mut self, owner: Option<&Owner>) {
        let Some(meaning) = self.meaning.take() else { return };
        self.asks_to_think = thinks(&meaning.0);
        let conversation = || {
            let before = owner.map(|owner| Box::new(owner.conversation(&meaning.0.messages)));
            drop(meaning);
            before
        };
        self.before = heavy::body(self.request.body.len(), conversation).await;
    }

    /// The client's own bytes, for a model of a provider of its dialect.
    fn own_body(&self, candidate: &Candidate, losses: &mut canonical::Losses) -> Bytes {
        let Candidate { provider, model, .. } = candidate;
        let body = match &self.view {
            View::Responses(view) if self.compacts => {
                return responses::compact_body(view, &self.request.body, model, losses);
            }
            view => view.upstream_body(&self.request.body, model, losses),
        };
        let newer = || {
            let known = models::facts(model).is_some_and(|facts| facts.max_completion_tokens);
            known || provider.quirks.newer_limit.holds(model)
        };
        // Most bodies bound nothing.
        if self.view.dialect() == Dialect::OpenAi
            && self.view.max_output().is_some()
            && newer()
            && let Some(body) = openai::with_newer_limit(&body)
        {
            losses.altered("max_tokens");
            return body;
        }
        body
    }

    /// Without what a model of another vendor left in the conversation: nobody but its own takes it back.
    fn own_state(&self, body: Bytes, candidate: &Candidate, losses: &mut canonical::Losses) -> Bytes {
        let (provider, model) = (&candidate.provider, &candidate.model);
        match self.view.dialect() {
            Dialect::OpenAi => {
                let carried = provider.quirks.carries_state.holds(model);
                openai::own_state(&body, model, provider.is_azure(), carried, losses)
            }
            Dialect::Gemini => gemini::own_state(&body, model, losses),
            _ => body,
        }
    }

    /// Whether the client asks it to think, in words of its own dialect.
    pub(crate) fn asks_to_think(&self) -> bool {
        self.meaning.as_ref().map_or(self.asks_to_think, |meaning| thinks(&meaning.0))
    }

    /// Whether the client bears it that this is lost.
    fn allowed(&self, losses: &canonical::Losses) -> Result<(), Error> {
        if !self.request.strict || losses.is_empty() {
            return Ok(());
        }
        let text = format!("This model's provider would not get all of the request: {}.", losses.header());
        Err(Error::new(Code::InvalidArgument, text))
    }

    /// The client's body as a successor takes it: it refuses some of what the model took that it stands in for.
    async fn succeeded(&mut self, body: &Bytes, candidate: &Candidate, catalog: &Catalog) -> Bytes {
        let (dialect, asked) = (self.view.dialect(), self.request.model.clone());
        let model = catalog.model(&candidate.provider.name, &candidate.model);
        // A body that can't be understood here may be understood there.
        let Ok((meaning, _)) = self.meaning().await else { return body.clone() };
        let adapt = || {
            let mut unseen = canonical::Losses::default();
            let old = dialect.encode_request(meaning, &Target::known(&asked), &mut unseen);
            let new = dialect.encode_request(meaning, &target(candidate, model.as_ref()), &mut unseen);
            adapted(body, &old, &new)
        };
        heavy::body(body.len(), adapt).await
    }

    /// The conversation of the request, if somebody had to know what it means.
    pub(crate) async fn conversation(&mut self, owner: &Owner) -> Option<Box<Before>> {
        self.let_go(Some(owner)).await;
        self.before.take()
    }

    /// Another model than the one that was asked for is named, or refused.
    fn redirected(
        &self,
        candidate: &Candidate,
        mut losses: canonical::Losses,
    ) -> Result<canonical::Losses, Error> {
        if candidate.successor {
            if self.request.strict {
                let (asked, model) = (&self.request.model, &candidate.model);
                let text = format!("The model `{asked}` was retired; `{model}` would answer in its place.");
                return Err(Error::new(Code::ModelNotFound, text).with_param("model"));
            }
            losses.altered("model");
        }
        Ok(losses)
    }

    /// What the body means, and what its own dialect could not say.
    async fn meaning(&mut self) -> Result<&(canonical::Request, canonical::Losses), Error> {
        match &mut self.meaning {
            Some(meaning) => Ok(meaning),
            none => {
                let (request, dialect) = (&self.request, self.view.dialect());
                let understand = || {
                    let mut losses = canonical::Losses::default();
                    let mut meaning = dialect.decode_request(&request.body, &mut losses)?;
                    // Not every dialect says it in the body.
                    meaning.stream = request.stream;
                    Ok::<_, Error>(Box::new((meaning, losses)))
                };
                Ok(none.insert(heavy::body(request.body.len(), understand).await?))
            }
        }
    }

    /// The client's own bytes, but for what this provider was seen to want otherwise.
    async fn same_dialect(
        &mut self,
        mut body: Bytes,
        candidate: &Candidate,
        (vault, owner): (&Vault, Option<&Owner>),
    ) -> Bytes {
        let provider = &candidate.provider;
        match self.view.dialect() {
            Dialect::OpenAi => {}
            Dialect::Responses if responses::asks_for_state(&body) => {
                let back = self.found(vault, owner).await;
                if back.is_empty() {
                    return body;
                }
                let back = back.iter().map(|(at, message)| (*at, message));
                return responses::with_state(&body, back).unwrap_or(body);
            }
            Dialect::Gemini if gemini::has_calls(&body) => {
                let back = self.found(vault, owner).await;
                if back.is_empty() {
                    return body;
                }
                let back = back.iter().map(|(at, message)| (*at, message));
                return gemini::with_state(&body, back).unwrap_or(body);
            }
            _ => return body,
        }
        if provider.quirks.no_stream_options.holds(&candidate.model) {
            body = openai::without_stream_options(&body);
        }
        if !provider.quirks.carries_state.holds(&candidate.model) {
            return body;
        }
        let back = self.found(vault, owner).await;
        openai::with_state(&body, back.iter().map(|(at, message)| (*at, message))).unwrap_or(body)
    }

    /// The messages that get state back. None of a body that can't be understood here: it may be understood there.
    async fn found(&mut self, vault: &Vault, owner: Option<&Owner>) -> Vec<(usize, Message)> {
        let Some(owner) = owner else { return Vec::new() };
        let Ok((meaning, _)) = self.meaning().await else { return Vec::new() };
        restored_all(meaning, &vault.find(owner, &meaning.messages).await)
    }

    /// How long its answer is waited for.
    pub(crate) fn wait(&self, ctx: &RequestContext, model: &str) -> Wait {
        let thinks = || models::facts(model).and_then(|facts| facts.thinks);
        Wait {
            thinks: self.view.thinks() || thinks().is_some_and(|thinks| thinks != models::Thinks::None),
            whole: !self.request.stream,
            deadline: ctx.deadline,
        }
    }

    /// Headers for this provider.
    pub(crate) fn headers_for(&self, provider: Dialect) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if provider == self.view.dialect() {
            forward(&self.request.headers, &mut headers);
        }
        headers
    }
}

/// Those of the client's headers that a provider of its dialect gets.
pub(crate) fn forward(from: &HashMap<String, String>, into: &mut HeaderMap) {
    if from.is_empty() {
        return;
    }
    for name in FORWARDED {
        if let Some(value) = from.get(name).and_then(|v| HeaderValue::from_str(v).ok()) {
            into.insert(HeaderName::from_static(name), value);
        }
    }
}
