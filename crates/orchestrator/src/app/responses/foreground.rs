//! A response while its client waits for it: made ours as it passes, and kept before its end is told.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use weir_error::{Code, Error};
use weir_llm::sse::Splitter;
use weir_proto::chat::{CompleteFrame, CompleteRequest, Data, End, Head, complete_frame::Frame};
use weir_types::RequestContext;

use super::{
    Shared,
    background::failed,
    events::{self, Kind},
    json::{Object, Raw},
    object::{self, Shape},
    wanted::Wanted,
};
use crate::{
    app::{Frames, chat::warn},
    store::Kept,
};

/// Longest wait for a database that does not answer, beside the provider's own time.
const STORE_WAIT: Duration = Duration::from_secs(1);
const UNSTORED: &str = "dropped;store";
const BROKE_OFF: &str = "The model provider broke off in the middle of its answer.";

/// One response on its way.
pub(super) struct Passing {
    pub(super) shared: Shared,
    pub(super) ctx: RequestContext,
    pub(super) shape: Shape,
    pub(super) wanted: Wanted,
    pub(super) created_s: i64,
}

/// # Errors
/// Those of the chat path; `Unavailable` when it can't be kept and the client insists.
pub(super) async fn complete(mut passing: Passing, request: CompleteRequest) -> Result<Frames, Error> {
    let (keep, strict) = (passing.shape.store, request.strict);
    let shared = passing.shared.clone();
    let there = async { keep && shared.store.is_there(STORE_WAIT).await };
    let (there, frames) = if strict && keep {
        if !there.await {
            return Err(Error::unavailable("responses can't be stored right now"));
        }
        (true, shared.model.run(&passing.ctx, request, &passing.shape.id).await?)
    } else {
        let (there, frames) = tokio::join!(there, shared.model.run(&passing.ctx, request, &passing.shape.id));
        (there, frames?)
    };
    let mut frames = frames;
    let head = match frames.next().await {
        Some(Ok(CompleteFrame { frame: Some(Frame::Head(head)) })) => head,
        Some(Err(status)) => return Err(status.into()),
        _ => return Err(Error::internal(std::io::Error::other("an answer without a head"))),
    };
    if head.status != 200 {
        return Ok(Box::pin(stream::iter([Ok(frame(Frame::Head(head)))]).chain(frames)));
    }
    if keep && !there {
        passing.shape.store = false;
    }
    if head.content_type.starts_with("text/event-stream") {
        let head = if keep && !there { warned(head) } else { head };
        return Ok(streamed(passing, head, frames));
    }
    plain(passing, head, frames, keep).await
}

fn frame(frame: Frame) -> CompleteFrame {
    CompleteFrame { frame: Some(frame) }
}

fn warned(mut head: Head) -> Head {
    warn(&mut head, UNSTORED);
    head
}

async fn plain(mut passing: Passing, head: Head, mut frames: Frames, keep: bool) -> Result<Frames, Error> {
    let (mut body, mut ending) = (BytesMut::new(), End::default());
    while let Some(next) = frames.next().await {
        match next?.frame {
            Some(Frame::Data(data)) => body.extend_from_slice(&data.bytes),
            Some(Frame::End(end)) => ending = end,
            _ => {}
        }
    }
    let Some(mut object) = Object::parse(&body) else {
        return Err(Error::new(Code::UpstreamFailed, "the model provider sent an answer that can't be read"));
    };
    let items = object::take_output(&mut object);
    passing.settle(&mut object, &items).await;
    object::with_output(&mut object, &passing.shape.shown_all(&items));
    let head = if keep && !passing.shape.store { warned(head) } else { head };
    let body = Data { bytes: object.to_vec().into() };
    let all = [Frame::Head(head), Frame::Data(body), Frame::End(ending)];
    Ok(Box::pin(stream::iter(all.map(|one| Ok(frame(one))))))
}

impl Passing {
    /// Makes a whole answer ours, and keeps it if it is to be kept; says in it whether it is.
    async fn settle(&mut self, object: &mut Object, items: &[Raw]) {
        self.shape.claim(object);
        if !self.shape.store {
            return;
        }
        self.shape.store = self.keep(object, items).await;
        self.shape.claim(object);
        let metrics = &self.shared.metrics;
        if self.shape.store { &metrics.stored } else { &metrics.unstored }.inc();
    }

