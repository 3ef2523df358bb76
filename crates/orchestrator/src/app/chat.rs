//! One chat request: who serves it, the attempts, the answer.

use std::{
    collections::HashMap,
    error::Error as _,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture, stream};
use http::HeaderName;
use tonic::Status;
use weir_embedding::Model as Own;
use weir_error::{Code, Error, require_scope};
use weir_llm::{
    Call, Dialect, Names,
    canonical::{Losses, Part},
    openai, platform,
    turn::{self, Before},
    upstream::{Answer, UpstreamError, Wait},
};
use weir_proto::{
    chat::{CompleteFrame, CompleteRequest, Dialect as WireDialect, Head},
    events::{Outcome, TokenSource, Tokens},
    router::{DecideRequest, router_client::RouterClient},
};
use weir_rpc::Transport;
use weir_types::{RequestContext, RequestId, scope};

use super::{
    attempt::{Asked, Outgoing},
    catalog::{Candidate, Catalog, Provider},
    decided::Decided,
    heavy,
    meter::{Ending, Meter, Metered},
    plain,
    send::{refuses_to_think, send, send_once},
    stream as streamed,
    structured::Structure,
    vault::{Owner, Vault},
};
use crate::metrics::StructuredMetrics;

/// OpenAI's own header for an id of the caller's: it ties a provider's records to an attempt.
pub(super) const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What a translation lost on the way to the provider.
const WARNINGS: &str = "x-weir-warnings";
/// What clients' retry logic reads.
const PASSED_ON: [&str; 3] = ["retry-after", "retry-after-ms", "x-should-retry"];

pub(crate) type Frames = Pin<Box<dyn Stream<Item = Result<CompleteFrame, Status>> + Send>>;

#[derive(Clone)]
pub(crate) struct Chat {
    pub(crate) catalog: Catalog,
    pub(crate) meter: Arc<Meter>,
    pub(crate) router: RouterClient<Transport>,
    pub(crate) decide_timeout: Duration,
    pub(crate) decided: Arc<Decided>,
    pub(crate) fallback_model: Option<String>,
    pub(crate) vault: Vault,
    pub(crate) structured: StructuredMetrics,
}

