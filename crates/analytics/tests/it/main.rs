//! Analytics on real PostgreSQL and NATS.
#![cfg(test)]

mod rebuild;

use std::{sync::Arc, time::Duration};

use uuid::Uuid;
use weir_analytics::{Config, Deps, Service, build};
use weir_db::{AppRole, Db, DbConfig};
use weir_error::{Code, Error};
use weir_events::{Bus, Event, EventMetrics, NatsConfig, USAGE, async_nats::HeaderMap};
use weir_proto::{
    analytics::{HourKpis, HourlyKpisRequest, analytics_client::AnalyticsClient},
    events::{AttemptClosed, Caller, Outcome, RequestFinished, Tokens},
};
use weir_rpc::Transport;
use weir_runtime::Tasks;
use weir_testkit::{APP_PASSWORD, APP_ROLE, Nats, Postgres, until};
use weir_types::{KeyId, ManualClock, Principal, RequestContext, TenantId, scope};

/// 2023-11-14T22:13:20.123Z; its hour starts at 22:00.
const NOW: i64 = 1_700_000_000_123;
const HOUR: i64 = 3_600_000;
const THIS_HOUR: i64 = 1_699_999_200_000;

struct House {
    nats: Nats,
    admin_url: String,
    db: Db,
    bus: Bus,
    service: Service,
    tasks: Tasks,
}

impl House {
    async fn new() -> Self {
        let role = AppRole::new(APP_ROLE, APP_PASSWORD);
        let migrate = |url: String| async move { weir_db::migrate(&url, &role).await };
        let postgres = Postgres::shared().await.unwrap();
        let database = postgres.database(&weir_db::fingerprint(), migrate).await.unwrap();
        let nats = Nats::start().await.unwrap();
        let config = NatsConfig { url: nats.url().into(), ..NatsConfig::default() };
        let bus = Bus::connect(&config, EventMetrics::default()).await.unwrap();
        until("streams", async || bus.ensure_streams().await.ok()).await;
        let db = Db::connect_lazy(&DbConfig {
            acquire_timeout_ms: 30_000,
            ..DbConfig::new(database.app_url.clone())
        })
        .unwrap();
        let deps = Deps { db: db.clone(), bus: bus.clone(), clock: Arc::new(ManualClock::at(NOW)) };
        let service = build(Config::default(), deps).unwrap();
        let tasks = Tasks::new();
        service.spawn(&tasks);
        Self { nats, admin_url: database.admin_url.clone(), db, bus, service, tasks }
    }

    async fn publish(&self, event: &Event, message_id: &str) {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", message_id);
        headers.insert("ce-id", event.id.to_string());
        let js = self.bus.jetstream();
        let sent = js.publish_with_headers(event.subject.clone(), headers, event.payload.clone()).await;
        sent.unwrap().await.unwrap();
    }

