//! The store's metrics.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use weir_telemetry::Metrics;

use crate::Backend;

#[derive(Debug, Clone)]
pub(crate) struct KvMetrics {
    connected: Gauge,
    changes: Family<BackendLabel, Counter>,
    calls: Family<BackendLabel, Counter>,
    pub(crate) entries: Gauge,
    pub(crate) evictions: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    backend: &'static str,
}

impl KvMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            connected: metrics.gauge("kv_redis_connected", "1 while Redis answers, 0 while memory stands in"),
            changes: metrics.shared(
                "kv_backend_changes_total",
                "Changes of the backend, to which",
                Family::default,
            ),
            calls: metrics.shared("kv_calls_total", "Calls, by the backend that answered", Family::default),
            entries: metrics.gauge("kv_memory_entries", "Values kept in memory"),
            evictions: metrics.counter("kv_memory_evictions_total", "Values that had to make room in memory"),
        }
    }

    pub(crate) fn called(&self, backend: Backend) {
        self.calls.get_or_create(&BackendLabel { backend: backend.as_str() }).inc();
    }

    pub(crate) fn changed(&self, to: Backend) {
        self.connected.set(i64::from(to == Backend::Redis));
        self.changes.get_or_create(&BackendLabel { backend: to.as_str() }).inc();
    }
}
