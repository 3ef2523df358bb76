//! The Responses API as far as it has a memory: what is kept, what goes on from it, what runs without its client.
//!
//! Weir is the store. A provider is asked like for any other chat, in its own dialect, with the whole conversation in
//! the request; a provider that could store responses is told not to.

mod attach;
mod background;
mod compact;
mod events;
mod foreground;
mod foresee;
mod hub;
mod job;
mod json;
mod object;
mod opened;
mod read;
mod refer;
mod run;
mod seal;
mod settings;
mod steady;
#[cfg(test)]
mod tests;
pub(super) mod thoughts;
mod wanted;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream};
use uuid::Uuid;
use weir_error::{Code, Error, require_scope, require_tenant};
use weir_llm::tokens;
use weir_proto::chat::{
    AttachResponseRequest, CancelResponseRequest, CompleteFrame, CompleteRequest, Data,
    DeleteResponseRequest, End, GetResponseRequest, Head, ListInputItemsRequest, Usage,
    complete_frame::Frame,
};
use weir_runtime::Tasks;
use weir_types::{Clock, RequestContext, scope};

pub(crate) use hub::Hub;
pub use settings::ResponsesConfig;

use self::{
    background::Runs,
    foreground::Passing,
    json::{Raw, array},
    object::{ENCRYPTED, Shape},
    seal::Seals,
    wanted::Wanted,
};
use crate::{
    app::{Chat, Compacted, Frames, chat::warn},
    metrics::ResponsesMetrics,
    store::{self, Page},
};

/// As the table has it.
const MAX_ID: usize = 128;

/// Runs a request that says all there is to say.
pub(crate) trait Model: Send + Sync {
    /// `id`: of the response that it becomes.
    fn run<'a>(
        &'a self,
        ctx: &'a RequestContext,
        request: CompleteRequest,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Frames, Error>>;

    /// What of it could not be told to whoever would be asked.
    ///
    /// # Errors
    /// It would be refused before anybody is asked.
    fn foresee<'a>(
        &'a self,
        ctx: &'a RequestContext,
        request: CompleteRequest,
    ) -> BoxFuture<'a, Result<String, Error>>;

    /// The same as `run` for a conversation that is to become shorter.
    fn compact<'a>(
        &'a self,
        ctx: &'a RequestContext,
        request: CompleteRequest,
    ) -> BoxFuture<'a, Result<Compacted<'a>, Error>>;
}

impl Model for Chat {
    fn run<'a>(
        &'a self,
        ctx: &'a RequestContext,
        request: CompleteRequest,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Frames, Error>> {
        Box::pin(self.complete_as(ctx, request, Some(id.to_owned())))
    }

    fn foresee<'a>(
        &'a self,
        ctx: &'a RequestContext,
        request: CompleteRequest,
    ) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(self.foreseen(ctx, request))
    }

    fn compact<'a>(
        &'a self,
        ctx: &'a RequestContext,
        request: CompleteRequest,
    ) -> BoxFuture<'a, Result<Compacted<'a>, Error>> {
        Box::pin(self.compact(ctx, request))
    }
}

/// What all of it works with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: store::Responses,
    pub(crate) hub: Hub,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) config: Arc<ResponsesConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: ResponsesMetrics,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Responses {
    shared: Shared,
    runs: Runs,
    seals: Seals,
}