    async fn keep(&self, object: &Object, items: &[Raw]) -> bool {
        let kept = Kept {
            id: self.shape.id.clone(),
            previous: self.shape.previous.clone(),
            status: object.read("status").unwrap_or_else(|| "completed".to_owned()),
            background: false,
            input: object::bytes(&self.wanted.input),
            output: object::bytes(items),
            object: object.to_vec(),
        };
        let config = &self.shared.config;
        if kept.input.len() + kept.output.len() + kept.object.len() > config.max_bytes {
            tracing::warn!(response.id = kept.id, "a response is too large to be kept");
            return false;
        }
        match self.shared.store.insert(&self.ctx, &kept, config.retention_days).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a response is not kept");
                false
            }
        }
    }
}

struct Relay {
    passing: Passing,
    frames: Frames,
    splitter: Splitter,
    queue: VecDeque<CompleteFrame>,
    items: Vec<Raw>,
    /// The last event that left, for the number of one of ours.
    last: Bytes,
    /// The terminal event has left.
    told: bool,
    ended: bool,
}

fn streamed(passing: Passing, head: Head, frames: Frames) -> Frames {
    // It is moved for every frame.
    let relay = Box::new(Relay {
        passing,
        frames,
        splitter: Splitter::new(),
        queue: VecDeque::from([frame(Frame::Head(head))]),
        items: Vec::new(),
        last: Bytes::new(),
        told: false,
        ended: false,
    });
    Box::pin(stream::unfold(relay, |mut relay| async move { relay.next().await.map(|f| (Ok(f), relay)) }))
}

impl Relay {
    async fn next(&mut self) -> Option<CompleteFrame> {
        loop {
            if let Some(frame) = self.queue.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            match self.frames.next().await.map(|f| f.map(|f| f.frame)) {
                Some(Ok(Some(Frame::Data(data)))) => self.take(data.bytes).await,
                Some(Ok(Some(Frame::End(end)))) => {
                    self.broke_off();
                    self.queue.push_back(frame(Frame::End(end)));
                }
                Some(Ok(_)) => {}
                Some(Err(status)) => {
                    tracing::warn!(error = Error::from(status).chain(), "stream cut");
                    self.broke_off();
                    self.ended = true;
                }
                None => {
                    self.broke_off();
                    self.ended = true;
                }
            }
        }
    }

    async fn take(&mut self, bytes: Bytes) {
        self.splitter.feed(bytes);
        let mut out = Vec::new();
        while let Ok(Some(event)) = self.splitter.next_event() {
            // One terminal event, and nothing after it.
            if self.told {
                continue;
            }
            if let Some(event) = self.event(event).await {
                self.last = event.clone();
                out.push(event);
            }
        }
        let bytes = match out.len() {
            0 => return,
            1 => out.swap_remove(0),
            _ => out.concat().into(),
        };
        self.queue.push_back(frame(Frame::Data(Data { bytes })));
    }

    async fn event(&mut self, event: Bytes) -> Option<Bytes> {
        let Some(name) = events::type_of(&event) else { return Some(event) };
        let kind = events::kind_of(&name);
        if kind == Kind::Other {
            return Some(event.clone());
        }
        let Some(mut data) = events::data(&event) else { return Some(event.clone()) };
        let shape = &self.passing.shape;
        match kind {
            Kind::Item => {
                let item: Raw = data.read("item")?;
                if name.ends_with("done") {
                    self.items.push(item.clone());
                }
                data.set_raw("item", shape.shown(&item));
            }
            Kind::Opening => {
                let mut object: Object = data.read("response")?;
                shape.claim(&mut object);
                data.set_raw("response", object.into_raw());
            }
            Kind::Terminal | Kind::Other => {
                // What can't be read tells nothing.
                let Some(mut object) = data.read::<Object>("response") else { return self.broken_off() };
                self.told = true;
                object.set("status", events::status_of(&name));
                let mut items = object::take_output(&mut object);
                if items.is_empty() {
                    items = std::mem::take(&mut self.items);
                }
                self.passing.settle(&mut object, &items).await;
                object::with_output(&mut object, &self.passing.shape.shown_all(&items));
                data.set_raw("response", object.into_raw());
            }
        }
        Some(events::written(&name, &data))
    }

    /// The end of a stream that has none.
    fn broke_off(&mut self) {
        if let Some(bytes) = self.broken_off() {
            self.queue.push_back(frame(Frame::Data(Data { bytes })));
        }
    }

    fn broken_off(&mut self) -> Option<Bytes> {
        if std::mem::replace(&mut self.told, true) {
            return None;
        }
        let number = events::sequence(&self.last).map_or(0, |last| last + 1);
        self.passing.shape.store = false;
        let Passing { shape, wanted, created_s, .. } = &self.passing;
        Some(failed(shape, &wanted.body, *created_s, BROKE_OFF, number))
    }
}
