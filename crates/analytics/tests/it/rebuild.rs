//! Figures built again from events: what was wrong is mended, what was right stays, and counting goes on meanwhile.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sqlx::{Connection as _, PgConnection};
use weir_analytics::{RebuildError, RebuildRange, Rebuilt, rebuild};
use weir_events::{Event, USAGE};
use weir_proto::events::Outcome;
use weir_runtime::Tasks;
use weir_testkit::until;
use weir_types::{Clock as _, SystemClock, TenantId};

use crate::{HOUR, House, finished};

/// Every row of both tables, as text.
async fn rows(house: &House) -> BTreeMap<String, String> {
    let mut admin = PgConnection::connect(&house.admin_url).await.unwrap();
    let sql = "SELECT format('%s %s %s', tenant_id, hour, model), \
         format('%s %s %s %s %s %s', requests, errors, input_tokens, output_tokens, first_token_us_sum, total_us_sum) \
         FROM analytics.kpi_hourly \
         UNION ALL \
         SELECT format('%s %s %s %s %s', tenant_id, hour, model, metric, bucket), count::text \
         FROM analytics.latency_hourly";
    let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&mut admin).await.unwrap();
    rows.into_iter().collect()
}

async fn run(house: &House, from_ms: Option<i64>, to_ms: Option<i64>) -> Result<Rebuilt, RebuildError> {
    rebuild(&house.db, &house.bus, &SystemClock, RebuildRange { from_ms, to_ms }).await
}

async fn admin(house: &House, sql: &str) -> u64 {
    let mut admin = PgConnection::connect(&house.admin_url).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap().rows_affected()
}

fn this_hour() -> i64 {
    let now = SystemClock.now_ms();
    now - now.rem_euclid(HOUR)
}

struct Random {
    rng: StdRng,
    tenants: [TenantId; 3],
    hour: i64,
}

impl Random {
    fn new(seed: u64) -> Self {
        let tenants = [(); 3].map(|()| TenantId::new());
        Self { rng: StdRng::seed_from_u64(seed), tenants, hour: this_hour() }
    }

    /// Of the last four hours; late ones among them. Some cannot be stored.
    fn event(&mut self) -> Event {
        let rng = &mut self.rng;
        let tenant = self.tenants[rng.random_range(0..3)];
        let model = ["a", "b", "a\0"][usize::min(rng.random_range(0..40) / 19, 2)];
        let at = self.hour - rng.random_range(0..4) * HOUR + rng.random_range(0..1_000);
        let outcome = [Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled][rng.random_range(0..3)];
        let us = rng.random_bool(0.8).then(|| rng.random_range(0..5_000_000));
        finished(tenant, model, at, outcome, us)
    }

