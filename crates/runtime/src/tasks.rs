//! Tasks that are named, tracked and stopped together. The only place that spawns.

use std::{
    collections::BTreeMap,
    fmt::Display,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{task::AbortHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long tasks that were told to end at once may take to notice.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// The wish to stop, as tasks see it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// One that never comes; for tests and tools.
    #[must_use]
    pub fn never() -> Self {
        Self(CancellationToken::new())
    }

    /// Resolves when the process should stop: finish what is in hand, take nothing new.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// What happens when a task fails or panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It is logged; the others go on.
    Log,
    /// It is logged and everything is told to stop; [`Tasks::failed`] is true from then on.
    Shutdown,
}

/// How a task ended: `()`, or a result whose error is logged.
pub trait Outcome: Send + 'static {
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Display + Send + 'static> Outcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|e| e.to_string())
    }
}

/// The tasks of a process, or of one service in it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tracker: TaskTracker,
    soft: CancellationToken,
    failed: AtomicBool,
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, Running>>,
}

#[derive(Debug)]
struct Running {
    name: &'static str,
    abort: Option<AbortHandle>,
}

impl Tasks {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. It should end soon after [`Shutdown`]; a panic counts as a failure.
    pub fn spawn<F>(&self, name: &'static str, on_failure: OnFailure, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.running.lock().insert(id, Running { name, abort: None });
        // Made before the task starts, so that the entry also goes when the task is aborted unpolled.
        let entry = Entry { tasks: self.clone(), id };
        let task = self.0.tracker.spawn(async move {
            let failure = match AssertUnwindSafe(future).catch_unwind().await {
                Ok(outcome) => outcome.failure(),
                Err(panic) => Some(format!("panicked: {}", panic_text(&*panic))),
            };
            if let Some(error) = failure {
                entry.tasks.on_failed(name, on_failure, &error);
            }
            drop(entry);
        });
        if let Some(running) = self.0.running.lock().get_mut(&id) {
            running.abort = Some(task.abort_handle());
        }
    }

    fn on_failed(&self, name: &'static str, on_failure: OnFailure, error: &str) {
        match on_failure {
            OnFailure::Log => tracing::error!(task.name = name, error, "task failed"),
            OnFailure::Shutdown => {
                tracing::error!(task.name = name, error, "task failed, stopping");
                self.0.failed.store(true, Ordering::Release);
                self.trigger();
            }
        }
    }

    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        Shutdown(self.0.soft.clone())
    }

    /// Tells all tasks to stop. Returns at once.
    pub fn trigger(&self) {
        self.0.soft.cancel();
    }

    /// Whether a task failed that was meant to stop the rest: the process should exit with an error.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.0.failed.load(Ordering::Acquire)
    }

    /// Names of the tasks that have not ended.
    #[must_use]
    pub fn running(&self) -> Vec<&'static str> {
        self.0.running.lock().values().map(|r| r.name).collect()
    }

    /// Tells all tasks to stop, waits up to `grace`, then ends the rest by force, by name in the log.
    /// True when none had to be forced.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.trigger();
        self.0.tracker.close();
        if timeout(grace, self.0.tracker.wait()).await.is_ok() {
            return true;
        }
        tracing::warn!(tasks = ?self.running(), grace.ms = grace.as_millis(), "tasks did not stop in time, ending them");
        for task in self.0.running.lock().values() {
            if let Some(abort) = &task.abort {
                abort.abort();
            }
        }
        if timeout(ABORT_GRACE, self.0.tracker.wait()).await.is_err() {
            tracing::error!(tasks = ?self.running(), "tasks block and cannot be ended");
        }
        false
    }
}

struct Entry {
    tasks: Tasks,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tasks.0.running.lock().remove(&self.id);
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}
