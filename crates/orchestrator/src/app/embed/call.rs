//! One call to providers, for one request or several.

use bytes::Bytes;
use futures_util::{
    future::{BoxFuture, join_all},
    stream::{self, StreamExt as _},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use weir_error::{Code, Error};
use weir_llm::{
    Usage,
    embeddings::{Ask, Embed, Embedded, Input, shares},
    upstream::UpstreamError,
};
use weir_proto::{
    chat::EmbedResponse,
    events::{Outcome, TokenSource},
};

use super::{Member, as_text};
use crate::app::{
    catalog::Candidate,
    chat::{CLIENT_REQUEST_ID, TRACEPARENT, unanswered, upstream_error, worth_another},
    meter::Ending,
    plain::failed,
    pricing::{usage_tokens, wire_usage},
};

/// Requests of a refused call that are asked for by themselves at the same time.
const ALONE_AT_ONCE: usize = 8;

/// What the requests of a call agree in.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) candidates: Vec<Candidate>,
    pub(super) dimensions: Option<u32>,
    pub(super) extra: Map<String, Value>,
}

/// Why an attempt came to nothing.
struct Refused {
    ending: Ending,
    error: Error,
    /// Another provider may do better.
    elsewhere: bool,
    /// It may be one request's fault, of which the others need not suffer.
    input: bool,
}

impl Call {
    /// Every member gets its answer, or why there is none. `before` is how an attempt of theirs ended before.
    pub(super) async fn make(self, mut members: Vec<Member>, mut before: Option<Ending>) {
        let mut error = Error::new(Code::ModelNotFound, "nobody serves this model").with_param("model");
        for (at, candidate) in self.candidates.iter().enumerate() {
            let last = at + 1 == self.candidates.len();
            let Some(api) = candidate.provider.embeds() else {
                let text = format!("`{}` has no embeddings here", candidate.provider.name);
                error = Error::new(Code::NotImplemented, text).with_param("model");
                continue;
            };
            members = open(members, candidate, before.take()).await;
            if members.is_empty() {
                return;
            }
            match self.attempt(api, candidate, &mut members).await {
                Ok(embedded) => return finish(members, candidate, embedded).await,
                Err(refused) if refused.input && members.len() > 1 => {
                    let left =
                        Self { candidates: self.candidates.get(at..).unwrap_or_default().to_vec(), ..self };
                    let alone = members.into_iter().map(|member| left.clone().alone(member, refused.ending));
                    return stream::iter(alone).buffer_unordered(ALONE_AT_ONCE).collect().await;
                }
                Err(refused) => {
                    let status = refused.ending.provider_status;
                    let provider = &candidate.provider.name;
                    tracing::warn!(provider, status, error = %refused.error.chain(), "embeddings failed");
                    (before, error) = (Some(refused.ending), refused.error);
                    if last || !refused.elsewhere {
                        break;
                    }
                }
            }
        }
        let error = &error;
        let told = members.into_iter().map(|Member { metered, answer, weight, .. }| async move {
            if let Some(ending) = before {
                let status = error.code().http().as_u16();
                metered.finish(Ending { status, ..charged(ending, weight) }).await;
            }
            drop(answer.send(Err(again(error))));
        });
        join_all(told).await;
    }

    /// One of several that were refused together.
    fn alone(self, member: Member, before: Ending) -> BoxFuture<'static, ()> {
        Box::pin(self.make(vec![member], Some(before)))
    }

    async fn attempt(
        &self,
        api: &dyn Embed,
        candidate: &Candidate,
        members: &mut [Member],
    ) -> Result<Embedded, Refused> {
        let inputs: Vec<&Input> = members.iter().flat_map(|m| &m.inputs).collect();
        let texts = if api.takes_tokens() { Ok(Vec::new()) } else { as_text(&inputs) };
        let texts =
            texts.map_err(|error| Refused { ending: failed(0), error, elsewhere: true, input: true })?;
        let inputs = if api.takes_tokens() { inputs } else { texts.iter().collect() };
        let (model, provider) = (candidate.model.as_str(), &candidate.provider);
        let ask = Ask { model, inputs: &inputs, dimensions: self.dimensions, extra: &self.extra };
        let (body, count) = (api.encode(&ask), inputs.len());
        let deadline = members.iter().map(|m| m.deadline).max_by_key(|d| d.map(|d| d.remaining())).flatten();
        let headers = headers(members);
        let sent =
            provider.upstream.send(&provider.path(api.path(model), model), headers, body, deadline).await;
        let answer = sent.map_err(Refused::unanswered)?;
        members.iter_mut().for_each(|member| member.metered.reached(answer.status.as_u16()));
        let status = answer.status;
        let retry_after = answer.headers.get(header::RETRY_AFTER).cloned();
        let body = answer.body.collect().await.map_err(|error| {
            let mut refused = Refused::unanswered(error);
            refused.ending.provider_status = status.as_u16();
            refused
        })?;
        if !status.is_success() {
            return Err(Refused::told(candidate, status, &body, retry_after));
        }
        api.decode(&body, count).ok_or_else(|| Refused {
            ending: Ending { outcome: Outcome::Cut, ..failed(status.as_u16()) },
            error: Error::new(Code::UpstreamFailed, "the model provider sent an answer that can't be read"),
            elsewhere: true,
            input: false,
        })
    }
}

