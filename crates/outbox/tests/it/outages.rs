//! NATS away, empty when it comes back, and databases behind a pooler.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use weir_events::Change;
use weir_outbox::Refill;
use weir_runtime::Tasks;
use weir_testkit::PgBouncer;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn put(tenant: TenantId, value: u32) -> Letter {
    Letter { subject: TEST.subject(&tenant.to_string()), ..letter(tenant, "state", value) }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_wait_while_nats_is_away_and_go_out_when_it_is_back() {
    let world = World::new().await;
    let tasks = Tasks::new();
    let relay = world.relay();
    relay.spawn("relay", &tasks);
    world.nats.stop().await.unwrap();
    let tenant = TenantId::new();
    for n in 0..3 {
        world.write(tenant, &[put(tenant, n), letter(tenant, "a", n)]).await;
    }
    until("the lag", async || (world.metric(r#"weir_outbox_rows{outbox="control"}"#)? > 5.0).then_some(()))
        .await;
    assert!(world.metric(r#"weir_outbox_lag_seconds{outbox="control"}"#).unwrap() > 0.0);
    assert_eq!(relay.check(), Ok(()));
    world.admin("UPDATE control.outbox SET written_at = written_at - interval '1 hour'").await;
    let late = until("the complaint", async || relay.check().err()).await;
    assert!(late.starts_with("6 changes not published, the oldest 36"), "{late}");

    world.nats.restart().await.unwrap();
    world.empty().await;
    let mut watch = world.bus.push(TEST).watch();
    let value = Bytes::copy_from_slice(&2u32.to_be_bytes());
    assert_eq!(watch.next().await, Change::Put { key: tenant.to_string(), value });
    assert_eq!(world.stored().await.iter().map(|s| number(&s.2)).collect::<Vec<_>>(), [0, 1, 2]);
    until("nothing to complain of", async || relay.check().ok()).await;
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_buckets_are_made_when_they_are_missing() {
    let world = World::new().await;
    let tasks = Tasks::new();
    world.relay().spawn("relay", &tasks);
    let tenant = TenantId::new();
    world.write(tenant, &[put(tenant, 1)]).await;
    world.empty().await;
    world.nats.lose().await.unwrap();
    world.nats.restart().await.unwrap();
    world.write(tenant, &[put(tenant, 2)]).await;
    world.empty().await;
    let mut watch = world.bus.push(TEST).watch();
    let value = Bytes::copy_from_slice(&2u32.to_be_bytes());
    assert_eq!(watch.next().await, Change::Put { key: tenant.to_string(), value });
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_connection_to_listen_on_it_publishes_all_the_same() {
    let mut world = World::ready().await;
    let config = DbConfig { max_connections: 1, ..DbConfig::new(world.database.app_url.as_str()) };
    world.db = Db::connect_lazy(&config).unwrap();
    assert_eq!(world.waiting().await, 0);
    let limit = async |most: i32| {
        let name = "SELECT current_database()";
        let mut conn = PgConnection::connect(&world.database.admin_url).await.unwrap();
        let name: String = sqlx::query_scalar(name).fetch_one(&mut conn).await.unwrap();
        world.admin(&format!("ALTER DATABASE \"{name}\" CONNECTION LIMIT {most}")).await;
    };
    // That one stays; there is no other for services.
    limit(1).await;
    let tasks = Tasks::new();
    world.relay().spawn("relay", &tasks);
    let tenant = TenantId::new();
    world.write(tenant, &[letter(tenant, "a", 1)]).await;
    world.empty().await;
    limit(-1).await;
    until("a listener", async || {
        let mut conn = PgConnection::connect(&world.database.admin_url).await.unwrap();
        let listens = "SELECT true FROM pg_stat_activity \
             WHERE datname = current_database() AND query ILIKE 'listen %'";
        sqlx::query_scalar::<_, bool>(listens).fetch_optional(&mut conn).await.unwrap()
    })
    .await;
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_bucket_is_filled_once_however_often_publishing_fails() {
    let world = World::ready().await;
    let fills = Arc::new(AtomicUsize::new(0));
    let (db, count) = (world.db.clone(), fills.clone());
    let fill = Box::new(move || {
        let (db, count) = (db.clone(), count.clone());
        Box::pin(async move {
            count.fetch_add(1, Ordering::Relaxed);
            let tenant = TenantId::new();
            let nowhere = Letter { subject: "nowhere.at.all".into(), ..letter(tenant, "a", 1) };
            let mut tx = db.tenant(&ctx(tenant)).await?;
            Outbox::Control.write(&mut tx, &ctx(tenant), &[nowhere]).await?;
            tx.commit().await
        }) as _
    });
    let both = (world.db.clone(), world.bus.clone());
    let refill = Some(Refill { fill, look_every: HOUR });
    let relay = Relay::with_refill(Outbox::Control, "control", &[TEST], both, &world.metrics, refill);
    let tasks = Tasks::new();
    relay.spawn("relay", &tasks);
    until("failures", async || {
        (world.metric(r#"weir_outbox_failures_total{outbox="control"}"#)? > 3.0).then_some(())
    })
    .await;
    assert_eq!((fills.load(Ordering::Relaxed), world.waiting().await), (1, 1));
    // Its way opens.
    world.admin("UPDATE control.outbox SET subject = 'weir.audit.' || tenant_id || '.a'").await;
    world.empty().await;
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_it_looks_by_itself() {
    let world = World::ready().await;
    let Some(pooler) = PgBouncer::start(&world.database).await.unwrap() else {
        println!("skipped: no pgbouncer here");
        return;
    };
    let config = DbConfig { pooler: true, ..DbConfig::new(pooler.app_url()) };
    let db = Db::connect_lazy(&config).unwrap();
    assert!(db.listen(Outbox::Control.channel()).await.unwrap().is_none());
    let tasks = Tasks::new();
    let relay = Relay::new(Outbox::Control, "control", &[TEST], (db, world.bus.clone()), &world.metrics);
    relay.spawn("relay", &tasks);
    let tenant = TenantId::new();
    for n in 0..5 {
        world.write(tenant, &[letter(tenant, "a", n)]).await;
        world.empty().await;
    }
    assert_eq!(world.stored().await.len(), 5);
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_sends_what_waits() {
    let world = World::ready().await;
    let tasks = Tasks::new();
    world.relay().spawn("relay", &tasks);
    let tenant = TenantId::new();
    let letters: Vec<_> = (0..100).map(|n| letter(tenant, &format!("k{n}"), n)).collect();
    world.write(tenant, &letters).await;
    assert!(tasks.stop(PATIENCE).await);
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_filled_by_halves_is_filled_to_the_end() {
    let world = World::ready().await;
    let fills = Arc::new(AtomicUsize::new(0));
    let (bus, count) = (world.bus.clone(), fills.clone());
    let fill = Box::new(move || {
        let (bus, count) = (bus.clone(), count.clone());
        Box::pin(async move {
            if count.fetch_add(1, Ordering::Relaxed) > 0 {
                return Ok(());
            }
            // What was written before it broke off is published by somebody else.
            bus.push(TEST).put("one", Bytes::new()).await.unwrap();
            Err(weir_db::DbError::DeadlineExceeded)
        }) as _
    });
    let both = (world.db.clone(), world.bus.clone());
    let refill = Some(Refill { fill, look_every: HOUR });
    let relay = Relay::with_refill(Outbox::Control, "control", &[TEST], both, &world.metrics, refill);
    let tasks = Tasks::new();
    relay.spawn("relay", &tasks);
    until("the second try", async || (fills.load(Ordering::Relaxed) == 2).then_some(())).await;
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_becomes_empty_under_way_is_filled_again() {
    let world = World::ready().await;
    let tenant = TenantId::new();
    let db = world.db.clone();
    let fill = Box::new(move || {
        let db = db.clone();
        Box::pin(async move {
            let mut tx = db.tenant(&ctx(tenant)).await?;
            Outbox::Control.write(&mut tx, &ctx(tenant), &[put(tenant, 1)]).await?;
            tx.commit().await
        }) as _
    });
    let both = (world.db.clone(), world.bus.clone());
    let refill = Some(Refill { fill, look_every: Duration::from_millis(100) });
    let relay = Relay::with_refill(Outbox::Control, "control", &[TEST], both, &world.metrics, refill);
    let tasks = Tasks::new();
    relay.spawn("relay", &tasks);
    for _ in 0..2 {
        let stream = until("the value", async || {
            let stream = world.bus.jetstream().get_stream(format!("KV_{}", TEST.name)).await.ok()?;
            (stream.cached_info().state.messages == 1).then_some(stream)
        })
        .await;
        stream.purge().await.unwrap();
    }
    assert!(tasks.stop(PATIENCE).await);
}
