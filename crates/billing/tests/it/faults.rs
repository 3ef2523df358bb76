//! Bad messages and absent servers.

use sqlx::{Connection as _, PgConnection};
use weir_events::{Event, Filter};
use weir_proto::events::Outcome;
use weir_testkit::{Postgres, until};

use crate::house::{House, MAX_DELIVER, NOW, Someone, successes};

#[tokio::test(flavor = "multi_thread")]
async fn poison_goes_to_the_dead_letters_and_takes_nobody_with_it() {
    let mut house = House::new().await;
    let (good, rich) = (Someone::new(), Someone::new());
    // One counter is about to overflow: only the database can notice.
    house.publish(&rich.success("m")[1]).await;
    house.settled().await;
    let mut admin = PgConnection::connect(&house.database.admin_url).await.unwrap();
    let full = "UPDATE billing.usage_counters SET input_tokens = 9223372036854775800";
    assert_eq!(sqlx::query(full).execute(&mut admin).await.unwrap().rows_affected(), 1);

    assert!(house.tasks.stop(std::time::Duration::from_secs(20)).await);
    let mut bad = Vec::new();
    let mut publish_bad = async |event: Event, reason: &'static str| {
        house.publish(&event).await;
        bad.push((event.id.to_string(), reason));
    };
    for _ in 0..20 {
        house.publish(&good.success("m")[1]).await;
    }
    publish_bad(rich.success("m")[1].clone(), "out of range").await;
    publish_bad(good.success("nul\0")[1].clone(), "invalid byte sequence").await;
    publish_bad(good.success(&"x".repeat(513))[1].clone(), "check constraint").await;
    let mut absurd = good.finished(Outcome::Succeeded, "m", NOW);
    absurd.tokens.as_mut().unwrap().output = u64::MAX;
    publish_bad(Event::request_finished(&absurd).unwrap(), "absurd").await;
    let garbage = Event { payload: vec![0xff, 0xff].into(), ..good.success("m")[0].clone() };
    publish_bad(garbage, "invalid").await;
    for _ in 0..20 {
        house.publish(&good.success("m")[1]).await;
    }
    house.restart().await;
    house.settled().await;

    assert_eq!(house.totals(good.tenant).await, successes(40));
    assert_eq!(house.totals(rich.tenant).await.requests, 1);
    let dead = house.dead_letters().await;
    assert_eq!(dead.len(), bad.len());
    for (id, reason) in bad {
        let letter = dead.iter().find(|h| h.get("weir-event-id").unwrap().as_str() == id).unwrap();
        let told = letter.get("weir-reason").unwrap().as_str();
        assert!(told.contains(reason), "{told}");
        let code = letter.get("weir-reason-code").unwrap().as_str();
        let undecodable = ["absurd", "invalid"].contains(&reason);
        assert_eq!(code, if undecodable { "undecodable" } else { "rejected" }, "{told}");
    }
}

