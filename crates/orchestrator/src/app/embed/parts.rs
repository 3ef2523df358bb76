//! A call's inputs in as many calls as its provider needs for them: all are answered, or none is.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::{HeaderMap, header};
use parking_lot::Mutex;
use weir_error::Error;
use weir_llm::{
    canonical::Losses,
    embeddings::{Answer, Ask, Embed, Embedded, Input},
};
use weir_types::Deadline;

use super::{
    Asked, Member, as_text,
    call::{Refused, headers},
    weigh,
};
use crate::app::catalog::Candidate;

/// Calls at the same time, of one that is several.
const AT_ONCE: usize = 8;

/// What is sent.
pub(super) struct Parts {
    api: &'static dyn Embed,
    parts: Vec<Part>,
    dimensions: Option<u32>,
    /// What the provider is not told, in the client's words.
    pub(super) warnings: String,
}

struct Part {
    body: Bytes,
    inputs: Vec<Input>,
}

impl Parts {
    /// # Errors
    /// Tokens of no text, for a provider that takes texts alone; what the provider can't be told, if that matters.
    pub(super) fn new(
        api: &'static dyn Embed,
        candidate: &Candidate,
        asked: &Asked,
        members: &[Member],
    ) -> Result<Self, Error> {
        let inputs: Vec<&Input> = members.iter().flat_map(|m| &m.inputs).collect();
        let texts = if api.takes_tokens() { Vec::new() } else { as_text(&inputs)? };
        let inputs = if api.takes_tokens() { inputs } else { texts.iter().collect() };
        let mut losses = Losses::default();
        let part = |part: &[&Input]| {
            let Asked { dimensions, extra, .. } = asked;
            let ask = Ask { model: &candidate.model, inputs: part, dimensions: *dimensions, extra };
            let body = api.encode(&ask, &mut losses);
            Part { body, inputs: part.iter().map(|input| (*input).clone()).collect() }
        };
        let parts = api.bound().parts(&inputs).into_iter().map(part).collect();
        Ok(Self { api, parts, dimensions: asked.dimensions, warnings: asked.told(&losses)? })
    }

    /// Once one part has failed, no further one is begun; those on their way are waited for, and what they used counts.
    pub(super) async fn ask(
        &self,
        candidate: &Candidate,
        members: &mut [Member],
    ) -> Result<Embedded, Refused> {
        let deadline = members.iter().map(|m| m.deadline).max_by_key(|d| d.map(|d| d.remaining())).flatten();
        let headers = headers(members);
        let members = Mutex::new(members);
        let reached = |status| members.lock().iter_mut().for_each(|member| member.metered.reached(status));
        let failed = AtomicBool::new(false);
        let calls = stream::iter(0..self.parts.len()).map(|at| {
            let (headers, failed, reached) = (headers.clone(), &failed, &reached);
            async move {
                let part = self.parts.get(at).filter(|_| !failed.load(Ordering::Relaxed))?;
                let answer = self.one(candidate, part, headers, deadline, reached).await;
                failed.fetch_or(answer.is_err(), Ordering::Relaxed);
                Some((answer, part))
            }
        });
        let answers: Vec<_> = calls.buffered(AT_ONCE).collect().await;
        join(answers.into_iter().flatten().collect()).await
    }

    async fn one(
        &self,
        candidate: &Candidate,
        part: &Part,
        headers: HeaderMap,
        deadline: Option<Deadline>,
        reached: &(dyn Fn(u16) + Sync),
    ) -> Result<Embedded, Refused> {
        let provider = &candidate.provider;
        let path = provider.path(self.api.path(&candidate.model), &candidate.model);
        let sent = provider.upstream.send(&path, headers, part.body.clone(), deadline).await;
        let answer = sent.map_err(Refused::unanswered)?;
        let (status, headers) = (answer.status, answer.headers);
        reached(status.as_u16());
        let body = answer.body.collect().await.map_err(|error| {
            let mut refused = Refused::unanswered(error);
            refused.past.ending.provider_status = status.as_u16();
            refused
        })?;
        if !status.is_success() {
            let retry_after = headers.get(header::RETRY_AFTER).cloned();
            return Err(Refused::told(candidate, status, &body, retry_after));
        }
        match self.api.decode(&Answer { headers: &headers, body: &body }, part.inputs.len()) {
            Some(embedded) => Ok(embedded),
            None => Err(Refused::unreadable(status, weigh(&part.inputs).await)),
        }
    }

    /// What the client must know of the answer: a vector of another length than was asked for is not what it takes.
    pub(super) fn warnings_of(&self, embedded: &Embedded) -> String {
        let Some(length) = self.dimensions.map(|d| d as usize * 4) else { return self.warnings.clone() };
        let other = embedded.vectors.iter().any(|vector| vector.len() != length);
        let more = if other { "dropped;dimensions" } else { "" };
        match (self.warnings.as_str(), more) {
            (said, "") => said.to_owned(),
            ("", more) => more.to_owned(),
            (said, more) => format!("{said}, {more}"),
        }
    }
}

/// Their vectors in order, and what all used; or why there are none.
async fn join(answers: Vec<(Result<Embedded, Refused>, &Part)>) -> Result<Embedded, Refused> {
    let mut whole = Embedded { vectors: Vec::new(), input_tokens: Some(0) };
    let (mut refused, mut done) = (None::<Refused>, Vec::new());
    for (answer, part) in answers {
        match (answer, &mut refused) {
            (Ok(embedded), _) => {
                done.push((embedded.input_tokens, part));
                whole.input_tokens = whole.input_tokens.zip(embedded.input_tokens).map(|(a, b)| a + b);
                whole.vectors.extend(embedded.vectors);
            }
            (Err(error), Some(first)) => first.past.used += error.past.used,
            (Err(error), none) => *none = Some(error),
        }
    }
    let Some(mut refused) = refused else { return Ok(whole) };
    for (told, part) in done {
        refused.past.used += match told {
            Some(told) => told,
            None => weigh(&part.inputs).await,
        };
    }
    Err(refused)
}
