//! Deadlines and hang-ups reach the provider, through one process or through three.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use weir_e2e::{http::PATIENCE, stand::Stand, wait::until};
use weir_testkit::Postgres;

fn body(stream: bool, x_sim: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Say hello."}]);
    json!({"model": "gpt-4o-mini", "stream": stream, "messages": messages, "x_sim": x_sim})
}

/// The provider's own entry of its last call, once that has ended.
async fn last_call(stand: &Stand) -> Value {
    let simulator = stand.simulator();
    until("the provider's call ended", PATIENCE, async || {
        let ledger = simulator.get("/_sim/ledger?entries=true").await?.json();
        ensure!(ledger["running"] == 0, "{} calls are running", ledger["running"]);
        ledger["entries"].as_array().and_then(|all| all.last().cloned()).context("the ledger is empty")
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_the_provider() {
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    // Ten minutes' worth: the test would not wait for it.
    let slow = body(true, &json!({"tokens": 30_000, "token_ms": 20}));
    let mut events = client.stream("/v1/chat/completions", &slow).await.unwrap();
    for _ in 0..3 {
        events.next().await.unwrap().unwrap();
    }
    drop((events, client));
    let call = last_call(&stand).await;
    assert_eq!(call["outcome"], "cancelled", "{call}");
    assert!(call["sent"].as_u64().unwrap() < 3_000, "{call}");
    stand.stop().await.unwrap();
}

/// The orchestrator tells it just before the deadline; on a busy machine the gateway's own is there first.
fn is_late(error: &Value) -> bool {
    error["error"]["code"] == "upstream_timeout" || error["error"]["code"] == "deadline_exceeded"
}

#[tokio::test]
async fn a_deadline_that_passes_is_told_and_stops_the_provider() {
    let settings = [("gateway.chat_timeout", "2s"), ("gateway.stream_timeout", "2s")];
    let mut stand = Stand::start_with(Postgres::shared().await.unwrap(), &settings).await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);

    let late =
        client.post("/v1/chat/completions", &body(false, &json!({"first_token_ms": 600_000}))).await.unwrap();
    assert!(late.status == 504 && is_late(&late.json()), "{late:?}");
    assert_eq!(last_call(&stand).await["outcome"], "cancelled");

    let slow = body(true, &json!({"tokens": 30_000, "token_ms": 20}));
    let events = client.stream("/v1/chat/completions", &slow).await.unwrap().all().await.unwrap();
    let told: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let error = told.iter().find(|event| event["error"].is_object()).expect("no error in the stream");
    assert!(is_late(error), "{error}");
    assert_eq!(last_call(&stand).await["outcome"], "cancelled");
    stand.stop().await.unwrap();
}
