//! Everything that is counted agrees with what the provider did, whatever happens meanwhile.

use std::sync::Arc;

use weir_e2e::{
    books::{Books, Summary},
    load::Load,
    stand::Stand,
};

const CLIENTS: usize = 64;

/// `WEIR_E2E_REQUESTS`: more in chaos tests.
pub(crate) fn requests(default: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "how large a test is, is its caller's wish")]
    let wish = std::env::var("WEIR_E2E_REQUESTS");
    wish.ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn books(stand: &Stand) -> Books {
    Books {
        simulator: stand.simulator(),
        nats_url: stand.nats.url(),
        database_url: stand.database.admin_url.clone(),
    }
}

fn assert_worth_it(summary: &Summary, requests: usize) {
    // One in twenty is refused at the door; a client that hangs up early may be gone before anything is opened.
    assert!(summary.requests > requests * 8 / 10, "{summary:?} of {requests} requests");
    assert!(summary.ledger > requests * 8 / 10, "{summary:?} of {requests} requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_equal_the_provider_s_ledger() {
    let requests = requests(600);
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let load = Load::new(stand.gateway().with_key(&tenant.key), requests);
    load.run(CLIENTS).await;
    let seen = load.seen.lock().clone();
    assert_eq!(seen.len(), requests);
    let summary = books(&stand).agree(&seen).await.unwrap();
    assert_worth_it(&summary, requests);
    stand.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_equal_the_ledger_though_nats_was_away() {
    let requests = requests(600);
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let load = Load::new(stand.gateway().with_key(&tenant.key), requests);
    let nats = Arc::clone(&stand.nats);
    let outage = async {
        started(&load, requests / 3).await;
        nats.kill().await.unwrap();
        started(&load, requests * 2 / 3).await;
        nats.restart().await.unwrap();
    };
    tokio::join!(load.run(CLIENTS), outage);
    let seen = load.seen.lock().clone();
    assert!(
        seen.iter().all(|s| !s.lost || matches!(s.kind, weir_e2e::load::Kind::CutPlain)),
        "somebody noticed"
    );
    let summary = books(&stand).agree(&seen).await.unwrap();
    assert_worth_it(&summary, requests);
    stand.stop().await.unwrap();
}

pub(crate) async fn started(load: &Load, requests: usize) {
    weir_e2e::wait::until("the load got there", weir_e2e::http::PATIENCE * 10, async || {
        anyhow::ensure!(load.started() >= requests, "{} of {requests}", load.started());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_the_platform_s_operator_asks_for_a_tenant_is_counted_for_the_tenant() {
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let operator = stand.platform().with_header("x-tenant-id", &tenant.id);
    let body = serde_json::json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(operator.post("/v1/chat/completions", &body).await.unwrap().status, 200);
    let client = stand.gateway().with_key(&tenant.key);
    weir_e2e::wait::until("it was counted", weir_e2e::http::PATIENCE, async || {
        let kpis = client.get("/v1/analytics/kpis/hourly").await?.json();
        anyhow::ensure!(kpis["data"][0]["requests"] == 1, "{kpis}");
        Ok(())
    })
    .await
    .unwrap();
    stand.stop().await.unwrap();
}
