//! What waits for one client, bounded in bytes: a full queue holds up whoever fills it, so a slow reader pauses
//! the upstream reads of its turns.

use std::{sync::Arc, time::Duration};

use axum::{
    Error,
    extract::ws::{CloseFrame, Message, Utf8Bytes},
};
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::protocol::Close;

enum Item {
    Text(Utf8Bytes, u32),
    Ping,
    Close(Close),
}

/// The filling end.
#[derive(Clone)]
pub(crate) struct Outbound {
    room: Arc<Semaphore>,
    capacity: u32,
    // Bounded by `room`; pings and the close are one each.
    items: mpsc::UnboundedSender<Item>,
}

/// The end the writer takes from.
pub(crate) struct Backlog {
    room: Arc<Semaphore>,
    items: mpsc::UnboundedReceiver<Item>,
}

/// Why writing ended before the close was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// The client took nothing for the whole stall timeout.
    Stalled,
    Broken,
}

/// A queue of at most `capacity` bytes, or one message if that is larger.
pub(crate) fn queue(capacity: u32) -> (Outbound, Backlog) {
    let room = Arc::new(Semaphore::new(capacity as usize));
    let (items, taken) = mpsc::unbounded_channel();
    (Outbound { room: room.clone(), capacity, items }, Backlog { room, items: taken })
}

impl Outbound {
    /// Waits for room. A message for a client that is gone is dropped.
    pub(crate) async fn send(&self, text: String) {
        let size = u32::try_from(text.len()).unwrap_or(u32::MAX).clamp(1, self.capacity);
        if let Ok(room) = self.room.acquire_many(size).await {
            room.forget();
            drop(self.items.send(Item::Text(text.into(), size)));
        }
    }

    pub(crate) fn ping(&self) {
        drop(self.items.send(Item::Ping));
    }

    /// After everything queued so far.
    pub(crate) fn close(&self, close: Close) {
        drop(self.items.send(Item::Close(close)));
    }

    /// Whether messages wait for the client to read.
    pub(crate) fn is_waiting(&self) -> bool {
        self.room.available_permits() < self.capacity as usize
    }
}

impl Backlog {
    /// Writes until a close is written. Consecutive messages share a flush.
    pub(crate) async fn write<S>(&mut self, sink: &mut S, stall: Duration) -> Result<(), WriteError>
    where
        S: Sink<Message, Error = Error> + Unpin,
    {
        while let Some(first) = self.items.recv().await {
            let mut next = Some(first);
            while let Some(item) = next {
                let (message, size, last) = match item {
                    Item::Text(text, size) => (Message::Text(text), size, false),
                    Item::Ping => (Message::Ping(Bytes::new()), 0, false),
                    Item::Close(close) => (close_frame(close), 0, true),
                };
                within(stall, sink.feed(message)).await?;
                if last {
                    return within(stall, sink.flush()).await;
                }
                next = self.items.try_recv().ok();
                if next.is_none() {
                    within(stall, sink.flush()).await?;
                }
                // The last one's room only after the flush, so that a stuck flush counts as waiting.
                self.room.add_permits(size as usize);
            }
        }
        Ok(())
    }
}

pub(crate) fn close_frame(close: Close) -> Message {
    Message::Close(Some(CloseFrame { code: close.code, reason: Utf8Bytes::from_static(close.reason) }))
}

async fn within(stall: Duration, write: impl Future<Output = Result<(), Error>>) -> Result<(), WriteError> {
    match timeout(stall, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(WriteError::Broken),
        Err(_) => Err(WriteError::Stalled),
    }
}
