//! The publisher: every event once in the stream, whatever stops in between.

use std::{collections::HashSet, fs, path::Path, time::Duration};

use uuid::Uuid;
use weir_events::{Bus, Durability, Event, EventMetrics, Open, Spool, SpoolConfig, SpoolError, USAGE};
use weir_proto::events::OpenAttempt;
use weir_runtime::Tasks;
use weir_telemetry::Metrics;
use weir_testkit::{Nats, until};
use weir_types::{AttemptId, TenantId};

use crate::support::{bus, event, message_count, stored, streams};

/// Small segments, so that there are many.
fn config() -> SpoolConfig {
    SpoolConfig { segment_bytes: 20_000, ..SpoolConfig::default() }
}

/// Waits for the folder to be free: a publisher that was cut off may have a last read or write under way.
async fn open(dir: &Path, config: SpoolConfig) -> (Spool, Vec<Open>) {
    until("the spool's folder", async || match Spool::open(dir, config.clone(), EventMetrics::default()) {
        Err(SpoolError::Locked { .. }) => None,
        opened => Some(opened.unwrap()),
    })
    .await
}

fn attempt(id: Uuid) -> OpenAttempt {
    OpenAttempt {
        attempt_id: id.to_string(),
        request_event_id: Uuid::now_v7().to_string(),
        ..OpenAttempt::default()
    }
}

fn run_attempt(spool: &Spool, tenant: TenantId) -> Event {
    let event = event(tenant, "attempt_closed");
    spool.opened(&attempt(event.id)).unwrap();
    spool.closed(AttemptId(event.id), std::slice::from_ref(&event));
    event
}

async fn stream_holds_exactly(bus: &Bus, sent: &[Event]) {
    until("all events", async || (message_count(bus).await? >= sent.len() as u64).then_some(())).await;
    let messages = stored(bus, USAGE).await;
    assert_eq!(messages.len(), sent.len(), "each once");
    let id = |headers: &weir_events::async_nats::HeaderMap| headers.get("Nats-Msg-Id").unwrap().to_string();
    let found: HashSet<_> = messages.iter().map(|(_, headers)| id(headers)).collect();
    assert_eq!(found, sent.iter().map(|e| e.id.to_string()).collect());
}

