//! What this crate counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use weir_telemetry::Metrics;

/// The metrics of a process's spool, publisher and consumers. Clones share their values.
#[derive(Debug, Clone, Default)]
pub struct EventMetrics {
    pub(crate) connected: Gauge,
    pub(crate) spool_bytes: Gauge,
    pub(crate) open_attempts: Gauge,
    pub(crate) spool_broken: Gauge,
    pub(crate) spool_write_failures: Counter,
    pub(crate) spool_refused: Counter,
    pub(crate) spool_overflows: Counter,
    pub(crate) quarantined: Counter,
    pub(crate) published: Counter,
    pub(crate) acked: Counter,
    pub(crate) publish_failures: Counter,
    pub(crate) consumer_lag: Family<ConsumerLabel, Gauge>,
    pub(crate) consumer_batches: Family<ConsumerLabel, Counter>,
    pub(crate) consumer_stalls: Family<ConsumerLabel, Counter>,
    pub(crate) consumer_messages: Family<MessageLabel, Counter>,
    pub(crate) dead_letters: Gauge,
    push_undecodable: Family<BucketLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BucketLabel {
    bucket: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ConsumerLabel {
    pub(crate) stream: &'static str,
    pub(crate) consumer: &'static str,
}

/// `outcome` is one of `ack`, `skipped`, `retry`, `dead_letter`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MessageLabel {
    pub(crate) stream: &'static str,
    pub(crate) consumer: &'static str,
    pub(crate) outcome: &'static str,
}

impl EventMetrics {
    /// A value in this bucket was skipped because it makes no sense.
    pub fn undecodable(&self, bucket: &'static str) {
        self.push_undecodable.get_or_create(&BucketLabel { bucket }).inc();
    }

    /// The process's one set: several services in one process share it.
    #[must_use]
    pub fn new(r: &Metrics) -> Self {
        Self {
            connected: r.shared(
                "weir_nats_connected",
                "1 while NATS is there, 0 while events wait",
                Gauge::default,
            ),
            spool_bytes: r.shared("weir_spool_bytes", "Bytes in the spool's segments", Gauge::default),
            open_attempts: r.shared(
                "weir_spool_open_attempts",
                "Attempts opened, not yet closed",
                Gauge::default,
            ),
            spool_broken: r.shared(
                "weir_spool_broken",
                "1 while the spool cannot be written",
                Gauge::default,
            ),
            spool_write_failures: r.shared(
                "weir_spool_write_failures_total",
                "Failed writes and syncs of the spool",
                Counter::default,
            ),
            spool_refused: r.shared(
                "weir_spool_refused_total",
                "Attempts refused because the spool is full",
                Counter::default,
            ),
            spool_overflows: r.shared(
                "weir_spool_queue_overflows_total",
                "Times the publisher fell back to reading from disk",
                Counter::default,
            ),
            quarantined: r.shared(
                "weir_spool_quarantined_total",
                "Damaged pieces and unpublishable events put into quarantine",
                Counter::default,
            ),
            published: r.shared(
                "weir_events_published_total",
                "Events sent to JetStream, resends included",
                Counter::default,
            ),
            acked: r.shared("weir_events_acked_total", "Events JetStream has stored", Counter::default),
            publish_failures: r.shared(
                "weir_events_publish_failures_total",
                "Events sent without being acknowledged",
                Counter::default,
            ),
            consumer_lag: r.shared(
                "weir_consumer_lag",
                "Messages not yet delivered to the consumer",
                Family::default,
            ),
            consumer_batches: r.shared("weir_consumer_batches_total", "Batches handled", Family::default),
            consumer_stalls: r.shared(
                "weir_consumer_stalls_total",
                "Batches put back because something needed was down",
                Family::default,
            ),
            consumer_messages: r.shared(
                "weir_consumer_messages_total",
                "Messages by outcome: ack, skipped, retry, dead_letter",
                Family::default,
            ),
            push_undecodable: r.shared(
                "weir_push_undecodable_total",
                "Pushed values skipped because they could not be decoded, by bucket",
                Family::default,
            ),
            dead_letters: r.shared(
                "weir_dlq_messages",
                "Dead letters waiting for an operator",
                Gauge::default,
            ),
        }
    }
}
