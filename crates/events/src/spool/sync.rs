//! Group commit: one thread syncs whatever was written since its last round, everyone in that group waits for it.

use std::{fs::File, io, path::PathBuf, sync::Arc, thread};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::commit::Commit;

/// Tickets up to `tried` were synced, but for the ones of the last failed round.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Synced {
    pub(crate) tried: u64,
    failed: (u64, u64),
}

impl Synced {
    pub(crate) fn failed(&self, ticket: u64) -> bool {
        self.failed.0 < ticket && ticket <= self.failed.1
    }
}

#[derive(Debug, Default)]
struct Pending {
    /// Of the last write.
    ticket: u64,
    files: Vec<Arc<File>>,
    new_file: bool,
    /// A round failed and nobody has dealt with it yet.
    broken: bool,
    stop: bool,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    pending: Mutex<Pending>,
    work: Condvar,
}

/// Ends its thread when dropped.
#[derive(Debug)]
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    synced: watch::Receiver<Synced>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Syncer {
    pub(crate) fn start(dir: PathBuf) -> io::Result<Self> {
        let shared = Arc::new(Shared { dir, pending: Mutex::default(), work: Condvar::new() });
        let (sender, synced) = watch::channel(Synced::default());
        let thread = thread::Builder::new().name("spool-sync".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, &sender)
        })?;
        Ok(Self { shared, synced, thread: Some(thread) })
    }

    /// Notes a write to `file`.
    pub(crate) fn written(&self, file: &Arc<File>, new_file: bool) -> Commit {
        let mut pending = self.shared.pending.lock();
        pending.ticket += 1;
        pending.new_file |= new_file;
        if pending.files.last().is_none_or(|last| !Arc::ptr_eq(last, file)) {
            pending.files.push(Arc::clone(file));
        }
        let ticket = pending.ticket;
        drop(pending);
        self.shared.work.notify_one();
        Commit::disk(ticket, self.synced.clone())
    }

    /// Whether a sync failed since the last call. After that the file's pages cannot be trusted to be written by a
    /// later sync: the caller goes on in a new one.
    pub(crate) fn take_broken(&self) -> bool {
        std::mem::take(&mut self.shared.pending.lock().broken)
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.pending.lock().stop = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // It syncs what is left first. A panic in it has been printed.
            drop(thread.join());
        }
    }
}

fn run(shared: &Shared, synced: &watch::Sender<Synced>) {
    let mut done = 0;
    loop {
        let mut pending = shared.pending.lock();
        while pending.ticket == done && !pending.stop {
            shared.work.wait(&mut pending);
        }
        if pending.ticket == done {
            return;
        }
        let (ticket, files) = (pending.ticket, std::mem::take(&mut pending.files));
        let new_file = std::mem::take(&mut pending.new_file);
        drop(pending);
        let result = files.iter().try_for_each(|f| f.sync_data()).and_then(|()| {
            if new_file { File::open(&shared.dir).and_then(|d| d.sync_all()) } else { Ok(()) }
        });
        if let Err(error) = &result {
            tracing::error!(%error, "spool could not be synced to disk");
            shared.pending.lock().broken = true;
        }
        synced.send_modify(|s| {
            s.tried = ticket;
            if result.is_err() {
                s.failed = (done, ticket);
            }
        });
        done = ticket;
    }
}
