//! Billing with servers of its own, and events for it.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;
use weir_billing::{Config, Deps, Service, build};
use weir_db::{AppRole, Db, DbConfig};
use weir_error::Error;
use weir_events::{Bus, Event, EventMetrics, NatsConfig, USAGE, async_nats::HeaderMap};
use weir_proto::{
    billing::{GetMyUsageRequest, Totals, UsageReport, usage_client::UsageClient},
    events::{AttemptClosed, Caller, Outcome, RequestFinished, Tokens},
};
use weir_rpc::Transport;
use weir_runtime::Tasks;
use weir_testkit::{APP_PASSWORD, APP_ROLE, Database, Nats, Postgres, until};
use weir_types::{KeyId, ManualClock, Principal, RequestContext, TenantId, UserId, scope};

/// 2023-11-14T22:13:20.123Z; its hour starts at 22:00.
pub(crate) const NOW: i64 = 1_700_000_000_123;
pub(crate) const HOUR: i64 = 3_600_000;
pub(crate) const THIS_HOUR: i64 = 1_699_999_200_000;

/// Enough to see that an event is tried again.
pub(crate) const MAX_DELIVER: u32 = 3;

pub(crate) struct House {
    pub(crate) nats: Nats,
    pub(crate) bus: Bus,
    pub(crate) database: Database,
    pub(crate) service: Service,
    pub(crate) tasks: Tasks,
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(Postgres::shared().await.unwrap()).await
    }

    pub(crate) async fn with(postgres: &Postgres) -> Self {
        let role = AppRole::new(APP_ROLE, APP_PASSWORD);
        let migrate = |url: String| async move { weir_db::migrate(&url, &role).await };
        let database = postgres.database(&weir_db::fingerprint(), migrate).await.unwrap();
        let nats = Nats::start().await.unwrap();
        let config = NatsConfig { url: nats.url().into(), max_deliver: MAX_DELIVER, ..NatsConfig::default() };
        let bus = Bus::connect(&config, EventMetrics::default()).await.unwrap();
        until("streams", async || bus.ensure_streams().await.ok()).await;
        let db = Db::connect_lazy(&DbConfig {
            acquire_timeout_ms: 30_000,
            ..DbConfig::new(database.app_url.clone())
        })
        .unwrap();
        let deps = Deps { db, bus: bus.clone(), clock: Arc::new(ManualClock::at(NOW)) };
        let service = build(Config::default(), deps).unwrap();
        let tasks = Tasks::new();
        service.spawn(&tasks);
        Self { nats, bus, database, service, tasks }
    }

    /// Stops consuming, and starts again.
    pub(crate) async fn restart(&mut self) {
        assert!(self.tasks.stop(Duration::from_secs(20)).await);
        self.tasks = Tasks::new();
        self.service.spawn(&self.tasks);
    }

    pub(crate) async fn publish(&self, event: &Event) {
        self.publish_as(event, &event.id.to_string()).await;
    }

    /// Under another message id: as if the broker had forgotten the first.
    pub(crate) async fn publish_as(&self, event: &Event, message_id: &str) {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", message_id);
        headers.insert("ce-id", event.id.to_string());
        let js = self.bus.jetstream();
        let sent = js.publish_with_headers(event.subject.clone(), headers, event.payload.clone()).await;
        sent.unwrap().await.unwrap();
    }

    /// Until every message is handled and acknowledged.
    pub(crate) async fn settled(&self) {
        until("every message to be settled", async || {
            let stream = self.bus.jetstream().get_stream(USAGE).await.ok()?;
            let info = stream.consumer_info(weir_billing::CONSUMER).await.ok()?;
            (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
        })
        .await;
    }

    pub(crate) async fn usage(
        &self,
        ctx: &RequestContext,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<UsageReport, Error> {
        let mut client = UsageClient::new(Transport::local("billing", self.service.routes()));
        let request = weir_rpc::request(ctx, GetMyUsageRequest { from_ms, to_ms });
        Ok(client.get_my_usage(request).await?.into_inner())
    }

    /// The tenant's totals of all time.
    pub(crate) async fn totals(&self, tenant: TenantId) -> Totals {
        self.usage(&platform(tenant), THIS_HOUR - 300 * 24 * HOUR, NOW + HOUR).await.unwrap().totals.unwrap()
    }

    pub(crate) async fn dead_letters(&self) -> Vec<HeaderMap> {
        let stream = self.bus.jetstream().get_stream("DLQ").await.unwrap();
        let state = stream.get_info().await.unwrap().state;
        let mut messages = Vec::new();
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            messages.push(stream.get_raw_message(sequence).await.unwrap().headers);
        }
        messages
    }
}

pub(crate) fn ctx(principal: Principal, tenant: TenantId) -> RequestContext {
    let scopes = scope::TENANT.iter().map(|s| (*s).into()).collect();
    RequestContext { principal, tenant: Some(tenant), scopes, ..RequestContext::service("test") }
}

pub(crate) fn platform(tenant: TenantId) -> RequestContext {
    ctx(Principal::Platform, tenant)
}

/// Who causes events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Someone {
    pub(crate) tenant: TenantId,
    pub(crate) key: KeyId,
    pub(crate) user: Option<UserId>,
}

impl Someone {
    pub(crate) fn new() -> Self {
        Self { tenant: TenantId::new(), key: KeyId::new(), user: None }
    }

    pub(crate) fn ctx(self) -> RequestContext {
        ctx(Principal::Key { id: self.key, user: self.user }, self.tenant)
    }

    fn caller(self) -> Option<Caller> {
        Some(Caller {
            tenant_id: self.tenant.to_string(),
            key_id: self.key.to_string(),
            user_id: self.user.map(|u| u.to_string()).unwrap_or_default(),
            traceparent: String::new(),
        })
    }

    pub(crate) fn finished(self, outcome: Outcome, model: &str, finished_at_ms: i64) -> RequestFinished {
        RequestFinished {
            id: Uuid::now_v7().to_string(),
            caller: self.caller(),
            model: model.into(),
            outcome: outcome.into(),
            tokens: Some(Tokens { input: 10, output: 5, cache_read: 2, reasoning: 1, ..Default::default() }),
            finished_at_ms,
            ..RequestFinished::default()
        }
    }

    pub(crate) fn closed(self, outcome: Outcome, model: &str) -> AttemptClosed {
        AttemptClosed {
            attempt_id: Uuid::now_v7().to_string(),
            caller: self.caller(),
            model: model.into(),
            outcome: outcome.into(),
            tokens: Some(Tokens { input: 11, output: 6, cache_read: 3, reasoning: 2, ..Default::default() }),
            closed_at_ms: NOW,
            cost_nano_usd: Some(0),
            ..AttemptClosed::default()
        }
    }

    /// A request of one successful attempt: both its events.
    pub(crate) fn success(self, model: &str) -> [Event; 2] {
        [
            Event::attempt_closed(&self.closed(Outcome::Succeeded, model)).unwrap(),
            Event::request_finished(&self.finished(Outcome::Succeeded, model, NOW)).unwrap(),
        ]
    }
}

/// `n` requests of [`Someone::success`].
pub(crate) fn successes(n: u64) -> Totals {
    Totals {
        requests: n,
        errors: 0,
        input_tokens: 10 * n,
        output_tokens: 5 * n,
        cache_read_tokens: 2 * n,
        reasoning_tokens: n,
        provider_cost_nano_usd: Some(0),
        ..Totals::default()
    }
}
