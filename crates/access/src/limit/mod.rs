//! How much is admitted: per tenant a bucket of requests and one of tokens, and caps on work in progress.

mod bucket;
mod headers;
mod permit;
mod registry;
mod slots;
mod tenant;

pub(crate) use bucket::Bucket;
pub use headers::{RateState, Standing};
pub use permit::{Permit, Visit};
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

/// What the control plane says of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Terms {
    /// The higher one is the later one. Zero: unknown, from a control plane without versions.
    pub(crate) version: u64,
    pub(crate) limits: Limits,
    /// Its keys are refused.
    pub(crate) suspended: bool,
}

impl Limits {
    /// What a chat request is taken to use before it has run: its prompt, and what the client allows for each of
    /// its `n` answers. A request without a bound counts with a default that is small against the limit and never
    /// alone makes it too large; what it really uses is settled at its end.
    #[must_use]
    pub fn expected_tokens(&self, prompt: u64, max_output: Option<u64>, n: u64, default_output: u64) -> u64 {
        if let Some(output) = max_output {
            return prompt.saturating_add(output.saturating_mul(n.max(1)));
        }
        let limit = self.tokens_per_minute.unwrap_or(u64::MAX);
        prompt.saturating_add(default_output.min(limit / 10)).min(limit.max(prompt))
    }
}

impl From<Option<weir_proto::control::RateLimits>> for Limits {
    fn from(limits: Option<weir_proto::control::RateLimits>) -> Self {
        limits.map_or_else(Self::default, |l| Self {
            requests_per_minute: l.requests_per_minute,
            tokens_per_minute: l.tokens_per_minute,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_is_expected_to_use() {
        let of = |limit, max_output, n| {
            let limits = Limits { tokens_per_minute: limit, ..Limits::default() };
            limits.expected_tokens(50, max_output, n, 256)
        };
        assert_eq!(of(None, Some(100), 3), 350);
        assert_eq!(of(None, Some(100), 0), 150);
        assert_eq!(of(None, Some(u64::MAX), 2), u64::MAX);
        assert_eq!(of(None, None, 1), 306);
        assert_eq!(of(Some(1_000), None, 1), 150);
        assert_eq!(of(Some(52), None, 1), 52);
        assert_eq!(of(Some(10), None, 1), 50);
    }
}
