//! A relay that dies wherever it waits loses nothing and does nothing twice.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use weir_db::{DbError, Effect, Inbox, Item};
use weir_events::{AUDIT, BatchHandler, ConsumerConfig, InfrastructureDown, Outcome, Received, consume};
use weir_runtime::Tasks;

use super::*;

/// Runs a future up to the n-th time it waits, and drops it there.
struct Killed<F> {
    future: F,
    waits_left: usize,
}

impl<F: Future + Unpin> Future for Killed<F> {
    /// `None`: it was killed.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.waits_left == 0 => Poll::Ready(None),
            Poll::Pending => {
                self.waits_left -= 1;
                Poll::Pending
            }
        }
    }
}

/// Each event's effect is a row; a second one would be refused, and a second count seen.
struct Rows;

impl Effect<u32> for Rows {
    async fn apply(&self, conn: &mut PgConnection, tenant: TenantId, fresh: &[&u32]) -> Result<(), DbError> {
        for n in fresh {
            sqlx::query(
                "INSERT INTO billing.effects VALUES ($1, $2, 1) \
                 ON CONFLICT (tenant_id, n) DO UPDATE SET times = effects.times + 1",
            )
            .bind(tenant.0)
            .bind(i64::from(**n))
            .execute(&mut *conn)
            .await?;
        }
        Ok(())
    }
}

struct Consumer(Db);

impl BatchHandler for Consumer {
    async fn handle(&self, batch: &[Received]) -> Result<Vec<Outcome>, InfrastructureDown> {
        let items: Vec<_> = batch
            .iter()
            .map(|r| Item { tenant: r.tenant, event_id: r.id, value: number(&r.payload) })
            .collect();
        let ctx = RequestContext::service("test");
        let results =
            Inbox::Billing.apply_once(&self.0, &ctx, &items, &Rows).await.map_err(InfrastructureDown::new)?;
        Ok(results.into_iter().map(|r| r.map_or_else(|e| panic!("{e}"), |()| Outcome::Ack)).collect())
    }
}

impl World {
    async fn effects(&self) -> Vec<(i64, i64)> {
        let mut conn = PgConnection::connect(&self.database.admin_url).await.unwrap();
        sqlx::query_as("SELECT n, times FROM billing.effects ORDER BY n").fetch_all(&mut conn).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_wherever_it_waits_loses_nothing_and_does_nothing_twice() {
    let world = World::ready().await;
    world
        .admin(&format!(
            "CREATE TABLE billing.effects (tenant_id uuid, n bigint, times bigint, PRIMARY KEY (tenant_id, n)); \
             GRANT SELECT, INSERT, UPDATE ON billing.effects TO {APP_ROLE}"
        ))
        .await;
    let tenant = TenantId::new();
    let (mut written, mut waits, mut in_a_row) = (0, 0, 0);
    // One more wait each time, until it gets through; three times, as how often it waits differs from run to run.
    while in_a_row < 3 {
        let letters: Vec<_> = ["a", "a", "b"]
            .iter()
            .map(|key| {
                written += 1;
                letter(tenant, key, written)
            })
            .collect();
        world.write(tenant, &letters).await;
        let relay = world.relay();
        let pass = pin!(relay.pass());
        let result = Killed { future: pass, waits_left: waits }.await;
        match result {
            None => {
                waits += 1;
                in_a_row = 0;
            }
            // A machine under load may have kept an acknowledgement waiting.
            Some(pass) if pass.as_ref().unwrap().failed > 0 => in_a_row = 0,
            Some(_) => in_a_row += 1,
        }
        assert!(waits < 500, "it never got through");
    }
    assert!(waits > 5, "it was killed at {waits} points only");
    let relay = world.relay();
    until("the rest", async || {
        relay.pass().await.unwrap();
        (world.waiting().await == 0).then_some(())
    })
    .await;
    let duplicates = world.metric(r#"weir_outbox_duplicates_total{outbox="control"}"#).unwrap();
    assert!(duplicates > 0.0, "no relay died between acknowledgement and commit");
    println!("killed at {waits} points, {written} letters written, {duplicates} published again");

    let stored = world.stored().await;
    let mut by_key: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (_, key, payload) in &stored {
        by_key.entry(key).or_default().push(number(payload));
    }
    assert_eq!(stored.len(), written as usize, "nothing lost, nothing stored twice");
    assert!(by_key.values().all(|numbers| numbers.is_sorted()), "letters of a key stay in order: {by_key:?}");

    let tasks = Tasks::new();
    let config = ConsumerConfig::new(AUDIT, "test", "weir.audit.>", &["a", "b"]);
    consume(&world.bus, config, Consumer(world.db.clone()), &tasks);
    let all = until("every effect", async || {
        let effects = world.effects().await;
        (effects.len() == written as usize).then_some(effects)
    })
    .await;
    assert!(all.iter().all(|(_, times)| *times == 1), "{all:?}");
    assert!(tasks.stop(PATIENCE).await);
}
