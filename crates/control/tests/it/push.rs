//! Revocations reach watchers, at once or as soon as NATS is back.

use std::time::Duration;

use prost::Message as _;
use weir_events::{Bus, Change, EventMetrics, NatsConfig, Watch};
use weir_proto::control::KeyChange;
use weir_runtime::Tasks;
use weir_telemetry::Metrics;
use weir_testkit::Nats;

use crate::{World, manager};

const PATIENCE: Duration = Duration::from_secs(60);

async fn watch(nats: &Nats) -> Watch {
    let config = NatsConfig { url: nats.url().into(), ..NatsConfig::default() };
    let bus = Bus::connect(&config, EventMetrics::new(&Metrics::new())).await.unwrap();
    bus.key_changes().watch()
}

/// The next change of a key, `Current` marks aside.
async fn next(watch: &mut Watch) -> (String, KeyChange) {
    let change = async {
        loop {
            if let Change::Put { key, value } = watch.next().await {
                return (key, KeyChange::decode(value).unwrap());
            }
        }
    };
    tokio::time::timeout(PATIENCE, change).await.expect("nothing was pushed")
}

#[tokio::test]
async fn a_revocation_is_pushed() {
    let nats = Nats::start().await.unwrap();
    let world = World::with_nats(&nats.url()).await;
    let tasks = Tasks::new();
    world.service.spawn(&tasks);
    let mut watch = watch(&nats).await;
    let tenant = world.tenant("acme").await;
    let id = world.key(tenant).await.api_key.unwrap().id;
    world.revoke(&manager(tenant), &id).await.unwrap();
    let expected = (id.clone(), KeyChange { key_id: id, revoked: true });
    assert_eq!(next(&mut watch).await, expected);
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test]
async fn without_nats_it_is_revoked_all_the_same_and_pushed_later() {
    let nats = Nats::start().await.unwrap();
    let world = World::with_nats(&nats.url()).await;
    nats.stop().await.unwrap();
    let tasks = Tasks::new();
    world.service.spawn(&tasks);
    let tenant = world.tenant("acme").await;
    let mut expected = Vec::new();
    for _ in 0..3 {
        let made = world.key(tenant).await;
        let id = made.api_key.unwrap().id;
        world.revoke(&manager(tenant), &id).await.unwrap();
        assert!(world.resolve(&made.secret).await.is_err());
        expected.push(id);
    }
    nats.restart().await.unwrap();
    let mut watch = watch(&nats).await;
    let mut pushed = Vec::new();
    while pushed.len() < expected.len() {
        let (key, change) = next(&mut watch).await;
        assert!(change.revoked);
        // A put whose answer was lost comes twice.
        if !pushed.contains(&key) {
            pushed.push(key);
        }
    }
    pushed.sort();
    assert_eq!(pushed, expected);
    let waiting = async {
        while !world.metrics.encode().contains("control_key_push_waiting_current 0") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("something still waits");
    assert!(tasks.stop(PATIENCE).await);
}
