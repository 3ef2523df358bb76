//! Who waits for which response's events. What is written here wakes those who wait here, and by a hint over NATS those
//! who wait on other instances; a lost hint costs a moment, since everyone looks for itself from time to time.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use weir_events::Bus;
use weir_runtime::{OnFailure, Tasks};
use weir_types::TenantId;

/// Below it: `events.<tenant>.<id>`, new events; `runs`, somebody left runs or ended one of somebody else's.
const SUBJECT: &str = "weir.responses";
const RUNS: &str = "runs";

type Key = (TenantId, String);

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub {
    waiting: Arc<Mutex<HashMap<Key, watch::Sender<()>>>>,
    /// Runs are to be looked at.
    runs: Arc<Notify>,
    bus: Bus,
}

impl Hub {
    pub(crate) fn new(bus: Bus) -> Self {
        Self { waiting: Arc::default(), runs: Arc::default(), bus }
    }

    /// Changes when there may be new events.
    pub(super) fn follow(&self, tenant: TenantId, id: &str) -> watch::Receiver<()> {
        let mut waiting = self.waiting.lock();
        waiting.entry((tenant, id.to_owned())).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// New events of a response are committed.
    pub(super) async fn wrote(&self, tenant: TenantId, id: &str) {
        self.wake(&(tenant, id.to_owned()));
        self.hint(format!("{SUBJECT}.events.{tenant}.{id}")).await;
    }

    /// Runs were left, or taken from whoever had them.
    pub(super) async fn runs_changed(&self) {
        self.runs.notify_one();
        self.hint(format!("{SUBJECT}.{RUNS}")).await;
    }

    /// The same, for this process alone.
    pub(super) fn runs_changed_here(&self) {
        self.runs.notify_one();
    }

    pub(super) async fn runs(&self) {
        self.runs.notified().await;
    }

    /// Whether hints of others arrive.
    pub(super) fn hears(&self) -> bool {
        self.bus.connected()
    }

    async fn hint(&self, subject: String) {
        // Without a connection the client would keep it until there is one: a hint is worth nothing then.
        if self.bus.connected() {
            drop(self.bus.client().publish(subject, Bytes::new()).await);
        }
    }

    fn wake(&self, key: &Key) {
        let mut waiting = self.waiting.lock();
        if let Some(sender) = waiting.get(key)
            && sender.send(()).is_err()
        {
            waiting.remove(key);
        }
    }

    /// Nobody waits any more for what nobody follows.
    pub(super) fn forget(&self, tenant: TenantId, id: &str) {
        let mut waiting = self.waiting.lock();
        let key = (tenant, id.to_owned());
        if waiting.get(&key).is_some_and(|sender| sender.receiver_count() == 0) {
            waiting.remove(&key);
        }
    }

    /// How many responses are waited for.
    #[cfg(test)]
    pub(super) fn waited_for(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Listens to other instances.
    pub(super) fn spawn(&self, tasks: &Tasks) {
        let (hub, shutdown) = (self.clone(), tasks.shutdown());
        tasks.spawn("orchestrator.responses.hints", OnFailure::Log, async move {
            tokio::select! {
                () = hub.listen() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }

    async fn listen(&self) {
        // The client subscribes again by itself whenever it connects.
        let mut hints = match self.bus.client().subscribe(format!("{SUBJECT}.>")).await {
            Ok(hints) => hints,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                return tracing::warn!(error, "other instances' responses are seen late");
            }
        };
        while let Some(hint) = hints.next().await {
            let Some(what) = hint.subject.strip_prefix(SUBJECT).and_then(|s| s.strip_prefix('.')) else {
                continue;
            };
            if what == RUNS {
                self.runs.notify_one();
            } else if let Some((tenant, id)) = what.strip_prefix("events.").and_then(|s| s.split_once('.'))
                && let Ok(tenant) = tenant.parse()
            {
                self.wake(&(tenant, id.to_owned()));
            }
        }
    }
}
