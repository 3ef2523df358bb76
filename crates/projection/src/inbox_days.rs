//! How long an inbox remembers.

use serde::{Deserialize, Serialize};
use weir_error::Error;

/// Events stay in their stream for 30 days; the inbox must remember them longer.
const MIN: u16 = 31;

/// For how many days the ids of counted events are remembered. The key `inbox_days` of a service's section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InboxDays(u16);

impl Default for InboxDays {
    fn default() -> Self {
        Self(45)
    }
}

impl InboxDays {
    pub(crate) fn get(self) -> u16 {
        self.0
    }

    /// # Errors
    /// `InvalidArgument` whose `param` is `inbox_days`: events could come again after they were forgotten.
    pub fn check(self) -> Result<(), Error> {
        if self.0 < MIN {
            return Err(Error::invalid(
                "inbox_days",
                format!("inbox_days must be at least {MIN}: events may come again for 30 days"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_days_than_events_stay_in_their_stream_are_refused() {
        let check = |days: &str| serde_json::from_str::<InboxDays>(days).unwrap().check();
        assert!(InboxDays::default().check().is_ok());
        assert!(check("31").is_ok());
        assert_eq!(check("30").unwrap_err().param(), Some("inbox_days"));
    }
}
