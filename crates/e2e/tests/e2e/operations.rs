//! What operators see: probes, health and metrics of all eight services.

use weir_e2e::{http::Http, stand::Stand};

#[tokio::test]
async fn every_service_is_live_ready_healthy_and_measured() {
    let stand = Stand::shared();
    for (name, address) in stand.services() {
        let service = Http::new(address);
        for path in ["/live", "/ready", "/health"] {
            let answer = service.get(path).await.unwrap();
            assert_eq!(answer.status, 200, "{name}{path}: {answer:?}");
        }
        let health = service.get("/health").await.unwrap().json();
        assert!(matches!(health["status"].as_str(), Some("ok" | "healthy")), "{name}: {health}");
        let metrics = service.get("/metrics").await.unwrap();
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        assert_eq!(metrics.status, 200, "{name}");
        assert!(text.contains("# TYPE "), "{name}: {text}");
        let info = service.get("/info").await.unwrap().json();
        assert_eq!(info["service"], name);
    }
}

#[tokio::test]
async fn metrics_have_their_promised_names() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    let body = serde_json::json!({"model": "smart-model", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(client.post("/v1/chat/completions", &body).await.unwrap().status, 200);
    let scrape = async |address| {
        let metrics = Http::new(address).get("/metrics").await.unwrap();
        String::from_utf8(metrics.body.to_vec()).unwrap()
    };
    let a = stand.addresses;
    for (address, names) in [
        (
            a.gateway,
            &["http_requests_total", "http_request_duration_seconds_bucket", "active_streams_current"][..],
        ),
        (a.router, &["router_decision_latency_ms_bucket", "router_decisions_total{reason=\"alias\"}"]),
        (a.realtime, &["ws_active_connections"]),
    ] {
        let text = scrape(address).await;
        for name in names {
            assert!(text.contains(name), "{name} is not in {text}");
        }
    }
}

#[tokio::test]
async fn a_service_s_grpc_is_closed_to_those_without_an_identity() {
    let stand = Stand::shared();
    for (name, address) in stand.services().into_iter().filter(|(name, _)| *name != "gateway") {
        let call = Http::new(address).with_header("content-type", "application/grpc");
        let answer = call
            .send(http::Method::POST, "/weir.control.v1.Tenants/ListTenants", Some("".into()))
            .await
            .unwrap();
        // 16 is UNAUTHENTICATED.
        assert_eq!(answer.header("grpc-status"), "16", "{name}: {answer:?}");
    }
}
