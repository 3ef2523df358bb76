//! Dead letters: everything about the event is kept, replaying reaches the consumer that failed and no other.

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
    AUDIT, BatchHandler, Bus, ConsumerConfig, DLQ, DeadLetterError, Deed, Event, Filter, InfrastructureDown,
    LetterId, Operator, Outcome, Reason, ReasonCode, Received, USAGE,
    async_nats::{
        HeaderMap,
        jetstream::{
            consumer::{AckPolicy, pull},
            stream,
        },
    },
    consume,
};
use weir_runtime::Tasks;
use weir_testkit::{Nats, until};
use weir_types::{Deadline, ManualClock, TenantId};

use crate::support::{bus, event, publish, stored, streams};

/// Refuses what it is told to, as long as it is told to; counts what it lets through.
#[derive(Clone, Default)]
struct Picky {
    faulty: Arc<AtomicBool>,
    through: Arc<Mutex<HashMap<Uuid, u32>>>,
}

impl BatchHandler for Picky {
    async fn handle(&self, batch: &[Received]) -> Result<Vec<Outcome>, InfrastructureDown> {
        let faulty = self.faulty.load(Ordering::SeqCst);
        let mut outcomes = Vec::new();
        for received in batch {
            assert!(received.subject.starts_with("weir.usage."), "{}", received.subject);
            outcomes.push(match received.kind() {
                "bad" if faulty => Outcome::Retry("it does not fit".into()),
                "worse" if faulty => Outcome::DeadLetter(Reason::new(ReasonCode::Rejected, "never")),
                _ => {
                    *self.through.lock().await.entry(received.id).or_default() += 1;
                    Outcome::Ack
                }
            });
        }
        Ok(outcomes)
    }
}

impl Picky {
    async fn times(&self, event: &Event) -> u32 {
        self.through.lock().await.get(&event.id).copied().unwrap_or(0)
    }
}

struct World {
    nats: Nats,
    bus: Bus,
    tasks: Tasks,
    tenant: TenantId,
    /// The consumer `one`, and another that finds nothing wrong.
    one: Picky,
    other: Picky,
}

async fn world() -> World {
    let nats = Nats::start().await.unwrap();
    let (bus, tasks) = (bus(&nats).await, Tasks::new());
    streams(&bus).await;
    let one = Picky { faulty: Arc::new(AtomicBool::new(true)), ..Picky::default() };
    let other = Picky::default();
    for (name, handler) in [("one", &one), ("other", &other)] {
        let config = ConsumerConfig::new(USAGE, name, "weir.usage.>", &["good", "bad", "worse"]);
        let config = ConsumerConfig {
            max_deliver: Some(2),
            retry_first: Duration::from_millis(10),
            clock: Arc::new(ManualClock::at(1_700_000_000_000)),
            ..config
        };
        consume(&bus, config, handler.clone(), &tasks);
    }
    World { nats, bus, tasks, tenant: TenantId::new(), one, other }
}

impl World {
    async fn depth(&self, wanted: u64) {
        let letters = self.bus.dead_letters();
        until("the dead letters", async || (letters.depth().await.ok()? == wanted).then_some(())).await;
    }

    async fn publish(&self, kind: &str) -> Event {
        let event = event(self.tenant, kind);
        publish(&self.bus, &event).await;
        event
    }
}

fn all() -> Filter {
    Filter::default()
}

fn operator() -> Operator {
    Operator { actor: None, clock: Arc::new(ManualClock::at(1_700_000_000_000)), deadline: None }
}