    async fn settled(&self) {
        until("every message to be settled", async || {
            let stream = self.bus.jetstream().get_stream(USAGE).await.ok()?;
            let info = stream.consumer_info(weir_analytics::CONSUMER).await.ok()?;
            (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
        })
        .await;
    }

    async fn kpis(&self, ctx: &RequestContext, from_ms: i64, model: &str) -> Result<Vec<HourKpis>, Error> {
        let mut client = AnalyticsClient::new(Transport::local("analytics", self.service.routes()));
        let request = HourlyKpisRequest { from_ms, to_ms: 0, model: model.into() };
        Ok(client.hourly_kpis(weir_rpc::request(ctx, request)).await?.into_inner().data)
    }
}

fn ctx(tenant: TenantId) -> RequestContext {
    let scopes = scope::TENANT.iter().map(|s| (*s).into()).collect();
    let principal = Principal::Key { id: KeyId::new(), user: None };
    RequestContext { principal, tenant: Some(tenant), scopes, ..RequestContext::service("test") }
}

fn caller(tenant: TenantId) -> Option<Caller> {
    Some(Caller { tenant_id: tenant.to_string(), key_id: KeyId::new().to_string(), ..Caller::default() })
}

fn finished(tenant: TenantId, model: &str, at: i64, outcome: Outcome, us: Option<u64>) -> Event {
    let event = RequestFinished {
        id: Uuid::now_v7().to_string(),
        caller: caller(tenant),
        model: model.into(),
        outcome: outcome.into(),
        tokens: Some(Tokens { input: 10, output: 5, ..Tokens::default() }),
        finished_at_ms: at,
        first_token_us: us,
        total_us: Some(us.unwrap_or(100) * 2),
        ..RequestFinished::default()
    };
    Event::request_finished(&event).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_and_models_add_up_whatever_comes_twice() {
    let house = House::new().await;
    let (tenant, other) = (TenantId::new(), TenantId::new());
    let mut events = Vec::new();
    for us in 1..=1_000u64 {
        events.push(finished(tenant, "m", NOW, Outcome::Succeeded, Some(us * 100)));
    }
    events.push(finished(tenant, "m", NOW - HOUR, Outcome::Failed, None));
    events.push(finished(tenant, "n", NOW, Outcome::Cancelled, Some(7)));
    events.push(finished(tenant, "old", NOW - 30 * HOUR, Outcome::Succeeded, Some(7)));
    events.push(finished(other, "m", NOW, Outcome::Cut, Some(3)));
    let attempt = AttemptClosed {
        attempt_id: Uuid::now_v7().to_string(),
        caller: caller(tenant),
        outcome: Outcome::Succeeded.into(),
        closed_at_ms: NOW,
        ..AttemptClosed::default()
    };
    events.push(Event::attempt_closed(&attempt).unwrap());
    for (n, event) in events.iter().enumerate() {
        house.publish(event, &event.id.to_string()).await;
        if n % 10 == 0 {
            house.publish(event, &format!("copy-{n}")).await;
        }
    }
    house.settled().await;

    let kpis = house.kpis(&ctx(tenant), 0, "").await.unwrap();
    let keys: Vec<_> = kpis.iter().map(|k| (k.hour_ms, k.model.as_str())).collect();
    assert_eq!(
        keys,
        [(THIS_HOUR - HOUR, "m"), (THIS_HOUR, "m"), (THIS_HOUR, "n")],
        "the last day, oldest first"
    );
    let (failed, busy, cancelled) = (&kpis[0], &kpis[1], &kpis[2]);
    assert_eq!((failed.requests, failed.errors, failed.first_token), (1, 1, None));
    assert_eq!(failed.total.unwrap().count, 1);
    assert_eq!(
        (busy.requests, busy.errors, busy.input_tokens, busy.output_tokens),
        (1_000, 0, 10_000, 5_000)
    );
    assert_eq!((cancelled.requests, cancelled.errors), (1, 0));
    let first = busy.first_token.unwrap();
    assert_eq!((first.count, first.mean_us, busy.total.unwrap().mean_us), (1_000, 50_050, 100_100));
    for (told, truth) in [(first.p50_us, 50_000u64), (first.p95_us, 95_000), (first.p99_us, 99_000)] {
        assert!(told.abs_diff(truth) * 100 < truth * 7, "{told} for {truth}");
    }
    let one_model = house.kpis(&ctx(tenant), NOW - 31 * HOUR, "old").await.unwrap();
    assert_eq!(one_model.iter().map(|k| (k.requests, k.model.as_str())).collect::<Vec<_>>(), [(1, "old")]);
    let other = house.kpis(&ctx(other), 0, "").await.unwrap();
    assert_eq!(other.iter().map(|k| (k.requests, k.errors)).collect::<Vec<_>>(), [(1, 1)]);
    assert!(house.tasks.stop(Duration::from_secs(20)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    let house = House::new().await;
    let someone = ctx(TenantId::new());
    assert_eq!(house.kpis(&someone, 0, "").await.unwrap(), []);
    let scopeless = RequestContext { scopes: [].into(), ..someone.clone() };
    assert_eq!(house.kpis(&scopeless, 0, "").await.unwrap_err().code(), Code::PermissionDenied);
    let nobody = RequestContext { tenant: None, ..someone.clone() };
    assert_eq!(house.kpis(&nobody, 0, "").await.unwrap_err().code(), Code::TenantRequired);
    for from in [-1, 1, NOW + 2 * HOUR] {
        let error = house.kpis(&someone, from, "").await.unwrap_err();
        assert_eq!((error.code(), error.param()), (Code::InvalidArgument, Some("from_ms")), "{from}");
    }
}