fn segments(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
    names.filter(|n| n.to_str().unwrap().ends_with(".log")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_away_at_first_and_in_the_middle_is_not_noticed() {
    let nats = Nats::start().await.unwrap();
    nats.stop().await.unwrap();
    let (dir, bus, tasks, tenant) =
        (tempfile::tempdir().unwrap(), bus(&nats).await, Tasks::new(), TenantId::new());
    assert!(!bus.connected() && bus.check().is_err());
    bus.keep_streams(&tasks);
    let (spool, _) = open(dir.path(), config()).await;
    spool.publish_loop(bus.clone(), &tasks);
    let mut sent: Vec<_> = (0..500).map(|_| run_attempt(&spool, tenant)).collect();

    nats.restart().await.unwrap();
    until("some events", async || message_count(&bus).await.filter(|n| *n > 100)).await;
    sent.extend((0..500).map(|_| run_attempt(&spool, tenant)));
    nats.kill().await.unwrap();
    sent.extend((0..500).map(|_| run_attempt(&spool, tenant)));
    nats.restart().await.unwrap();
    stream_holds_exactly(&bus, &sent).await;

    // All is acknowledged, so the segments go, but for the one being written.
    until("segments to go", async || (segments(dir.path()) == 1).then_some(())).await;
    assert!(tasks.stop(Duration::from_secs(10)).await);
    drop(spool);
    let (_, open) = open(dir.path(), config()).await;
    assert_eq!(open, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_nothing_and_doubles_nothing() {
    let nats = Nats::start().await.unwrap();
    let (dir, bus, tenant) = (tempfile::tempdir().unwrap(), bus(&nats).await, TenantId::new());
    streams(&bus).await;
    let mut sent = Vec::new();
    for round in 0..6 {
        let (spool, open) = open(dir.path(), config()).await;
        // Whoever was open is closed as interrupted, once.
        assert_eq!(open.len(), if round == 0 { 0 } else { 3 });
        for open in open {
            let id: AttemptId = open.attempt.attempt_id.parse().unwrap();
            let event = Event { id: id.0, ..event(tenant, "attempt_closed") };
            spool.closed(id, std::slice::from_ref(&event));
            sent.push(event);
        }
        let tasks = Tasks::new();
        spool.publish_loop(bus.clone(), &tasks);
        sent.extend((0..400).map(|_| run_attempt(&spool, tenant)));
        for _ in 0..3 {
            spool.opened(&attempt(Uuid::now_v7())).unwrap();
        }
        // Some rounds are killed in the middle, some when all is sent and the cursor may not know it yet.
        let enough = sent.len() as u64 - if round % 2 == 0 { 300 } else { 0 };
        until("events", async || message_count(&bus).await.filter(|n| *n >= enough)).await;
        tasks.stop(Duration::ZERO).await;
        drop(spool);
    }
    let (spool, _) = open(dir.path(), config()).await;
    let tasks = Tasks::new();
    spool.publish_loop(bus.clone(), &tasks);
    stream_holds_exactly(&bus, &sent).await;
    let mut duplicates = stored(&bus, USAGE).await;
    assert!(duplicates.iter().all(|(subject, _)| *subject == format!("weir.usage.{tenant}.attempt_closed")));
    let (_, headers) = duplicates.pop().unwrap();
    let get = |name: &str| headers.get(name).map(|v| v.as_str().to_owned());
    assert_eq!(get("ce-type").as_deref(), Some("weir.usage.attempt_closed"));
    assert_eq!(get("ce-source").as_deref(), Some("weir/orchestrator"));
    assert_eq!(get("ce-specversion").as_deref(), Some("1.0"));
    assert_eq!(get("ce-time").as_deref(), Some("2023-11-14T22:13:20.000Z"));
    tasks.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_not_acknowledged_is_sent_by_the_next_process() {
    let nats = Nats::start().await.unwrap();
    let (dir, bus, tenant) = (tempfile::tempdir().unwrap(), bus(&nats).await, TenantId::new());
    let registry = Metrics::new();
    let config = SpoolConfig { drain_ms: 0, ..config() };
    let (spool, _) = Spool::open(dir.path(), config.clone(), EventMetrics::new(&registry)).unwrap();
    let mut sent: Vec<_> = (0..300).map(|_| run_attempt(&spool, tenant)).collect();
    // There is no stream to take them. Some go by way of the disk, some by way of memory.
    let tasks = Tasks::new();
    spool.publish_loop(bus.clone(), &tasks);
    let failures = "weir_events_publish_failures_total ";
    until("refused events", async || {
        let text = registry.encode();
        text.lines().find_map(|l| l.strip_prefix(failures)).filter(|n| *n != "0").map(drop)
    })
    .await;
    sent.extend((0..300).map(|_| run_attempt(&spool, tenant)));
    assert!(tasks.stop(Duration::from_secs(10)).await);
    drop(spool);

    streams(&bus).await;
    let (spool, _) = open(dir.path(), config).await;
    let tasks = Tasks::new();
    spool.publish_loop(bus.clone(), &tasks);
    stream_holds_exactly(&bus, &sent).await;
    tasks.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_open_attempts_and_publishes_their_events() {
    let nats = Nats::start().await.unwrap();
    let (dir, bus, tasks, tenant) =
        (tempfile::tempdir().unwrap(), bus(&nats).await, Tasks::new(), TenantId::new());
    streams(&bus).await;
    let (spool, _) = open(dir.path(), SpoolConfig { drain_ms: 60_000, ..config() }).await;
    spool.publish_loop(bus.clone(), &tasks);
    let last = event(tenant, "attempt_closed");
    spool.opened(&attempt(last.id)).unwrap();
    tasks.trigger();
    let mut sent: Vec<_> = (0..50).map(|_| run_attempt(&spool, tenant)).collect();
    stream_holds_exactly(&bus, &sent).await;
    assert_eq!(tasks.running(), ["spool-publisher"], "an attempt is still open");
    spool.closed(AttemptId(last.id), std::slice::from_ref(&last));
    sent.push(last);
    assert!(tasks.stop(Duration::from_secs(30)).await);
    stream_holds_exactly(&bus, &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_durability_waits_for_jetstream() {
    let nats = Nats::start().await.unwrap();
    let (dir, bus, tasks, tenant) =
        (tempfile::tempdir().unwrap(), bus(&nats).await, Tasks::new(), TenantId::new());
    streams(&bus).await;
    let config = SpoolConfig { durability: Durability::Cluster, ..config() };
    let (spool, _) = open(dir.path(), config).await;
    // Before the publisher starts everything goes by way of the disk, afterwards by way of memory.
    let close = || {
        let event = event(tenant, "attempt_closed");
        spool.opened(&attempt(event.id)).unwrap();
        (spool.closed(AttemptId(event.id), std::slice::from_ref(&event)), event)
    };
    let (early, first) = close();
    assert!(!early.is_done());
    spool.publish_loop(bus.clone(), &tasks);
    early.wait().await.unwrap();
    let (late, second) = close();
    late.wait().await.unwrap();
    assert_eq!(message_count(&bus).await, Some(2));
    stream_holds_exactly(&bus, &[first, second]).await;
    tasks.stop(Duration::from_secs(10)).await;
}
