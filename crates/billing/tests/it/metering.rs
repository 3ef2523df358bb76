//! What is counted, and that it is counted once.

use std::{collections::HashMap, time::Instant};

use futures_util::{StreamExt as _, stream};
use sqlx::{Connection as _, PgConnection, Row as _};
use weir_events::{Event, USAGE};
use weir_proto::events::{AttemptClosed, Outcome, RequestFinished, Tokens};

use crate::house::{House, NOW, Someone, successes};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_the_charge_and_attempts_the_cost() {
    let house = House::new().await;
    let someone = Someone::new();
    let outcomes =
        [Outcome::Succeeded, Outcome::Failed, Outcome::Cut, Outcome::Cancelled, Outcome::Interrupted];
    for outcome in outcomes {
        house.publish(&Event::request_finished(&someone.finished(outcome, "m", NOW)).unwrap()).await;
        for _ in 0..2 {
            house.publish(&Event::attempt_closed(&someone.closed(outcome, "m")).unwrap()).await;
        }
    }
    house.settled().await;
    let mut admin = PgConnection::connect(&house.database.admin_url).await.unwrap();
    let row = sqlx::query("SELECT * FROM billing.usage_counters").fetch_one(&mut admin).await.unwrap();
    let expected = [
        ("requests", 5),
        ("errors", 3),
        ("input_tokens", 50),
        ("output_tokens", 25),
        ("cache_read_tokens", 10),
        ("reasoning_tokens", 5),
        ("attempts", 10),
        ("attempts_failed", 2),
        ("attempts_cut", 2),
        ("attempts_cancelled", 2),
        ("attempts_interrupted", 2),
        ("provider_input_tokens", 110),
        ("provider_output_tokens", 60),
        ("provider_cache_read_tokens", 30),
        ("provider_reasoning_tokens", 20),
    ];
    for (column, value) in expected {
        assert_eq!(row.get::<i64, _>(column), value, "{column}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn costs_add_up_and_unknown_ones_are_told() {
    let house = House::new().await;
    let someone = Someone::new();
    for cost in [Some(1_500), Some(2_000_000_000), None] {
        let tokens = Some(Tokens { input: 10, cache_write: 4, ..Tokens::default() });
        let closed = AttemptClosed { cost_nano_usd: cost, tokens, ..someone.closed(Outcome::Succeeded, "m") };
        house.publish(&Event::attempt_closed(&closed).unwrap()).await;
        let finished =
            RequestFinished { cost_nano_usd: cost, tokens, ..someone.finished(Outcome::Succeeded, "m", NOW) };
        house.publish(&Event::request_finished(&finished).unwrap()).await;
    }
    house.settled().await;
    let totals = house.totals(someone.tenant).await;
    assert_eq!((totals.provider_cost_nano_usd, totals.unpriced_calls), (Some(2_000_001_500), 1));
    assert_eq!((totals.requests, totals.cache_write_tokens), (3, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn costs_that_nobody_knows_are_not_nothing() {
    let house = House::new().await;
    for (cost, told) in [(None, None), (Some(0), Some(0))] {
        let someone = Someone::new();
        let closed = AttemptClosed { cost_nano_usd: cost, ..someone.closed(Outcome::Succeeded, "m") };
        house.publish(&Event::attempt_closed(&closed).unwrap()).await;
        house.settled().await;
        assert_eq!(house.totals(someone.tenant).await.provider_cost_nano_usd, told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_counts_once_however_often_it_comes() {
    let mut house = House::new().await;
    let someone = Someone::new();
    let [attempt, request] = someone.success("m");
    for n in 0..5 {
        house.publish_as(&request, &format!("copy-{n}")).await;
        house.publish_as(&attempt, &format!("attempt-copy-{n}")).await;
    }
    house.settled().await;
    assert_eq!(house.totals(someone.tenant).await, successes(1));

    // As after a crash between commit and acknowledgement: everything is delivered again.
    let stream = house.bus.jetstream().get_stream(USAGE).await.unwrap();
    for _ in 0..2 {
        assert!(house.tasks.stop(std::time::Duration::from_secs(20)).await);
        stream.delete_consumer(weir_billing::CONSUMER).await.unwrap();
        house.restart().await;
        house.publish(&someone.success("m")[1]).await;
        house.settled().await;
    }
    assert_eq!(house.totals(someone.tenant).await, successes(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_of_many_tenants_add_up() {
    const REQUESTS: usize = 5_000;
    let mut house = House::new().await;
    assert!(house.tasks.stop(std::time::Duration::from_secs(20)).await);
    let people: Vec<_> = (0..25).map(|_| Someone::new()).collect();
    let mut events = Vec::new();
    let mut expected = HashMap::<_, u64>::new();
    for n in 0..REQUESTS {
        let someone = people[(n * n + n / 7) % people.len()];
        *expected.entry(someone.tenant).or_default() += 1;
        events.extend(someone.success(["m", "n", "o"][n % 3]));
    }
    stream::iter(&events).for_each_concurrent(256, |event| house.publish(event)).await;
    let started = Instant::now();
    house.restart().await;
    house.settled().await;
    let seconds = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = events.len() as f64 / seconds;
    println!("{} events counted in {seconds:.2} s: {rate:.0}/s", events.len());
    for (tenant, requests) in expected {
        assert_eq!(house.totals(tenant).await, successes(requests));
    }
}
