//! The simulator's settings.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error as _};

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
    #[serde(deserialize_with = "checked")]
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

fn checked<'de, D: Deserializer<'de>>(from: D) -> Result<Faults, D::Error> {
    let faults = Faults::deserialize(from)?;
    faults.check().map_err(D::Error::custom)?;
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_checked_and_the_key_is_not_shown() {
        let read = serde_json::from_str::<Config>;
        let config = read(r#"{"api_key":"sk-secret","faults":{"rate":0.5,"status":500}}"#).unwrap();
        assert_eq!(config.faults.status, Some(500));
        assert!(!format!("{config:?}").contains("sk-secret"));
        assert!(read(r#"{"faults":{"rate":5}}"#).is_err());
        assert!(read(r#"{"fault":{}}"#).is_err());
    }
}
