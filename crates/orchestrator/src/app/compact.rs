//! A conversation made shorter: by the first provider that can, else by whoever is asked for a summary.

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream};
use weir_error::{Error, require_scope};
use weir_llm::{Call, Dialect, canonical::Wrong, upstream::Answer};
use weir_proto::chat::CompleteRequest;
use weir_types::{RequestContext, scope};

use super::{
    attempt::{Asked, Outgoing},
    catalog::Candidate,
    chat::{Chat, Frames, Relaying, unanswered, upstream_error, worth_another},
    meter::{Ending, Metered},
    plain,
    send::send_once,
    vault::Owner,
};

pub(crate) enum Compacted<'a> {
    /// As clients get it.
    Native(Frames),
    /// Nobody does it who could be asked: takes what to ask in its place, or why nothing may be.
    Instead(Instead<'a>),
}

/// Asks with this body, in the same dialect.
pub(crate) type Instead<'a> =
    Box<dyn FnOnce(Result<Bytes, Error>) -> BoxFuture<'a, Result<Frames, Error>> + Send + 'a>;

/// What came of asking one.
enum Step {
    Answered(Box<(Answer, Outgoing)>),
    /// Another might do better.
    Next,
    /// It does not compact.
    Instead,
}

impl Chat {
    /// # Errors
    /// As [`Chat::complete`].
    pub(crate) async fn compact<'a>(
        &'a self,
        ctx: &'a RequestContext,
        request: CompleteRequest,
    ) -> Result<Compacted<'a>, Error> {
        require_scope(ctx, scope::CHAT_WRITE)?;
        let mut asked = Asked::compacting(request)?;
        let mut left = self.resolve(ctx, &asked.request.model).await?;
        let metered = self.meter.request(ctx, &asked.request.model, false)?;
        let mut so_far = (metered, None);
        while let Some(candidate) = left.first().cloned() {
            let last = left.len() == 1;
            match self.ask(ctx, &mut asked, &candidate, last, &mut so_far).await {
                Ok(Step::Answered(answered)) => {
                    let (answer, outgoing) = *answered;
                    let frames = self.relayed(ctx, answer, so_far.0, (candidate, outgoing)).await?;
                    return Ok(Compacted::Native(frames));
                }
                Ok(Step::Next) => {}
                // Another may do it, where nothing else will do.
                Ok(Step::Instead) if asked.request.strict && !last => {}
                Ok(Step::Instead) => break,
                Err(error) => return Err(given_up(so_far, error).await),
            }
            left.remove(0);
        }
        Ok(Compacted::Instead(Box::new(move |body| {
            Box::pin(async move {
                let request = body.map(|body| CompleteRequest { body, ..asked.request });
                match request.and_then(|request| Asked::new(request, Dialect::Responses)) {
                    Ok(asked) => self.answer(ctx, asked, left, so_far.0, so_far.1).await,
                    Err(error) => Err(given_up(so_far, error).await),
                }
            })
        })))
    }

    /// # Errors
    /// The last one's.
    async fn ask(
        &self,
        ctx: &RequestContext,
        asked: &mut Asked,
        candidate: &Candidate,
        last: bool,
        (metered, failed): &mut (Box<Metered>, Option<Ending>),
    ) -> Result<Step, Error> {
        if !can(candidate) {
            return Ok(Step::Instead);
        }
        let owner = Owner::of(ctx);
        let outgoing = match asked.body_for(candidate, &self.catalog, (&self.vault, owner.as_ref())).await {
            Err(_) if !last => return Ok(Step::Next),
            outgoing => outgoing?,
        };
        let provider = &candidate.provider;
        let body = outgoing.body.clone();
        let mut answer = match send_once(ctx, asked, candidate, body, metered, failed.take()).await? {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(provider = provider.name, error = %error, "attempt failed");
                *failed = Some(unanswered(&error));
                return if last { Err(upstream_error(error)) } else { Ok(Step::Next) };
            }
        };
        let status = answer.status.as_u16();
        if serves_none(&mut answer).await {
            tracing::info!(provider = provider.name, status, "does not compact");
            provider.quirks.no_compact.learn(&candidate.model);
            *failed = Some(plain::failed(status));
            return Ok(Step::Instead);
        }
        if last || !worth_another(status) {
            return Ok(Step::Answered(Box::new((answer, outgoing))));
        }
        tracing::warn!(provider = provider.name, status, "attempt failed, trying the next");
        *failed = Some(plain::failed(status));
        Ok(Step::Next)
    }

    async fn relayed(
        &self,
        ctx: &RequestContext,
        answer: Answer,
        metered: Box<Metered>,
        (candidate, outgoing): (Candidate, Outgoing),
    ) -> Result<Frames, Error> {
        let relaying = Relaying {
            client: Dialect::Responses,
            provider: candidate.provider,
            warnings: outgoing.losses.header(),
            streams: false,
            choices: 1,
            request_id: ctx.request_id.clone(),
            // There is no turn of the model in it.
            keeper: None,
            structure: None,
            call: Call {
                model: candidate.model,
                now_s: self.meter.clock.now_ms().div_euclid(1_000),
                include_usage: false,
                request: Bytes::new(),
                ..Call::default()
            },
        };
        let frames = plain::relay(answer, metered, &relaying).await?;
        Ok(Box::pin(stream::iter(frames.map(Ok))))
    }
}

/// Whether it may be asked itself.
fn can(candidate: &Candidate) -> bool {
    let provider = &candidate.provider;
    let speaks = provider.spoken(Dialect::Responses) == Dialect::Responses;
    speaks && !provider.quirks.no_compact.holds(&candidate.model)
}

/// Whether what it refuses is to compact at all: there is nothing at the path, and it is not the model that is missing.
async fn serves_none(answer: &mut Answer) -> bool {
    let status = answer.status.as_u16();
    if status != 404 {
        return matches!(status, 405 | 501);
    }
    let Ok(body) = answer.body.peek().await else { return false };
    Dialect::Responses.provider().decode_error(status, &body).wrong() != Wrong::ModelNotFound
}

/// The error, once what was tried before is told of.
async fn given_up((metered, failed): (Box<Metered>, Option<Ending>), error: Error) -> Error {
    if let Some(ending) = failed {
        metered.finish(ending).await;
    }
    error
}
