//! Answers over HTTP/2 whose client leaves no room for them in its flow-control window.
//!
//! Hyper takes a piece of the answer, waits for room, and does not touch the body meanwhile, so no timer inside the
//! body runs; the socket itself stays writable. So the moment a piece was taken is noted here, and the connection's
//! task gives up answers of which nothing went for too long. Only those: others on the connection may be of other
//! clients, behind a proxy.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

type Piece = Option<Result<Frame<Bytes>, axum::Error>>;

/// What ends an answer that was given up; nobody is there to read it.
#[derive(Debug, thiserror::Error)]
#[error("the client did not take the answer in time")]
struct NotTaken;

/// The unfinished answers of one connection.
#[derive(Debug)]
pub(crate) struct Owed<G> {
    next: AtomicU64,
    answers: Mutex<HashMap<u64, Weak<Slot<G>>>>,
}

/// An answer that can be given up from outside, and with it `guard`.
#[derive(Debug)]
struct Slot<G> {
    /// When a piece was handed over that has not gone yet; zero: no such piece.
    since: AtomicU64,
    held: Mutex<Option<(Body, G)>>,
}

impl<G> Owed<G> {
    pub(crate) fn new() -> Self {
        Self { next: AtomicU64::new(0), answers: Mutex::default() }
    }

    pub(crate) fn add(self: &Arc<Self>, body: Body, guard: G) -> OwedBody<G> {
        let slot = Arc::new(Slot { since: AtomicU64::new(0), held: Mutex::new(Some((body, guard))) });
        let id = self.next.fetch_add(1, Relaxed);
        self.answers.lock().insert(id, Arc::downgrade(&slot));
        OwedBody { owed: self.clone(), id, slot }
    }

    /// Drops the answers with a piece from `limit` or before; true if there were any.
    pub(crate) fn give_up(&self, limit: u64) -> bool {
        let is_late = |slot: &Slot<G>| (1..=limit).contains(&slot.since.load(Acquire));
        let late: Vec<_> = {
            let answers = self.answers.lock();
            answers.values().filter_map(Weak::upgrade).filter(|slot| is_late(slot)).collect()
        };
        let mut any = false;
        for slot in late {
            // Locked means it is being polled: it moves.
            let Some(mut held) = slot.held.try_lock() else { continue };
            if is_late(&slot) {
                let dropped = held.take();
                drop(held);
                any |= dropped.is_some();
            }
        }
        any
    }
}

/// The body hyper gets.
#[derive(Debug)]
pub(crate) struct OwedBody<G> {
    owed: Arc<Owed<G>>,
    id: u64,
    slot: Arc<Slot<G>>,
}

impl<G> OwedBody<G> {
    /// `now` as in [`Owed::give_up`], not zero.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, now: impl FnOnce() -> u64) -> Poll<Piece> {
        let mut held = self.slot.held.lock();
        let Some((body, _)) = held.as_mut() else {
            return Poll::Ready(Some(Err(axum::Error::new(NotTaken))));
        };
        // Asked for more: what it had before is on its way.
        self.slot.since.store(0, Release);
        let poll = std::pin::Pin::new(body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &poll
            && frame.is_data()
        {
            self.slot.since.store(now(), Release);
        }
        poll
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.slot.held.lock().as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.slot.held.lock().as_ref().map(|(body, _)| body.size_hint()).unwrap_or_default()
    }
}

impl<G> Drop for OwedBody<G> {
    fn drop(&mut self) {
        self.owed.answers.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn poll(body: &OwedBody<Arc<()>>, now: u64) -> Poll<Piece> {
        body.poll(&mut Context::from_waker(std::task::Waker::noop()), || now)
    }

    #[test]
    fn only_what_is_not_taken_is_given_up() {
        let (owed, guard) = (Arc::new(Owed::new()), Arc::new(()));
        let endless = || Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>("piece")));
        let silent = Body::from_stream(stream::pending::<Result<&str, std::io::Error>>());
        let (stuck, read) = (owed.add(endless(), guard.clone()), owed.add(endless(), guard.clone()));
        let silent = owed.add(silent, guard.clone());
        assert!(poll(&stuck, 5).is_ready() && poll(&read, 5).is_ready() && poll(&silent, 5).is_pending());
        assert!(!owed.give_up(4));
        assert!(poll(&read, 6).is_ready());
        assert!(owed.give_up(5));
        assert_eq!(Arc::strong_count(&guard), 3, "one answer went");
        assert!(!owed.give_up(5));
        assert!(matches!(poll(&stuck, 7), Poll::Ready(Some(Err(_)))));
        assert!(matches!(poll(&read, 7), Poll::Ready(Some(Ok(_)))));
        drop((stuck, read, silent));
        assert!(owed.answers.lock().is_empty());
        assert_eq!(Arc::strong_count(&guard), 1);
    }
}
