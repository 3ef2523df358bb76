//! The section `database`.

use std::{str::FromStr as _, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

use crate::DbError;

/// How a service reaches PostgreSQL.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DbConfig {
    /// `postgres://user:password@host:port/database`, of a role that owns nothing (see `weir migrate`).
    pub url: SecretString,
    pub max_connections: u32,
    /// Set it behind PgBouncer or the like in transaction mode: no prepared statement outlives its transaction, and no
    /// start-up parameter is sent that a pooler would refuse.
    pub pooler: bool,
    /// Milliseconds to wait for a connection and an open transaction; then the caller gets `unavailable`.
    pub acquire_timeout_ms: u64,
    /// Milliseconds a statement may run.
    pub statement_timeout_ms: u64,
    /// Milliseconds a transaction may sit between statements.
    pub idle_in_transaction_timeout_ms: u64,
    /// Milliseconds after which an unused connection is closed.
    pub idle_timeout_ms: u64,
    /// Milliseconds after which a connection is replaced.
    pub max_lifetime_ms: u64,
}

impl Default for DbConfig {
    fn default() -> Self {
        Self {
            url: SecretString::from(""),
            max_connections: 10,
            pooler: false,
            acquire_timeout_ms: 2_000,
            statement_timeout_ms: 5_000,
            idle_in_transaction_timeout_ms: 10_000,
            idle_timeout_ms: 300_000,
            max_lifetime_ms: 1_800_000,
        }
    }
}

impl DbConfig {
    /// The defaults with this URL.
    #[must_use]
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    pub(crate) fn connect_options(&self) -> Result<PgConnectOptions, DbError> {
        for (key, value) in [
            ("database.max_connections", u64::from(self.max_connections)),
            ("database.acquire_timeout_ms", self.acquire_timeout_ms),
            ("database.statement_timeout_ms", self.statement_timeout_ms),
            ("database.idle_in_transaction_timeout_ms", self.idle_in_transaction_timeout_ms),
        ] {
            if value == 0 || value > i32::MAX as u64 {
                return Err(DbError::Config(format!("{key} must be between 1 and {}", i32::MAX)));
            }
        }
        let options = parse_url(self.url.expose_secret(), "database.url")?.application_name("weir");
        // Statements hold no values, but ours are many: the log has each request once already.
        let options = options.disable_statement_logging();
        Ok(if self.pooler { options.statement_cache_capacity(0).extra_float_digits(None) } else { options })
    }

    pub(crate) fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.acquire_timeout_ms)
    }
}

/// The parser's own text is not repeated: it may quote the password.
pub(crate) fn parse_url(url: &str, key: &str) -> Result<PgConnectOptions, DbError> {
    let form = "postgres://user:password@host:port/database";
    if url.is_empty() {
        return Err(DbError::Config(format!("{key} is not set: it names the database, like {form}")));
    }
    let bad = || DbError::Config(format!("{key} is not a database URL like {form}"));
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(bad());
    }
    PgConnectOptions::from_str(url).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_named_and_passwords_are_not() {
        let text = |config: &DbConfig| config.connect_options().unwrap_err().to_string();
        assert!(text(&DbConfig::default()).contains("database.url is not set"));
        for url in ["postgres://u:hunter2@h:port/x", "mysql://u:hunter2@h/x", "hunter2"] {
            let text = text(&DbConfig::new(url));
            assert!(text.contains("database.url") && !text.contains("hunter2"), "{text}");
        }
        let mut config = DbConfig::new("postgres://u:p@h/x");
        assert!(config.connect_options().is_ok());
        assert!(!format!("{config:?}").contains(":p@"));
        config.statement_timeout_ms = 0;
        assert!(text(&config).contains("database.statement_timeout_ms"));
    }
}