    async fn publish(&mut self, house: &House, count: usize) {
        for n in 0..count {
            let event = self.event();
            house.publish(&event, &event.id.to_string()).await;
            if n % 7 == 0 {
                house.publish(&event, &format!("copy-{}", event.id)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_gives_what_counting_gave_and_mends_what_is_wrong() {
    let house = House::new().await;
    let mut random = Random::new(7);
    random.publish(&house, 400).await;
    house.settled().await;
    let counted = rows(&house).await;
    assert!(counted.len() > 50, "{}", counted.len());
    let (from, to) = (random.hour - 3 * HOUR, random.hour + HOUR);
    let first = run(&house, Some(from), Some(to)).await.unwrap();
    assert_eq!((first.mended, first.from_ms, first.to_ms), (0, from, to));
    assert_eq!(rows(&house).await, counted, "nothing was wrong");

    let stranger = TenantId::new();
    let spoil = [
        "UPDATE analytics.kpi_hourly SET requests = requests + 1 WHERE model = 'a'",
        "UPDATE analytics.latency_hourly SET count = 0 WHERE model = 'b' AND metric = 'total'",
        "DELETE FROM analytics.kpi_hourly WHERE model = 'b' AND hour = (SELECT max(hour) FROM analytics.kpi_hourly)",
        "DELETE FROM analytics.latency_hourly WHERE model = 'a' AND metric = 'first_token'",
    ];
    for sql in spoil {
        assert!(admin(&house, sql).await > 0, "{sql}");
    }
    let invented = format!(
        "INSERT INTO analytics.kpi_hourly (tenant_id, hour, model) VALUES ('{stranger}', to_timestamp({}), 'x')",
        from / 1_000
    );
    admin(&house, &invented).await;
    // One hour of it: the others stay wrong.
    let spoiled = rows(&house).await;
    let one = run(&house, Some(from), Some(from + HOUR)).await.unwrap();
    assert_eq!(one.mended, 4, "three tenants, and a stranger's row");
    let partly = rows(&house).await;
    assert!(partly != spoiled && partly != counted);
    let all = run(&house, None, None).await.unwrap();
    assert_eq!(all.mended, 9);
    assert_eq!(all.events, first.events);
    assert_eq!(rows(&house).await, counted);
    assert_eq!(run(&house, None, None).await.unwrap().mended, 0);
    assert!(house.tasks.stop(Duration::from_secs(20)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_goes_on_during_rebuilds_and_nothing_is_lost_or_doubled() {
    let house = House::new().await;
    let mut random = Random::new(11);
    random.publish(&house, 100).await;
    let hour = random.hour;
    let enough = AtomicBool::new(false);
    let publishing = async {
        while !enough.load(Ordering::SeqCst) {
            random.publish(&house, 10).await;
        }
    };
    // Rebuilds meet events that are published, delivered, half counted, and late for hours just rebuilt.
    let rebuilding = async {
        for _ in 0..8 {
            run(&house, Some(hour - 3 * HOUR), Some(hour + HOUR)).await.unwrap();
        }
        enough.store(true, Ordering::SeqCst);
    };
    tokio::join!(publishing, rebuilding);
    house.settled().await;
    let counted = rows(&house).await;
    assert_eq!(run(&house, None, None).await.unwrap().mended, 0);
    // From nothing: the sum is not one that the rebuilds above only repeated.
    admin(&house, "TRUNCATE analytics.kpi_hourly, analytics.latency_hourly").await;
    assert!(run(&house, None, None).await.unwrap().mended > 0);
    assert_eq!(rows(&house).await, counted);
    let mut sum = PgConnection::connect(&house.admin_url).await.unwrap();
    let requests: i64 = sqlx::query_scalar("SELECT sum(requests)::bigint FROM analytics.kpi_hourly")
        .fetch_one(&mut sum)
        .await
        .unwrap();
    let inbox: i64 =
        sqlx::query_scalar("SELECT count(*) FROM analytics.inbox").fetch_one(&mut sum).await.unwrap();
    assert_eq!(requests, inbox, "each counted event once");
    assert!(house.tasks.stop(Duration::from_secs(20)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_counted_yet_is_left_to_whoever_counts_it() {
    let mut house = House::new().await;
    let mut random = Random::new(3);
    random.publish(&house, 50).await;
    house.settled().await;
    assert!(house.tasks.stop(Duration::from_secs(20)).await);
    let before = rows(&house).await;
    random.publish(&house, 50).await;
    // Killed halfway: some hours done, others not.
    admin(&house, "UPDATE analytics.kpi_hourly SET errors = 77").await;
    let begun = until("an hour to be mended", async || {
        let left = rows(&house).await.values().filter(|row| row.split(' ').nth(1) == Some("77")).count();
        (left < before.len() / 4).then_some(())
    });
    tokio::select! {
        done = run(&house, Some(this_hour() - 100 * HOUR), None) => drop(done.unwrap()),
        () = begun => {}
    }
    run(&house, None, None).await.unwrap();
    assert_eq!(rows(&house).await, before, "what waits in the stream is not in it");
    house.tasks = Tasks::new();
    house.service.spawn(&house.tasks);
    house.settled().await;
    let counted = rows(&house).await;
    assert_ne!(counted, before);
    assert_eq!(run(&house, None, None).await.unwrap().mended, 0);
    assert!(house.tasks.stop(Duration::from_secs(20)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_whose_events_are_gone_are_refused_and_stay_as_they_are() {
    let house = House::new().await;
    let mut random = Random::new(5);
    random.publish(&house, 60).await;
    house.settled().await;
    let counted = rows(&house).await;
    let stream = house.bus.jetstream().get_stream(USAGE).await.unwrap();
    stream.purge().sequence(30).await.unwrap();
    let refused = run(&house, Some(random.hour - 3 * HOUR), None).await.unwrap_err();
    let RebuildError::NotHeld { first_whole_hour_ms } = refused else { panic!("{refused}") };
    assert_eq!(first_whole_hour_ms % HOUR, 0);
    assert!(first_whole_hour_ms > random.hour, "{first_whole_hour_ms}");
    for (from, to) in [(1, None), (first_whole_hour_ms, Some(first_whole_hour_ms))] {
        assert!(matches!(run(&house, Some(from), to).await, Err(RebuildError::Range)));
    }
    // A broker that came back empty holds nothing of what was counted before it.
    house.nats.lose().await.unwrap();
    house.nats.restart().await.unwrap();
    until("the stream", async || house.bus.ensure_streams().await.ok()).await;
    admin(&house, "UPDATE analytics.inbox SET received_at = received_at - interval '3 hours'").await;
    let refused = run(&house, Some(random.hour), None).await.unwrap_err();
    assert!(matches!(refused, RebuildError::NotHeld { .. }), "{refused}");
    assert_eq!(rows(&house).await, counted);
    assert!(house.tasks.stop(Duration::from_secs(20)).await);
}
