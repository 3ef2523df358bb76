//! What one attempt sends: the client's own bytes where the provider speaks its dialect, else their translation.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use weir_error::{Code, Error};
use weir_llm::{Dialect, Target, View, canonical};
use weir_proto::chat::CompleteRequest;

use super::catalog::{Candidate, Catalog, Model};

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
pub(crate) struct Outgoing {
    pub(crate) body: Bytes,
    pub(crate) losses: canonical::Losses,
}

impl Asked {
    pub(crate) fn new(request: CompleteRequest, dialect: Dialect) -> Result<Self, Error> {
        let view = View::scan(dialect, &request.body)?;
        Ok(Self { request, view, meaning: None })
    }

    /// # Errors
    /// The body can't be understood as far as translation needs it; or something would be lost that the client
    /// insists on.
    pub(crate) fn body_for(&mut self, candidate: &Candidate, catalog: &Catalog) -> Result<Outgoing, Error> {
        let provider = &candidate.provider;
        if provider.dialect == self.view.dialect() {
            let body = self.view.upstream_body(&self.request.body, &candidate.model);
            return Ok(Outgoing { body, losses: canonical::Losses::default() });
        }
        let model = catalog.model(&provider.name, &candidate.model);
        let target = Target {
            model: &candidate.model,
            max_output: model.as_ref().and_then(|m| m.max_tokens),
            adaptive_thinking: model.as_ref().is_some_and(Model::adaptive_thinking),
            fixed_sampling: model.as_ref().is_some_and(Model::fixed_sampling),
        };
        let (meaning, lost) = match &mut self.meaning {
            Some(meaning) => meaning,
            none => {
                let mut losses = canonical::Losses::default();
                let meaning = self.view.dialect().decode_request(&self.request.body, &mut losses)?;
                none.insert((meaning, losses))
            }
        };
        let mut losses = lost.clone();
        let body = provider.dialect.encode_request(meaning, &target, &mut losses);
        if self.request.strict && !losses.is_empty() {
            let text = format!(
                "This model's provider speaks another dialect, and would not get all of the request: {}.",
                losses.header()
            );
            return Err(Error::new(Code::InvalidArgument, text));
        }
        Ok(Outgoing { body, losses })
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
