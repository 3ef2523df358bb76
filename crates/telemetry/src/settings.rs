//! `[telemetry]` of the configuration: where traces go, and how many.

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// An OTLP collector's gRPC address, `http://127.0.0.1:4317` or `https://…`. Without one no span is made.
    pub otlp_endpoint: Option<String>,
    /// The part of requests without a trace of their caller's that are traced, 0 to 1.
    pub sample_ratio: f64,
    /// Callers may ask for a trace with the flag of their `traceparent`: so many a second are heard, the others are
    /// served untraced.
    pub asked_per_second: u32,
    /// `deployment.environment.name` of every span: `production`, say.
    pub environment: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_ratio: 1.0, asked_per_second: 100, environment: None }
    }
}
