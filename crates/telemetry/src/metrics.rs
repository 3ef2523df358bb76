//! The registry every crate registers its metrics in, and the few metrics all services share.
//!
//! Several services may live in one process and use the same library, so a metric is looked up by its name
//! ([`Metrics::shared`]) rather than registered twice, which the exposition formats forbid.

use std::{any::Any, collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{EncodeLabelSet, text},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

use crate::{expose, http::HttpMetrics};

/// The process's metrics. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    registry: Registry,
    named: HashMap<&'static str, Box<dyn Any + Send>>,
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metric under its full name, unit and `_total` included, as the documentation names it.
    ///
    /// A name that is taken is an error of the program: it is logged, and the first metric stays.
    pub fn register<M: Metric + Clone>(&self, name: &'static str, help: &'static str, metric: M) {
        let mut inner = self.0.lock();
        if inner.named.contains_key(name) {
            drop(inner);
            tracing::error!(metric.name = name, "metric registered twice, the first one stays");
            return;
        }
        inner.add(name, help, metric);
    }

    /// The metric of this name; made and registered on first use. For libraries that several services of one
    /// process use. A metric of another type under the name is an error of the program: it is logged, and what
    /// comes back counts without being shown.
    pub fn shared<M: Metric + Clone>(
        &self,
        name: &'static str,
        help: &'static str,
        make: impl FnOnce() -> M,
    ) -> M {
        let mut inner = self.0.lock();
        let Some(known) = inner.named.get(name) else {
            let metric = make();
            inner.add(name, help, metric.clone());
            return metric;
        };
        if let Some(metric) = known.downcast_ref::<M>() {
            return metric.clone();
        }
        drop(inner);
        tracing::error!(metric.name = name, "metric registered with two types, the first one stays");
        make()
    }

    /// A shared counter without labels.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.shared(name, help, Counter::default)
    }

    /// A shared gauge without labels.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.shared(name, help, Gauge::default)
    }

    /// `http_requests_total` and `http_request_duration_seconds`.
    pub fn http(&self) -> HttpMetrics {
        HttpMetrics::new(self)
    }

    /// `errors_total{code}`.
    pub fn errors(&self) -> Errors {
        Errors(self.shared("errors_total", "Errors answered, by error code", Family::default))
    }

    /// `active_streams_current`.
    pub fn active_streams(&self) -> ActiveStreams {
        ActiveStreams(self.gauge("active_streams_current", "Streamed answers in flight"))
    }

    /// `cache_operations_total{cache,result}`.
    pub fn cache_operations(&self) -> CacheOperations {
        CacheOperations(self.shared(
            "cache_operations_total",
            "Look-ups in caches, by whether what was asked for was there",
            Family::default,
        ))
    }

    /// Values that are read when asked for. Once a name.
    pub(crate) fn collect(&self, name: &'static str, collector: Box<dyn Collector>) {
        let mut inner = self.0.lock();
        if inner.named.insert(name, Box::new(())).is_none() {
            inner.registry.register_collector(collector);
        }
    }

    /// OpenMetrics text, exemplars included; see [`crate::OPENMETRICS`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(8 * 1024);
        if text::encode(&mut text, &self.0.lock().registry).is_err() {
            tracing::error!("metrics not encoded");
        }
        text
    }

    /// Prometheus text format 0.0.4, for scrapers that do not ask for OpenMetrics; see [`crate::PROMETHEUS`].
    #[must_use]
    pub fn encode_prometheus(&self) -> String {
        expose::prometheus(&self.encode())
    }
}

impl Inner {
    fn add<M: Metric + Clone>(&mut self, name: &'static str, help: &'static str, metric: M) {
        // The encoder appends `_total` to counters itself.
        let base = match metric.metric_type() {
            MetricType::Counter => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        self.named.insert(name, Box::new(metric.clone()));
        self.registry.register(base, help, metric);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("registered", &self.0.lock().named.len()).finish()
    }
}

/// The label of `errors_total`: a code of the closed registry of error codes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    pub code: &'static str,
}

/// `errors_total{code}`.
#[derive(Debug, Clone)]
pub struct Errors(Family<ErrorLabels, Counter>);

impl Errors {
    /// Counts one error; `code` is one of the closed set of error codes.
    pub fn count(&self, code: &'static str) {
        self.0.get_or_create(&ErrorLabels { code }).inc();
    }

    #[must_use]
    pub fn get(&self, code: &'static str) -> u64 {
        self.0.get(&ErrorLabels { code }).map_or(0, |c| c.get())
    }
}

/// Which cache, and whether it had what was asked for: `hit` or `miss`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CacheLabels {
    cache: &'static str,
    result: &'static str,
}

/// `cache_operations_total{cache,result}`.
#[derive(Debug, Clone)]
pub struct CacheOperations(Family<CacheLabels, Counter>);

impl CacheOperations {
    /// The counters of hits and misses of a cache, to be kept: counting is one addition.
    #[must_use]
    pub fn of(&self, cache: &'static str) -> (Counter, Counter) {
        let counter = |result| self.0.get_or_create_owned(&CacheLabels { cache, result });
        (counter("hit"), counter("miss"))
    }
}

/// `active_streams_current`.
#[derive(Debug, Clone)]
pub struct ActiveStreams(Gauge);

impl ActiveStreams {
    /// One more stream, until the guard is dropped.
    #[must_use = "the stream counts until the guard is dropped"]
    pub fn enter(&self) -> StreamGuard {
        self.0.inc();
        StreamGuard(self.0.clone())
    }

    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

/// A stream that counts as active while this lives.
#[derive(Debug)]
pub struct StreamGuard(Gauge);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_as_they_went_in() {
        let metrics = Metrics::new();
        metrics.errors().count("not_found");
        metrics.counter("kv_calls_total", "Calls").inc_by(2);
        let text = metrics.encode();
        assert!(text.contains("errors_total{code=\"not_found\"} 1\n"), "{text}");
        assert!(text.contains("\nkv_calls_total 2\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn two_services_in_one_process_share_a_metric() {
        let metrics = Metrics::new();
        metrics.counter("calls_total", "Calls").inc();
        metrics.counter("calls_total", "Calls").inc();
        let text = metrics.encode();
        assert!(text.contains("calls_total 2\n"), "{text}");
        assert_eq!(text.matches("# TYPE calls counter").count(), 1, "{text}");
    }

    #[test]
    fn a_name_taken_by_another_type_stays_what_it_was() {
        let metrics = Metrics::new();
        metrics.counter("x_total", "X").inc();
        metrics.gauge("x_total", "X").set(7);
        metrics.register("x_total", "X", Gauge::<i64>::default());
        let text = metrics.encode();
        assert!(text.contains("x_total 1\n") && !text.contains('7'), "{text}");
    }

    #[test]
    fn a_stream_counts_while_its_guard_lives() {
        let streams = Metrics::new().active_streams();
        let guard = streams.enter();
        assert_eq!(streams.get(), 1);
        drop(guard);
        assert_eq!(streams.get(), 0);
    }
}
