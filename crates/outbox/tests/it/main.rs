//! The relay between a real PostgreSQL and a real NATS server.
#![cfg(test)]

mod killed;
mod order;
mod outages;

use std::time::Duration;

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;
use weir_db::{AppRole, Db, DbConfig, Letter, Outbox, migrate};
use weir_events::{AUDIT, Bucket, Bus, EventMetrics, NatsConfig, subject};
use weir_outbox::Relay;
use weir_telemetry::Metrics;
use weir_testkit::{APP_PASSWORD, APP_ROLE, Database, Nats, Postgres, until};
use weir_types::{RequestContext, TenantId, TraceContext};

const PATIENCE: Duration = Duration::from_secs(60);
const TEST: Bucket = Bucket { name: "weir_test", max_age: Duration::ZERO, max_bytes: 1 << 20 };
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

struct World {
    database: Database,
    db: Db,
    nats: Nats,
    bus: Bus,
    metrics: Metrics,
}

impl World {
    async fn new() -> Self {
        let apply = |url: String| async move { migrate(&url, &AppRole::new(APP_ROLE, APP_PASSWORD)).await };
        let postgres = Postgres::shared().await.unwrap();
        let database = postgres.database(&weir_db::fingerprint(), apply).await.unwrap();
        let db = Db::connect_lazy(&DbConfig {
            acquire_timeout_ms: 30_000,
            ..DbConfig::new(database.app_url.as_str())
        })
        .unwrap();
        let nats = Nats::start().await.unwrap();
        let metrics = Metrics::new();
        let bus = bus(&nats, &metrics).await;
        Self { database, db, nats, bus, metrics }
    }

    /// With streams and bucket in place.
    async fn ready() -> Self {
        let world = Self::new().await;
        until("the streams", async || world.bus.ensure_streams().await.ok()).await;
        until("the bucket", async || world.bus.push(TEST).ensure().await.ok()).await;
        world
    }

    fn relay(&self) -> Relay {
        let both = (self.db.clone(), self.bus.clone());
        Relay::new(Outbox::Control, "control", &[TEST], both, &self.metrics)
    }

    /// Writes letters as a change does: in one transaction of the tenant's.
    async fn write(&self, tenant: TenantId, letters: &[Letter]) {
        let ctx = ctx(tenant);
        let mut tx = self.db.tenant(&ctx).await.unwrap();
        Outbox::Control.write(&mut tx, &ctx, letters).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn waiting(&self) -> i64 {
        Outbox::Control.state(&self.db, &RequestContext::service("test")).await.unwrap().waiting
    }

    async fn empty(&self) {
        until("an empty outbox", async || (self.waiting().await == 0).then_some(())).await;
    }

    /// What the stream of audit events holds: tenant, last part of the subject, payload.
    async fn stored(&self) -> Vec<(TenantId, String, Vec<u8>)> {
        let stream = self.bus.jetstream().get_stream(AUDIT).await.unwrap();
        let state = stream.get_info().await.unwrap().state;
        let mut all = Vec::new();
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let mut parts = message.subject.splitn(4, '.').skip(2).map(str::to_owned);
            let tenant = parts.next().unwrap().parse().unwrap();
            all.push((tenant, parts.next().unwrap(), message.payload.to_vec()));
        }
        all
    }

    async fn admin(&self, sql: &str) {
        let mut conn = PgConnection::connect(&self.database.admin_url).await.unwrap();
        conn.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    fn metric(&self, line: &str) -> Option<f64> {
        let text = self.metrics.encode();
        let found = text.lines().find_map(|l| l.strip_prefix(line))?;
        found.trim().parse().ok()
    }
}

async fn bus(nats: &Nats, metrics: &Metrics) -> Bus {
    let config = NatsConfig { url: nats.url().into(), ..NatsConfig::default() };
    Bus::connect(&config, EventMetrics::new(metrics)).await.unwrap()
}

fn ctx(tenant: TenantId) -> RequestContext {
    let trace = TraceContext::parse(TRACE);
    RequestContext { tenant: Some(tenant), trace, ..RequestContext::service("test") }
}

/// An audit event of this key, with this payload.
fn letter(tenant: TenantId, key: &str, payload: u32) -> Letter {
    Letter {
        event_id: Uuid::now_v7(),
        key: key.into(),
        subject: subject("audit", tenant, key),
        time_ms: 1_700_000_000_000,
        payload: payload.to_be_bytes().to_vec(),
    }
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().unwrap())
}