/// Opens an attempt of each; those whose attempt can't be recorded are told and left out.
async fn open(members: Vec<Member>, candidate: &Candidate, before: Option<Ending>) -> Vec<Member> {
    let mut opened = Vec::with_capacity(members.len());
    for mut member in members {
        member.metered.sending(candidate.provider.dialect, Bytes::new());
        let before = before.map(|ending| charged(ending, member.weight));
        match member.metered.open(&candidate.provider.name, &candidate.model, before) {
            Ok(_) => opened.push(member),
            Err(error) => drop(member.answer.send(Err(error))),
        }
    }
    opened
}

fn headers(members: &[Member]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // A provider's records can be tied to one attempt of several.
    let Some(first) = members.first() else { return headers };
    if let Some(id) = first.metered.attempt_id().and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
        headers.insert(CLIENT_REQUEST_ID, id);
    }
    if let Some(trace) = first.metered.traceparent() {
        headers.insert(TRACEPARENT, trace);
    }
    headers
}

/// Each its vectors, and its share of what was used. Their records become durable together.
async fn finish(members: Vec<Member>, candidate: &Candidate, embedded: Embedded) {
    let weights: Vec<_> = members.iter().map(|m| m.weight).collect();
    let (used, source) = match embedded.input_tokens {
        Some(told) => (shares(told, &weights), TokenSource::Provider),
        None => (weights, TokenSource::Counted),
    };
    let mut vectors = embedded.vectors.into_iter();
    let told = members.into_iter().zip(used).map(|(member, input_tokens)| {
        let vectors = vectors.by_ref().take(member.inputs.len()).collect();
        async move {
            let Member { metered, answer, .. } = member;
            let tokens = usage_tokens(Usage { input_tokens, ..Usage::default() });
            let outcome = Outcome::Succeeded;
            let ending = Ending { outcome, provider_status: 200, status: 200, tokens, source };
            let cost_nano_usd = metered.finish(ending).await;
            drop(answer.send(Ok(EmbedResponse {
                vectors,
                usage: Some(wire_usage(tokens)),
                provider: candidate.provider.name.clone(),
                model: candidate.model.clone(),
                cost_nano_usd,
            })));
        }
    });
    join_all(told).await;
}

/// An answer that came and could not be read was an answer: its input counts.
fn charged(ending: Ending, weight: u64) -> Ending {
    let answering = (200..300).contains(&ending.provider_status);
    if ending.outcome != Outcome::Cut || !answering {
        return ending;
    }
    let tokens = usage_tokens(Usage { input_tokens: weight, ..Usage::default() });
    Ending { tokens, source: TokenSource::Counted, ..ending }
}

/// For another who asked the same.
fn again(error: &Error) -> Error {
    let mut other = Error::new(error.code(), error.message().to_owned());
    if let Some(param) = error.param() {
        other = other.with_param(param.to_owned());
    }
    match error.retry_after() {
        Some(after) => other.with_retry_after(after),
        None => other,
    }
}

impl Refused {
    fn unanswered(error: UpstreamError) -> Self {
        Self { ending: unanswered(&error), error: upstream_error(error), elsewhere: true, input: false }
    }

    /// In the provider's own words, but where they are about us.
    fn told(
        candidate: &Candidate,
        status: StatusCode,
        body: &[u8],
        retry_after: Option<HeaderValue>,
    ) -> Self {
        let provider = candidate.provider.dialect.provider();
        let failure = provider.decode_error(status.as_u16(), body);
        let said = |fallback: &str| {
            if failure.message.is_empty() { fallback.to_owned() } else { failure.message.clone() }
        };
        let (code, message) = match status.as_u16() {
            401 | 403 => {
                (Code::UpstreamFailed, "the model provider refused this platform's credentials".to_owned())
            }
            404 => (Code::ModelNotFound, said("the model provider does not know this model")),
            413 => (Code::PayloadTooLarge, said("too much for the model provider")),
            429 => (Code::RateLimited, said("the model provider limits its rate")),
            400..=499 => (Code::InvalidArgument, said("the model provider refused the request")),
            _ => (Code::UpstreamFailed, "the model provider failed".to_owned()),
        };
        let mut error = Error::new(code, message);
        if let Some(param) = failure.param.filter(|_| code == Code::InvalidArgument) {
            error = error.with_param(param);
        }
        let after =
            retry_after.and_then(|v| v.to_str().ok()?.parse().ok()).map(std::time::Duration::from_secs);
        if let Some(after) = after.filter(|_| code == Code::RateLimited) {
            error = error.with_retry_after(after);
        }
        Self {
            ending: failed(status.as_u16()),
            error,
            elsewhere: worth_another(status.as_u16()),
            input: matches!(status.as_u16(), 400 | 413 | 422),
        }
    }
}
