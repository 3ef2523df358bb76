//! One chat request: who serves it, the attempts, the answer.

use std::{collections::HashMap, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tonic::Status;
use weir_error::{Code, Error, require_scope};
use weir_llm::{
    openai::{self, ChatView},
    upstream::{Answer, UpstreamError},
};
use weir_proto::{
    chat::{CompleteFrame, CompleteRequest, Dialect, Head},
    events::{Outcome, TokenSource, Tokens},
    router::{DecideRequest, router_client::RouterClient},
};
use weir_rpc::Transport;
use weir_types::{RequestContext, scope};

use super::{
    catalog::{Candidate, Catalog},
    meter::{Ending, Meter, Metered},
    plain, stream as streamed,
};

/// OpenAI's own header for an id of the caller's: it ties a provider's records to an attempt.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
/// What clients' retry logic reads.
const PASSED_ON: [&str; 3] = ["retry-after", "retry-after-ms", "x-should-retry"];

pub(crate) type Frames = Pin<Box<dyn Stream<Item = Result<CompleteFrame, Status>> + Send>>;

#[derive(Clone)]
pub(crate) struct Chat {
    pub(crate) catalog: Catalog,
    pub(crate) meter: Meter,
    pub(crate) router: RouterClient<Transport>,
    pub(crate) decide_timeout: Duration,
    pub(crate) fallback_model: Option<String>,
}

impl Chat {
    pub(crate) async fn complete(
        &self,
        ctx: &RequestContext,
        request: CompleteRequest,
    ) -> Result<Frames, Error> {
        require_scope(ctx, scope::CHAT_WRITE)?;
        if request.dialect() != Dialect::OpenaiChat {
            return Err(Error::invalid("dialect", "this dialect is not spoken here"));
        }
        let view = ChatView::scan(&request.body)?;
        let candidates = self.resolve(ctx, &request.model).await?;
        let metered = self.meter.request(ctx, &request.model, request.stream, request.body.clone())?;
        let (answer, metered, candidate) =
            self.attempt(ctx, &view, &request.body, candidates, metered).await?;
        let (provider, model) = (candidate.provider.name.as_str(), candidate.model.as_str());
        if request.stream && answer.status.is_success() && answer.is_event_stream() {
            return Ok(Box::pin(streamed::relay(
                answer,
                metered,
                provider,
                model,
                request.include_usage,
                view.n,
            )));
        }
        let frames = plain::relay(answer, metered, provider, model).await?;
        Ok(Box::pin(stream::iter(frames.map(Ok))))
    }

    /// A model named outright needs no router.
    async fn resolve(&self, ctx: &RequestContext, model: &str) -> Result<Vec<Candidate>, Error> {
        let outright = self.catalog.candidates(model);
        if !outright.is_empty() {
            return Ok(outright);
        }
        let name = self.decide(ctx, model).await?;
        let mut candidates = self.catalog.candidates(&name);
        if candidates.is_empty() {
            candidates = self.catalog.unlisted(&name);
        }
        if candidates.is_empty() {
            let text = format!("The model `{model}` does not exist or you do not have access to it.");
            return Err(Error::new(Code::ModelNotFound, text).with_param("model"));
        }
        Ok(candidates)
    }

    /// What the router makes of a name: an alias's target, or the name itself.
    async fn decide(&self, ctx: &RequestContext, model: &str) -> Result<String, Error> {
        let ask = weir_rpc::request(ctx, DecideRequest { model: model.to_owned() });
        let mut router = self.router.clone();
        match tokio::time::timeout(self.decide_timeout, router.decide(ask)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let named = !answer.provider.is_empty();
                Ok(if named { format!("{}/{}", answer.provider, answer.model) } else { answer.model })
            }
            Ok(Err(status)) => match Error::from(status) {
                error if error.code() == Code::NotFound => Ok(model.to_owned()),
                error if error.code() == Code::InvalidArgument => Err(error),
                error => self.without_router(model, &error.chain()),
            },
            Err(_) => self.without_router(model, "no answer in time"),
        }
    }

    /// `auto` has a fallback. Any other name may be an alias: not to know is no reason to say that it doesn't exist.
    fn without_router(&self, model: &str, reason: &str) -> Result<String, Error> {
        self.meter.metrics.router_fallbacks.inc();
        tracing::warn!(model, reason, "the router did not decide");
        let fallback = self.fallback_model.as_ref().filter(|_| model == "auto");
        fallback.cloned().ok_or_else(|| Error::unavailable("the router did not decide in time"))
    }

    /// Tries each candidate once, before the first byte, until one answers with something that another could not
    /// better. The last one's answer is the client's, whatever it is.
    async fn attempt(
        &self,
        ctx: &RequestContext,
        view: &ChatView,
        body: &Bytes,
        candidates: Vec<Candidate>,
        mut metered: Metered,
    ) -> Result<(Answer, Metered, Candidate), Error> {
        let mut left = candidates.into_iter().peekable();
        let mut failed = None;
        while let Some(candidate) = left.next() {
            let id = metered.open(&candidate.provider.name, &candidate.model, failed.take())?;
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
                headers.insert(CLIENT_REQUEST_ID, id);
            }
            let body = openai::upstream_body(view, body, &candidate.model);
            let sent =
                candidate.provider.upstream.send("/chat/completions", headers, body, ctx.deadline).await;
            let last = left.peek().is_none();
            match sent {
                Ok(answer) => {
                    let status = answer.status.as_u16();
                    metered.reached(status);
                    if last || !worth_another(status) {
                        return Ok((answer, metered, candidate));
                    }
                    tracing::warn!(
                        provider = candidate.provider.name,
                        status,
                        "attempt failed, trying the next"
                    );
                    failed = Some(plain::failed(status));
                }
                Err(error) => {
                    let ending = unanswered(&error);
                    let provider = &candidate.provider.name;
                    tracing::warn!(provider, error = %error, "attempt failed");
                    if last {
                        metered.finish(ending).await;
                        return Err(upstream_error(error));
                    }
                    failed = Some(ending);
                }
            }
        }
        Err(Error::new(Code::ModelNotFound, "nobody serves this model").with_param("model"))
    }
}

/// Whether somebody else might do better.
fn worth_another(status: u16) -> bool {
    matches!(status, 401 | 403 | 408 | 429 | 500..=599)
}

fn unanswered(error: &UpstreamError) -> Ending {
    let status =
        if error.is_timeout() { Code::UpstreamTimeout } else { Code::UpstreamFailed }.http().as_u16();
    // A request that may have arrived is an attempt like others; one that can't have is none.
    let outcome = if error.reached() { Outcome::Cut } else { Outcome::Failed };
    Ending { outcome, provider_status: 0, status, tokens: Tokens::default(), source: TokenSource::Counted }
}

pub(crate) fn upstream_error(error: UpstreamError) -> Error {
    let error_for_client = if error.is_timeout() {
        Error::new(Code::UpstreamTimeout, "the model provider did not answer in time")
    } else {
        Error::new(Code::UpstreamFailed, "the model provider could not be reached or broke off")
    };
    error_for_client.with_source(error)
}

pub(crate) fn head(answer: &Answer, provider: &str, model: &str) -> Head {
    let text = |name: &str| answer.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let headers: HashMap<_, _> =
        PASSED_ON.iter().filter_map(|name| text(name).map(|value| ((*name).to_owned(), value))).collect();
    Head {
        status: answer.status.as_u16().into(),
        content_type: text("content-type").unwrap_or_else(|| "application/json".to_owned()),
        provider: provider.to_owned(),
        model: model.to_owned(),
        headers,
    }
}
