//! The spool: a folder in which attempts are noted before and after the call to their provider, and from which
//! their events are published.
//!
//! A folder belongs to one process, by a lock. Every append is one `write`, so a killed process leaves whole
//! records and at most one torn end. What is open at the next start was interrupted: see [`Open`].

mod acks;
mod commit;
mod cursor;
mod log;
mod publisher;
mod record;
mod recover;
mod segment;
mod sync;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use prost::Message as _;
use serde::Deserialize;
use tokio::sync::Notify;
use uuid::Uuid;
use weir_proto::events::OpenAttempt;
use weir_runtime::{OnFailure, Tasks};
use weir_types::AttemptId;

pub use self::{
    commit::{Commit, CommitError},
    recover::Open,
};
use self::{log::Log, publisher::Publisher, record::Kind};
use crate::{Bus, Event, EventMetrics};

/// What "stored" means for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The operating system has it: survives the death of the process.
    #[default]
    Process,
    /// The disk has it: survives the death of the machine.
    Disk,
    /// JetStream has it: survives the loss of the disk.
    Cluster,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolConfig {
    pub durability: Durability,
    /// A segment is followed by the next once it is this large.
    pub segment_bytes: u64,
    /// Beyond this much waiting to be published, new attempts are refused.
    pub max_bytes: u64,
    /// Closed attempts kept in memory while the disk takes none; beyond that, new attempts are refused.
    pub max_stranded: usize,
    /// Events sent and not yet acknowledged, at most.
    pub window: usize,
    /// How long stopping may take to publish what is left, in milliseconds. The rest is published at the next start.
    pub drain_ms: u64,
    /// The `ce-source` of the events.
    pub source: String,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Process,
            segment_bytes: 32 << 20,
            max_bytes: 1 << 30,
            max_stranded: 10_000,
            window: 512,
            drain_ms: 5_000,
            source: "weir/orchestrator".into(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the spool {dir} belongs to process {pid}")]
    Locked { dir: PathBuf, pid: String },
    #[error("the spool {dir} cannot be used")]
    Io {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("max_bytes of the spool must be at least four times segment_bytes, and segment_bytes at least 1")]
    Config,
}

/// The spool of this process. Clones are handles to the same one; the folder is free again when the last is gone.
#[derive(Debug, Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    config: SpoolConfig,
    metrics: EventMetrics,
    log: Mutex<Log>,
    /// Something was closed.
    news: Notify,
    /// Held for as long as this lives.
    _lock: File,
}

impl Spool {
    /// Takes the folder over: creates it if need be, locks it, and reads what an earlier process left. Blocking:
    /// takes as long as reading the segments does.
    ///
    /// The attempts given back are still open here too: end each with [`closed`](Self::closed) and the events of an
    /// interrupted attempt.
    ///
    /// # Errors
    /// Another process has it, or the disk fails.
    pub fn open(
        dir: &Path,
        config: SpoolConfig,
        metrics: EventMetrics,
    ) -> Result<(Self, Vec<Open>), SpoolError> {
        if config.segment_bytes == 0 || config.max_bytes / 4 < config.segment_bytes {
            return Err(SpoolError::Config);
        }
        let lock = lock(dir)?;
        let failed = |source| SpoolError::Io { dir: dir.to_owned(), source };
        let (past, open) = recover::recover(dir, &metrics).map_err(failed)?;
        if !open.is_empty() {
            tracing::warn!(attempts = open.len(), "attempts were open when the last process ended");
        }
        let log = Log::start(dir.to_owned(), config.clone(), metrics.clone(), past).map_err(failed)?;
        let inner = Inner {
            dir: dir.to_owned(),
            config,
            metrics,
            log: Mutex::new(log),
            news: Notify::new(),
            _lock: lock,
        };
        Ok((Self { inner: Arc::new(inner) }, open))
    }

    /// Notes that the attempt is about to reach its provider. One short write.
    ///
    /// # Errors
    /// `StorageFull`: refuse the request (503), it could not be metered: too much waits, or the disk is broken. `InvalidInput`: an id is not a UUID, or the
    /// whole is larger than a megabyte.
    pub fn opened(&self, attempt: &OpenAttempt) -> io::Result<Commit> {
        let id =
            |text: &str| Uuid::try_parse(text).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e));
        let (attempt_id, request) = (id(&attempt.attempt_id)?, id(&attempt.request_event_id)?);
        self.inner.log.lock().opened(attempt_id, request, |buffer| attempt.encode_raw(buffer))
    }

    /// Notes that the attempt and its request are done, and stores their events, in one short write. May be called
    /// from `Drop`, ignoring what it gives back: the write itself is done when it returns.
    pub fn closed(&self, attempt: AttemptId, events: &[Event]) -> Commit {
        self.close(attempt, Kind::Closed, events)
    }

    /// As [`closed`](Self::closed), for an attempt whose request goes on: another attempt is (or was) opened, or a
    /// later `closed` of the same attempt ends the request. Should the process die in between, the request is given
    /// back by [`open`](Self::open), with `attempt_closed` if no newer attempt stands for it.
    pub fn attempt_closed(&self, attempt: AttemptId, events: &[Event]) -> Commit {
        self.close(attempt, Kind::AttemptClosed, events)
    }

    fn close(&self, attempt: AttemptId, kind: Kind, events: &[Event]) -> Commit {
        let events = self.inner.storable(events);
        let commit = self.inner.log.lock().closed(attempt.0, kind, events);
        self.inner.news.notify_one();
        commit
    }

    /// For `/health`: degraded when the disk fails, or when more than four fifths of the room is used.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        self.inner.log.lock().check()
    }

    /// Publishes events as they come, starting with what an earlier process left, until the tasks are told to stop:
    /// then until no attempt is open and all is published, at most `drain_ms`.
    pub fn publish_loop(&self, bus: Bus, tasks: &Tasks) {
        let publisher = Publisher::new(Arc::clone(&self.inner), bus);
        let shutdown = tasks.shutdown();
        tasks.spawn("spool-publisher", OnFailure::Shutdown, publisher.run(shutdown));
    }
}

impl Inner {
    /// The events that fit into one record; what does not (there is no such event) goes into quarantine.
    fn storable(&self, events: &[Event]) -> Vec<Event> {
        let mut room = record::MAX_PAYLOAD - 64;
        let mut fitting = Vec::with_capacity(events.len());
        for event in events {
            let size = event.subject.len() + event.payload.len() + 32;
            if size <= room {
                room -= size;
                fitting.push(event.clone());
            } else {
                self.reject(event, "too large for the spool");
            }
        }
        fitting
    }

    /// Keeps the payload of an event that can never be published.
    fn reject(&self, event: &Event, reason: &str) {
        self.metrics.quarantined.inc();
        let kept = segment::quarantine(&self.dir, &format!("event-{}.bin", event.id), &event.payload);
        tracing::error!(
            event.id = %event.id,
            event.subject = event.subject,
            reason,
            kept = kept.is_ok(),
            "an event cannot be published: it is in quarantine"
        );
    }
}

fn lock(dir: &Path) -> Result<File, SpoolError> {
    let failed = |source| SpoolError::Io { dir: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let mut options = File::options();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).open(dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let pid = if known { pid.trim().to_owned() } else { "unknown".into() };
            return Err(SpoolError::Locked { dir: dir.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let note = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(note.as_bytes()))
        .map_err(failed)?;
    Ok(file)
}
