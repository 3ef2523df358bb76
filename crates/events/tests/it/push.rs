//! Buckets and those who watch them.

use bytes::Bytes;
use weir_events::{Change, Watch};
use weir_testkit::{Nats, until};

use crate::support::bus;

fn put(key: &str, value: &'static str) -> Change {
    Change::Put { key: key.into(), value: Bytes::from_static(value.as_bytes()) }
}

/// Everything up to the next [`Change::Current`].
async fn until_current(watch: &mut Watch) -> Vec<Change> {
    let mut changes = Vec::new();
    loop {
        match watch.next().await {
            Change::Current => return changes,
            change => changes.push(change),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_is_there_then_what_changes_and_starts_over_with_nats() {
    let nats = Nats::start().await.unwrap();
    let bus = bus(&nats).await;
    let push = bus.push("weir_test");
    let mut empty = push.watch();
    assert_eq!(empty.next().await, Change::Current, "an empty bucket is current at once");

    until("the first value", async || push.put("a", Bytes::from_static(b"1")).await.ok()).await;
    push.put("a", Bytes::from_static(b"2")).await.unwrap();
    push.put("b.c", Bytes::from_static(b"3")).await.unwrap();
    let mut watch = push.watch();
    assert_eq!(until_current(&mut watch).await, [put("a", "2"), put("b.c", "3")]);
    assert_eq!(
        [empty.next().await, empty.next().await, empty.next().await],
        [put("a", "1"), put("a", "2"), put("b.c", "3")]
    );
    push.delete("a").await.unwrap();
    assert_eq!(watch.next().await, Change::Delete { key: "a".into() });

    nats.kill().await.unwrap();
    assert!(push.put("b.c", Bytes::from_static(b"lost")).await.is_err());
    nats.restart().await.unwrap();
    assert_eq!(until_current(&mut watch).await, [put("b.c", "3"), Change::Delete { key: "a".into() }]);
    until("a value after the restart", async || push.put("d", Bytes::from_static(b"4")).await.ok()).await;
    assert_eq!(watch.next().await, put("d", "4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn key_changes_are_forgotten_after_a_day_whoever_came_first() {
    let nats = Nats::start().await.unwrap();
    let bus = bus(&nats).await;
    assert_eq!(bus.key_changes().watch().next().await, Change::Current);
    let stream = bus.jetstream().get_stream("KV_weir_keys").await.unwrap();
    assert_eq!(stream.cached_info().config.max_age.as_secs(), 86_400);
}
