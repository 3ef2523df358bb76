//! What relays count.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use weir_db::Outbox;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    outbox: &'static str,
}

#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) rows: Gauge,
    pub(crate) lag_seconds: Gauge<f64, AtomicU64>,
    pub(crate) published: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) failures: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &weir_telemetry::Metrics, outbox: Outbox) -> Self {
        let label = Label { outbox: outbox.name() };
        let counter = |name, help| {
            let family: Family<Label, Counter> = registry.shared(name, help, Family::default);
            family.get_or_create_owned(&label)
        };
        let rows: Family<Label, Gauge> = registry.shared(
            "weir_outbox_rows",
            "Changes not yet published; 10,000 stands for more",
            Family::default,
        );
        let lag: Family<Label, Gauge<f64, AtomicU64>> = registry.shared(
            "weir_outbox_lag_seconds",
            "Age of the oldest change not yet published",
            Family::default,
        );
        Self {
            rows: rows.get_or_create_owned(&label),
            lag_seconds: lag.get_or_create_owned(&label),
            published: counter("weir_outbox_published_total", "Changes that JetStream has"),
            duplicates: counter(
                "weir_outbox_duplicates_total",
                "Changes published again that JetStream had already",
            ),
            failures: counter("weir_outbox_failures_total", "Changes sent without being acknowledged"),
        }
    }
}
