//! The connection to Redis: up or down, and what happens on each change.
//!
//! The first call that fails takes the link down; from then on calls do not try. A task tries instead, hands over
//! what memory collected, and takes the link up again. One log line a change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_redis::{
    Pool, PoolConfig, Runtime,
    redis::{self, FromRedisValue},
};
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Notify, time::timeout};
use weir_runtime::{Shutdown, retry::Backoff};

use crate::{
    Backend, Config, Key, KvError,
    memory::{Handed, Memory, Value},
    metrics::KvMetrics,
    millis,
};

/// Values handed over in one round trip.
const BATCH: usize = 100;
/// The bound of one such round trip.
const BATCH_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Link {
    pool: Pool,
    timeout: Duration,
    connect_timeout: Duration,
    up: AtomicBool,
    /// Held while the link goes down.
    change: Mutex<()>,
    /// Told when the link goes down.
    down: Notify,
    memory: Arc<Memory>,
    metrics: KvMetrics,
}

impl Link {
    pub(crate) fn new(
        url: &SecretString,
        config: &Config,
        memory: Arc<Memory>,
        metrics: KvMetrics,
    ) -> Result<Self, KvError> {
        let manager = deadpool_redis::Manager::new(url.expose_secret()).map_err(|_| KvError::Address)?;
        let pool = Pool::builder(manager)
            .config(PoolConfig::new(config.max_connections.max(1)))
            .create_timeout(Some(config.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| KvError::Pool(e.to_string()))?;
        Ok(Self {
            pool,
            timeout: config.timeout,
            connect_timeout: config.connect_timeout,
            up: AtomicBool::new(false),
            change: Mutex::default(),
            down: Notify::new(),
            memory,
            metrics,
        })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// `None` while the link is down, or if this call takes it down.
    pub(crate) async fn call<T: FromRedisValue>(&self, command: &redis::Cmd) -> Option<T> {
        if !self.is_up() {
            return None;
        }
        match timeout(self.timeout, self.query(command)).await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                self.take_down(&error);
                None
            }
            Err(_) => {
                self.take_down(&format!("no answer within {} ms", self.timeout.as_millis()));
                None
            }
        }
    }

    async fn query<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, String> {
        let mut connection = self.pool.get().await.map_err(|e| e.to_string())?;
        command.query_async(&mut connection).await.map_err(|e| e.to_string())
    }

    fn take_down(&self, error: &str) {
        let change = self.change.lock();
        if !self.is_up() {
            return;
        }
        // A write that was under way when the link came up may have reached memory after the handover: old by now.
        self.memory.clear();
        self.up.store(false, Ordering::Release);
        drop(change);
        self.metrics.changed(Backend::Memory);
        tracing::warn!(error, "redis lost, values are kept in memory");
        self.down.notify_one();
    }

    /// Brings the link up, again and again, until the shutdown.
    pub(crate) async fn watch(self: Arc<Self>, shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep_up() => {}
        }
    }

    async fn keep_up(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut said = false;
        loop {
            match self.bring_up().await {
                Ok(handed) => {
                    backoff.reset();
                    said = true;
                    tracing::info!(values.handed_over = handed, "redis connected");
                    self.down.notified().await;
                }
                // The first time only: later ones follow the line that told of the loss.
                Err(error) if !std::mem::replace(&mut said, true) => {
                    tracing::warn!(error, "redis not reached, values are kept in memory");
                }
                Err(_) => {}
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn bring_up(&self) -> Result<usize, String> {
        // Connections of before are dead, or would answer calls that were given up.
        self.pool.retain(|_, _| false);
        let probe = Key::global("probe", "write");
        // A write: a replica, a full or a loading server answers PING and yet is of no use.
        let mut command = redis::cmd("SET");
        command.arg(probe.as_str()).arg(1).arg("PX").arg(1000);
        let tried = timeout(self.connect_timeout, self.query::<()>(&command)).await;
        tried.map_err(|_| format!("no answer within {} ms", self.connect_timeout.as_millis()))??;

        let (all, mark) = self.memory.snapshot();
        let mut handed = self.hand_over(&all).await?;
        // `up` first: what is written from here on goes to Redis, what was written meanwhile follows.
        self.metrics.changed(Backend::Redis);
        self.up.store(true, Ordering::Release);
        let newer = self.memory.take_since(mark);
        match self.hand_over(&newer).await {
            Ok(more) => handed += more,
            Err(error) => self.take_down(&error),
        }
        Ok(handed)
    }

    async fn hand_over(&self, values: &[Handed]) -> Result<usize, String> {
        let mut count = 0;
        for batch in values.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for Handed { key, value, ttl } in batch {
                match value {
                    Value::Bytes(bytes) => {
                        let set = pipe.cmd("SET").arg(key.as_str()).arg(&bytes[..]);
                        set.arg("PX").arg(millis(*ttl)).ignore();
                    }
                    Value::Deleted => {
                        pipe.cmd("DEL").arg(key.as_str()).ignore();
                    }
                    // Others counted on meanwhile: adding would count twice, setting would forget theirs.
                    Value::Counter(_) => continue,
                }
                count += 1;
            }
            if pipe.is_empty() {
                continue;
            }
            let run = async {
                let mut connection = self.pool.get().await.map_err(|e| e.to_string())?;
                pipe.query_async::<()>(&mut connection).await.map_err(|e| e.to_string())
            };
            timeout(BATCH_TIMEOUT, run).await.map_err(|_| "the handover took too long".to_owned())??;
        }
        Ok(count)
    }
}
