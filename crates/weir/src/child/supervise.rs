//! Keeps a child running until it is told to stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use weir_runtime::{OnFailure, Shutdown, Tasks, retry::Backoff};

use super::{Child, Spec};
use crate::dev::StateFile;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// After this long a crash counts as a first one again.
const STEADY: Duration = Duration::from_secs(60);

/// Watches `child` in a task of its own; the task ends with the child stopped.
pub(crate) fn supervise(child: Child, state: StateFile, tasks: &Tasks) {
    let shutdown = tasks.shutdown();
    tasks.spawn(child.spec.name, OnFailure::Log, async move {
        keep(child, &state, &shutdown).await;
        Ok::<(), std::convert::Infallible>(())
    });
}

async fn keep(mut child: Child, state: &StateFile, shutdown: &Shutdown) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let name = child.spec.name;
    loop {
        let since = Instant::now();
        let how = tokio::select! {
            () = shutdown.cancelled() => {
                child.stop().await;
                tracing::info!(child = name, "stopped");
                return;
            }
            how = child.ended() => how,
        };
        tracing::error!(child = name, pid = child.pid, %how, log = %child.spec.log.display(), "a child ended by itself");
        if since.elapsed() > STEADY {
            backoff.reset();
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            again = restart(&child.spec, &mut backoff) => child = again,
        }
        if let Err(error) = state.record(name, child.pid) {
            tracing::warn!(child = name, error = %format!("{error:#}"), "could not note the child's id");
        }
    }
}

/// Starts it until that works: what it needs (memory, disk, its port) may come back.
async fn restart(spec: &Arc<Spec>, backoff: &mut Backoff) -> Child {
    loop {
        let wait = backoff.next();
        tracing::info!(child = spec.name, wait_ms = wait.as_millis(), "restarting");
        tokio::time::sleep(wait).await;
        match Child::start(spec).await {
            Ok(child) => return child,
            Err(error) => tracing::error!(child = spec.name, error = %error, "restarting failed"),
        }
    }
}
