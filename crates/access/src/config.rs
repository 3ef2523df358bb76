//! Settings of key checks and limits.

use std::time::Duration;

use serde::Deserialize;

/// How keys are remembered and how much is admitted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Keys remembered; the least used go first.
    pub max_keys: usize,
    /// Unknown keys remembered.
    pub max_unknown_keys: usize,
    /// How long an unknown key is refused without asking again.
    #[serde(with = "weir_config::duration")]
    pub unknown_for: Duration,
    /// From this age a remembered key is checked again beside the requests it serves.
    #[serde(with = "weir_config::duration")]
    pub refresh_after: Duration,
    /// From this age a request waits for that check: without push, a revocation is seen within this time.
    #[serde(with = "weir_config::duration")]
    pub trust_for: Duration,
    /// How long such a request waits before it is served from memory after all.
    #[serde(with = "weir_config::duration")]
    pub recheck_wait: Duration,
    /// How long a key stays usable while nobody can be asked.
    #[serde(with = "weir_config::duration")]
    pub keep_for: Duration,
    /// How long one question to the control plane may take.
    #[serde(with = "weir_config::duration")]
    pub lookup_timeout: Duration,
    /// Questions to the control plane at once.
    pub max_lookups: usize,
    /// Questions waiting for their turn, beyond which requests are refused.
    pub max_waiting_lookups: usize,
    /// Questions a second in all, with a burst of two seconds' worth.
    pub lookups_per_second: u64,
    /// Unknown keys a minute from one address (IPv6: one /64), with a burst of the same size. Keys that turn out to
    /// exist don't count. Zero: no limit.
    pub unknown_keys_per_address: u64,
    /// Requests in progress in this process.
    pub max_concurrent_requests: u32,
    /// Model calls in progress for one tenant in this process.
    pub max_concurrent_per_tenant: u32,
    /// Other calls of one tenant in progress in this process: all that isn't a model call.
    pub max_concurrent_rest_per_tenant: u32,
    /// Tokens a second that all streams of one tenant get together from this process, with a burst of one second's
    /// worth: a stream that is ahead waits, and its provider with it. Unset: as fast as they come.
    pub stream_tokens_per_second_per_tenant: Option<std::num::NonZeroU32>,
    /// Tenants whose limits are tracked at once.
    pub max_tenants: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_keys: 200_000,
            max_unknown_keys: 100_000,
            unknown_for: Duration::from_secs(10),
            refresh_after: Duration::from_secs(15),
            trust_for: Duration::from_secs(30),
            recheck_wait: Duration::from_millis(500),
            keep_for: Duration::from_secs(3_600),
            lookup_timeout: Duration::from_secs(2),
            max_lookups: 64,
            max_waiting_lookups: 4_096,
            lookups_per_second: 1_000,
            unknown_keys_per_address: 600,
            max_concurrent_requests: 4_096,
            max_concurrent_per_tenant: 1_024,
            max_concurrent_rest_per_tenant: 64,
            stream_tokens_per_second_per_tenant: None,
            max_tenants: 200_000,
        }
    }
}
