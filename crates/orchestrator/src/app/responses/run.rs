//! One response running in the background: its events are kept before anybody sees them, in batches of what has
//! arrived while the batch before was being written.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{sync::watch, time::Instant};
use weir_db::DbError;
use weir_llm::sse::Splitter;
use weir_proto::chat::{CompleteRequest, complete_frame::Frame};
use weir_runtime::retry::Backoff;
use weir_types::RequestContext;

use super::{
    Shared,
    events::{self, Kind},
    json::{Object, Raw},
    object::{self, Shape},
};
use crate::{
    app::Frames,
    store::{Batch, Left, Mine, Write, Written, took_too_long},
};

/// A batch is written at this size, even if more has arrived.
const BATCH: usize = 256 * 1024;
/// Longest wait for the end of an answer that has ended.
const REST: Duration = Duration::from_secs(2);
/// A batch that the server does not write in its time, so many times, it never will.
const TOO_LONG: u32 = 5;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Why a run is to end before its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is no longer ours.
    Lost,
    /// The process stops: somebody else is to take it.
    Leave,
    /// It has had its time.
    Late,
}

pub(super) type Stopped = watch::Receiver<Option<Stop>>;

pub(super) struct Run {
    pub(super) shared: Shared,
    pub(super) ctx: RequestContext,
    pub(super) mine: Mine,
    pub(super) shape: Shape,
    pub(super) stopped: Stopped,
    /// Tells the process that output has begun.
    pub(super) started: watch::Sender<bool>,
    /// The number of the next event.
    pub(super) next: u64,
    /// `response.in_progress` is told.
    pub(super) begun: bool,
    /// The object as it was last told of.
    pub(super) object: Object,
    pub(super) items: Vec<Raw>,
    pub(super) event_bytes: usize,
}

/// Events that are to be kept together.
#[derive(Default)]
struct Pending {
    events: Vec<u8>,
    count: u64,
    write: Write,
}

/// How a run came to its end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The terminal event is kept.
    Told,
    Stopped(Stop),
}

type Failure = (String, String);

