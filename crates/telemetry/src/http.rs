//! `http_requests_total` and `http_request_duration_seconds`, by matched route, method and status.
//!
//! On the path of every request: one hash of the route, a short scan, two counters. Labels are bounded: routes
//! come from the router (never the raw path), methods are a closed set.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::RwLock;
use prometheus_client::{
    encoding::{EncodeLabel as _, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder},
    metrics::{MetricType, TypedMetric, counter::Counter, exemplar::HistogramWithExemplars},
};
use weir_types::TraceContext;

use crate::Metrics;

/// Seconds. Wide enough for a cache hit and for a long answer of a model.
const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// More routes than any router of ours has: a bound, should a caller ever pass something else.
const MAX_ROUTES: usize = 1024;
const OVERFLOW: &str = "other";

macro_rules! methods {
    ($($name:ident = $text:literal,)+) => {
        /// A request's method, as a label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Method { $($name,)+ Other }

        impl Method {
            /// Anything but the registered methods is `Other`.
            #[must_use]
            pub fn of(text: &str) -> Self {
                match text { $($text => Self::$name,)+ _ => Self::Other }
            }

            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ Self::Other => "OTHER" }
            }
        }
    };
}

methods! {
    Get = "GET", Post = "POST", Put = "PUT", Patch = "PATCH", Delete = "DELETE",
    Head = "HEAD", Options = "OPTIONS", Connect = "CONNECT", Trace = "TRACE",
}

/// Counts answered requests. Cheap to clone.
#[derive(Clone)]
pub struct HttpMetrics(Arc<Routes>);

type Routes = RwLock<HashMap<Box<str>, Route>>;
type Route = Arc<RwLock<Vec<Cell>>>;

#[derive(Clone)]
struct Cell {
    method: Method,
    status: u16,
    requests: Counter,
    duration: HistogramWithExemplars<TraceLabel>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TraceLabel {
    trace_id: String,
}

impl HttpMetrics {
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let requests = metrics
            .shared("http_requests_total", "HTTP requests answered", || Requests(Self(Arc::default())));
        let http = requests.0;
        metrics.shared(
            "http_request_duration_seconds",
            "Time from a request's head to the head of its answer; streamed bodies last longer",
            || Durations(http.clone()),
        );
        http
    }

    /// Counts one answer. `route` is the matched path of the router, as in `/v1/models/{model}`; an exemplar is
    /// kept for requests that belong to a sampled trace.
    pub fn record(
        &self,
        route: &str,
        method: Method,
        status: u16,
        took: Duration,
        trace: Option<TraceContext>,
    ) {
        let trace = trace
            .filter(|t| t.flags & 1 == 1)
            .map(|t| TraceLabel { trace_id: format!("{:032x}", t.trace_id) });
        let cells = self.route(route);
        let found = cells.read().iter().find(|c| c.method == method && c.status == status).cloned();
        let cell = found.unwrap_or_else(|| add_cell(&cells, method, status));
        cell.requests.inc();
        cell.duration.observe(took.as_secs_f64(), trace, None);
    }

    fn route(&self, route: &str) -> Route {
        if let Some(cells) = self.0.read().get(route) {
            return cells.clone();
        }
        let mut routes = self.0.write();
        let name = if routes.len() < MAX_ROUTES || routes.contains_key(route) { route } else { OVERFLOW };
        routes.entry(name.into()).or_default().clone()
    }

    /// In a fixed order, so that two scrapes can be compared.
    fn each(&self, mut f: impl FnMut(&Labels<'_>, &Cell) -> fmt::Result) -> fmt::Result {
        let routes = self.0.read();
        let mut names: Vec<_> = routes.iter().collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        for (route, cells) in names {
            for cell in cells.read().iter() {
                f(&Labels { route, method: cell.method.as_str(), status: u64::from(cell.status) }, cell)?;
            }
        }
        Ok(())
    }
}

fn add_cell(cells: &RwLock<Vec<Cell>>, method: Method, status: u16) -> Cell {
    let mut cells = cells.write();
    if let Some(cell) = cells.iter().find(|c| c.method == method && c.status == status) {
        return cell.clone();
    }
    let duration = HistogramWithExemplars::new(BUCKETS.into_iter());
    let cell = Cell { method, status, requests: Counter::default(), duration };
    cells.push(cell.clone());
    cell
}

impl fmt::Debug for HttpMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpMetrics").field("routes", &self.0.read().len()).finish()
    }
}

#[derive(Debug)]
struct Labels<'a> {
    route: &'a str,
    method: &'static str,
    status: u64,
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("route", self.route).encode(encoder.encode_label())?;
        ("method", self.method).encode(encoder.encode_label())?;
        ("status", self.status).encode(encoder.encode_label())
    }
}

#[derive(Debug, Clone)]
struct Requests(HttpMetrics);

impl EncodeMetric for Requests {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.each(|labels, cell| cell.requests.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        Counter::<u64>::TYPE
    }
}

#[derive(Debug, Clone)]
struct Durations(HttpMetrics);

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.each(|labels, cell| cell.duration.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        HistogramWithExemplars::<TraceLabel>::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_request_counts_once_in_both_metrics_also_when_two_services_share_them() {
        let metrics = Metrics::new();
        metrics.http().record("/v1/models/{model}", Method::of("GET"), 200, MS, None);
        metrics.http().record("/v1/models/{model}", Method::of("BREW"), 404, MS, None);
        let text = metrics.encode();
        for line in [
            "http_requests_total{route=\"/v1/models/{model}\",method=\"GET\",status=\"200\"} 1\n",
            "http_requests_total{route=\"/v1/models/{model}\",method=\"OTHER\",status=\"404\"} 1\n",
            "http_request_duration_seconds_count{route=\"/v1/models/{model}\",method=\"GET\",status=\"200\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }

    #[test]
    fn a_sampled_trace_leaves_an_exemplar_and_only_for_openmetrics() {
        let metrics = Metrics::new();
        let trace = TraceContext { trace_id: 0xab, span_id: 1, flags: 1 };
        metrics.http().record("/x", Method::Get, 200, MS, Some(trace));
        assert!(metrics.encode().contains("trace_id=\"000000000000000000000000000000ab\""));
        assert!(!metrics.encode_prometheus().contains("trace_id"));
    }

    #[test]
    fn routes_are_bounded() {
        let http = Metrics::new().http();
        for i in 0..MAX_ROUTES * 2 {
            http.record(&format!("/{i}"), Method::Get, 200, MS, None);
        }
        assert_eq!(http.0.read().len(), MAX_ROUTES + 1);
    }
}
