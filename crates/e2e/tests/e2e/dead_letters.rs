//! Events that cannot be handled, from the planted fault to the last replay: as operators see it, over REST and at the
//! terminal. And figures built again from events.

use std::process::Output;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;
use weir_e2e::{
    http::{Http, PATIENCE},
    wait::until,
};

use crate::watched::Watched;

const MODEL: &str = "gpt-4o-mini";

struct Operator {
    watched: Watched,
    /// What `dev.json` says.
    dev: Value,
}

impl Operator {
    async fn new() -> Self {
        let watched = Watched::start(&[]).await;
        let dev = std::fs::read(watched.house.data().join("dev.json")).unwrap();
        Self { dev: serde_json::from_slice(&dev).unwrap(), watched }
    }

    /// `weir ARGS` on the house's folder, with nothing else to go by.
    async fn weir(&self, args: &[&str]) -> Output {
        self.weir_with(args, &[]).await
    }

    async fn weir_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir-under-test"));
        command.args(args).arg("--data").arg(self.watched.house.data()).env_clear();
        command.envs(environment.iter().copied());
        command.stdin(std::process::Stdio::null()).output().await.unwrap()
    }

    async fn told(&self, args: &[&str]) -> String {
        let output = self.weir(args).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// As the migrator.
    async fn sql(&self, sql: &'static str) {
        let mut admin = PgConnection::connect(self.dev["database_url"].as_str().unwrap()).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut admin).await.unwrap();
    }

    /// Puts something into the stream that no service would.
    async fn publish(&self, kind: &str, payload: &'static [u8]) -> String {
        let nats = async_nats::connect(self.dev["nats_url"].as_str().unwrap()).await.unwrap();
        let id = Uuid::now_v7().to_string();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        headers.insert("ce-id", id.as_str());
        let subject = format!("weir.usage.{}.{kind}", self.watched.dev.tenant_id);
        let jetstream = async_nats::jetstream::new(nats);
        let sent = jetstream.publish_with_headers(subject, headers, payload.into()).await;
        sent.unwrap().await.unwrap();
        id
    }

    async fn chat(&self) {
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "x"}]});
        let answer = self.watched.client().post("/v1/chat/completions", &body).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    async fn letters(&self, count: usize) -> Vec<Value> {
        until("the dead letters", PATIENCE, async || {
            let found = self.watched.platform().get("/v1/admin/dlq?limit=100").await?;
            ensure!(found.status == 200, "{found:?}");
            let data = found.json()["data"].as_array().cloned().unwrap_or_default();
            ensure!(data.len() == count, "{data:#?}");
            Ok(data)
        })
        .await
        .unwrap()
    }

    /// Requests that billing and analytics have counted.
    async fn counted(&self) -> Result<(u64, u64)> {
        let client = self.watched.client();
        let usage = client.get("/v1/users/me/usage").await?.json();
        let kpis = client.get("/v1/analytics/kpis/hourly").await?.json();
        let kpis = kpis["data"].as_array().into_iter().flatten();
        let billed = usage["totals"]["requests"].as_u64().unwrap_or_default();
        Ok((billed, kpis.filter_map(|k| k["requests"].as_u64()).sum()))
    }

    async fn counts(&self, wanted: (u64, u64)) {
        until("what is counted", PATIENCE, async || {
            let counted = self.counted().await?;
            ensure!(counted == wanted, "{counted:?}, not {wanted:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

fn field<'a>(letters: &'a [Value], name: &str) -> Vec<&'a str> {
    letters.iter().filter_map(|l| l[name].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_fault_a_poisoned_event_and_an_unknown_kind() {
    let house = Operator::new().await;
    house.chat().await;
    house.counts((1, 1)).await;
    house
        .sql("ALTER TABLE billing.usage_counters ADD CONSTRAINT planted CHECK (requests + attempts < 3)")
        .await;
    house.chat().await;
    let poison = house.publish("request_finished", b"\xff\xff").await;
    let unknown = house.publish("unheard_of", b"\xff\xff").await;
    // The attempt and the request for billing; the poison for both.
    let letters = house.letters(4).await;
    assert!(!field(&letters, "event_id").contains(&unknown.as_str()), "an unknown kind is skipped");
    house.counts((1, 2)).await;
    let (dead, planted): (Vec<_>, Vec<_>) =
        letters.into_iter().partition(|l| l["event_id"] == poison.as_str());
    let mut failed_on = field(&dead, "consumer");
    failed_on.sort_unstable();
    assert_eq!(failed_on, ["analytics-usage", "billing-usage"]);
    assert_eq!(field(&dead, "reason"), ["undecodable"; 2]);
    assert_eq!(field(&dead, "payload_raw"), ["//8="; 2]);
    assert_eq!(field(&planted, "reason"), ["rejected"; 2]);
    for letter in &planted {
        assert!(letter["reason_text"].as_str().unwrap().contains("planted"), "{letter}");
        assert_eq!((&letter["payload"]["model"], &letter["payload_raw"]), (&json!(MODEL), &Value::Null));
    }

    // The terminal tells the same.
    let listed = house.told(&["dlq", "list", "--json", "--consumer", "billing-usage"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
    let ids = field(&planted, "id");
    let table = house.told(&["dlq", "list", "--reason", "rejected"]).await;
    assert_eq!(table.lines().count(), 3, "{table}");
    let shown = house.told(&["dlq", "show", ids[0]]).await;
    assert!(shown.contains("planted") && shown.contains(MODEL), "{shown}");

    // Too early: a new letter of the same event takes the place of the old one.
    let platform = house.watched.platform();
    let replayed =
        platform.send(Method::POST, &format!("/v1/admin/dlq/{}/replay", ids[0]), None).await.unwrap();
    assert_eq!(replayed.status, 200, "{replayed:?}");
    let letters = until("the new letter", PATIENCE, async || {
        let letters = house.letters(4).await;
        ensure!(!field(&letters, "id").contains(&ids[0]));
        Ok(letters)
    });
    let letters = letters.await.unwrap();
    let planted: Vec<_> = letters.into_iter().filter(|l| l["reason"] == "rejected").collect();
    let ids = field(&planted, "id");
    house.sql("ALTER TABLE billing.usage_counters DROP CONSTRAINT planted").await;
    let replayed =
        platform.send(Method::POST, &format!("/v1/admin/dlq/{}/replay", ids[0]), None).await.unwrap();
    assert_eq!(replayed.status, 200, "{replayed:?}");
    assert_eq!(house.told(&["dlq", "replay", ids[1]]).await, "1 replayed, 0 not\n");
    house.counts((2, 2)).await;
    let gone = house.weir(&["dlq", "replay", ids[1]]).await;
    assert_eq!(gone.status.code(), Some(1), "it is gone");
    // What comes after them was counted after them: a second effect would have been seen.
    house.chat().await;
    house.counts((3, 3)).await;

    let asked = house.weir(&["dlq", "drop", "--all"]).await;
    assert_eq!(asked.status.code(), Some(1), "nobody there to say yes");
    assert_eq!(house.told(&["dlq", "drop", "--all", "--yes"]).await, "2 dropped, 0 not\n");
    house.letters(0).await;
    let (_, control) = house.watched.ports().find(|(name, _)| *name == "control").unwrap();
    let metrics = Http::at(&format!("http://127.0.0.1:{control}"));
    until("the gauge", PATIENCE, async || {
        let text = String::from_utf8(metrics.get("/metrics").await?.body.to_vec())?;
        ensure!(text.contains("weir_dlq_messages{} 0") || text.contains("weir_dlq_messages 0"), "{text}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(house.watched.client().get("/v1/admin/dlq").await.unwrap().status, 403);
    assert_eq!(platform.get("/v1/admin/dlq/1").await.unwrap().status, 404);
    house.watched.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hourly_figures_come_back_from_events() {
    let house = Operator::new().await;
    for _ in 0..3 {
        house.chat().await;
    }
    house.counts((3, 3)).await;
    let hours = async || house.watched.client().get("/v1/analytics/kpis/hourly").await.unwrap().json();
    let right = hours().await;
    house.sql("UPDATE analytics.kpi_hourly SET requests = 1000; DELETE FROM analytics.latency_hourly").await;
    assert_ne!(hours().await, right);
    let told = house.told(&["analytics", "rebuild"]).await;
    assert!(told.contains(" 3 events, ") && !told.contains(" 0 hours"), "{told}");
    assert_eq!(hours().await, right);
    let told = house.told(&["analytics", "rebuild"]).await;
    assert!(told.contains(" 0 hours of a tenant mended"), "{told}");
    let refused = house.weir(&["analytics", "rebuild", "--from", "2020-01-01T00"]).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("the first whole hour is 2"), "{said}");
    let migrator = house.dev["database_url"].as_str().unwrap();
    let refused = house.weir_with(&["analytics", "rebuild"], &[("DATABASE_URL", migrator)]).await;
    assert_eq!(refused.status.code(), Some(1), "it sees every tenant at once");
    let wrong = house.weir(&["analytics", "rebuild", "--from", "yesterday"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    house.watched.end().await;
}
