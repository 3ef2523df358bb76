//! From the spool to JetStream: a bounded window of events in flight, acknowledgements in any order, and a cursor
//! that is never ahead of them.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use async_nats::{
    Message, Subscriber, client::PublishErrorKind as SendErrorKind, jetstream::context::PublishErrorKind,
};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, MissedTickBehavior, timeout},
};
use weir_runtime::{Shutdown, retry::Backoff};

use super::{
    Durability, Inner,
    acks::{Acks, PATIENCE},
    cursor,
    log::Closing,
    record::{self, Kind},
    recover::damaged,
    segment::{self, Next, Position, Reader},
};
use crate::{Bus, Event, Link, trace};

/// How often the cursor is written and used-up segments are deleted.
const TICK: Duration = Duration::from_secs(1);
/// Events are gathered this long before they are sent, unless somebody waits for them to be in JetStream: a busy
/// process sends many in one write, and hears of many at once.
const GATHER: Duration = Duration::from_millis(2);
/// Records read from disk at once.
const READ_RECORDS: usize = 512;
/// Segment number that stands for records the disk never took.
const NOWHERE: u64 = u64::MAX;

/// A record with events not yet acknowledged.
#[derive(Debug)]
struct Unacked {
    events: Vec<Event>,
    left: usize,
    waiter: Option<oneshot::Sender<()>>,
}

/// One event: its record's position, and which of the record's events it is.
pub(super) type Key = (Position, usize);

pub(super) struct Publisher {
    inner: Arc<Inner>,
    bus: Bus,
    link: watch::Receiver<Link>,
    /// Another, for noticing a loss while sending without taking the notice from `link`.
    down: watch::Receiver<Link>,
    unacked: BTreeMap<Position, Unacked>,
    /// To be sent (again).
    ready: VecDeque<Key>,
    acks: Acks,
    /// Everything before it was taken out of the log.
    taken_to: Position,
    nowhere: u64,
    stored: Option<Position>,
    paused_until: Option<Instant>,
    gather_until: Option<Instant>,
    backoff: Backoff,
}