impl Responses {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { runs: Runs::new(shared.clone()), seals: Seals::new(shared.store.clone()), shared }
    }

    /// Keeps leases, and takes over what others leave: what runs in the background, runs here.
    pub(crate) fn spawn(&self, tasks: &Tasks) {
        if self.shared.store.is_configured() {
            self.runs.spawn(tasks);
        }
    }

    /// # Errors
    /// What is wrong with the request; `Unavailable` where it needs the store and that is away; those of the chat path.
    pub(crate) async fn create(
        &self,
        ctx: &RequestContext,
        mut request: CompleteRequest,
    ) -> Result<Frames, Error> {
        require_scope(ctx, scope::CHAT_WRITE)?;
        let tenant = require_tenant(ctx)?;
        let mut wanted = Wanted::parse(&request.body)?;
        request.body = self.upstream(ctx, &mut wanted).await?;
        let shape = Shape {
            id: format!("resp_{}", Uuid::now_v7().simple()),
            previous: wanted.previous.clone(),
            store: wanted.store,
            background: wanted.background,
            shows_encrypted: wanted.shows_encrypted(),
        };
        let created_s = self.shared.clock.now_ms().div_euclid(1_000);
        if !wanted.background {
            let (shared, ctx) = (self.shared.clone(), ctx.clone());
            let passing = Passing { shared, ctx, shape, wanted, created_s };
            return foreground::complete(passing, request).await;
        }
        let stream = std::mem::replace(&mut request.stream, true);
        let id = shape.id.clone();
        let input_tokens = tokens::estimate(request.body.len());
        // Who polls would hear of it late, and by the name of another fault.
        let lost = self.shared.model.foresee(ctx, request.clone()).await?;
        let object = self.runs.begin(ctx, &wanted, request, shape, created_s).await?;
        if stream {
            return Ok(attach::attach(self.shared.clone(), ctx.clone(), tenant, id, 0));
        }
        Ok(whole(object.to_vec().into(), &lost, Usage { input_tokens, ..Usage::default() }))
    }

    /// A body with the conversation so far in it, for counting.
    ///
    /// # Errors
    /// As [`Responses::create`].
    pub(crate) async fn expanded(&self, ctx: &RequestContext, body: &[u8]) -> Result<Bytes, Error> {
        may(ctx)?;
        self.upstream(ctx, &mut Wanted::parse(body)?).await
    }

    /// The body for a provider, with the conversation so far in it.
    ///
    /// # Errors
    /// A turn is not there; the conversation is too long; what was compacted here can't be opened; the database is away.
    async fn upstream(&self, ctx: &RequestContext, wanted: &mut Wanted) -> Result<Bytes, Error> {
        let before = self.before(ctx, wanted).await?;
        self.refer(ctx, &before, wanted).await?;
        let before = self.opened_before(ctx, &before).await?.unwrap_or(before);
        let input = self.opened_input(ctx, &wanted.input).await?;
        wanted.upstream(&before, input.as_deref(), wanted.background)
    }

    /// The conversation so far, as it is kept.
    async fn before(&self, ctx: &RequestContext, wanted: &Wanted) -> Result<Vec<Raw>, Error> {
        match &wanted.previous {
            Some(id) => self.conversation(ctx, id).await,
            None => Ok(Vec::new()),
        }
    }

    async fn conversation(&self, ctx: &RequestContext, id: &str) -> Result<Vec<Raw>, Error> {
        let page = self.page();
        let unknown = |id: &str| {
            let id: String = id.chars().take(MAX_ID).collect();
            let text = format!("Previous response with id '{id}' not found.");
            Error::new(Code::PreviousResponseNotFound, text).with_param("previous_response_id")
        };
        if !is_id(id) {
            return Err(unknown(id));
        }
        let chain = self.shared.store.chain(ctx, id, page).await?;
        let Some(last) = chain.turns.last() else { return Err(unknown(id)) };
        let invalid = |text: String| Err(Error::invalid("previous_response_id", text));
        if matches!(last.status.as_str(), "queued" | "in_progress") {
            return invalid(format!("Previous response with id '{id}' is still in progress."));
        }
        let turns = u32::try_from(chain.turns.len()).unwrap_or(u32::MAX);
        if chain.bytes > page.bytes || (turns >= page.turns && chain.before.is_some()) {
            return invalid("The conversation is longer than a request may be.".to_owned());
        }
        if let Some(gone) = &chain.before {
            let text = format!(
                "Response with id '{gone}', which '{id}' goes on from, is not kept any more: send the earlier items in 'input'."
            );
            return Err(Error::new(Code::PreviousResponseNotFound, text).with_param("previous_response_id"));
        }
        let mut items = Vec::new();
        for turn in &chain.turns {
            items.extend(array(&turn.input).into_iter().filter(|item| !wanted::is_reference(item)));
            items.extend(array(&turn.output).into_iter().filter(|item| !object::is_mute(item)));
        }
        Ok(items)
    }

    fn page(&self) -> Page {
        Page { turns: self.shared.config.max_turns, bytes: self.shared.config.max_conversation_bytes }
    }

    /// # Errors
    /// `NotFound`; `Unavailable`.
    pub(crate) async fn get(
        &self,
        ctx: &RequestContext,
        request: &GetResponseRequest,
    ) -> Result<Vec<u8>, Error> {
        may_see(ctx, &request.id)?;
        let kept = self.shared.store.get(ctx, &request.id).await?;
        let kept = kept.ok_or_else(|| not_found(&request.id))?;
        Ok(read::body(&kept, request.include.iter().any(|name| name == ENCRYPTED)))
    }

    /// # Errors
    /// `NotFound`; `Unavailable`.
    pub(crate) async fn delete(
        &self,
        ctx: &RequestContext,
        request: &DeleteResponseRequest,
    ) -> Result<Vec<u8>, Error> {
        may_see(ctx, &request.id)?;
        if !self.shared.store.delete(ctx, &request.id).await? {
            return Err(not_found(&request.id));
        }
        // It may have been running.
        if let Some(tenant) = ctx.tenant {
            self.shared.hub.wrote(tenant, &request.id).await;
        }
        self.shared.hub.runs_changed().await;
        Ok(read::deleted(&request.id))
    }

    /// # Errors
    /// `NotFound`; `InvalidArgument` for one that never ran in the background; `Unavailable`.
    pub(crate) async fn cancel(
        &self,
        ctx: &RequestContext,
        request: &CancelResponseRequest,
    ) -> Result<Vec<u8>, Error> {
        may_see(ctx, &request.id)?;
        let kept = self.runs.cancel(ctx, &request.id).await?;
        let kept = kept.ok_or_else(|| not_found(&request.id))?;
        if !kept.background {
            return Err(Error::new(Code::InvalidArgument, "Cannot cancel a synchronous response."));
        }
        Ok(read::body(&kept, false))
    }

    /// # Errors
    /// `NotFound`; `InvalidArgument` for an item that is not there; `Unavailable`.
    pub(crate) async fn input_items(
        &self,
        ctx: &RequestContext,
        request: &ListInputItemsRequest,
    ) -> Result<Vec<u8>, Error> {
        may_see(ctx, &request.id)?;
        self.items(ctx, request).await
    }

    /// # Errors
    /// `NotFound`; `InvalidArgument` for one that never ran in the background; `Unavailable`.
    pub(crate) async fn attach(
        &self,
        ctx: &RequestContext,
        request: AttachResponseRequest,
    ) -> Result<Frames, Error> {
        may_see(ctx, &request.id)?;
        let tenant = require_tenant(ctx)?;
        let from = request.starting_after.map_or(0, |after| after.saturating_add(1));
        let found = self.shared.store.events(ctx, &request.id, u64::MAX).await?;
        let found = found.ok_or_else(|| not_found(&request.id))?;
        if !found.background {
            let text = "This response cannot be streamed because it was not created with background=true.";
            return Err(Error::invalid("stream", text));
        }
        Ok(attach::attach(self.shared.clone(), ctx.clone(), tenant, request.id, from))
    }
}