impl Run {
    /// Runs it to its end, or until it is stopped.
    pub(super) async fn drive(mut self, request: CompleteRequest) {
        let timeout = Duration::from_secs(self.shared.config.background_timeout_s);
        let mut end = self.answer(request, Instant::now() + timeout).await;
        if let Ok(End::Stopped(Stop::Late)) = end {
            let text = "The response took longer than one in the background may.";
            end = self.fail(Pending::default(), ("server_error".to_owned(), text.to_owned())).await;
        }
        match end {
            Ok(End::Told | End::Stopped(Stop::Late)) => {}
            Ok(End::Stopped(Stop::Lost)) => {
                tracing::info!(response.id = self.mine.id, "a background run ended elsewhere");
            }
            Ok(End::Stopped(Stop::Leave)) => self.leave().await,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, response.id = self.mine.id, "a background run can't be kept");
            }
        }
        self.shared.hub.forget(self.mine.tenant, &self.mine.id);
    }

    async fn answer(&mut self, request: CompleteRequest, until: Instant) -> Result<End, DbError> {
        let mut stopped = self.stopped.clone();
        let model = self.shared.model.clone();
        let (ctx, id) = (self.ctx.clone(), self.shape.id.clone());
        let opened = tokio::select! {
            biased;
            why = cut(&mut stopped, until) => return Ok(End::Stopped(why)),
            opened = model.run(&ctx, request, &id) => opened,
        };
        let mut frames = match opened {
            Ok(frames) => frames,
            Err(error) => {
                tracing::info!(error = error.chain(), response.id = self.mine.id, "a background run failed");
                return self.fail(Pending::default(), events::error_in(&error)).await;
            }
        };
        let head = tokio::select! {
            biased;
            why = cut(&mut stopped, until) => return Ok(End::Stopped(why)),
            head = frames.next() => head,
        };
        let Some(Ok(Some(Frame::Head(head)))) = head.map(|h| h.map(|f| f.frame)) else {
            return self.fail(Pending::default(), events::broke_off()).await;
        };
        if head.status == 200 && head.content_type.starts_with("text/event-stream") {
            return self.relay(frames, &mut stopped, until).await;
        }
        let body = tokio::select! {
            biased;
            why = cut(&mut stopped, until) => return Ok(End::Stopped(why)),
            body = collect(frames) => body,
        };
        match Object::parse(&body).filter(|_| head.status == 200) {
            Some(object) => {
                let status = object.read::<String>("status").unwrap_or_default();
                self.terminal(Pending::default(), events::terminal(&status), object).await
            }
            None => self.fail(Pending::default(), events::error_of(head.status, &body)).await,
        }
    }

    async fn relay(
        &mut self,
        mut frames: Frames,
        stopped: &mut Stopped,
        until: Instant,
    ) -> Result<End, DbError> {
        let mut splitter = Splitter::new();
        loop {
            let frame = tokio::select! {
                biased;
                why = cut(stopped, until) => return Ok(End::Stopped(why)),
                frame = frames.next() => frame,
            };
            let mut pending = Pending::default();
            let mut next = Some(frame);
            // All that is there already belongs to one batch.
            while let Some(frame) = next {
                let bytes = match frame.map(|f| f.map(|f| f.frame)) {
                    Some(Ok(Some(Frame::Data(data)))) => data.bytes,
                    Some(Ok(_)) => Bytes::new(),
                    Some(Err(_)) | None => return self.fail(pending, events::broke_off()).await,
                };
                splitter.feed(bytes);
                while let Ok(Some(event)) = splitter.next_event() {
                    if let Some((name, object)) = self.take(&event, &mut pending) {
                        let end = self.terminal(pending, name, object).await;
                        // To its end, where it is metered.
                        let rest = async { while let Some(Ok(_)) = frames.next().await {} };
                        drop(tokio::time::timeout(REST, rest).await);
                        return end;
                    }
                }
                if self.event_bytes + pending.events.len() > self.shared.config.max_event_bytes {
                    let text = "The answer is larger than a background response may be.";
                    return self.fail(pending, ("server_error".to_owned(), text.to_owned())).await;
                }
                next = if pending.events.len() < BATCH { frames.next().now_or_never() } else { None };
            }
            if pending.count > 0
                && let Some(why) = self.keep(pending).await?
            {
                return Ok(End::Stopped(why));
            }
        }
    }

    /// Adds an event to the batch; gives the terminal one back.
    fn take(&mut self, event: &[u8], pending: &mut Pending) -> Option<(&'static str, Object)> {
        let name = events::type_of(event)?.into_owned();
        let mut data = events::data(event)?;
        match events::kind_of(&name) {
            Kind::Opening => {
                let mut response: Object = data.read("response")?;
                self.shape.claim(&mut response);
                if self.begun || name != "response.in_progress" {
                    return None;
                }
                self.begin(response, pending);
                return None;
            }
            Kind::Terminal => {
                let response: Object = data.read("response")?;
                return Some((events::terminal(events::status_of(&name)), response));
            }
            Kind::Item => {
                if let Some(item) = data.read::<Raw>("item") {
                    if name.ends_with("done") {
                        self.items.push(item.clone());
                    }
                    data.set_raw("item", self.shape.shown(&item));
                }
            }
            Kind::Other => {}
        }
        if !self.begun {
            let object = self.object.clone();
            self.begin(object, pending);
        }
        pending.write.started = true;
        self.push(&name, data, pending);
        None
    }

    /// `response.in_progress`, once.
    fn begin(&mut self, mut object: Object, pending: &mut Pending) {
        object.set("status", "in_progress");
        object::take_output(&mut object);
        self.begun = true;
        pending.write.status = Some("in_progress");
        pending.write.object = Some(object.to_vec());
        let name = "response.in_progress";
        self.push(name, events::of_response(name, object.clone().into_raw()), pending);
        self.object = object;
    }

    fn push(&mut self, name: &str, data: Object, pending: &mut Pending) {
        pending.events.extend_from_slice(&events::numbered(name, data, self.next + pending.count));
        pending.count += 1;
    }

    /// The end, as the provider has it.
    async fn terminal(
        &mut self,
        mut pending: Pending,
        name: &'static str,
        mut object: Object,
    ) -> Result<End, DbError> {
        self.shape.claim(&mut object);
        let output = object::take_output(&mut object);
        self.items = if output.is_empty() { std::mem::take(&mut self.items) } else { output };
        let status = events::status_of(name);
        object.set("status", status);
        self.close(&mut pending, status, &object);
        Ok(self.keep(pending).await?.map_or(End::Told, End::Stopped))
    }

    /// The end of an answer that has none.
    async fn fail(&mut self, mut pending: Pending, error: Failure) -> Result<End, DbError> {
        let mut object = self.object.clone();
        object::end(&mut object, "failed", Some((&error.0, &error.1)));
        self.close(&mut pending, "failed", &object);
        Ok(self.keep(pending).await?.map_or(End::Told, End::Stopped))
    }

    fn close(&mut self, pending: &mut Pending, status: &'static str, object: &Object) {
        let mut told = object.clone();
        object::with_output(&mut told, &self.shape.shown_all(&self.items));
        let name = events::terminal(status);
        self.push(name, events::of_response(name, told.into_raw()), pending);
        pending.write = Write {
            status: Some(status),
            object: Some(object.to_vec()),
            output: Some(object::bytes(&self.items)),
            started: true,
            ended: true,
        };
    }

    /// Writes a batch, however long the database is away. Gives why it was not to be.
    async fn keep(&mut self, pending: Pending) -> Result<Option<Stop>, DbError> {
        let batch = Batch {
            first: self.next,
            last: self.next + pending.count - 1,
            events: Bytes::from(pending.events),
        };
        let mut stopped = self.stopped.clone();
        let mut too_long = 0;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        // Its own deadline is for the provider.
        let ctx = RequestContext { deadline: None, ..self.ctx.clone() };
        loop {
            match self.shared.store.write(&ctx, &self.mine, &batch, &pending.write).await {
                Ok(Written::Done) => break,
                Ok(Written::Lost) => return Ok(Some(Stop::Lost)),
                Err(error @ DbError::Unavailable(_)) => {
                    too_long += u32::from(took_too_long(&error));
                    if too_long >= TOO_LONG {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                why = stop(&mut stopped) => return Ok(Some(why)),
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
        self.next = batch.last + 1;
        self.event_bytes += batch.events.len();
        if pending.write.started {
            self.started.send_replace(true);
        }
        self.shared.hub.wrote(self.mine.tenant, &self.mine.id).await;
        Ok(None)
    }

    async fn leave(&self) {
        let ctx = RequestContext { deadline: None, ..self.ctx.clone() };
        if let Err(error) = self.shared.store.release(&ctx, &self.mine, Left::ToOthers).await {
            let error = &error as &dyn std::error::Error;
            return tracing::warn!(
                error,
                response.id = self.mine.id,
                "a background run is left until its lease ends"
            );
        }
        self.shared.hub.runs_changed().await;
    }
}

async fn stop(stopped: &mut Stopped) -> Stop {
    match stopped.wait_for(Option::is_some).await {
        Ok(why) => why.unwrap_or(Stop::Lost),
        // Whoever could stop it is gone, and so is the process.
        Err(_) => Stop::Leave,
    }
}

/// The same, and the end of its time.
async fn cut(stopped: &mut Stopped, until: Instant) -> Stop {
    tokio::select! {
        biased;
        why = stop(stopped) => why,
        () = tokio::time::sleep_until(until) => Stop::Late,
    }
}

async fn collect(mut frames: Frames) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(Ok(frame)) = frames.next().await {
        if let Some(Frame::Data(data)) = frame.frame {
            body.extend_from_slice(&data.bytes);
        }
    }
    body
}
