//! What is counted here.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl EncodeLabelValue for CheckResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let text = match self {
            Self::Remembered => "remembered",
            Self::Resolved => "resolved",
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Suspended => "suspended",
            Self::Unavailable => "unavailable",
            Self::Flooded => "flooded",
        };
        text.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    result: CheckResult,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Limit {
    Requests,
    Tokens,
    TenantConcurrency,
    ProcessConcurrency,
}

impl EncodeLabelValue for Limit {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let text = match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::TenantConcurrency => "tenant_concurrency",
            Self::ProcessConcurrency => "process_concurrency",
        };
        text.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: Limit,
}

/// Counters are taken out of their families once: the hot path only adds.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// `cache_operations_total{cache="keys"}`: what needed no question to the control plane, and what did.
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
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
        let (hits, misses) = registry.cache_operations().of("keys");
        Self {
            hits,
            misses,
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
