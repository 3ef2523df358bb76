//! The spool's state behind its lock: the segment being written, the attempts still open, and what the publisher
//! has yet to take.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    Durability, SpoolConfig,
    commit::Commit,
    record::{self, Kind, MAX_PAYLOAD, SEGMENT_HEADER},
    segment::{self, Position},
    sync::Syncer,
    table::Table,
};
use crate::{Event, EventMetrics};

/// Records the publisher may have waiting in memory; beyond that it reads from disk.
const QUEUE: usize = 4_096;
/// How often a broken disk is tried again.
const HEAL_EVERY: Duration = Duration::from_secs(1);
/// How long new attempts live in memory alone before they are refused, unless JetStream is what counts.
const BRIDGED: Duration = Duration::from_secs(10);

/// A closing record on its way to the publisher.
#[derive(Debug)]
pub(super) struct Closing {
    /// Where it starts and ends on disk; `None` when the disk did not take it.
    pub(super) place: Option<(Position, Position)>,
    pub(super) events: Vec<Event>,
    /// Told when all its events are in JetStream (durability `cluster`).
    pub(super) waiter: Option<oneshot::Sender<()>>,
}

/// A closing record the disk did not take, to be written once it does.
#[derive(Debug)]
struct Stranded {
    attempt: Uuid,
    kind: Kind,
    closing: Closing,
}

/// What [`Log::start`] goes on from.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) sealed: BTreeMap<u64, u64>,
    pub(super) last_segment: u64,
    pub(super) table: Table,
    pub(super) unpublished_from: Position,
}

#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    config: SpoolConfig,
    metrics: EventMetrics,
    file: Arc<File>,
    segment: u64,
    salt: u32,
    length: u64,
    sealed: BTreeMap<u64, u64>,
    sealed_bytes: u64,
    scratch: Vec<u8>,
    table: Table,
    queue: VecDeque<Closing>,
    /// From here on records are only on disk.
    behind: Option<Position>,
    waiters: HashMap<Position, oneshot::Sender<()>>,
    stranded: VecDeque<Stranded>,
    /// The disk refuses; it is tried again then.
    broken: Option<Instant>,
    /// The disk refuses; should it still do so then, new attempts are refused.
    refuse_from: Option<Instant>,
    syncer: Option<Syncer>,
}

impl Log {
    /// Begins a new segment after what was found, with the attempts still open carried over into it.
    pub(super) fn start(
        dir: PathBuf,
        config: SpoolConfig,
        metrics: EventMetrics,
        past: Past,
    ) -> io::Result<Self> {
        let syncer = match config.durability {
            Durability::Disk => Some(Syncer::start(dir.clone())?),
            Durability::Process | Durability::Cluster => None,
        };
        let (segment, salt) = (past.last_segment + 1, fresh_salt());
        let first = first_bytes(salt, &past.table);
        let file = Arc::new(create(&dir, segment, &first)?);
        if let Some(syncer) = &syncer {
            drop(syncer.written(&file, true));
        }
        let log = Self {
            dir,
            config,
            metrics,
            file,
            segment,
            salt,
            length: first.len() as u64,
            sealed_bytes: past.sealed.values().sum(),
            sealed: past.sealed,
            scratch: Vec::with_capacity(4 << 10),
            table: past.table,
            queue: VecDeque::new(),
            behind: Some(past.unpublished_from),
            waiters: HashMap::new(),
            stranded: VecDeque::new(),
            broken: None,
            refuse_from: None,
            syncer,
        };
        log.gauge();
        Ok(log)
    }

