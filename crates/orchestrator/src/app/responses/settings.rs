//! The section `orchestrator.responses`.

use std::time::Duration;

use serde::Deserialize;
use weir_error::Error;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResponsesConfig {
    /// Days that responses are kept.
    pub retention_days: u16,
    /// The most that one response may take, input and output, in bytes; a larger one is answered, but not kept.
    pub max_bytes: usize,
    /// Turns of a conversation that a request may go on from.
    pub max_turns: u32,
    /// Bytes of such a conversation.
    pub max_conversation_bytes: usize,
    /// Responses that this process runs in the background at once.
    pub max_background: u32,
    /// The same for one tenant, in all processes.
    pub max_background_per_tenant: u32,
    /// Seconds that one may run in the background.
    pub background_timeout_s: u64,
    /// Bytes of events that one may leave.
    pub max_event_bytes: usize,
    /// Seconds that the events of one are kept after its end; the response itself stays.
    pub event_retention_s: u32,
    /// Milliseconds after which a process that does not renew it loses what it runs in the background.
    pub lease_ms: u64,
    /// Seconds that a process which stops gives to runs that have output; the others are left at once.
    pub drain_s: u64,
}

impl Default for ResponsesConfig {
    fn default() -> Self {
        Self {
            retention_days: 30,
            max_bytes: 16 << 20,
            max_turns: 1_000,
            max_conversation_bytes: 10 << 20,
            max_background: 256,
            max_background_per_tenant: 64,
            background_timeout_s: 14_400,
            max_event_bytes: 64 << 20,
            event_retention_s: 3_600,
            lease_ms: 15_000,
            drain_s: 10,
        }
    }
}

impl ResponsesConfig {
    /// # Errors
    /// Names the key that makes no sense.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let key = |name: &str| format!("orchestrator.responses.{name}");
        if self.retention_days == 0 || self.retention_days > 3_650 {
            return Err(Error::invalid(key("retention_days"), "must be between 1 and 3650"));
        }
        if !(100..=3_600_000).contains(&self.lease_ms) {
            return Err(Error::invalid(key("lease_ms"), "must be between 100 and 3600000"));
        }
        let counts = [
            ("max_turns", u64::from(self.max_turns)),
            ("max_background", u64::from(self.max_background)),
            ("max_background_per_tenant", u64::from(self.max_background_per_tenant)),
            ("background_timeout_s", self.background_timeout_s),
        ];
        match counts.iter().find(|(_, n)| *n == 0 || *n > 1_000_000) {
            Some((name, _)) => Err(Error::invalid(key(name), "must be between 1 and 1000000")),
            None => Ok(()),
        }
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}
