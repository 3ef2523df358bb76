//! Requests whose clients left, closed apart from everybody: to count a long prompt takes a while.

use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use weir_runtime::{OnFailure, Tasks};

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Closing(Arc<OnceLock<Tasks>>);

impl Closing {
    /// Among these tasks, which are waited for before usage is no longer published.
    pub(crate) fn within(&self, tasks: &Tasks) {
        drop(self.0.set(tasks.clone()));
    }

    pub(super) fn later(&self, runtime: &Handle, work: impl FnOnce() + Send + 'static) {
        let Some(tasks) = self.0.get() else {
            drop(runtime.spawn_blocking(work));
            return;
        };
        tasks.spawn("orchestrator.closing", OnFailure::Log, async move {
            drop(tokio::task::spawn_blocking(work).await);
        });
    }
}
