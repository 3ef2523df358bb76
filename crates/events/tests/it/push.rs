//! Buckets and those who watch them.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;
use weir_events::{Bucket, Change, Event, Watch};
use weir_testkit::{Nats, until};

use crate::support::bus;

const TEST: Bucket = Bucket { name: "weir_test", max_age: Duration::ZERO, max_bytes: 1 << 20 };

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
    let push = bus.push(TEST);
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
async fn buckets_are_bounded_whoever_came_first_and_whatever_they_were_before() {
    let nats = Nats::start().await.unwrap();
    let bus = bus(&nats).await;
    let before = Bucket { max_bytes: 1 << 30, ..Bucket::KEYS };
    assert_eq!(bus.push(before).watch().next().await, Change::Current);
    bus.push(Bucket::KEYS).ensure().await.unwrap();
    bus.push(Bucket::KEYS).ensure().await.unwrap();
    let stream = bus.jetstream().get_stream("KV_weir_keys").await.unwrap();
    let config = &stream.cached_info().config;
    assert_eq!((config.max_age.as_secs(), config.max_bytes), (86_400, 64 << 20));
    assert_eq!(config.max_messages_per_subject, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_may_be_a_keys_value_and_counts_once() {
    let nats = Nats::start().await.unwrap();
    let bus = bus(&nats).await;
    until("the bucket", async || bus.push(TEST).ensure().await.ok()).await;
    let mut watch = bus.push(TEST).watch();
    assert_eq!(watch.next().await, Change::Current);
    let event = |value: &'static str| Event {
        id: Uuid::now_v7(),
        subject: TEST.subject("t.k"),
        time_ms: 0,
        payload: Bytes::from_static(value.as_bytes()),
    };
    let (one, two) = (event("1"), event("2"));
    for (event, duplicate) in [(&one, false), (&one, true), (&two, false), (&one, true)] {
        assert_eq!(bus.publish(event, "test", None).await.unwrap().duplicate, duplicate);
    }
    assert_eq!([watch.next().await, watch.next().await], [put("t.k", "1"), put("t.k", "2")]);
    assert_eq!(until_current(&mut bus.push(TEST).watch()).await, [put("t.k", "2")]);
    let lost = Event { subject: "nowhere.at.all".into(), ..event("3") };
    assert!(bus.publish(&lost, "test", None).await.is_err());
}
