//! One call to providers, for one request or several.

use bytes::Bytes;
use futures_util::{
    future::{BoxFuture, join_all},
    stream::{self, StreamExt as _},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use weir_error::{Code, Error};
use weir_llm::{
    Usage,
    embeddings::{Bound, Embedded, shares},
    upstream::UpstreamError,
};
use weir_proto::{
    chat::EmbedResponse,
    events::{Outcome, TokenSource},
};

use super::{Asked, Member, parts::Parts};
use crate::app::{
    catalog::Candidate,
    chat::{CLIENT_REQUEST_ID, TRACEPARENT, unanswered, upstream_error, worth_another},
    meter::Ending,
    plain::failed,
    pricing::{usage_tokens, wire_usage},
    refusal,
};

/// Requests of a refused call that are asked for by themselves at the same time.
const ALONE_AT_ONCE: usize = 8;

/// What the requests of a call agree in.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) candidates: Vec<Candidate>,
    pub(super) asked: Asked,
}

/// An attempt that is over.
#[derive(Clone, Copy)]
pub(super) struct Past {
    pub(super) ending: Ending,
    /// Input tokens of all requests that it used though nothing came of it.
    pub(super) used: u64,
}

/// Why an attempt came to nothing.
pub(super) struct Refused {
    pub(super) past: Past,
    pub(super) error: Error,
    /// Another provider may do better.
    elsewhere: bool,
    /// It may be one request's fault, of which the others need not suffer.
    input: bool,
}

impl Call {
    /// Whether one call to its first provider takes more than one input.
    pub(super) fn takes_several(&self) -> bool {
        let first = self.candidates.first();
        let api = first.and_then(|candidate| candidate.provider.embeds(&candidate.model));
        api.is_none_or(|api| api.bound() != Bound::ONE)
    }

    /// Every member gets its answer, or why there is none. `before` is how an attempt of theirs ended before.
    pub(super) async fn make(self, mut members: Vec<Member>, mut before: Option<Past>) {
        let mut error = Error::new(Code::ModelNotFound, "nobody serves this model").with_param("model");
        for (at, candidate) in self.candidates.iter().enumerate() {
            let last = at + 1 == self.candidates.len();
            let Some(api) = candidate.provider.embeds(&candidate.model) else {
                let text = format!("`{}` has no embeddings of this model here", candidate.provider.name);
                error = Error::new(Code::NotImplemented, text).with_param("model");
                continue;
            };
            let parts = match Parts::new(api, candidate, &self.asked, &members) {
                Ok(parts) => parts,
                // What can't be read as a text is one request's.
                Err(_) if members.len() > 1 => return self.each_alone(at, members, before).await,
                Err(unsaid) => {
                    error = unsaid;
                    continue;
                }
            };
            members = open(members, candidate, before.take()).await;
            if members.is_empty() {
                return;
            }
            match parts.ask(candidate, &mut members).await {
                Ok(embedded) => {
                    let warnings = parts.warnings_of(&embedded);
                    return finish(members, candidate, embedded, &warnings).await;
                }
                Err(refused) if refused.input && members.len() > 1 => {
                    return self.each_alone(at, members, Some(refused.past)).await;
                }
                Err(refused) => {
                    let status = refused.past.ending.provider_status;
                    let provider = &candidate.provider.name;
                    tracing::warn!(provider, status, error = %refused.error.chain(), "embeddings failed");
                    (before, error) = (Some(refused.past), refused.error);
                    if last || !refused.elsewhere {
                        break;
                    }
                }
            }
        }
        let error = &error;
        let past = each(before, &members);
        let told = members.into_iter().zip(past).map(|(Member { metered, answer, .. }, past)| async move {
            if let Some(ending) = past {
                let status = error.code().http().as_u16();
                metered.finish(Ending { status, ..ending }).await;
            }
            drop(answer.send(Err(again(error))));
        });
        join_all(told).await;
    }

    /// From this candidate on, each by itself.
    async fn each_alone(self, at: usize, members: Vec<Member>, before: Option<Past>) {
        let left = Self { candidates: self.candidates.get(at..).unwrap_or_default().to_vec(), ..self };
        let past = used(before, &members);
        let alone = members.into_iter().zip(past).map(|(member, past)| left.clone().alone(member, past));
        stream::iter(alone).buffer_unordered(ALONE_AT_ONCE).collect::<()>().await;
    }

    /// One of several that were refused together.
    fn alone(self, member: Member, before: Option<Past>) -> BoxFuture<'static, ()> {
        Box::pin(self.make(vec![member], before))
    }
}

