//! Section `analytics`.

use serde::{Deserialize, Serialize};
use weir_projection::InboxDays;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long the ids of counted events are remembered.
    pub inbox_days: InboxDays,
}
