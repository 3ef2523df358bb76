//! State pushed to every process through a JetStream key-value bucket: a source puts, everyone else watches.
//!
//! The bucket keeps one value a key. Truth lives elsewhere (PostgreSQL): whoever watches must do without NATS.

use std::time::Duration;

use async_nats::jetstream::{
    kv::{self, Operation},
    stream::StorageType,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use weir_runtime::retry::Backoff;

use crate::{Bus, bus::Duty};

/// Far longer than anyone trusts a key or a limit without asking about it.
const DAY: Duration = Duration::from_secs(86_400);

/// What a bucket is called and how much it holds. One value a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// `[A-Za-z0-9_-]+`.
    pub name: &'static str,
    /// After this long values vanish, without a [`Change::Delete`]. Zero: they stay until replaced or deleted.
    pub max_age: Duration,
    /// Beyond this, values are refused.
    pub max_bytes: u64,
}

impl Bucket {
    /// Changed API keys: `<tenant>.<key id>` → `weir.control.v1.KeyChange`.
    pub const KEYS: Self = Self { name: "weir_keys", max_age: DAY, max_bytes: 64 << 20 };
    /// Changed tenants: `<tenant>` → `weir.control.v1.TenantState`.
    pub const TENANTS: Self = Self { name: "weir_tenants", max_age: DAY, max_bytes: 64 << 20 };
    /// Everybody's model aliases: `<tenant>` → `weir.router.v1.AliasSet`.
    pub const CATALOGUE: Self =
        Self { name: "weir_catalogue", max_age: Duration::ZERO, max_bytes: 128 << 20 };

    /// The subject under which a key's value is published, for outboxes.
    #[must_use]
    pub fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }
}

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The value did not reach the bucket.
#[derive(Debug, thiserror::Error)]
#[error("the bucket {bucket} did not take the value")]
pub struct PushError {
    bucket: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// One bucket. Created on first use.
#[derive(Debug, Clone)]
pub struct Push {
    bus: Bus,
    bucket: Bucket,
}

/// What a [`Watch`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put {
        key: String,
        value: Bytes,
    },
    Delete {
        key: String,
    },
    /// Every value there is has been told since the watch (re)started. Comes again after each reconnect.
    Current,
}

impl Bus {
    /// A key-value bucket.
    #[must_use]
    pub fn push(&self, bucket: Bucket) -> Push {
        Push { bus: self.clone(), bucket }
    }
}

impl Push {
    /// Creates the bucket or brings its bounds up to date. Says whether it is empty: a server may have lost it.
    ///
    /// # Errors
    /// NATS is away or refuses.
    pub async fn ensure(&self) -> Result<bool, PushError> {
        Ok(self.create().await?.stream.cached_info().state.messages == 0)
    }

    /// Stores the value; keys are `[-/_=.A-Za-z0-9]+`. Returns once JetStream has it.
    ///
    /// # Errors
    /// NATS is away or refuses: the caller's outbox tries again.
    pub async fn put(&self, key: &str, value: Bytes) -> Result<(), PushError> {
        let store = self.store().await?;
        store.put(key, value).await.map(drop).map_err(|e| self.error(e))
    }

    /// Deletes the key, noticed by every watcher.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn delete(&self, key: &str) -> Result<(), PushError> {
        let store = self.store().await?;
        store.delete(key).await.map_err(|e| self.error(e))
    }

    /// Follows the bucket: all current values first, then every change. Survives the loss of NATS, telling all
    /// current values again afterwards.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch { push: self.clone(), live: None, backoff: Backoff::new(RETRY_FIRST, RETRY_MAX) }
    }

    async fn store(&self) -> Result<kv::Store, PushError> {
        // Looking first keeps the common case to one request.
        match self.bus.jetstream().get_key_value(self.bucket.name).await {
            Ok(store) => Ok(store),
            Err(_) => self.create().await,
        }
    }

    async fn create(&self) -> Result<kv::Store, PushError> {
        let config = kv::Config {
            bucket: self.bucket.name.to_owned(),
            history: 1,
            max_age: self.bucket.max_age,
            max_bytes: i64::try_from(self.bucket.max_bytes).unwrap_or(i64::MAX),
            storage: StorageType::File,
            num_replicas: self.bus.replicas(),
            ..kv::Config::default()
        };
        self.bus.jetstream().create_or_update_key_value(config).await.map_err(|e| self.error(e))
    }

    async fn start_watch(&self, epoch: u64) -> Result<Live, PushError> {
        // Whoever only watches waits until there is something to watch.
        let store = match self.bus.duty() {
            Duty::Wait => {
                let store = self.bus.jetstream().get_key_value(self.bucket.name).await;
                store.map_err(|e| self.error(e))?
            }
            Duty::Make | Duty::Keep => self.store().await?,
        };
        let watch = store.watch_with_history(">").await.map_err(|e| self.error(e))?;
        let empty = store.stream.get_info().await.map_err(|e| self.error(e))?.state.messages == 0;
        Ok(Live { watch, epoch, told_current: false, all_told: empty })
    }

    fn error(&self, source: impl std::error::Error + Send + Sync + 'static) -> PushError {
        PushError { bucket: self.bucket.name, source: Box::new(source) }
    }
}

/// A bucket followed for ever. Cancelling [`next`](Self::next) loses nothing.
pub struct Watch {
    push: Push,
    live: Option<Live>,
    backoff: Backoff,
}

struct Live {
    watch: kv::Watch,
    epoch: u64,
    told_current: bool,
    /// The entry just told was the last of the current ones.
    all_told: bool,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("bucket", &self.push.bucket.name)
            .field("live", &self.live.is_some())
            .finish()
    }
}

impl Watch {
    /// The next change. Waits while NATS is away; never ends.
    pub async fn next(&mut self) -> Change {
        loop {
            if self.live.is_none() {
                self.start().await;
            }
            let Some(live) = &mut self.live else { continue };
            if live.all_told && !live.told_current {
                live.told_current = true;
                return Change::Current;
            }
            let mut link = self.push.bus.link();
            let epoch = live.epoch;
            let entry = tokio::select! {
                entry = live.watch.next() => entry,
                _ = link.wait_for(|l| l.epoch != epoch) => None,
            };
            match entry {
                Some(Ok(entry)) => {
                    live.all_told |= entry.seen_current;
                    self.backoff.reset();
                    return match entry.operation {
                        Operation::Put => Change::Put { key: entry.key, value: entry.value },
                        Operation::Delete | Operation::Purge => Change::Delete { key: entry.key },
                    };
                }
                Some(Err(error)) => {
                    tracing::debug!(bucket = self.push.bucket.name, %error, "watch broke off");
                    self.live = None;
                    tokio::time::sleep(self.backoff.next()).await;
                }
                None => self.live = None,
            }
        }
    }

    /// The changes as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Change> + Send {
        futures_util::stream::unfold(self, async |mut watch| {
            let change = watch.next().await;
            Some((change, watch))
        })
    }

    async fn start(&mut self) {
        let mut link = self.push.bus.link();
        let Ok(epoch) = link.wait_for(|l| l.up).await.map(|l| l.epoch) else {
            // The client is gone, so nothing will ever come.
            return std::future::pending().await;
        };
        // A clone, because the watch is not shareable between threads and its borrow would make this future so.
        let push = self.push.clone();
        match push.start_watch(epoch).await {
            Ok(live) => self.live = Some(live),
            Err(error) => {
                tracing::warn!(
                    bucket = self.push.bucket.name,
                    error = &error as &dyn std::error::Error,
                    "watch failed"
                );
                tokio::time::sleep(self.backoff.next()).await;
            }
        }
    }
}
