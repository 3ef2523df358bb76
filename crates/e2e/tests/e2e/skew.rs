//! Services of this version and of the last one side by side, as a rolling update has them. `scripts/test-skew.sh` builds
//! the last one and names it in `WEIR_E2E_OLD`. The database is this version's: an update migrates first.

use std::path::PathBuf;

use anyhow::ensure;
use serde_json::json;
use weir_e2e::{http::Http, stand::Stand, wait::until};
use weir_service::Name;
use weir_testkit::Postgres;

fn old_program(test: &str) -> Option<PathBuf> {
    let program = std::env::var_os("WEIR_E2E_OLD").filter(|program| !program.is_empty());
    if program.is_none() {
        println!("SKIPPED: {test} needs a program of the last version: scripts/test-skew.sh");
    }
    program.map(PathBuf::from)
}

#[tokio::test]
async fn a_new_gateway_serves_with_the_last_version_s_services() {
    let Some(old) = old_program("a_new_gateway_serves_with_the_last_version_s_services") else { return };
    let doors = [Name::Gateway, Name::Realtime];
    works(|name, this| if doors.contains(&name) { this } else { old.clone() }).await;
}

#[tokio::test]
async fn the_last_version_s_gateway_serves_with_new_services() {
    let Some(old) = old_program("the_last_version_s_gateway_serves_with_new_services") else { return };
    let doors = [Name::Gateway, Name::Realtime];
    works(|name, this| if doors.contains(&name) { old.clone() } else { this }).await;
}

/// One at a time, as Kubernetes does it: every service is once the only new one.
#[tokio::test]
async fn services_are_updated_one_by_one() {
    let Some(old) = old_program("services_are_updated_one_by_one") else { return };
    for new in [Name::Orchestrator, Name::Control, Name::Billing] {
        works(|name, this| if name == new { this } else { old.clone() }).await;
    }
}

/// Every call between two services, and every event between them, at least once.
async fn works(program: impl Fn(Name, PathBuf) -> PathBuf) {
    let postgres = Postgres::shared().await.unwrap();
    let mut stand = Stand::start_split(postgres, program).await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);

    let mut body = json!({"model": "smart-model", "messages": [{"role": "user", "content": "x"}]});
    let plain = client.post("/v1/chat/completions", &body).await.unwrap();
    assert_eq!((plain.status, plain.header("x-weir-model")), (200, "gpt-4o"), "{plain:?}");
    body["stream"] = json!(true);
    let events = client.stream("/v1/chat/completions", &body).await.unwrap().all().await.unwrap();
    assert_eq!(events.last().unwrap(), "[DONE]");
    assert_eq!(client.get("/v1/models").await.unwrap().status, 200);
    let unknown = json!({"model": "no-such-model", "messages": [{"role": "user", "content": "x"}]});
    let refused = client.post("/v1/chat/completions", &unknown).await.unwrap();
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (404, &json!("model_not_found")));
    counted(&client, 2).await;

    // A revocation goes from control through NATS to the gateway.
    let (id, key) = weir_e2e::stand::key(&client, &["models:read"]).await.unwrap();
    let other = stand.gateway().with_key(&key);
    assert_eq!(other.get("/v1/models").await.unwrap().status, 200);
    assert_eq!(client.delete(&format!("/v1/api-keys/{id}")).await.unwrap().status, 200);
    until("the revoked key was refused", weir_e2e::http::PATIENCE, async || {
        let answer = other.get("/v1/models").await?;
        ensure!(answer.status == 401, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
    stand.stop().await.unwrap();
}

/// By billing and by analytics. A request that was refused before it had a model may count or not.
async fn counted(client: &Http, requests: u64) {
    until("the usage was counted", weir_e2e::http::PATIENCE, async || {
        let usage = client.get("/v1/users/me/usage").await?.json();
        ensure!(usage["totals"]["requests"].as_u64().is_some_and(|n| n >= requests), "{usage}");
        let kpis = client.get("/v1/analytics/kpis/hourly").await?.json();
        ensure!(kpis["data"][0]["requests"].as_u64().is_some_and(|n| n >= requests), "{kpis}");
        Ok(())
    })
    .await
    .unwrap();
}
