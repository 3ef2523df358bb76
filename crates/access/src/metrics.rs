//! What is counted here.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum CheckResult {
    Remembered,
    Resolved,
    Unknown,
    Malformed,
    Expired,
    Suspended,
    Unavailable,
    Flooded,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    result: CheckResult,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Limit {
    Requests,
    Tokens,
    TenantConcurrency,
    ProcessConcurrency,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: Limit,
}

/// Counters are taken out of their families once: the hot path only adds.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) remembered: Counter,
    pub(crate) resolved: Counter,
    pub(crate) unknown: Counter,
    pub(crate) malformed: Counter,
    pub(crate) expired: Counter,
    pub(crate) suspended: Counter,
    pub(crate) unavailable: Counter,
    pub(crate) flooded: Counter,
    pub(crate) over_requests: Counter,
    pub(crate) over_tokens: Counter,
    pub(crate) over_tenant: Counter,
    pub(crate) over_process: Counter,
    /// Background checks skipped because their queue was full.
    pub(crate) refresh_dropped: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &weir_telemetry::Metrics) -> Self {
        let checks: Family<CheckLabels, Counter> =
            registry.shared("weir_key_checks_total", "API keys checked, by result", Family::default);
        let limits: Family<LimitLabels, Counter> =
            registry.shared("weir_limit_refusals_total", "Requests refused, by limit", Family::default);
        let refresh_dropped = registry.counter(
            "weir_key_refresh_dropped_total",
            "Background key checks put off because their queue was full",
        );
        let check = |result| checks.get_or_create_owned(&CheckLabels { result });
        let limit = |limit| limits.get_or_create_owned(&LimitLabels { limit });
        Self {
            remembered: check(CheckResult::Remembered),
            resolved: check(CheckResult::Resolved),
            unknown: check(CheckResult::Unknown),
            malformed: check(CheckResult::Malformed),
            expired: check(CheckResult::Expired),
            suspended: check(CheckResult::Suspended),
            unavailable: check(CheckResult::Unavailable),
            flooded: check(CheckResult::Flooded),
            over_requests: limit(Limit::Requests),
            over_tokens: limit(Limit::Tokens),
            over_tenant: limit(Limit::TenantConcurrency),
            over_process: limit(Limit::ProcessConcurrency),
            refresh_dropped,
        }
    }
}
