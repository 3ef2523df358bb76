//! Consumers: one outcome per message, whatever the handler, the message or the server does.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Mutex;
use uuid::Uuid;
use weir_events::{
    BatchHandler, Bus, ConsumerConfig, DLQ, Event, InfrastructureDown, Outcome, Reason, ReasonCode, Received,
    USAGE, consume,
};
use weir_runtime::Tasks;
use weir_testkit::{Nats, until};
use weir_types::TenantId;

use crate::support::{bus, event, publish, stored, streams};

/// Does what the event's name says, and counts how often each event came.
#[derive(Clone, Default)]
struct Script {
    seen: Arc<Mutex<HashMap<Uuid, u32>>>,
    down: Arc<AtomicBool>,
}

impl BatchHandler for Script {
    async fn handle(&self, batch: &[Received]) -> Result<Vec<Outcome>, InfrastructureDown> {
        if self.down.load(Ordering::SeqCst) {
            return Err(InfrastructureDown::new("the database"));
        }
        for received in batch {
            *self.seen.lock().await.entry(received.id).or_default() += 1;
        }
        assert!(!batch.iter().any(|r| r.kind() == "panics"), "as asked");
        if batch.iter().any(|r| r.kind() == "hangs") {
            std::future::pending::<()>().await;
        }
        if batch.iter().any(|r| r.kind() == "miscounts") {
            return Ok(vec![]);
        }
        Ok(batch
            .iter()
            .map(|r| match (r.kind(), r.failures) {
                ("poison", _) => Outcome::DeadLetter(Reason::new(ReasonCode::Rejected, "it is\npoison")),
                ("fails", n) => Outcome::Retry(format!("failure {n}")),
                ("fails_once", 0) => Outcome::Retry("not yet".into()),
                _ => Outcome::Ack,
            })
            .collect())
    }
}

const KINDS: &[&str] = &["works", "poison", "fails", "fails_once", "panics", "miscounts", "hangs"];

fn config() -> ConsumerConfig {
    let config = ConsumerConfig::new(USAGE, "test", "weir.usage.>", KINDS);
    ConsumerConfig {
        max_deliver: Some(3),
        ack_wait: Duration::from_secs(2),
        retry_first: Duration::from_millis(20),
        ..config
    }
}

async fn times(script: &Script, event: &Event) -> u32 {
    script.seen.lock().await.get(&event.id).copied().unwrap_or(0)
}

