//! What the platform tells about itself: log lines, traces and metrics.
//!
//! [`init`] is for binaries; libraries use `tracing` and [`Span`], and take [`Metrics`] as a collaborator.

mod bounded;
mod expose;
mod http;
mod log;
mod metrics;
mod process;
mod settings;
mod trace;

use std::time::Duration;

pub use bounded::BoundedLabels;
pub use http::{HttpMetrics, Method};
pub use log::{Access, Format, InitError, LogConfig, access, redact};
pub use metrics::{ActiveStreams, CacheOperations, ErrorLabels, Errors, Metrics, StreamGuard};
pub use settings::TelemetryConfig;
pub use trace::{Span, SpanKind, admit, now};

/// How long the end of a process waits for the trace collector.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// The `Content-Type` of [`Metrics::encode`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The `Content-Type` of [`Metrics::encode_prometheus`].
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Sets up a process's log and, when a collector is configured, its traces. Only binaries call this, once, and
/// [`shutdown`] at their end.
///
/// # Errors
/// A level or ratio that makes no sense, an address that cannot be used, a file that cannot be opened, or a second
/// call.
pub fn init(log: &LogConfig, telemetry: &TelemetryConfig) -> Result<(), InitError> {
    log::install(log)?;
    trace::install(telemetry)
}

/// Waits until the last spans and lines have left, a few seconds at most. Blocks.
pub fn shutdown() {
    trace::flush(LAST_SPANS);
    log::flush();
}
