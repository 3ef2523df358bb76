//! The endpoints for whoever operates a service: `/live`, `/ready`, `/health`, `/metrics`, `/info`.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use weir_telemetry::{Metrics, OPENMETRICS, PROMETHEUS};

use crate::{Health, Info, Status};

/// All of them. Not for the public port of a deployment: see [`probe_router`].
pub fn ops_router(health: Health, metrics: Metrics, info: Info) -> Router {
    metrics.process(info.service, info.version, info.git_sha);
    probe_router(health.clone())
        .merge(Router::new().route("/health", get(report)).with_state(health))
        .merge(Router::new().route("/metrics", get(scrape)).with_state(metrics))
        .route("/info", get(move || async { Json(info) }))
}

/// `/live` and `/ready` alone, which say nothing about the inside: for the public port when operators have one of
/// their own.
pub fn probe_router(health: Health) -> Router {
    Router::new().route("/live", get(live)).route("/ready", get(ready)).with_state(health)
}

async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "alive" }))
}

async fn ready(State(health): State<Health>) -> Response {
    let readiness = health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn report(State(health): State<Health>) -> Response {
    let report = health.report().await;
    let status = match report.status {
        Status::Ok | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report)).into_response()
}

async fn scrape(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if accept.contains("application/openmetrics-text") {
        return ([(header::CONTENT_TYPE, OPENMETRICS)], metrics.encode()).into_response();
    }
    ([(header::CONTENT_TYPE, PROMETHEUS)], metrics.encode_prometheus()).into_response()
}
