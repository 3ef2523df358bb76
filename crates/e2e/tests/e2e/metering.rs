//! Everything that is counted agrees with what the provider did, whatever happens meanwhile.

use std::sync::Arc;

use sqlx::{Connection as _, PgConnection};
use weir_e2e::{
    books::{Books, Summary},
    load::{Kind, Load},
    stand::Stand,
};

const CLIENTS: usize = 64;

/// Requests of a test's load: `WEIR_E2E_REQUESTS`, which chaos tests set high.
pub(crate) fn requests() -> usize {
    wish("WEIR_E2E_REQUESTS", 600)
}

pub(crate) fn wish(name: &str, default: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "how large a test is, is its caller's wish")]
    let wish = std::env::var(name);
    wish.ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

pub(crate) fn books(stand: &Stand) -> Books {
    Books {
        simulator: stand.simulator(),
        nats_url: stand.nats.url(),
        database_url: stand.database.admin_url.clone(),
    }
}

/// Every kind of end took place, and few requests came to nothing.
pub(crate) fn assert_worth_it(summary: &Summary, requests: usize) {
    println!("{requests} requests: {summary:?}");
    // One in twenty is refused at the door; a client that hangs up early may be gone before anything is opened.
    assert!(summary.requests > requests * 8 / 10, "{summary:?} of {requests} requests");
    assert!(summary.ledger > requests * 8 / 10, "{summary:?} of {requests} requests");
    assert!(summary.succeeded > requests / 2, "{summary:?} of {requests} requests");
    for ended in [summary.failed, summary.cut, summary.cancelled] {
        assert!(ended > requests / 50, "{summary:?} of {requests} requests");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_equal_the_provider_s_ledger() {
    let requests = requests();
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
    let requests = requests();
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
        // What breaks off before its first byte is an error, streamed or not.
        seen.iter().all(|s| !s.lost || matches!(s.kind, Kind::CutPlain | Kind::CutStream)),
        "somebody noticed: {:?}",
        seen.iter().filter(|s| s.lost).take(5).collect::<Vec<_>>()
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
    let load = Load::new(operator, 100);
    load.run(4).await;
    let seen = load.seen.lock().clone();
    assert_worth_it(&books(&stand).agree(&seen).await.unwrap(), 100);
    let kpis = stand.gateway().with_key(&tenant.key).get("/v1/analytics/kpis/hourly").await.unwrap().json();
    assert!(kpis["data"][0]["requests"].as_u64().is_some_and(|n| n > 0), "{kpis}");
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn one_token_too_many_is_noticed() {
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let load = Load::new(stand.gateway().with_key(&tenant.key), 20);
    load.run(4).await;
    let seen = load.seen.lock().clone();
    books(&stand).agree(&seen).await.unwrap();
    let mut connection = PgConnection::connect(&stand.database.admin_url).await.unwrap();
    for column in ["requests", "output_tokens", "attempts_failed", "provider_input_tokens"] {
        for change in ["+", "-"] {
            let sql = format!("UPDATE billing.usage_counters SET {column} = {column} {change} 1");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            if change == "+" {
                let found = books(&stand).agree(&seen).await.unwrap_err();
                assert!(found.to_string().contains("billing counted"), "{found:#}");
            }
        }
    }
    books(&stand).agree(&seen).await.unwrap();
    let mut forged = seen.clone();
    forged.iter_mut().find_map(|s| s.finished.as_mut()).unwrap().1 += 1;
    books(&stand).agree(&forged).await.unwrap_err();
    stand.stop().await.unwrap();
}
