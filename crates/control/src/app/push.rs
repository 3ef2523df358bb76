//! Tells gateways of revoked keys. A revocation stands whether or not NATS is there: what cannot be pushed waits
//! here and is tried again; gateways also check the keys they remember by themselves.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prost::Message as _;
use tokio::{sync::Notify, time::timeout};
use weir_events::Push;
use weir_proto::control::KeyChange;
use weir_runtime::{Shutdown, retry::Backoff};
use weir_types::KeyId;

use crate::metrics::ControlMetrics;

/// More than anyone revokes while NATS is away.
const MAX_WAITING: usize = 100_000;
const PUT_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Pusher {
    waiting: Mutex<BTreeSet<KeyId>>,
    wake: Notify,
    metrics: ControlMetrics,
}

impl Pusher {
    pub(crate) fn new(metrics: ControlMetrics) -> Self {
        Self { waiting: Mutex::default(), wake: Notify::new(), metrics }
    }

    /// Returns at once.
    pub(crate) fn revoked(&self, key: KeyId) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_WAITING {
            self.metrics.push_dropped.inc();
            return;
        }
        waiting.insert(key);
        self.show(&waiting);
        self.wake.notify_one();
    }

    /// Until shutdown; then one last try for what still waits.
    pub(crate) async fn run(self: Arc<Self>, push: Push, shutdown: Shutdown) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        loop {
            let delivered = self.drain(&push).await;
            if shutdown.is_cancelled() {
                return;
            }
            let pause = async {
                if delivered {
                    backoff.reset();
                    self.wake.notified().await;
                } else {
                    tokio::time::sleep(backoff.next()).await;
                }
            };
            tokio::select! {
                () = pause => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Pushes what waits, in order; false at the first failure.
    async fn drain(&self, push: &Push) -> bool {
        loop {
            let Some(key) = self.waiting.lock().first().copied() else { return true };
            let change = KeyChange { key_id: key.to_string(), revoked: true };
            let put = push.put(&change.key_id, change.encode_to_vec().into());
            let error = match timeout(PUT_TIMEOUT, put).await {
                Ok(Ok(())) => {
                    let mut waiting = self.waiting.lock();
                    waiting.remove(&key);
                    self.show(&waiting);
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(elapsed) => elapsed.to_string(),
            };
            self.metrics.push_failures.inc();
            tracing::warn!(key.id = %key, error, "revocation not pushed, trying again");
            return false;
        }
    }

    fn show(&self, waiting: &BTreeSet<KeyId>) {
        self.metrics.push_waiting.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
    }
}