impl Publisher {
    pub(super) fn new(inner: Arc<Inner>, bus: Bus) -> Self {
        let link = bus.link();
        let taken_to = inner.log.lock().read_from().map(|(at, _)| at).unwrap_or_default();
        Self {
            inner,
            down: bus.link(),
            acks: Acks::new(bus.client()),
            bus,
            link,
            unacked: BTreeMap::new(),
            ready: VecDeque::new(),
            taken_to,
            nowhere: 0,
            stored: None,
            paused_until: None,
            gather_until: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
        }
    }

    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut answers = match self.bus.client().subscribe(self.acks.subject()).await {
            Ok(answers) => answers,
            Err(error) => return tracing::error!(%error, "acknowledgements cannot be received"),
        };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut give_up: Option<Instant> = None;
        let inner = Arc::clone(&self.inner);
        loop {
            if let Err(error) = self.send_what_fits().await {
                tracing::error!(%error, "spool cannot be read");
                self.pause();
            }
            if give_up.is_some_and(|at| self.may_stop(at)) {
                break;
            }
            let (open, waiting) = (self.may_send(), self.paused_until.max(self.gather_until));
            tokio::select! {
                Some(answer) = answers.next() => {
                    self.answered(&answer);
                    self.answered_too(&mut answers);
                }
                () = inner.news.notified(), if open => {}
                changed = self.link.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.link_changed();
                }
                () = until(waiting), if waiting.is_some() => (self.paused_until, self.gather_until) = (None, None),
                _ = tick.tick() => {
                    self.give_up_late();
                    self.housekeeping().await;
                }
                () = shutdown.cancelled(), if give_up.is_none() => {
                    give_up = Some(Instant::now() + Duration::from_millis(inner.config.drain_ms));
                }
                () = until(give_up), if give_up.is_some() => break,
            }
        }
        self.housekeeping().await;
        let left = self.unacked.len();
        tracing::info!(unacked = left, "spool publisher stopped");
    }

    /// Whether stopping need not wait any longer.
    fn may_stop(&self, give_up: Instant) -> bool {
        let log = self.inner.log.lock();
        let drained = self.unacked.is_empty() && log.idle();
        // Without NATS waiting helps only what is in memory alone.
        let pointless = !self.link.borrow().up && !log.has_stranded();
        drained || pointless || Instant::now() >= give_up
    }

    fn may_send(&self) -> bool {
        self.paused_until.is_none()
            && self.gather_until.is_none()
            && self.acks.len() < self.inner.config.window
            && self.link.borrow().up
    }

    async fn send_what_fits(&mut self) -> io::Result<()> {
        let mut any = false;
        while self.may_send() {
            if self.ready.is_empty() && !self.take().await? {
                break;
            }
            let Some(key) = self.ready.pop_front() else { continue };
            self.send(key).await;
            any = true;
        }
        if any && self.inner.config.durability != Durability::Cluster {
            self.gather_until = Some(Instant::now() + GATHER);
        }
        Ok(())
    }

    async fn send(&mut self, key: Key) {
        let Some(event) = self.unacked.get(&key.0).and_then(|r| r.events.get(key.1)) else { return };
        let source = &self.inner.config.source;
        let mut headers = event.headers(source);
        let span = trace::publishing(source, &event.subject, event.id, event.trace());
        trace::put(&mut headers, &span);
        let (number, reply) = self.acks.next();
        let (subject, payload) = (event.subject.clone(), event.payload.clone());
        let sending = self.bus.client().publish_with_reply_and_headers(subject, reply, headers, payload);
        let sent = tokio::select! {
            biased;
            sent = timeout(PATIENCE, sending) => sent,
            _ = self.down.wait_for(|l| !l.up) => return self.ready.push_front(key),
        };
        self.inner.metrics.published.inc();
        match sent {
            Ok(Ok(())) => self.acks.sent(number, key, span),
            Ok(Err(error)) if error.kind() == SendErrorKind::MaxPayloadExceeded => {
                self.failed(key, PublishErrorKind::MaxPayloadExceeded);
            }
            Ok(Err(_)) => self.failed(key, PublishErrorKind::Other),
            Err(_) => self.failed(key, PublishErrorKind::TimedOut),
        }
    }

    /// Takes more records out of the log; false when there are none.
    pub(super) async fn take(&mut self) -> io::Result<bool> {
        let (taken, from) = {
            let mut log = self.inner.log.lock();
            let taken = log.take(self.inner.config.window);
            let from = if taken.is_empty() { log.read_from() } else { None };
            (taken, from)
        };
        if let Some((from, limit)) = from {
            let inner = Arc::clone(&self.inner);
            let read = tokio::task::spawn_blocking(move || read(&inner, from, limit));
            let (records, to) = read.await.map_err(io::Error::other)??;
            self.inner.log.lock().read_to(to);
            for record in records {
                self.add(record);
            }
            self.taken_to = self.taken_to.max(to);
            return Ok(true);
        }
        let any = !taken.is_empty();
        for record in taken {
            self.add(record);
        }
        Ok(any)
    }

    fn add(&mut self, mut record: Closing) {
        let at = match record.place {
            Some((at, end)) => {
                self.taken_to = self.taken_to.max(end);
                if record.waiter.is_none() && self.inner.config.durability == Durability::Cluster {
                    record.waiter = self.inner.log.lock().take_waiter(at);
                }
                at
            }
            None => {
                self.nowhere += 1;
                Position { segment: NOWHERE, offset: self.nowhere }
            }
        };
        let left = record.events.len();
        if left == 0 {
            return;
        }
        self.ready.extend((0..left).map(|n| (at, n)));
        self.unacked.insert(at, Unacked { events: record.events, left, waiter: record.waiter });
    }

    fn answered(&mut self, answer: &Message) {
        // `None`: the connection was lost since, or it was late, and the event has been queued again.
        match self.acks.answered(answer) {
            Some((key, Ok(()))) => {
                self.inner.metrics.acked.inc();
                self.backoff.reset();
                self.done(key);
            }
            Some((key, Err(error))) => self.failed(key, error),
            None => {}
        }
    }

    /// Whatever else has been answered already.
    fn answered_too(&mut self, answers: &mut Subscriber) {
        while let Some(Some(answer)) = answers.next().now_or_never() {
            self.answered(&answer);
        }
    }

    fn give_up_late(&mut self) {
        for key in self.acks.late() {
            self.failed(key, PublishErrorKind::TimedOut);
        }
    }

    fn failed(&mut self, key: Key, error: PublishErrorKind) {
        self.inner.metrics.publish_failures.inc();
        if error == PublishErrorKind::MaxPayloadExceeded {
            if let Some(event) = self.unacked.get(&key.0).and_then(|r| r.events.get(key.1)) {
                self.inner.reject(event, "too large for NATS");
            }
            return self.done(key);
        }
        if self.paused_until.is_none() && self.link.borrow().up {
            tracing::warn!(%error, "events are not accepted by jetstream; trying again");
        }
        self.ready.push_back(key);
        self.pause();
    }

    fn done(&mut self, key: Key) {
        let Some(record) = self.unacked.get_mut(&key.0) else { return };
        record.left -= 1;
        if record.left == 0
            && let Some(waiter) = self.unacked.remove(&key.0).and_then(|r| r.waiter)
        {
            // Whoever waited may have gone.
            let _ = waiter.send(());
        }
    }

    fn pause(&mut self) {
        if self.paused_until.is_none() {
            self.paused_until = Some(Instant::now() + self.backoff.next());
        }
    }

    /// Answers to what was in flight will not come: it is sent again over the next connection, under the same ids.
    fn link_changed(&mut self) {
        let link = *self.link.borrow_and_update();
        let mut lost = self.acks.drain();
        lost.sort_unstable();
        for key in lost.into_iter().rev() {
            self.ready.push_front(key);
        }
        self.paused_until = None;
        self.backoff.reset();
        tracing::info!(
            nats.up = link.up,
            waiting = self.ready.len(),
            "spool publisher noticed a change of nats"
        );
    }

    /// Everything before it is acknowledged.
    fn cursor(&self) -> Position {
        match self.unacked.first_key_value() {
            Some((at, _)) if at.segment != NOWHERE => *at,
            _ => self.taken_to,
        }
    }

    /// A record is in memory alone, so its attempt's opening mark in an old segment is all a crash would leave of it.
    fn has_placeless(&self) -> bool {
        self.unacked.last_key_value().is_some_and(|(at, _)| at.segment == NOWHERE)
    }

    pub(super) async fn housekeeping(&mut self) {
        {
            let mut log = self.inner.log.lock();
            log.heal();
            if log.has_stranded() || self.has_placeless() {
                return;
            }
            if let Some(end) = log.all_taken() {
                self.taken_to = self.taken_to.max(end);
            }
        }
        let cursor = self.cursor();
        if self.stored == Some(cursor) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || move_on(&inner, cursor)).await {
            Ok(Ok(())) => self.stored = Some(cursor),
            Ok(Err(error)) => {
                self.inner.metrics.spool_write_failures.inc();
                tracing::warn!(%error, "spool cursor could not be written");
            }
            Err(error) => tracing::error!(%error, "spool cursor was not written"),
        }
    }
}

