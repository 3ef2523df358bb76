//! The simulator's settings.

use secrecy::SecretString;
use serde::Deserialize;

use crate::Faults;

/// Settings of a simulator.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The key that calls must carry as a bearer token. None: any, or none at all.
    pub api_key: Option<SecretString>,
    /// Models there are besides the built-in ones.
    pub models: Vec<String>,
    /// Faults in force from the start.
    pub faults: Faults,
    /// What `x-ratelimit-limit-requests` says, a minute. Told, not enforced.
    pub limit_requests: u64,
    /// What `x-ratelimit-limit-tokens` says, a minute. Told, not enforced.
    pub limit_tokens: u64,
    /// Calls the ledger remembers one by one; its sums have no bound.
    pub ledger_entries: usize,
    /// Longest request body, in bytes.
    pub max_body_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_key: None,
            models: Vec::new(),
            faults: Faults::default(),
            limit_requests: 30_000,
            limit_tokens: 150_000_000,
            ledger_entries: 1_000_000,
            max_body_bytes: 32 << 20,
        }
    }
}