impl Chat {
    pub(crate) fn complete<'a>(
        &'a self,
        ctx: &'a RequestContext,
        request: CompleteRequest,
    ) -> BoxFuture<'a, Result<Frames, Error>> {
        Box::pin(self.complete_as(ctx, request, None))
    }

    /// `id`: the one that the answer has with us.
    pub(super) async fn complete_as(
        &self,
        ctx: &RequestContext,
        request: CompleteRequest,
        id: Option<String>,
    ) -> Result<Frames, Error> {
        require_scope(ctx, scope::CHAT_WRITE)?;
        let dialect = dialect(request.dialect())?;
        let mut asked = Asked::new(request, dialect)?;
        asked.id = id;
        let candidates = self.resolve(ctx, &asked.request.model).await?;
        let metered = self.meter.request(ctx, &asked.request.model, asked.request.stream)?;
        self.answer(ctx, asked, candidates, metered, None).await
    }

    /// What the first of these answers that answers at all. `failed`: how the attempt before them ended.
    pub(super) async fn answer(
        &self,
        ctx: &RequestContext,
        mut asked: Asked,
        candidates: Vec<Candidate>,
        metered: Box<Metered>,
        failed: Option<Ending>,
    ) -> Result<Frames, Error> {
        let dialect = asked.view.dialect();
        let owner = Owner::of(ctx);
        let (answer, metered, served) =
            Box::pin(self.attempt(ctx, &mut asked, owner.as_ref(), candidates, (metered, failed))).await?;
        let before = match &owner {
            Some(owner) => asked.conversation(owner).await,
            None => None,
        };
        let keeper = owner.map(|owner| Keeper { vault: self.vault.clone(), before, owner });
        let streams = asked.request.stream;
        let provider = served.candidate.provider;
        let spoken = provider.spoken(dialect);
        let live = streams && answer.status.is_success() && answer.is_stream(spoken.provider().framing());
        // Answers of one dialect repeat the request, those of another are told as it declares its tools.
        let repeated = match dialect {
            Dialect::Responses => true,
            // What passes as it came is not written anew.
            Dialect::OpenAi if spoken == dialect && live == streams => false,
            Dialect::OpenAi => openai::has_own_calls(&asked.request.body),
            _ => false,
        };
        let relay = Relaying {
            client: dialect,
            provider,
            warnings: served.warnings,
            choices: asked.view.choices(),
            streams,
            request_id: ctx.request_id.clone(),
            keeper,
            structure: served.structure,
            call: Call {
                model: served.candidate.model,
                now_s: self.meter.clock.now_ms().div_euclid(1_000),
                include_usage: asked.request.include_usage,
                request: if repeated { asked.request.body } else { Bytes::new() },
                id: asked.id,
                names: served.names,
            },
        };
        if live {
            return Ok(Box::pin(streamed::relay(answer, metered, relay)));
        }
        let frames = Box::pin(plain::relay(answer, metered, &relay)).await?;
        Ok(Box::pin(stream::iter(frames.map(Ok))))
    }

    /// Who answers.
    pub(super) async fn resolve(&self, ctx: &RequestContext, model: &str) -> Result<Vec<Candidate>, Error> {
        match self.servers(ctx, model).await? {
            Servers::Providers(candidates) => Ok(candidates),
            Servers::Own(own) => {
                let text = format!("`{}` gives vectors: it is asked at /v1/embeddings.", own.name());
                Err(Error::new(Code::InvalidArgument, text).with_param("model"))
            }
        }
    }

    /// A tenant's alias wins over a model of the same name, so the router is asked first, or was a moment ago. Without
    /// the router, what is listed is served under its own name.
    pub(super) async fn servers(&self, ctx: &RequestContext, model: &str) -> Result<Servers, Error> {
        // In an address it would be another.
        if platform::leads_elsewhere(model) {
            return Err(unknown(model));
        }
        let outright = |name: &str| {
            let own = self.catalog.own(name).map(Servers::Own);
            own.or_else(|| {
                Some(self.catalog.candidates(name)).filter(|c| !c.is_empty()).map(Servers::Providers)
            })
        };
        let (tenant, now) = (ctx.tenant, Instant::now());
        let known = self.decided.is_its_own(tenant, model, now);
        if let Some(served) = known.then(|| outright(model)).flatten() {
            return Ok(served);
        }
        // Rare, and large beside the rest of the way.
        let (name, without) = match Box::pin(self.decide(ctx, model)).await {
            Ok(name) => (name, None),
            Err(error) if error.code() == Code::Unavailable => (model.to_owned(), Some(error)),
            Err(error) => return Err(error),
        };
        if let Some(served) = outright(&name) {
            if name == model {
                self.decided.remember(tenant, model, now);
            }
            return Ok(served);
        }
        if let Some(error) = without {
            return Err(error);
        }
        let mut candidates = self.catalog.unlisted(&name);
        // Everybody's list is known, and it is in none.
        if candidates.is_empty() {
            candidates = self.catalog.successors(&name, self.meter.clock.now_ms());
        }
        if candidates.is_empty() {
            return Err(unknown(model));
        }
        Ok(Servers::Providers(candidates))
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
        asked: &mut Asked,
        owner: Option<&Owner>,
        candidates: Vec<Candidate>,
        (mut metered, mut failed): (Box<Metered>, Option<Ending>),
    ) -> Result<(Answer, Box<Metered>, Served), Error> {
        let mut left = candidates.into_iter().peekable();
        while let Some(candidate) = left.next() {
            let last = left.peek().is_none();
            let mut outgoing = match asked.body_for(&candidate, &self.catalog, (&self.vault, owner)).await {
                Ok(outgoing) => outgoing,
                // Another may speak the client's dialect.
                Err(_) if !last => continue,
                Err(error) => {
                    if let Some(ending) = failed {
                        metered.finish(ending).await;
                    }
                    return Err(error);
                }
            };
            if last {
                asked.let_go(owner).await;
            }
            let provider = &candidate.provider.name;
            let mut sent = send(ctx, asked, &candidate, &mut outgoing, &mut metered, failed.take()).await?;
            if refuses_to_think(asked, &candidate, &mut sent).await {
                outgoing = match asked.body_for(&candidate, &self.catalog, (&self.vault, owner)).await {
                    Ok(outgoing) => outgoing,
                    // The client insists on it.
                    Err(error) => {
                        metered.finish(plain::failed(400)).await;
                        return Err(error);
                    }
                };
                let (body, failed) = (outgoing.body.clone(), Some(plain::failed(400)));
                sent = send_once(ctx, asked, &candidate, body, &mut metered, failed).await?;
            }
            match sent {
                Ok(answer) => {
                    let status = answer.status.as_u16();
                    if last || !worth_another(status) {
                        let served = self.served(ctx, asked, candidate, outgoing);
                        return Ok((answer, metered, served));
                    }
                    tracing::warn!(provider, status, "attempt failed, trying the next");
                    failed = Some(plain::failed(status));
                }
                Err(error) => {
                    let ending = unanswered(&error);
                    tracing::warn!(provider, error = %reasons(&error), "attempt failed");
                    if last {
                        metered.finish(ending).await;
                        return Err(upstream_error_of(provider, error));
                    }
                    failed = Some(ending);
                }
            }
        }
        Err(Error::new(Code::ModelNotFound, "nobody serves this model").with_param("model"))
    }

    fn served(
        &self,
        ctx: &RequestContext,
        asked: &Asked,
        candidate: Candidate,
        Outgoing { losses, checked, names, .. }: Outgoing,
    ) -> Served {
        let structure = checked.map(|checked| {
            let (check, request) = *checked;
            Arc::new(Structure {
                check,
                request,
                candidate: candidate.clone(),
                catalog: self.catalog.clone(),
                headers: asked.headers_for(candidate.provider.dialect),
                wait: Wait { whole: true, ..asked.wait(ctx, &candidate.model) },
                metrics: self.structured.clone(),
            })
        });
        Served { candidate, warnings: losses.header(), structure, names }
    }
}