/// What the audit log says was done, each letter once.
async fn audited(bus: &Bus) -> usize {
    stored(bus, AUDIT).await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_leaves_no_deed_untold() {
    let world = world().await;
    let letters = world.bus.dead_letters();
    for _ in 0..30 {
        world.publish("worse").await;
    }
    world.depth(30).await;
    let (filter, by) = (all(), operator());
    let mut bulk = Box::pin(letters.all(Deed::Drop, &filter, 100, &by));
    until("the first ones", async || {
        drop(tokio::time::timeout(Duration::from_millis(5), &mut bulk).await);
        (letters.depth().await.ok()? < 30).then_some(())
    })
    .await;
    drop(bulk);
    let gone = 30 - usize::try_from(letters.depth().await.unwrap()).unwrap();
    let told = audited(&world.bus).await;
    assert!(gone > 0 && told >= gone, "{told} of {gone}");
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_keeps_everything_and_replaying_has_one_effect() {
    let world = world().await;
    let letters = world.bus.dead_letters();
    let mut headers = HeaderMap::new();
    let id = Uuid::now_v7();
    headers.insert("Nats-Msg-Id", id.to_string());
    headers.insert("ce-type", "weir.usage.bad");
    headers.append("x-many", "a");
    headers.append("x-many", "b");
    let bad = Event { id, ..event(world.tenant, "bad") };
    let js = world.bus.jetstream();
    let sent = js.publish_with_headers(bad.subject.clone(), headers, bad.payload.clone()).await;
    let sequence = sent.unwrap().await.unwrap().sequence;
    let good = world.publish("good").await;
    world.depth(1).await;

    let letter = letters.list(&all(), None, 10).await.unwrap().letters.pop().unwrap();
    assert_eq!((letter.stream.as_str(), letter.consumer.as_str(), letter.sequence), (USAGE, "one", sequence));
    assert_eq!(
        (letter.reason_code.as_str(), letter.reason.as_str()),
        ("retries_exhausted", "it does not fit")
    );
    assert_eq!((letter.event_id, letter.tenant), (Some(id), Some(world.tenant)));
    assert_eq!(
        (letter.subject.as_str(), letter.payload.clone()),
        (bad.subject.as_str(), bad.payload.clone())
    );
    assert_eq!((letter.failures, letter.deliveries), (2, 2));
    assert_eq!((letter.first_failure_ms, letter.last_failure_ms), (1_700_000_000_000, 1_700_000_000_000));
    let headers: Vec<_> = letter.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let id = id.to_string();
    assert_eq!(
        headers,
        [("Nats-Msg-Id", id.as_str()), ("ce-type", "weir.usage.bad"), ("x-many", "a"), ("x-many", "b")]
    );
    assert_eq!(letters.get(letter.id).await.unwrap().reason, letter.reason);

    // It fails again: a new letter of the same event, with one replay behind it.
    letters.replay(letter.id, &operator()).await.unwrap();
    let again = until("the second letter", async || {
        let page = letters.list(&all(), None, 10).await.ok()?;
        page.letters.into_iter().find(|l| l.id != letter.id)
    })
    .await;
    assert_eq!((again.event_id, again.subject.as_str()), (letter.event_id, bad.subject.as_str()));
    assert!(matches!(letters.replay(letter.id, &operator()).await, Err(DeadLetterError::NotFound)));

    world.one.faulty.store(false, Ordering::SeqCst);
    letters.replay(again.id, &operator()).await.unwrap();
    until("the event", async || (world.one.times(&bad).await > 0).then_some(())).await;
    world.depth(0).await;
    // What comes after it was published after it: by then a second one would have come.
    let last = world.publish("good").await;
    for handler in [&world.one, &world.other] {
        until("the last event", async || (handler.times(&last).await > 0).then_some(())).await;
        assert_eq!((handler.times(&bad).await, handler.times(&good).await), (1, 1));
    }
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_replay_and_removal_is_no_second_replay() {
    let world = world().await;
    let letters = world.bus.dead_letters();
    let bad = world.publish("worse").await;
    world.depth(1).await;
    let letter = letters.list(&all(), None, 1).await.unwrap().letters.pop().unwrap();
    let dlq = world.bus.jetstream().get_stream(DLQ).await.unwrap();
    let kept = dlq.get_raw_message(letter.id.get()).await.unwrap();
    world.one.faulty.store(false, Ordering::SeqCst);
    // As a process leaves it that dies after the stream has the event: replayed, and still there.
    let stream = world.bus.jetstream().get_stream(USAGE).await.unwrap();
    let id = format!("replay.{}.{}", letter.id, kept.time.unix_timestamp_nanos() / 1_000_000);
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    headers.insert("ce-id", bad.id.to_string());
    let subject = format!("weir.replay.USAGE.one.{}", bad.subject);
    let sent = world.bus.jetstream().publish_with_headers(subject, headers, bad.payload.clone()).await;
    sent.unwrap().await.unwrap();
    let before = stream.get_info().await.unwrap().state.last_sequence;
    letters.replay(letter.id, &operator()).await.unwrap();
    assert_eq!(stream.get_info().await.unwrap().state.last_sequence, before, "the stream knew it");
    world.depth(0).await;
    until("the event", async || (world.one.times(&bad).await == 1).then_some(())).await;
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_burial_and_acknowledgement_is_no_second_letter() {
    let nats = Nats::start().await.unwrap();
    let (bus, tasks) = (bus(&nats).await, Tasks::new());
    streams(&bus).await;
    let bad = event(TenantId::new(), "worse");
    publish(&bus, &bad).await;
    let stream = bus.jetstream().get_stream(USAGE).await.unwrap();
    let stored = stream.get_last_raw_message_by_subject(&bad.subject).await.unwrap();
    // As a process leaves it that dies after the letter is stored: the message comes again.
    let id = format!("USAGE.one.{}.{}", stored.sequence, stored.time.unix_timestamp_nanos());
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    let sent =
        bus.jetstream().publish_with_headers("weir.dlq.USAGE.one.rejected.x", headers, "".into()).await;
    sent.unwrap().await.unwrap();
    let one = Picky { faulty: Arc::new(AtomicBool::new(true)), ..Picky::default() };
    let config = ConsumerConfig::new(USAGE, "one", "weir.usage.>", &["good", "bad", "worse"]);
    consume(&bus, config, one, &tasks);
    until("the message to be settled", async || {
        let info = bus.jetstream().get_stream(USAGE).await.ok()?.consumer_info("one").await.ok()?;
        (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
    })
    .await;
    assert_eq!(bus.dead_letters().depth().await.unwrap(), 1);
    assert!(tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_found_replayed_and_dropped_within_a_bound() {
    let world = world().await;
    let letters = world.bus.dead_letters();
    for n in 0..12 {
        world.publish(if n % 3 == 0 { "worse" } else { "bad" }).await;
    }
    world.depth(12).await;
    let count = async |filter: Filter| letters.list(&filter, None, 100).await.unwrap().letters.len();
    assert_eq!(count(Filter { reason: "rejected".into(), ..all() }).await, 4);
    assert_eq!(count(Filter { consumer: "other".into(), ..all() }).await, 0);
    assert_eq!(count(Filter { tenant: world.tenant.to_string(), stream: USAGE.into(), ..all() }).await, 12);
    assert_eq!(count(Filter { tenant: "unknown".into(), ..all() }).await, 0);
    let first = letters.list(&all(), None, 7).await.unwrap().letters;
    let second = letters.list(&all(), Some(first[6].id), 7).await.unwrap().letters;
    let ids: Vec<_> = first.iter().chain(&second).map(|l| l.id).collect();
    assert!(ids.len() == 12 && ids.is_sorted(), "{ids:?}");

    assert!(letters.list(&all(), Some(first[6].id), 4).await.unwrap().has_more);
    assert!(!letters.list(&all(), Some(first[6].id), 5).await.unwrap().has_more);

    let rejected = Filter { reason: "rejected".into(), ..all() };
    let bulk = letters.all(Deed::Drop, &rejected, 3, &operator()).await.unwrap();
    assert_eq!((bulk.done, bulk.failed.len(), bulk.has_more), (3, 0, true));
    assert_eq!(audited(&world.bus).await, 3);
    let late = Operator { deadline: Some(Deadline::after(Duration::ZERO)), ..operator() };
    let bulk = letters.all(Deed::Drop, &all(), 100, &late).await.unwrap();
    assert_eq!((bulk.done, bulk.has_more), (0, true), "no time for any");
    // Those that fail again become new letters: not an endless round.
    let bulk = letters.all(Deed::Replay, &all(), 100, &operator()).await.unwrap();
    assert_eq!((bulk.done, bulk.failed.len(), bulk.has_more), (9, 0, false));
    world.depth(9).await;
    assert!(matches!(letters.drop(ids[0], &operator()).await, Err(DeadLetterError::NotFound)));
    let bulk = letters.all(Deed::Drop, &all(), 100, &operator()).await.unwrap();
    assert_eq!((bulk.done, bulk.has_more), (9, false));
    world.depth(0).await;
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_letters_make_short_pages_and_too_large_ones_stay_in_their_stream() {
    let world = world().await;
    let letters = world.bus.dead_letters();
    let max = world.bus.client().max_payload();
    let mut events = Vec::new();
    // The last leaves no room for what a letter says besides.
    for bytes in [max / 3, max / 3, max / 3, max - 300] {
        let event = Event { payload: vec![7; bytes].into(), ..event(world.tenant, "worse") };
        publish(&world.bus, &event).await;
        events.push(event);
    }
    world.depth(4).await;
    let page = letters.list(&all(), None, 100).await.unwrap();
    assert!(page.has_more || page.letters.len() == 4);
    let last = page.letters.last().unwrap();
    let rest = letters.list(&all(), Some(last.id), 100).await.unwrap();
    let found: Vec<_> = page.letters.iter().chain(&rest.letters).collect();
    assert_eq!(found.iter().map(|l| l.payload_left_behind).collect::<Vec<_>>(), [false, false, false, true]);
    let reasons: Vec<_> = found.iter().map(|l| l.reason.contains("in USAGE only until")).collect();
    assert_eq!(reasons, [false, false, false, true]);
    world.one.faulty.store(false, Ordering::SeqCst);
    for letter in found {
        letters.replay(letter.id, &operator()).await.unwrap();
    }
    for event in &events {
        until("the event", async || (world.one.times(event).await == 1).then_some(())).await;
    }
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_the_version_before_learn_to_replay() {
    let nats = Nats::start().await.unwrap();
    let bus = bus(&nats).await;
    for (name, subjects) in [(USAGE, "weir.usage.>"), (DLQ, "weir.dlq.>")] {
        let config = stream::Config {
            name: name.into(),
            subjects: vec![subjects.into()],
            max_age: Duration::from_secs(30 * 86_400),
            duplicate_window: Duration::from_secs(600),
            ..stream::Config::default()
        };
        until("a stream", async || bus.jetstream().create_stream(config.clone()).await.ok()).await;
    }
    publish(&bus, &event(TenantId::new(), "good")).await;
    bus.ensure_streams().await.unwrap();
    let usage = bus.jetstream().get_stream(USAGE).await.unwrap();
    let info = usage.cached_info();
    assert_eq!((info.config.subjects.len(), info.state.messages), (2, 1));
    let dlq = bus.jetstream().get_stream(DLQ).await.unwrap();
    assert_eq!(dlq.cached_info().config.duplicate_window, Duration::from_secs(86_400));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_replayed_to_nobody_and_a_deaf_server_is_said() {
    let world = world().await;
    let letters = world.bus.dead_letters();
    world.publish("worse").await;
    world.depth(1).await;
    let letter = letters.list(&all(), None, 1).await.unwrap().letters.pop().unwrap();
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
    // An instance of an earlier version, which hears nothing of replays.
    let stream = world.bus.jetstream().get_stream(USAGE).await.unwrap();
    let config = pull::Config {
        durable_name: Some("one".into()),
        ack_policy: AckPolicy::Explicit,
        filter_subject: "weir.usage.>".into(),
        ..pull::Config::default()
    };
    stream.delete_consumer("one").await.unwrap();
    stream.create_consumer(config).await.unwrap();
    let refused = letters.replay(letter.id, &operator()).await.unwrap_err();
    assert!(refused.to_string().contains("takes replays"), "{refused}");
    assert_eq!(letters.depth().await.unwrap(), 1, "it is still there");
    // This version takes its place.
    let tasks = Tasks::new();
    world.one.faulty.store(false, Ordering::SeqCst);
    let config = ConsumerConfig::new(USAGE, "one", "weir.usage.>", &["good", "bad", "worse"]);
    consume(&world.bus, config, world.one.clone(), &tasks);
    until("the replay", async || letters.replay(letter.id, &operator()).await.ok()).await;
    world.depth(0).await;
    assert!(tasks.stop(Duration::from_secs(10)).await);
    let missing: LetterId = "99".parse().unwrap();
    assert!(matches!(letters.get(missing).await, Err(DeadLetterError::NotFound)));
    assert!("0".parse::<LetterId>().is_err() && "x".parse::<LetterId>().is_err());

    world.nats.kill().await.unwrap();
    until("the end of the connection", async || (!world.bus.connected()).then_some(())).await;
    assert!(matches!(letters.replay(missing, &operator()).await, Err(DeadLetterError::Unavailable(_))));
}
