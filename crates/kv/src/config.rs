//! `[redis]` of the configuration.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use weir_config::ByteSize;

/// Works without any Redis: everything is in memory then.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `redis://[user:password@]host:port[/db]`, or `rediss://` for TLS.
    pub url: Option<SecretString>,
    /// False: memory, even with an address.
    pub enabled: bool,
    /// How long a call waits for Redis before memory answers.
    #[serde(with = "weir_config::duration")]
    pub timeout: Duration,
    /// How long a new connection may take; no call waits for it.
    #[serde(with = "weir_config::duration")]
    pub connect_timeout: Duration,
    pub max_connections: usize,
    /// Bounds of what is kept in memory; what expires soonest makes room.
    pub max_entries: usize,
    pub max_bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            enabled: true,
            timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(2),
            max_connections: 16,
            max_entries: 100_000,
            max_bytes: ByteSize::mib(64),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum KvError {
    // The address holds the password, and the parser's error may quote it.
    #[error("the Redis address is not of the form redis[s]://[user:password@]host:port[/db]")]
    Address,
    #[error("no connection pool for Redis: {0}")]
    Pool(String),
}
