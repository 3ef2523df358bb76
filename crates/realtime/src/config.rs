//! Bounds of WebSocket sessions.

use std::time::Duration;

use serde::Deserialize;
use weir_config::ByteSize;
use weir_error::Error;

/// Section `realtime`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Connections at once on this instance; one more is closed with 1013.
    pub max_connections: usize,
    /// How long a client may take to authenticate.
    #[serde(with = "weir_config::duration")]
    pub auth_timeout: Duration,
    /// Between two pings to a client.
    #[serde(with = "weir_config::duration")]
    pub heartbeat: Duration,
    /// How long a client may take to answer one.
    #[serde(with = "weir_config::duration")]
    pub pong_deadline: Duration,
    pub max_message: ByteSize,
    /// The largest answer of a provider that does not stream.
    pub max_answer: ByteSize,
    /// Output tokens a turn is expected to use when it sets no bound.
    pub default_output_tokens: u64,
    /// Turns of one session at once.
    pub max_turns: usize,
    /// What waits for one slow reader before its upstream reads pause.
    pub outbound: ByteSize,
    /// How long a reader may take nothing at all before it is closed with 4008.
    #[serde(with = "weir_config::duration")]
    pub stall_timeout: Duration,
    /// The longest turn.
    #[serde(with = "weir_config::duration")]
    pub turn_timeout: Duration,
    /// How long turns in flight may go on once the instance is told to stop.
    #[serde(with = "weir_config::duration")]
    pub drain: Duration,
    /// How long a close may take: what is queued before it, and the client's answer to it.
    #[serde(with = "weir_config::duration")]
    pub close_timeout: Duration,
    /// A session's record outlives its last heartbeat by this.
    #[serde(with = "weir_config::duration")]
    pub session_ttl: Duration,
    /// Origins browsers may connect from. Empty: any, since a key is never sent by a browser on its own.
    pub allowed_origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 1_000,
            auth_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(30),
            pong_deadline: Duration::from_secs(10),
            max_message: ByteSize::mib(1),
            max_answer: ByteSize::mib(8),
            default_output_tokens: 256,
            max_turns: 4,
            outbound: ByteSize::kib(256),
            stall_timeout: Duration::from_secs(10),
            turn_timeout: Duration::from_secs(3_600),
            drain: Duration::from_secs(20),
            close_timeout: Duration::from_secs(2),
            session_ttl: Duration::from_secs(90),
            allowed_origins: Vec::new(),
        }
    }
}

impl Config {
    /// # Errors
    /// `InvalidArgument` whose `param` is the key that is zero, or too small to work.
    pub fn check(&self) -> Result<(), Error> {
        let positive = [
            ("max_connections", self.max_connections > 0),
            ("auth_timeout", !self.auth_timeout.is_zero()),
            ("heartbeat", !self.heartbeat.is_zero()),
            ("pong_deadline", !self.pong_deadline.is_zero()),
            ("max_message", self.max_message.0 > 0),
            ("max_answer", self.max_answer.0 > 0),
            ("max_turns", self.max_turns > 0),
            ("outbound", self.outbound.0 > 0 && self.outbound.0 <= u64::from(u32::MAX)),
            ("stall_timeout", !self.stall_timeout.is_zero()),
            ("turn_timeout", !self.turn_timeout.is_zero()),
            ("close_timeout", !self.close_timeout.is_zero()),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, ok)| !ok) {
            return Err(Error::invalid(*key, format!("{key}: out of range, or zero")));
        }
        if self.session_ttl <= self.heartbeat {
            return Err(Error::invalid("session_ttl", "session_ttl: must exceed heartbeat, which renews it"));
        }
        Ok(())
    }

    /// Checked to fit.
    pub(crate) fn outbound_bytes(&self) -> u32 {
        u32::try_from(self.outbound.0).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_work_and_wrong_values_name_their_key() {
        assert!(Config::default().check().is_ok());
        let no_turns = Config { max_turns: 0, ..Config::default() };
        assert_eq!(no_turns.check().unwrap_err().param(), Some("max_turns"));
        let short = Config { session_ttl: Duration::from_secs(30), ..Config::default() };
        assert_eq!(short.check().unwrap_err().param(), Some("session_ttl"));
    }
}