#[cfg(test)]
impl Publisher {
    /// JetStream has everything taken so far.
    pub(super) fn all_acked(&mut self) {
        self.unacked.clear();
        self.ready.clear();
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Reads closing records from one segment; gives the position reached.
pub(super) fn read(inner: &Inner, from: Position, limit: u64) -> io::Result<(Vec<Closing>, Position)> {
    let segment = from.segment;
    let place = |offset| Position { segment, offset };
    let Some(mut reader) = Reader::open(&inner.dir, segment, from.offset, limit)? else {
        return Ok((Vec::new(), place(limit)));
    };
    let mut records = Vec::new();
    while records.len() < READ_RECORDS {
        match reader.next()? {
            Next::Record { kind: Kind::Closed | Kind::AttemptClosed, payload, at } => {
                // What cannot be understood was reported when the spool was opened.
                if let Some((_, events)) = record::get_events(payload) {
                    let place = Some((place(at), place(reader.offset())));
                    records.push(Closing { place, events, waiter: None });
                }
            }
            Next::Record { .. } => {}
            Next::Gap { at, bytes } => damaged(&inner.dir, &inner.metrics, segment, at, &bytes)?,
            Next::Tail { at, bytes, .. } => {
                damaged(&inner.dir, &inner.metrics, segment, at, &bytes)?;
                break;
            }
            Next::End => break,
        }
    }
    Ok((records, place(reader.offset())))
}

/// Stores the cursor, then deletes the segments it has passed: never the other way round.
fn move_on(inner: &Inner, cursor: Position) -> io::Result<()> {
    let durable = inner.config.durability == Durability::Disk;
    if durable {
        // Attempts carried over into the newest segment must be there before their old segment goes.
        let active = inner.log.lock().active();
        active.sync_data()?;
    }
    cursor::store(&inner.dir, cursor, durable)?;
    let used_up = inner.log.lock().used_up(cursor);
    // Oldest first, and none after one that stays: the mark that closes an attempt is never gone before the one that
    // opened it.
    for segment in used_up {
        match std::fs::remove_file(segment::path(&inner.dir, segment)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => inner.log.lock().deleted(segment),
        }
    }
    Ok(())
}
