//! Small values with a time to live: in Redis when there is one, in this process's memory when there is not, or
//! not now. A call never fails and never waits long; what is kept here may be lost.

mod config;
mod key;
mod link;
mod memory;
mod metrics;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use deadpool_redis::redis::{self, FromRedisValue};
use weir_runtime::{OnFailure, Tasks};
use weir_telemetry::Metrics;

pub use config::{Config, KvError};
pub use key::Key;

use crate::{link::Link, memory::Memory, metrics::KvMetrics};

/// Adds, and sets the time to live if there is none. What is no number starts over, as in memory.
const INCR: &str = "local n = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(n) == 'table' then redis.call('SET', KEYS[1], ARGV[1]) n = tonumber(ARGV[1]) end
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return n";

/// Where values are kept now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Redis,
    Memory,
}

impl Backend {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memory => "memory",
        }
    }
}

/// A store of small values. Cheap to clone.
///
/// Without Redis each process has values of its own: right for limits, sessions and caches, wrong for anything
/// that must be exact. Values written while Redis was away are handed over when it returns; counters are not.
#[derive(Clone)]
pub struct Kv(Arc<Inner>);

struct Inner {
    memory: Arc<Memory>,
    link: Option<Arc<Link>>,
    metrics: KvMetrics,
}

impl Kv {
    /// Returns at once; Redis is used from when it answers. The task that watches it runs in `tasks`.
    ///
    /// # Errors
    /// An address that cannot be used.
    pub fn new(config: &Config, metrics: &Metrics, tasks: &Tasks) -> Result<Self, KvError> {
        let metrics = KvMetrics::new(metrics);
        let memory = Arc::new(Memory::new(config.max_entries, config.max_bytes.as_usize(), metrics.clone()));
        let url = config.url.as_ref().filter(|_| config.enabled);
        let link =
            url.map(|url| Link::new(url, config, memory.clone(), metrics.clone())).transpose()?.map(Arc::new);
        if let Some(link) = &link {
            tasks.spawn("kv-redis", OnFailure::Shutdown, link.clone().watch(tasks.shutdown()));
        }
        Ok(Self(Arc::new(Inner { memory, link, metrics })))
    }

    /// In memory alone, with the default bounds; for tests and for services without Redis.
    #[must_use]
    pub fn memory() -> Self {
        let (config, metrics) = (Config::default(), KvMetrics::new(&Metrics::new()));
        let memory = Memory::new(config.max_entries, config.max_bytes.as_usize(), metrics.clone());
        Self(Arc::new(Inner { memory: Arc::new(memory), link: None, metrics }))
    }

    /// The value, unless it expired or was lost.
    pub async fn get(&self, key: &Key) -> Option<Bytes> {
        match self.redis(redis::cmd("GET").arg(key.as_str())).await {
            Some(value) => value,
            None => self.0.memory.get(key),
        }
    }

    /// Sets the value for `ttl`, over whatever is there.
    pub async fn set(&self, key: &Key, value: impl Into<Bytes>, ttl: Duration) {
        let value = value.into();
        let mut command = redis::cmd("SET");
        command.arg(key.as_str()).arg(&value[..]).arg("PX").arg(millis(ttl));
        if self.redis::<()>(&command).await.is_none() {
            self.0.memory.set(key, value, ttl);
        }
    }

    /// Sets the value only if there is none; true if it did. Without Redis that holds for this process alone.
    pub async fn set_new(&self, key: &Key, value: impl Into<Bytes>, ttl: Duration) -> bool {
        let value = value.into();
        let mut command = redis::cmd("SET");
        command.arg(key.as_str()).arg(&value[..]).arg("PX").arg(millis(ttl)).arg("NX");
        match self.redis::<Option<String>>(&command).await {
            Some(answer) => answer.is_some(),
            None => self.0.memory.set_new(key, value, ttl),
        }
    }

    pub async fn delete(&self, key: &Key) {
        if self.redis::<i64>(redis::cmd("DEL").arg(key.as_str())).await.is_none() {
            self.0.memory.delete(key, self.0.link.is_some());
        }
    }

    /// Adds to a counter and returns its new value. The time to live starts with the first call and is not moved
    /// by later ones: a fixed window.
    pub async fn incr(&self, key: &Key, by: i64, ttl: Duration) -> i64 {
        let mut command = redis::cmd("EVAL");
        command.arg(INCR).arg(1).arg(key.as_str()).arg(by).arg(millis(ttl));
        match self.redis(&command).await {
            Some(count) => count,
            None => self.0.memory.incr(key, by, ttl),
        }
    }

    /// Where the next call goes.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match &self.0.link {
            Some(link) if link.is_up() => Backend::Redis,
            _ => Backend::Memory,
        }
    }

    /// For a health check: an error while Redis is configured and away.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn health(&self) -> Result<(), String> {
        let Some(link) = &self.0.link else { return Ok(()) };
        match link.call::<String>(&redis::cmd("PING")).await {
            Some(_) => Ok(()),
            None => Err("redis does not answer; values are kept in memory".to_owned()),
        }
    }

    /// `None`: answer from memory.
    async fn redis<T: FromRedisValue>(&self, command: &redis::Cmd) -> Option<T> {
        let answer = match &self.0.link {
            Some(link) => link.call(command).await,
            None => None,
        };
        let backend = if answer.is_some() { Backend::Redis } else { Backend::Memory };
        self.0.metrics.called(backend);
        answer
    }
}

impl std::fmt::Debug for Kv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kv").field("backend", &self.backend()).finish_non_exhaustive()
    }
}

/// Redis takes whole milliseconds and refuses zero.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 50)
}
