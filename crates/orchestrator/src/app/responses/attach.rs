//! The events of a background response for one who looks on: those that are kept, then each as it is kept, on whatever
//! instance it is made.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use tokio::{sync::watch, time::Instant};
use tonic::Status;
use weir_db::DbError;
use weir_error::Error;
use weir_proto::chat::{CompleteFrame, Data, End, Head, complete_frame::Frame};
use weir_types::{RequestContext, TenantId};

use super::{Shared, events, not_found, read};
use crate::{app::Frames, store::Batch};

/// Who is not woken looks for itself this often, and more often while nobody could wake it.
const POLL: Duration = Duration::from_secs(2);
const POLL_UNHEARD: Duration = Duration::from_millis(500);
/// A database that comes back within it goes unnoticed.
const PATIENCE: Duration = Duration::from_secs(30);

struct Attached {
    shared: Shared,
    ctx: RequestContext,
    tenant: TenantId,
    id: String,
    /// The number of the next event.
    from: u64,
    /// Until it is dropped.
    woken: Option<watch::Receiver<()>>,
    queue: VecDeque<CompleteFrame>,
    ended: bool,
}

impl Drop for Attached {
    fn drop(&mut self) {
        // While it is there, somebody waits.
        drop(self.woken.take());
        self.shared.hub.forget(self.tenant, &self.id);
    }
}

/// The head at once; `from` is the number of the first event.
pub(super) fn attach(shared: Shared, ctx: RequestContext, tenant: TenantId, id: String, from: u64) -> Frames {
    let head = Head {
        status: 200,
        content_type: "text/event-stream; charset=utf-8".to_owned(),
        provider: String::new(),
        model: String::new(),
        headers: HashMap::new(),
    };
    let attached = Attached {
        woken: Some(shared.hub.follow(tenant, &id)),
        queue: VecDeque::from([CompleteFrame { frame: Some(Frame::Head(head)) }]),
        shared,
        ctx,
        tenant,
        id,
        from,
        ended: false,
    };
    Box::pin(stream::unfold(attached, |mut at| async move { at.next().await.map(|f| (f, at)) }))
}

impl Attached {
    async fn next(&mut self) -> Option<Result<CompleteFrame, Status>> {
        let mut away = None;
        loop {
            if let Some(frame) = self.queue.pop_front() {
                return Some(Ok(frame));
            }
            if self.ended {
                return None;
            }
            let Some(woken) = &mut self.woken else { return None };
            woken.mark_unchanged();
            match self.look().await {
                Ok(true) => {
                    away = None;
                    if !self.queue.is_empty() {
                        continue;
                    }
                }
                Ok(false) => return self.fail(not_found(&self.id)),
                Err(DbError::Unavailable(cause)) => {
                    let since = *away.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return self.fail(DbError::Unavailable(cause).into());
                    }
                }
                Err(error) => return self.fail(error.into()),
            }
            let poll = if self.shared.hub.hears() { POLL } else { POLL_UNHEARD };
            let Some(woken) = &mut self.woken else { return None };
            drop(tokio::time::timeout(poll, woken.changed()).await);
        }
    }

    /// Takes what is there. `false`: it is gone.
    async fn look(&mut self) -> Result<bool, DbError> {
        let found = self.shared.store.events(&self.ctx, &self.id, self.from).await?;
        let Some(found) = found else { return Ok(false) };
        if found.ended && found.batches.is_empty() {
            return self.end(found.last).await;
        }
        self.push(found.batches);
        Ok(true)
    }

    /// The end, with what all of it used. Where the events are forgotten, the last is made again from the object.
    async fn end(&mut self, last: Option<u64>) -> Result<bool, DbError> {
        let Some(kept) = self.shared.store.get(&self.ctx, &self.id).await? else { return Ok(false) };
        if let Some(last) = last.filter(|last| self.from <= *last) {
            let bytes = read::last_event(&kept, last).into();
            self.queue.push_back(CompleteFrame { frame: Some(Frame::Data(Data { bytes })) });
        }
        let end = End { usage: read::usage(&kept), ..End::default() };
        self.queue.push_back(CompleteFrame { frame: Some(Frame::End(end)) });
        self.ended = true;
        Ok(true)
    }

    fn push(&mut self, batches: Vec<Batch>) {
        let mut whole: Vec<Bytes> = Vec::with_capacity(batches.len());
        for batch in batches {
            whole.push(events::skip(&batch.events, self.from.saturating_sub(batch.first)));
            self.from = batch.last + 1;
        }
        for bytes in whole.into_iter().filter(|bytes| !bytes.is_empty()) {
            self.queue.push_back(CompleteFrame { frame: Some(Frame::Data(Data { bytes })) });
        }
    }

    fn fail(&mut self, error: Error) -> Option<Result<CompleteFrame, Status>> {
        self.ended = true;
        Some(Err(error.into()))
    }
}