/// A trigger of an operator's who keeps a model from being counted.
const FORBID: &str = "\
CREATE FUNCTION public.forbid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.model = 'forbidden' THEN RAISE EXCEPTION 'not today'; END IF; RETURN NEW; END $$;
CREATE TRIGGER forbid BEFORE INSERT ON billing.usage_counters FOR EACH ROW EXECUTE FUNCTION public.forbid()";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_is_tried_again_then_dead_and_counts_once_when_replayed() {
    let house = House::new().await;
    let someone = Someone::new();
    let mut admin = PgConnection::connect(&house.database.admin_url).await.unwrap();
    sqlx::raw_sql(FORBID).execute(&mut admin).await.unwrap();
    for _ in 0..10 {
        house.publish(&someone.success("m")[1]).await;
    }
    let forbidden = someone.success("forbidden")[1].clone();
    house.publish(&forbidden).await;
    for _ in 0..10 {
        house.publish(&someone.success("m")[1]).await;
    }
    let letters = house.bus.dead_letters();
    let letter = until("the dead letter", async || {
        letters.list(&Filter::default(), None, 10).await.ok()?.letters.pop()
    })
    .await;
    // The others did not wait for it.
    assert_eq!(house.totals(someone.tenant).await, successes(20));
    assert_eq!(
        (letter.reason_code.as_str(), letter.failures, letter.event_id),
        ("retries_exhausted", MAX_DELIVER, Some(forbidden.id))
    );
    assert!(letter.reason.contains("not today"), "{}", letter.reason);

    sqlx::raw_sql("DROP TRIGGER forbid ON billing.usage_counters").execute(&mut admin).await.unwrap();
    let by = weir_events::Operator {
        actor: None,
        clock: std::sync::Arc::new(weir_types::SystemClock),
        deadline: None,
    };
    letters.replay(letter.id, &by).await.unwrap();
    house.settled().await;
    assert_eq!(house.totals(someone.tenant).await, successes(21));
    // Once more, under an id that the stream does not know: the inbox does.
    let mut headers = weir_events::async_nats::HeaderMap::new();
    headers.insert("ce-id", forbidden.id.to_string());
    headers.insert("Nats-Msg-Id", "another");
    let subject = format!("weir.replay.USAGE.{}.{}", weir_billing::CONSUMER, forbidden.subject);
    let sent = house.bus.jetstream().publish_with_headers(subject, headers, forbidden.payload.clone()).await;
    sent.unwrap().await.unwrap();
    house.settled().await;
    assert_eq!(house.totals(someone.tenant).await, successes(21));
    assert_eq!(letters.depth().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_ours_is_no_event_s_fault() {
    let house = House::new().await;
    let someone = Someone::new();
    let mut admin = PgConnection::connect(&house.database.admin_url).await.unwrap();
    sqlx::raw_sql("ALTER TABLE billing.usage_counters RENAME TO elsewhere")
        .execute(&mut admin)
        .await
        .unwrap();
    house.publish(&someone.success("m")[1]).await;
    until("more deliveries than an event may fail", async || {
        let stream = house.bus.jetstream().get_stream(weir_events::USAGE).await.ok()?;
        let info = stream.consumer_info(weir_billing::CONSUMER).await.ok()?;
        (info.delivered.consumer_sequence > u64::from(MAX_DELIVER) + 1).then_some(())
    })
    .await;
    sqlx::raw_sql("ALTER TABLE billing.elsewhere RENAME TO usage_counters")
        .execute(&mut admin)
        .await
        .unwrap();
    house.settled().await;
    assert_eq!(house.totals(someone.tenant).await, successes(1));
    assert!(house.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_versions_event_is_skipped() {
    let house = House::new().await;
    let someone = Someone::new();
    let [_, request] = someone.success("m");
    let unknown =
        Event { subject: weir_events::subject("usage", someone.tenant, "embedding_made"), ..request };
    house.publish(&unknown).await;
    house.settled().await;
    assert!(house.dead_letters().await.is_empty());
    assert_eq!(house.totals(someone.tenant).await, successes(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_and_nats_come_back_and_nothing_is_lost_or_doubled() {
    let postgres = Postgres::private().await.unwrap();
    let house = House::with(&postgres).await;
    let someone = Someone::new();
    let publish = async |n: usize| {
        for _ in 0..n {
            for event in someone.success("m") {
                house.publish(&event).await;
            }
        }
    };
    publish(50).await;
    house.settled().await;
    postgres.stop().await.unwrap();
    publish(50).await;
    // It keeps trying: messages have come more than once.
    until("redeliveries", async || {
        let stream = house.bus.jetstream().get_stream(weir_events::USAGE).await.ok()?;
        let info = stream.consumer_info(weir_billing::CONSUMER).await.ok()?;
        (info.delivered.consumer_sequence > info.delivered.stream_sequence + 50).then_some(())
    })
    .await;
    house.nats.kill().await.unwrap();
    house.nats.restart().await.unwrap();
    postgres.start().await.unwrap();
    until("the connection to nats", async || house.bus.ensure_streams().await.ok()).await;
    publish(50).await;
    house.settled().await;
    assert_eq!(house.totals(someone.tenant).await, successes(150));
    assert!(house.dead_letters().await.is_empty());
}