/// What an attempt that is over is to each of its members.
fn used(past: Option<Past>, members: &[Member]) -> Vec<Option<Past>> {
    let weights: Vec<_> = members.iter().map(|m| m.weight).collect();
    let shares = shares(past.map_or(0, |past| past.used), &weights);
    shares.into_iter().map(|used| past.map(|past| Past { used, ..past })).collect()
}

/// The same as it is recorded. Input that was answered counts, whatever came of the answer.
fn each(past: Option<Past>, members: &[Member]) -> Vec<Option<Ending>> {
    let ending = |Past { ending, used }| {
        if used == 0 {
            return ending;
        }
        let tokens = usage_tokens(Usage { input_tokens: used, ..Usage::default() });
        Ending { outcome: Outcome::Cut, tokens, source: TokenSource::Counted, ..ending }
    };
    used(past, members).into_iter().map(|past| past.map(ending)).collect()
}

/// Opens an attempt of each; those whose attempt can't be recorded are told and left out.
async fn open(members: Vec<Member>, candidate: &Candidate, before: Option<Past>) -> Vec<Member> {
    let mut opened = Vec::with_capacity(members.len());
    let past = each(before, &members);
    for (mut member, before) in members.into_iter().zip(past) {
        member.metered.sending(candidate.provider.dialect, Bytes::new());
        match member.metered.open(&candidate.provider.name, &candidate.model, before) {
            Ok(_) => opened.push(member),
            Err(error) => drop(member.answer.send(Err(error))),
        }
    }
    opened
}

pub(super) fn headers(members: &[Member]) -> HeaderMap {
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
async fn finish(members: Vec<Member>, candidate: &Candidate, embedded: Embedded, warnings: &str) {
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
                warnings: warnings.to_owned(),
            })));
        }
    });
    join_all(told).await;
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
    pub(super) fn unanswered(error: UpstreamError) -> Self {
        let past = Past { ending: unanswered(&error), used: 0 };
        Self { past, error: upstream_error(error), elsewhere: true, input: false }
    }

    /// An answer that came and could not be read was an answer.
    pub(super) fn unreadable(status: StatusCode, used: u64) -> Self {
        let text = "the model provider sent an answer that can't be read";
        let ending = Ending { outcome: Outcome::Cut, ..failed(status.as_u16()) };
        Self {
            past: Past { ending, used },
            error: Error::new(Code::UpstreamFailed, text),
            elsewhere: true,
            input: false,
        }
    }

    /// In the provider's own words, but where they are about us.
    pub(super) fn told(
        candidate: &Candidate,
        status: StatusCode,
        body: &[u8],
        retry_after: Option<HeaderValue>,
    ) -> Self {
        let provider = candidate.provider.dialect.provider();
        let failure = refusal::told(provider.decode_error(status.as_u16(), body));
        let said = |fallback: &str| {
            if failure.message.is_empty() { fallback.to_owned() } else { failure.message.clone() }
        };
        let (code, message) = match status.as_u16() {
            401 | 403 => {
                (Code::UpstreamFailed, "the model provider refused this platform's credentials".to_owned())
            }
            404 => (Code::ModelNotFound, said("the model provider does not know this model")),
            408 => (Code::RequestTimeout, said("the model provider did not get the request in time")),
            413 => (Code::PayloadTooLarge, said("too much for the model provider")),
            429 => (Code::RateLimited, said("the model provider limits its rate")),
            400..=499 => (Code::InvalidArgument, said("the model provider refused the request")),
            503 => (Code::Unavailable, "the model provider is not available".to_owned()),
            504 => (Code::UpstreamTimeout, "the model provider did not answer in time".to_owned()),
            529 => (Code::Overloaded, "the model provider is overloaded".to_owned()),
            _ => (Code::UpstreamFailed, "the model provider failed".to_owned()),
        };
        let mut error = Error::new(code, message);
        if let Some(param) = failure.param.filter(|_| code == Code::InvalidArgument) {
            error = error.with_param(param);
        }
        let after =
            retry_after.and_then(|v| v.to_str().ok()?.parse().ok()).map(std::time::Duration::from_secs);
        if let Some(after) = after.filter(|_| code != Code::InvalidArgument) {
            error = error.with_retry_after(after);
        }
        Self {
            past: Past { ending: failed(status.as_u16()), used: 0 },
            error,
            elsewhere: worth_another(status.as_u16()),
            input: matches!(status.as_u16(), 400 | 413 | 422),
        }
    }
}
