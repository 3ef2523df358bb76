//! What the router counts.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use weir_telemetry::Metrics;

use crate::app::ReasonKind;

/// Milliseconds: from a microsecond, since a decision is one lookup, to the caller's patience of 20 ms.
const BUCKETS_MS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: ReasonKind,
}

impl EncodeLabelValue for ReasonKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Alias => "alias",
            Self::Auto => "auto",
            Self::Named => "named",
            Self::Refused => "refused",
        };
        text.encode(encoder)
    }
}

#[derive(Clone)]
pub(crate) struct RouterMetrics {
    latency_ms: Histogram,
    decisions: Family<Reason, Counter>,
}

impl RouterMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let this = Self { latency_ms: Histogram::new(BUCKETS_MS), decisions: Family::default() };
        metrics.register(
            "router_decision_latency_ms",
            "Time a routing decision took, in milliseconds",
            this.latency_ms.clone(),
        );
        metrics.register(
            "router_decisions_total",
            "Routing decisions, by what they rest on",
            this.decisions.clone(),
        );
        this
    }

    pub(crate) fn decided(&self, reason: ReasonKind, took: Duration) {
        self.latency_ms.observe(took.as_secs_f64() * 1_000.0);
        self.decisions.get_or_create(&Reason { reason }).inc();
    }
}
