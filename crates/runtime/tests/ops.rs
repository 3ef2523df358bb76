//! The operators' endpoints and the metrics of requests, as HTTP.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use http::{Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt as _;
use weir_runtime::{Criticality, Health, Info, Tasks, http_metrics, ops_router, probe_router};
use weir_telemetry::Metrics;
use weir_types::ManualClock;

async fn ask(app: &Router, path: &str, accept: &str) -> (StatusCode, String, String) {
    let request = Request::get(path).header("accept", accept).body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let kind =
        response.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap(), kind)
}

async fn json(app: &Router, path: &str) -> (StatusCode, Value) {
    let (status, body, _) = ask(app, path, "").await;
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

fn service() -> (Health, Metrics, Router) {
    let health = Health::new("test", Arc::new(ManualClock::at(0)));
    let metrics = Metrics::new();
    let app = ops_router(health.clone(), metrics.clone(), Info::new("test").with_features(vec!["redis"]));
    (health, metrics, app)
}

#[tokio::test]
async fn ready_waits_for_the_gates_and_ends_with_the_drain() {
    let (health, _, app) = service();
    let tasks = Tasks::new();
    health.drain_on(tasks.shutdown());
    health.ready("db-verified", false);
    let (status, body) = json(&app, "/ready").await;
    assert_eq!((status, &body["waiting"][0]), (StatusCode::SERVICE_UNAVAILABLE, &"db-verified".into()));
    health.ready("db-verified", true);
    assert_eq!(json(&app, "/ready").await.0, StatusCode::OK);
    tasks.trigger();
    let (status, body) = json(&app, "/ready").await;
    assert_eq!((status, &body["draining"]), (StatusCode::SERVICE_UNAVAILABLE, &true.into()));
    assert_eq!(json(&app, "/live").await.0, StatusCode::OK, "alive until the end");
}

#[tokio::test(start_paused = true)]
async fn health_tells_required_from_degraded_and_each_latency() {
    let (health, _, app) = service();
    let (postgres, nats) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    for (name, criticality, up) in
        [("postgres", Criticality::Required, postgres.clone()), ("nats", Criticality::Degraded, nats.clone())]
    {
        health.check(name, criticality, move || {
            let up = up.load(Ordering::Relaxed);
            async move { up.then_some(()).ok_or_else(|| "connection refused".to_owned()) }
        });
    }
    let later = || tokio::time::advance(Duration::from_secs(2));
    let (status, body) = json(&app, "/health").await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &"ok".into()));
    assert!(
        body["checks"]["postgres"]["latency_ms"].is_number() && body["checks"]["nats"]["required"] == false
    );
    nats.store(false, Ordering::Relaxed);
    later().await;
    let (status, body) = json(&app, "/health").await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &"degraded".into()));
    assert_eq!(body["checks"]["nats"]["error"], "connection refused");
    postgres.store(false, Ordering::Relaxed);
    later().await;
    let (status, body) = json(&app, "/health").await;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &"unhealthy".into()));
    assert_eq!(json(&app, "/ready").await.0, StatusCode::OK, "readiness touches no dependency");
}

#[tokio::test(start_paused = true)]
async fn health_cannot_be_used_to_hammer_a_dependency_or_to_wait_for_ever() {
    let (health, _, app) = service();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    health.check("slow", Criticality::Required, move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        }
    });
    health.check("hangs", Criticality::Degraded, std::future::pending::<Result<(), String>>);
    let answers = futures_util::future::join_all((0..50).map(|_| json(&app, "/health"))).await;
    assert!(answers.iter().all(|(status, body)| *status == StatusCode::OK && body["status"] == "degraded"));
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    assert!(answers[0].1["checks"]["hangs"]["error"].as_str().unwrap().contains("no answer within"));
    tokio::time::advance(Duration::from_secs(2)).await;
    json(&app, "/health").await;
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for_and_info_tells_the_build() {
    let (_, metrics, app) = service();
    metrics.errors().count("not_found");
    let (status, text, kind) =
        ask(&app, "/metrics", "application/openmetrics-text;version=1.0.0,text/plain").await;
    assert!(
        status == StatusCode::OK
            && kind.starts_with("application/openmetrics-text")
            && text.ends_with("# EOF\n")
    );
    let (_, text, kind) = ask(&app, "/metrics", "*/*").await;
    assert!(
        kind.starts_with("text/plain; version=0.0.4") && text.contains("# TYPE errors_total counter\n"),
        "{text}"
    );
    let (_, info) = json(&app, "/info").await;
    assert_eq!((&info["service"], &info["features"][0]), (&"test".into(), &"redis".into()));
    assert!(info["version"].is_string());
}

#[tokio::test]
async fn the_public_port_may_show_the_probes_alone() {
    let (health, ..) = service();
    let app = probe_router(health);
    for (path, want) in [("/live", 200), ("/ready", 200), ("/health", 404), ("/metrics", 404), ("/info", 404)]
    {
        assert_eq!(ask(&app, path, "").await.0.as_u16(), want, "{path}");
    }
}

#[tokio::test]
async fn requests_count_by_route_and_never_by_path() {
    let metrics = Metrics::new();
    let app = Router::new()
        .nest("/v1", Router::new().route("/items/{id}", get(|| async { StatusCode::CREATED })))
        .route("/never", get(std::future::pending::<()>))
        .layer(http_metrics(&metrics));
    for path in ["/v1/items/1", "/v1/items/2", "/secret/path"] {
        ask(&app, path, "").await;
    }
    let given_up = ask(&app, "/never", "");
    assert!(tokio::time::timeout(Duration::from_millis(10), given_up).await.is_err());
    let text = metrics.encode();
    for line in [
        "http_requests_total{route=\"/v1/items/{id}\",method=\"GET\",status=\"201\"} 2\n",
        "http_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"} 1\n",
        "http_requests_total{route=\"/never\",method=\"GET\",status=\"499\"} 1\n",
        "http_request_duration_seconds_count{route=\"/v1/items/{id}\",method=\"GET\",status=\"201\"} 2\n",
    ] {
        assert!(text.contains(line), "{line} not in\n{text}");
    }
    assert!(!text.contains("secret"), "{text}");
}
