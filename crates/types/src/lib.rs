//! What every crate names the same way: ids, the clock, and who is asking. No I/O.

pub mod api_key;
mod clock;
mod context;
mod ids;

pub use clock::{Clock, ManualClock, SystemClock};
pub use context::{Deadline, Principal, RequestContext, TraceContext, scope};
pub use ids::{AttemptId, KeyId, ParseIdError, RequestId, TenantId, UserId};