    /// Appends an `OpenAttempt`, encoded by `fill`. See [`super::Spool::opened`].
    pub(super) fn opened(
        &mut self,
        attempt: Uuid,
        request: Uuid,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<Commit> {
        self.heal();
        self.check_room()?;
        let mut payload = self.table.buffer();
        fill(&mut payload);
        if payload.len() > MAX_PAYLOAD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the attempt is too large for the spool",
            ));
        }
        let written = self.write(Kind::Opened, |b| b.extend_from_slice(&payload));
        // If the disk refused, memory has it at least, and so has the first segment that can be written again.
        self.table.opened(attempt, request, payload);
        self.gauge();
        Ok(written.map_or_else(|_| self.in_memory(), |(_, commit)| commit))
    }

    /// What a write that the disk refused is worth.
    fn in_memory(&self) -> Commit {
        if self.config.durability == Durability::Disk { Commit::failed() } else { Commit::done() }
    }

    fn check_room(&self) -> io::Result<()> {
        let full = if self.total() >= self.config.max_bytes {
            "the spool is full: events wait to be published"
        } else if self.stranded.len() >= self.config.max_stranded {
            "the disk does not take events, and the memory set aside for them is used up"
        } else if self.config.durability != Durability::Cluster
            && self.refuse_from.is_some_and(|from| Instant::now() >= from)
        {
            "the disk has not taken events for a while"
        } else {
            return Ok(());
        };
        self.metrics.spool_refused.inc();
        Err(io::Error::new(io::ErrorKind::StorageFull, full))
    }

    /// Appends a close mark with its events. See [`super::Spool::closed`].
    pub(super) fn closed(&mut self, attempt: Uuid, kind: Kind, events: Vec<Event>) -> Commit {
        self.heal();
        // Before the write: a segment begun by it need not carry what is closed.
        if kind == Kind::Closed {
            self.table.closed(attempt);
        } else {
            self.table.attempt_closed(attempt);
        }
        let (waiter, acked) = match self.config.durability {
            Durability::Cluster if !events.is_empty() => Some(oneshot::channel()).unzip(),
            _ => (None, None),
        };
        let mut closing = Closing { place: None, events, waiter };
        let written = self.write_closing(attempt, kind, &mut closing);
        if written.is_ok() {
            self.enqueue(closing);
        } else {
            self.stranded.push_back(Stranded { attempt, kind, closing });
        }
        self.gauge();
        match acked {
            Some(acked) => Commit::cluster(acked),
            None => written.unwrap_or_else(|_| self.in_memory()),
        }
    }

    /// Writes the record and notes its place.
    fn write_closing(&mut self, attempt: Uuid, kind: Kind, closing: &mut Closing) -> io::Result<Commit> {
        let (at, commit) = self.write(kind, |b| record::put_events(b, attempt, &closing.events))?;
        closing.place = Some((at, self.end()));
        // Not before: a segment begun by this write must not say that its events are written.
        self.table.stored(attempt);
        Ok(commit)
    }

    /// One write, into a new segment when this one is full.
    fn write(&mut self, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<(Position, Commit)> {
        if self.broken.is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        let result = self.try_write(kind, fill);
        if let Err(error) = &result {
            self.break_down(error);
        }
        result
    }

    fn try_write(&mut self, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<(Position, Commit)> {
        if self.length >= self.config.segment_bytes {
            self.rotate()?;
        }
        self.scratch.clear();
        record::frame(&mut self.scratch, self.salt, kind, fill);
        if let Err(error) = write_once(&self.file, &self.scratch) {
            // Half a record must not stay in the way of the next. If this fails too, readers step over it.
            drop(self.file.set_len(self.length));
            return Err(error);
        }
        let at = self.end();
        self.length += self.scratch.len() as u64;
        Ok((at, self.syncer.as_ref().map_or_else(Commit::done, |s| s.written(&self.file, false))))
    }

    /// Seals the segment and begins the next with every attempt still open, so that old segments can go.
    fn rotate(&mut self) -> io::Result<()> {
        let (segment, salt) = (self.segment + 1, fresh_salt());
        let first = first_bytes(salt, &self.table);
        let file = Arc::new(create(&self.dir, segment, &first)?);
        self.sealed.insert(self.segment, self.length);
        self.sealed_bytes += self.length;
        (self.file, self.segment, self.salt, self.length) = (file, segment, salt, first.len() as u64);
        if let Some(syncer) = &self.syncer {
            drop(syncer.written(&self.file, true));
        }
        Ok(())
    }

    fn break_down(&mut self, error: &io::Error) {
        self.metrics.spool_write_failures.inc();
        if self.broken.is_none() {
            tracing::error!(
                %error,
                spool.dir = %self.dir.display(),
                "spool cannot be written: events are kept in memory until it can"
            );
            self.metrics.spool_broken.set(1);
        }
        let now = Instant::now();
        self.broken = Some(now + HEAL_EVERY);
        self.refuse_from.get_or_insert(now + BRIDGED);
    }

    /// Tries a broken disk again: a new segment with all open attempts, then what was kept in memory.
    pub(super) fn heal(&mut self) {
        if self.broken.is_none() && self.syncer.as_ref().is_some_and(Syncer::take_broken) {
            self.break_down(&io::Error::other("sync failed"));
        }
        if self.broken.is_none_or(|again| Instant::now() < again) {
            return;
        }
        if let Err(error) = self.rotate() {
            return self.break_down(&error);
        }
        self.broken = None;
        while let Some(mut stranded) = self.stranded.pop_front() {
            match self.write_closing(stranded.attempt, stranded.kind, &mut stranded.closing) {
                Ok(_) => self.enqueue(stranded.closing),
                Err(_) => return self.stranded.push_front(stranded),
            }
        }
        self.refuse_from = None;
        self.metrics.spool_broken.set(0);
        tracing::warn!(spool.dir = %self.dir.display(), "spool can be written again");
    }

    fn enqueue(&mut self, mut closing: Closing) {
        let Some((at, _)) = closing.place else { return };
        if self.behind.is_none() && self.queue.len() < QUEUE {
            self.queue.push_back(closing);
            return;
        }
        if self.behind.is_none() {
            self.behind = Some(at);
            self.metrics.spool_overflows.inc();
        }
        if let Some(waiter) = closing.waiter.take() {
            self.waiters.insert(at, waiter);
        }
    }

    fn end(&self) -> Position {
        Position { segment: self.segment, offset: self.length }
    }

    fn total(&self) -> u64 {
        self.length + self.sealed_bytes
    }

    fn gauge(&self) {
        self.metrics.spool_bytes.set(i64::try_from(self.total()).unwrap_or(i64::MAX));
        self.metrics.open_attempts.set(i64::try_from(self.table.len()).unwrap_or(i64::MAX));
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.broken.is_some() {
            return Err(format!(
                "the spool cannot be written; {} closed attempts are in memory",
                self.stranded.len()
            ));
        }
        let (total, max) = (self.total(), self.config.max_bytes);
        if total > max / 5 * 4 { Err(format!("the spool holds {total} of {max} bytes")) } else { Ok(()) }
    }
}

/// The publisher's side.
impl Log {
    /// Closed attempts kept in memory for the publisher, at most `max`: those the disk refused first.
    pub(super) fn take(&mut self, max: usize) -> Vec<Closing> {
        let stranded = self.stranded.len().min(max);
        let mut taken: Vec<_> = self.stranded.drain(..stranded).map(|s| s.closing).collect();
        let queued = self.queue.len().min(max - taken.len());
        taken.extend(self.queue.drain(..queued));
        taken
    }

    /// Where to read on from disk, and the end of that segment for now. `None` when memory has all there is.
    pub(super) fn read_from(&mut self) -> Option<(Position, u64)> {
        let mut at = self.behind.filter(|_| self.queue.is_empty())?;
        loop {
            if at >= self.end() {
                self.behind = None;
                return None;
            }
            let limit = if at.segment == self.segment { self.length } else { self.sealed_length(at.segment) };
            if at.offset < limit {
                self.behind = Some(at);
                return Some((at, limit));
            }
            let next = self.sealed.range(at.segment + 1..).next().map_or(self.segment, |(number, _)| *number);
            at = Position { segment: next, offset: SEGMENT_HEADER as u64 };
        }
    }

    fn sealed_length(&self, segment: u64) -> u64 {
        self.sealed.get(&segment).copied().unwrap_or(0)
    }

    /// Everything before it has been read.
    pub(super) fn read_to(&mut self, position: Position) {
        self.behind = Some(position);
    }

    /// The end of the log, when the publisher has taken everything.
    pub(super) fn all_taken(&self) -> Option<Position> {
        (self.queue.is_empty() && self.behind.is_none_or(|b| b >= self.end())).then(|| self.end())
    }

    /// No attempt is open and nothing waits to be taken.
    pub(super) fn idle(&self) -> bool {
        self.table.len() == 0 && self.stranded.is_empty() && self.all_taken().is_some()
    }

    pub(super) fn has_stranded(&self) -> bool {
        !self.stranded.is_empty()
    }

    pub(super) fn take_waiter(&mut self, at: Position) -> Option<oneshot::Sender<()>> {
        self.waiters.remove(&at)
    }

    /// The sealed segments before the cursor, oldest first. Open attempts were carried over when they were sealed.
    pub(super) fn used_up(&self, cursor: Position) -> Vec<u64> {
        self.sealed.range(..cursor.segment).map(|(segment, _)| *segment).collect()
    }

    /// The segment's file is gone.
    pub(super) fn deleted(&mut self, segment: u64) {
        self.sealed_bytes -= self.sealed.remove(&segment).unwrap_or(0);
        self.gauge();
    }

    pub(super) fn active(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }
}

#[cfg(test)]
impl Log {
    /// From now on the disk is full.
    pub(super) fn sabotage(&mut self) {
        self.file = Arc::new(OpenOptions::new().append(true).open("/dev/full").expect("a Linux system"));
    }

    /// The disk has been full for a while.
    pub(super) fn lose_patience(&mut self) {
        self.refuse_from = self.refuse_from.map(|_| Instant::now());
    }

    pub(super) fn retry_now(&mut self) {
        self.broken = self.broken.map(|_| Instant::now());
    }
}

fn fresh_salt() -> u32 {
    Uuid::new_v4().as_fields().0
}

/// A segment's header and the attempts carried over into it.
fn first_bytes(salt: u32, table: &Table) -> Vec<u8> {
    let mut bytes = record::segment_header(salt).to_vec();
    for (id, attempt) in table.sorted() {
        record::frame(&mut bytes, salt, Kind::Opened, |b| b.extend_from_slice(&attempt.payload));
        if attempt.stored {
            // Its events are in the segment it was closed in.
            record::frame(&mut bytes, salt, Kind::AttemptClosed, |b| record::put_events(b, *id, &[]));
        }
    }
    bytes
}

fn create(dir: &Path, segment: u64, first: &[u8]) -> io::Result<File> {
    let path = segment::path(dir, segment);
    let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
    match write_once(&file, first) {
        Ok(()) => Ok(file),
        Err(error) => {
            drop(std::fs::remove_file(path));
            Err(error)
        }
    }
}

/// One `write`: all or an error.
fn write_once(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    let written = loop {
        match file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}
