//! Section `analytics`.

use serde::{Deserialize, Serialize};
use weir_error::Error;

/// Events stay in their stream for 30 days; the inbox must remember them longer.
const MIN_INBOX_DAYS: u16 = 31;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long the ids of counted events are remembered.
    pub inbox_days: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self { inbox_days: 45 }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.inbox_days < MIN_INBOX_DAYS {
            return Err(Error::invalid(
                "inbox_days",
                format!("inbox_days must be at least {MIN_INBOX_DAYS}: events may come again for 30 days"),
            ));
        }
        Ok(())
    }
}
