//! What the platform tells about itself: log lines and metrics.
//!
//! [`init`] is for binaries; libraries only use `tracing` and take [`Metrics`] as a collaborator.

mod expose;
mod http;
mod layer;
mod log;
mod metrics;
mod redact;

pub use http::{HttpMetrics, Method};
pub use log::{Format, InitError, LogConfig, init};
pub use metrics::{ActiveStreams, ErrorLabels, Errors, Metrics, StreamGuard};
pub use redact::redact;

/// The `Content-Type` of [`Metrics::encode`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The `Content-Type` of [`Metrics::encode_prometheus`].
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