/// Nothing is left to deliver, or to be acknowledged.
async fn settled(bus: &Bus) {
    until("everything to be settled", async || {
        let stream = bus.jetstream().get_stream(USAGE).await.ok()?;
        let info = stream.consumer_info("test").await.ok()?;
        (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_gets_the_outcome_it_deserves() {
    let nats = Nats::start().await.unwrap();
    let (bus, tasks, tenant) = (bus(&nats).await, Tasks::new(), TenantId::new());
    streams(&bus).await;
    let script = Script::default();
    let mut events = Vec::new();
    for kind in
        ["works", "poison", "works", "fails", "fails_once", "panics", "works", "miscounts", "unheard_of"]
    {
        let event = event(tenant, kind);
        publish(&bus, &event).await;
        events.push((kind, event));
    }
    let js = bus.jetstream();
    js.publish("weir.usage.nobody.works", "no id, no tenant".into()).await.unwrap().await.unwrap();
    consume(&bus, config(), script.clone(), &tasks);
    settled(&bus).await;

    let mut expected = HashMap::new();
    for (kind, event) in &events {
        let (code, reason, failures) = match *kind {
            "poison" => ("rejected", "it is poison", "1"),
            "fails" => ("retries_exhausted", "failure 2", "3"),
            "panics" => ("retries_exhausted", "the handler panicked", "3"),
            "miscounts" => ("retries_exhausted", "the handler miscounted", "3"),
            _ => continue,
        };
        let words = [&event.subject, code, reason, failures].map(str::to_owned);
        expected.insert(event.id.to_string(), words);
    }
    let words = ["weir.usage.nobody.works", "undecodable", "the message has no event id", "0"];
    expected.insert(String::new(), words.map(str::to_owned));
    let dead = stored(&bus, DLQ).await;
    let get =
        |headers: &weir_events::async_nats::HeaderMap, name: &str| headers.get(name).unwrap().to_string();
    let found: HashMap<_, _> = dead
        .iter()
        .map(|(_, h)| {
            let words = ["weir-subject", "weir-reason-code", "weir-reason", "weir-failures"];
            (get(h, "weir-event-id"), words.map(|name| get(h, name)))
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(dead.len(), expected.len());
    let among = |place: &str| dead.iter().filter(|(subject, _)| subject == place).count();
    assert_eq!(among(&format!("weir.dlq.USAGE.test.retries_exhausted.{tenant}")), 3);
    assert_eq!(among(&format!("weir.dlq.USAGE.test.rejected.{tenant}")), 1);
    assert_eq!(among("weir.dlq.USAGE.test.undecodable.unknown"), 1);
    for (kind, event) in &events {
        let times = times(&script, event).await;
        match *kind {
            "unheard_of" => assert_eq!(times, 0, "not shown to the handler"),
            _ => assert!(times >= 1, "{kind} came {times} times"),
        }
    }
    assert!(tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_costs_no_message_a_try() {
    let nats = Nats::start().await.unwrap();
    let (bus, tasks, tenant) = (bus(&nats).await, Tasks::new(), TenantId::new());
    streams(&bus).await;
    let script = Script::default();
    script.down.store(true, Ordering::SeqCst);
    let events = [event(tenant, "works"), event(tenant, "works")];
    for event in &events {
        publish(&bus, event).await;
    }
    // Longer than the pauses between tries, during which messages wait in this process.
    let config = ConsumerConfig { ack_wait: Duration::from_secs(10), ..config() };
    consume(&bus, config, script.clone(), &tasks);
    // More often put back than a message may fail.
    until("redeliveries", async || {
        let stream = bus.jetstream().get_stream(USAGE).await.ok()?;
        (stream.consumer_info("test").await.ok()?.delivered.consumer_sequence > 8).then_some(())
    })
    .await;
    script.down.store(false, Ordering::SeqCst);
    settled(&bus).await;
    assert_eq!(stored(&bus, DLQ).await.len(), 0);
    for event in &events {
        assert_eq!(times(&script, event).await, 1);
    }
    assert!(tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_holds_up_nobody_and_ends_among_the_dead() {
    let nats = Nats::start().await.unwrap();
    let (bus, tasks, tenant) = (bus(&nats).await, Tasks::new(), TenantId::new());
    streams(&bus).await;
    let script = Script::default();
    let mut events = Vec::new();
    for n in 0..20 {
        events.push(event(tenant, if n % 5 == 0 { "hangs" } else { "works" }));
    }
    for event in &events {
        publish(&bus, event).await;
    }
    let config = ConsumerConfig { handle_within: Duration::from_secs(1), ..config() };
    consume(&bus, ConsumerConfig { max_deliver: Some(2), ..config }, script.clone(), &tasks);
    settled(&bus).await;
    for event in events.iter().filter(|e| e.subject.ends_with("works")) {
        assert!(times(&script, event).await >= 1);
    }
    let dead = stored(&bus, DLQ).await;
    let reason = |h: &weir_events::async_nats::HeaderMap| h.get("weir-reason").unwrap().to_string();
    assert_eq!(
        dead.iter().map(|(_, h)| reason(h)).collect::<Vec<_>>(),
        vec!["the handler takes too long"; 4]
    );
    assert!(dead.iter().all(|(subject, _)| subject.contains("retries_exhausted")));
    assert!(tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_outlives_its_server_its_stream_and_itself() {
    let nats = Nats::start().await.unwrap();
    let (bus, tasks, tenant) = (bus(&nats).await, Tasks::new(), TenantId::new());
    let script = Script::default();
    // Neither stream nor consumer are there yet.
    consume(&bus, config(), script.clone(), &tasks);
    until("the stream", async || bus.jetstream().get_stream(USAGE).await.ok()).await;
    let comes_through = async |what: &str| {
        let event = event(tenant, "works");
        publish(&bus, &event).await;
        until(what, async || (times(&script, &event).await > 0).then_some(())).await;
    };
    comes_through("the first event").await;

    nats.kill().await.unwrap();
    nats.restart().await.unwrap();
    until("the connection", async || bus.ensure_streams().await.ok()).await;
    comes_through("an event after a restart").await;

    let stream = bus.jetstream().get_stream(USAGE).await.unwrap();
    stream.delete_consumer("test").await.unwrap();
    comes_through("an event after the consumer was deleted").await;

    nats.lose().await.unwrap();
    nats.restart().await.unwrap();
    until("the stream to come back", async || bus.jetstream().get_stream(USAGE).await.ok()).await;
    comes_through("an event after the stream was lost").await;
    assert!(tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_the_work() {
    let nats = Nats::start().await.unwrap();
    let (bus, tasks, tenant) = (bus(&nats).await, Tasks::new(), TenantId::new());
    streams(&bus).await;
    let script = Script::default();
    // Longer than anybody takes to acknowledge, on a busy machine, too.
    let config = ConsumerConfig { ack_wait: Duration::from_secs(60), ..config() };
    let mut events = Vec::new();
    for _ in 0..1_200 {
        events.push(event(tenant, "works"));
    }
    for _ in 0..2 {
        consume(&bus, config.clone(), script.clone(), &tasks);
    }
    for event in &events {
        publish(&bus, event).await;
    }
    settled(&bus).await;
    let seen = script.seen.lock().await;
    assert_eq!(seen.len(), events.len());
    assert!(seen.values().all(|n| *n == 1), "none came twice");
    drop(seen);
    assert!(tasks.stop(Duration::from_secs(10)).await);
}
