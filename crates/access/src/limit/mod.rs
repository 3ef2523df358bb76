//! How much is admitted: per tenant a bucket of requests and one of tokens, and caps on work in progress.

mod bucket;
mod headers;
mod permit;
mod registry;
mod slots;
mod tenant;

pub(crate) use bucket::Bucket;
pub use headers::{RateState, Standing};
pub use permit::Permit;
pub(crate) use registry::Registry;
pub use slots::Slot;
pub(crate) use slots::Slots;
pub(crate) use tenant::{Refusal, Tenant};

/// What a tenant may use a minute; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    pub requests_per_minute: Option<u64>,
    pub tokens_per_minute: Option<u64>,
}

impl From<Option<weir_proto::control::RateLimits>> for Limits {
    fn from(limits: Option<weir_proto::control::RateLimits>) -> Self {
        limits.map_or_else(Self::default, |l| Self {
            requests_per_minute: l.requests_per_minute,
            tokens_per_minute: l.tokens_per_minute,
        })
    }
}
