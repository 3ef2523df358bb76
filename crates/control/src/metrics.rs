//! The control plane's metrics.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use weir_telemetry::Metrics;

#[derive(Clone)]
pub(crate) struct ControlMetrics {
    lookups: Family<LookupLabels, Counter>,
    pub(crate) push_failures: Counter,
    pub(crate) push_dropped: Counter,
    pub(crate) push_waiting: Gauge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    outcome: &'static str,
}

/// How the lookup of a presented key ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lookup {
    Known,
    Unknown,
    Platform,
}

impl ControlMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            lookups: metrics.shared(
                "control_key_lookups_total",
                "Presented keys looked up for gateways, by outcome",
                Family::default,
            ),
            push_failures: metrics
                .counter("control_key_push_failures_total", "Tries to push a key's revocation that failed"),
            push_dropped: metrics.counter(
                "control_key_push_dropped_total",
                "Revocations not pushed because too many waited; gateways see them when they check again",
            ),
            push_waiting: metrics.gauge("control_key_push_waiting_current", "Revocations not yet pushed"),
        }
    }

    pub(crate) fn looked_up(&self, outcome: Lookup) {
        let outcome = match outcome {
            Lookup::Known => "known",
            Lookup::Unknown => "unknown",
            Lookup::Platform => "platform",
        };
        self.lookups.get_or_create(&LookupLabels { outcome }).inc();
    }
}