/// Whether it may name a response: what can't be one is not looked for.
fn is_id(id: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(known)
}

/// The caller's right to a response that may be there.
fn may_see(ctx: &RequestContext, id: &str) -> Result<(), Error> {
    may(ctx)?;
    if is_id(id) { Ok(()) } else { Err(not_found(id)) }
}

fn may(ctx: &RequestContext) -> Result<(), Error> {
    require_scope(ctx, scope::CHAT_WRITE)?;
    require_tenant(ctx).map(drop)
}

/// In the same words for another tenant's.
fn not_found(id: &str) -> Error {
    let id: String = id.chars().take(MAX_ID).collect();
    Error::new(Code::NotFound, format!("Response with id '{id}' not found."))
}

/// What has begun. Its usage is what it will be asked, as far as that can be guessed: the client sent the last turn only.
fn whole(body: Bytes, lost: &str, usage: Usage) -> Frames {
    let mut head = Head { status: 200, content_type: "application/json".to_owned(), ..Head::default() };
    if !lost.is_empty() {
        warn(&mut head, lost);
    }
    let end = End { usage: Some(usage), ..End::default() };
    let all = [Frame::Head(head), Frame::Data(Data { bytes: body }), Frame::End(end)];
    Box::pin(stream::iter(all.map(|frame| Ok(CompleteFrame { frame: Some(frame) }))))
}
