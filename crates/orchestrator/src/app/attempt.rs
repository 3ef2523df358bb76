//! What one attempt sends: the client's own bytes where the provider speaks its dialect, else their translation.

use std::{collections::HashMap, sync::atomic::Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use weir_error::{Code, Error};
use weir_llm::{Dialect, Target, View, canonical, gemini, openai, responses, schema::Check};
use weir_proto::chat::CompleteRequest;
use weir_types::TenantId;

use super::{
    catalog::{Candidate, Catalog, Model},
    vault::{Vault, restored, restored_all},
};

pub(crate) const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// Headers of the client that reach a provider of its dialect.
const FORWARDED: [&str; 2] = ["anthropic-beta", "anthropic-version"];

/// A client's request, and what it means once somebody had to know.
pub(crate) struct Asked {
    pub(crate) request: CompleteRequest,
    pub(crate) view: View,
    meaning: Option<(canonical::Request, canonical::Losses)>,
}

/// A body for a provider, and what it could not say.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub(crate) body: Bytes,
    pub(crate) losses: canonical::Losses,
    /// What the answer is to be held against, and what was meant.
    pub(crate) checked: Option<(Check, canonical::Request)>,
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
        let view = View::scan_for(dialect, &request.body, &request.model, request.stream)?;
        Ok(Self { request, view, meaning: None })
    }

    /// # Errors
    /// The body can't be understood as far as translation needs it; or something would be lost that the client
    /// insists on.
    pub(crate) async fn body_for(
        &mut self,
        candidate: &Candidate,
        catalog: &Catalog,
        state: (&Vault, Option<TenantId>),
    ) -> Result<Outgoing, Error> {
        let provider = &candidate.provider;
        let spoken = provider.spoken(self.view.dialect());
        // A successor takes less than the model that it stands in for: it is asked in its own way.
        if spoken == self.view.dialect() && !candidate.successor {
            let body = self.view.upstream_body(&self.request.body, &candidate.model);
            let body = self.same_dialect(body, candidate, state).await;
            return Ok(Outgoing { body, ..Outgoing::default() });
        }
        let model = catalog.model(&provider.name, &candidate.model);
        let target = target(candidate, model.as_ref());
        let (meaning, lost) = self.meaning()?;
        let vendor = spoken.vendor(&candidate.model);
        let back = match (state, vendor) {
            ((vault, Some(tenant)), Some(vendor)) => {
                restored(meaning, &vault.find(tenant, &meaning.messages).await, vendor)
            }
            _ => None,
        };
        let mut losses = lost.clone();
        let meaning = back.as_ref().unwrap_or(meaning);
        let mut body = spoken.encode_request(meaning, &target, &mut losses);
        if spoken == Dialect::OpenAi && provider.quirks.no_stream_options.load(Ordering::Relaxed) {
            body = openai::without_stream_options(&body);
        }
        let checked = meaning.format.as_ref().filter(|_| losses.is_inexact("response_format"));
        let checked = checked.and_then(Check::new).map(|check| (check, meaning.clone()));
        let losses = self.redirected(candidate, losses.told(self.view.dialect().client()))?;
        if self.request.strict && !losses.is_empty() {
            let text = format!(
                "This model's provider speaks another dialect, and would not get all of the request: {}.",
                losses.header()
            );
            return Err(Error::new(Code::InvalidArgument, text));
        }
        Ok(Outgoing { body, losses, checked })
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
    fn meaning(&mut self) -> Result<&(canonical::Request, canonical::Losses), Error> {
        match &mut self.meaning {
            Some(meaning) => Ok(meaning),
            none => {
                let mut losses = canonical::Losses::default();
                let mut meaning = self.view.dialect().decode_request(&self.request.body, &mut losses)?;
                // Not every dialect says it in the body.
                meaning.stream = self.request.stream;
                Ok(none.insert((meaning, losses)))
            }
        }
    }

    /// The client's own bytes, but for what this provider was seen to want otherwise.
    async fn same_dialect(
        &mut self,
        mut body: Bytes,
        candidate: &Candidate,
        (vault, tenant): (&Vault, Option<TenantId>),
    ) -> Bytes {
        let provider = &candidate.provider;
        match self.view.dialect() {
            Dialect::OpenAi => {}
            Dialect::Responses if responses::asks_for_state(&body) => {
                let Some(tenant) = tenant else { return body };
                let Ok((meaning, _)) = self.meaning() else { return body };
                let found = vault.find(tenant, &meaning.messages).await;
                let back = restored_all(meaning, &found);
                let back = back.iter().map(|(at, message)| (*at, message));
                return responses::with_state(&body, back).unwrap_or(body);
            }
            Dialect::Gemini if gemini::has_calls(&body) => {
                let Some(tenant) = tenant else { return body };
                let Ok((meaning, _)) = self.meaning() else { return body };
                let found = vault.find(tenant, &meaning.messages).await;
                let back = restored_all(meaning, &found);
                let back = back.iter().map(|(at, message)| (*at, message));
                return gemini::with_state(&body, back).unwrap_or(body);
            }
            _ => return body,
        }
        if provider.quirks.no_stream_options.load(Ordering::Relaxed) {
            body = openai::without_stream_options(&body);
        }
        let Some(tenant) = tenant.filter(|_| provider.quirks.carries_state.load(Ordering::Relaxed)) else {
            return body;
        };
        // A body that can't be understood here may be understood there.
        let Ok((meaning, _)) = self.meaning() else { return body };
        let found = vault.find(tenant, &meaning.messages).await;
        let back = restored_all(meaning, &found);
        openai::with_state(&body, back.iter().map(|(at, message)| (*at, message))).unwrap_or(body)
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