/// Who serves a model.
pub(super) enum Servers {
    Providers(Vec<Candidate>),
    Own(Own),
}

fn unknown(model: &str) -> Error {
    let text = format!("The model `{model}` does not exist or you do not have access to it.");
    Error::new(Code::ModelNotFound, text).with_param("model")
}

/// Who answered.
struct Served {
    candidate: Candidate,
    /// What its body could not say; empty when it said all.
    warnings: String,
    structure: Option<Arc<Structure>>,
    names: Names,
}

/// How an answer gets to its client.
pub(crate) struct Relaying {
    pub(crate) client: Dialect,
    pub(crate) provider: Arc<Provider>,
    pub(crate) warnings: String,
    pub(crate) choices: u64,
    /// The client waits for a stream.
    pub(crate) streams: bool,
    pub(crate) request_id: RequestId,
    /// Where the answer's opaque state is kept.
    pub(crate) keeper: Option<Keeper>,
    /// What the answer must be, where the provider can't see to it.
    pub(crate) structure: Option<Arc<Structure>>,
    /// What the client's dialect needs to know of the call. Its model is as the provider names it.
    pub(crate) call: Call,
}

impl Relaying {
    /// The dialect of the answer.
    pub(crate) fn spoken(&self) -> Dialect {
        self.provider.spoken(self.client)
    }
}

/// Keeps opaque state, and knows whose it is and what it follows.
pub(crate) struct Keeper {
    vault: Vault,
    owner: Owner,
    /// `None` where nobody had to know yet.
    before: Option<Box<Before>>,
}

