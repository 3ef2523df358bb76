//! A layer that counts answered requests by matched route, method and status.
//!
//! Put it on with `Router::layer`, after all routes are added: there the matched path is known.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::extract::MatchedPath;
use http::{Request, Response};
use tower::{Layer, Service};
use weir_telemetry::{HttpMetrics, Method, Metrics};
use weir_types::TraceContext;

/// The route of requests that match none.
const UNMATCHED: &str = "unmatched";
/// The caller went away before the answer: the status nginx made common for it.
const CLIENT_CLOSED: u16 = 499;

/// `http_requests_total` and `http_request_duration_seconds` for all requests through the layer.
pub fn http_metrics(metrics: &Metrics) -> HttpMetricsLayer {
    HttpMetricsLayer(metrics.http())
}

#[derive(Debug, Clone)]
pub struct HttpMetricsLayer(HttpMetrics);

impl<S> Layer<S> for HttpMetricsLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.0.clone() }
    }
}

#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
    metrics: HttpMetrics,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Counting<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Counting<S::Future> {
        let trace =
            request.headers().get("traceparent").and_then(|v| v.to_str().ok()).and_then(TraceContext::parse);
        let pending = Pending {
            metrics: self.metrics.clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
            method: Method::of(request.method().as_str()),
            trace,
            started: Instant::now(),
            status: CLIENT_CLOSED,
        };
        Counting { inner: self.inner.call(request), pending: Some(pending) }
    }
}

pin_project_lite::pin_project! {
    pub struct Counting<F> {
        #[pin]
        inner: F,
        pending: Option<Pending>,
    }
}

impl<F, R, E> Future for Counting<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        if let Some(mut pending) = this.pending.take() {
            pending.status = result.as_ref().map_or(500, |r| r.status().as_u16());
        }
        Poll::Ready(result)
    }
}

/// Counts when dropped: a request that is never answered counts too.
struct Pending {
    metrics: HttpMetrics,
    route: Option<MatchedPath>,
    method: Method,
    trace: Option<TraceContext>,
    started: Instant,
    status: u16,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let route = self.route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
        self.metrics.record(route, self.method, self.status, self.started.elapsed(), self.trace);
    }
}
