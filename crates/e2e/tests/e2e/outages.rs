//! What goes on when a part is down.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use weir_e2e::{http::Http, stand::Stand, wait::until};
use weir_testkit::Postgres;

const PATIENCE: Duration = Duration::from_secs(60);

fn hello() -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]})
}

async fn chats(client: &Http) {
    let plain = client.post("/v1/chat/completions", &hello()).await.unwrap();
    assert_eq!(plain.status, 200, "{plain:?}");
    let mut body = hello();
    body["stream"] = json!(true);
    let events = client.stream("/v1/chat/completions", &body).await.unwrap().all().await.unwrap();
    assert_eq!(events.last().unwrap(), "[DONE]");
}

async fn counted(client: &Http, requests: u64) {
    until("the usage was counted", PATIENCE, async || {
        let answer = client.get("/v1/users/me/usage").await?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(answer.json()["totals"]["requests"] == requests, "{}", answer.json()["totals"]);
        Ok(())
    })
    .await
    .unwrap();
}

async fn health(stand: &Stand, service: &str) -> Value {
    let (_, address) = stand.services().into_iter().find(|(name, _)| *name == service).unwrap();
    Http::new(address).get("/health").await.unwrap().json()
}

#[tokio::test]
async fn without_postgresql_a_key_seen_before_still_gets_answers() {
    let postgres = Postgres::private().await.unwrap();
    // Shorter than the stand's: it ends before calls do.
    let settings = [("database.acquire_timeout_ms", "5000")];
    let mut stand = Stand::start_with(&postgres, &settings).await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    chats(&client).await;
    counted(&client, 2).await;

    postgres.stop().await.unwrap();
    for _ in 0..3 {
        chats(&client).await;
    }
    // Where a database is needed, the answer says to come again; a key never seen can't be checked.
    let keys = client.get("/v1/api-keys").await.unwrap();
    assert_eq!(keys.status, 503, "{keys:?}");
    assert!(!keys.header("retry-after").is_empty(), "{keys:?}");
    let unseen =
        weir_types::api_key::assemble(weir_types::api_key::KeyKind::Live, weir_types::KeyId::new(), &[5; 32]);
    let unseen = stand.gateway().with_key(&unseen).post("/v1/chat/completions", &hello()).await.unwrap();
    assert_eq!(unseen.status, 503, "{unseen:?}");

    postgres.start().await.unwrap();
    counted(&client, 8).await;
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn without_nats_nobody_notices_and_the_counters_catch_up() {
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    chats(&client).await;
    stand.nats.stop().await.unwrap();
    for _ in 0..3 {
        chats(&client).await;
    }
    let (_, other) = weir_e2e::stand::key(&client, &["chat:write"]).await.unwrap();
    chats(&stand.gateway().with_key(&other)).await;
    let ready = Http::new(stand.addresses.gateway).get("/ready").await.unwrap();
    assert_eq!(ready.status, 200, "{ready:?}");
    until("health said degraded", PATIENCE, async || {
        let health = health(&stand, "billing").await;
        ensure!(health["status"] == "degraded", "{health}");
        Ok(())
    })
    .await
    .unwrap();
    stand.nats.restart().await.unwrap();
    counted(&client, 8).await;
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn a_house_that_starts_without_nats_serves_and_counts_later() {
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    chats(&stand.gateway().with_key(&tenant.key)).await;
    stand.nats.stop().await.unwrap();
    stand.restart().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    chats(&client).await;
    stand.nats.restart().await.unwrap();
    counted(&client, 4).await;
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn everything_survives_a_restart_of_the_house() {
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    chats(&stand.gateway().with_key(&tenant.key)).await;
    stand.restart().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    chats(&client).await;
    counted(&client, 4).await;
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn without_redis_everything_works_and_health_does_not_complain() {
    // The shared house has none.
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    chats(&stand.gateway().with_key(&tenant.key)).await;
    // Its connections are made behind its start.
    until("realtime is fine without redis", PATIENCE, async || {
        let health = health(stand, "realtime").await;
        ensure!(health["status"] != "degraded", "{health}");
        Ok(())
    })
    .await
    .unwrap();
}