impl Relaying {
    /// Keeps the opaque state of these turns, for clients that drop it; `sent` is what they answer. True if there was
    /// any.
    pub(super) async fn keep(&self, choices: impl Iterator<Item = &[Part]>, sent: &Bytes) -> bool {
        let Some(Keeper { vault, owner, before }) = &self.keeper else { return false };
        let carrying: Vec<_> = choices.filter(|parts| !turn::is_bare(parts)).collect();
        if carrying.is_empty() {
            return false;
        }
        // Where nothing was translated, what was sent shows what the client did.
        let read = || {
            let request = self.client.decode_request(sent, &mut Losses::default()).ok()?;
            Some(Box::new(owner.conversation(&request.messages)))
        };
        let before = match before {
            Some(before) => Some(before.clone()),
            None => heavy::body(sent.len(), read).await,
        };
        let Some(before) = before else { return true };
        for parts in carrying {
            // Rare, and large beside everything else that a chat's future holds.
            Box::pin(vault.keep(owner, &before, parts)).await;
        }
        true
    }
}

/// # Errors
/// `InvalidArgument` for one that isn't spoken here.
pub(super) fn dialect(named: WireDialect) -> Result<Dialect, Error> {
    match named {
        WireDialect::OpenaiChat => Ok(Dialect::OpenAi),
        WireDialect::AnthropicMessages => Ok(Dialect::Anthropic),
        WireDialect::Gemini => Ok(Dialect::Gemini),
        WireDialect::OpenaiResponses => Ok(Dialect::Responses),
        WireDialect::Unspecified => Err(Error::invalid("dialect", "this dialect is not spoken here")),
    }
}

/// Whether somebody else might do better.
pub(super) fn worth_another(status: u16) -> bool {
    matches!(status, 401 | 403 | 408 | 429 | 500..=599)
}

pub(super) fn unanswered(error: &UpstreamError) -> Ending {
    let status =
        if error.is_timeout() { Code::UpstreamTimeout } else { Code::UpstreamFailed }.http().as_u16();
    // A request that may have arrived is an attempt like others; one that can't have is none.
    let outcome = if error.reached() { Outcome::Cut } else { Outcome::Failed };
    Ending { outcome, provider_status: 0, status, tokens: Tokens::default(), source: TokenSource::Counted }
}

/// An error and what led to it.
fn reasons(error: &UpstreamError) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// Of a provider that was asked, or was to be.
pub(crate) fn upstream_error_of(provider: &str, error: UpstreamError) -> Error {
    match &error {
        UpstreamError::Auth(wrong) => {
            let text =
                format!("there are no credentials for the model provider `{provider}`: {}", wrong.kind());
            Error::new(Code::UpstreamFailed, text).with_source(error)
        }
        _ => upstream_error(error),
    }
}

pub(crate) fn upstream_error(error: UpstreamError) -> Error {
    let (code, text) = match &error {
        UpstreamError::IdleTimeout => {
            (Code::UpstreamTimeout, "the model provider fell silent in the middle of its answer")
        }
        UpstreamError::TotalTimeout => {
            (Code::UpstreamTimeout, "the model provider's answer took longer than it may")
        }
        error if error.is_timeout() => (Code::UpstreamTimeout, "the model provider did not answer in time"),
        _ => (Code::UpstreamFailed, "the model provider could not be reached or broke off"),
    };
    Error::new(code, text).with_source(error)
}

pub(crate) fn head(answer: &Answer, relaying: &Relaying) -> Head {
    let text = |name: &str| answer.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut headers: HashMap<_, _> =
        PASSED_ON.iter().filter_map(|name| text(name).map(|value| ((*name).to_owned(), value))).collect();
    if !relaying.warnings.is_empty() {
        headers.insert(WARNINGS.to_owned(), relaying.warnings.clone());
    }
    Head {
        status: answer.status.as_u16().into(),
        content_type: text("content-type").unwrap_or_else(|| "application/json".to_owned()),
        provider: relaying.provider.name.clone(),
        model: relaying.call.model.clone(),
        headers,
    }
}

/// Names something that was lost, beside what was before.
pub(super) fn warn(head: &mut Head, what: &str) {
    let warnings = head.headers.entry(WARNINGS.to_owned()).or_default();
    warnings.push_str(if warnings.is_empty() { "" } else { ", " });
    warnings.push_str(what);
}
