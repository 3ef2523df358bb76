//! The control plane's metrics.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use weir_telemetry::Metrics;

#[derive(Clone)]
pub(crate) struct ControlMetrics {
    lookups: Family<LookupLabels, Counter>,
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
