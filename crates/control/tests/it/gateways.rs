//! What gateways make of changes: the real control plane, two gateways' keys and limits, a real NATS.

use std::time::{Duration, Instant};

use weir_access::{Access, Config};
use weir_events::{Bus, EventMetrics, NatsConfig};
use weir_proto::control::{CreateTenantRequest, RateLimits, UpdateTenantRequest};
use weir_rpc::request;
use weir_runtime::Tasks;
use weir_telemetry::Metrics;
use weir_testkit::{Nats, until};
use weir_types::{RequestId, SystemClock};

use super::*;

/// A gateway that would not ask about a remembered key again by itself: what it learns, it was told.
async fn gateway(world: &World, nats: &Nats, tasks: &Tasks) -> Access {
    let config = NatsConfig { url: nats.url().into(), ..NatsConfig::default() };
    let bus = Bus::connect(&config, EventMetrics::new(&Metrics::new())).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let deps = weir_access::Deps {
        service: "gateway",
        control: world.transport.clone(),
        bus: Some(bus),
        clock: Arc::new(SystemClock),
        metrics: Metrics::new(),
    };
    let access = Access::build(
        Config { refresh_after: hour, trust_for: hour, keep_for: hour, ..Config::default() },
        deps,
    );
    access.spawn(tasks);
    access
}

async fn works(access: &Access, key: &str) -> bool {
    access.authenticate(&RequestId::new(), key).await.is_ok()
}

struct Doors {
    world: World,
    tasks: Tasks,
    gateways: [Access; 2],
    tenant: TenantId,
    key: CreateApiKeyResponse,
    _nats: Nats,
}

impl Doors {
    async fn new() -> Self {
        let nats = Nats::start().await.unwrap();
        let world = World::with_nats(&nats.url()).await;
        let tasks = Tasks::new();
        world.service.spawn(&tasks);
        let gateways = [gateway(&world, &nats, &tasks).await, gateway(&world, &nats, &tasks).await];
        let rate_limits = Some(RateLimits { requests_per_minute: Some(1_000), tokens_per_minute: None });
        let message = CreateTenantRequest { name: "acme".into(), rate_limits, ..Default::default() };
        let tenant = world.tenants().create_tenant(request(&platform(), message)).await.unwrap();
        let tenant: TenantId = tenant.get_ref().id.parse().unwrap();
        let key = world.key(tenant).await;
        for gateway in &gateways {
            assert!(works(gateway, &key.secret).await);
        }
        Self { world, tasks, gateways, tenant, key, _nats: nats }
    }

    async fn update(&self, patch: UpdateTenantRequest) -> Instant {
        let patch = UpdateTenantRequest { id: self.tenant.to_string(), ..patch };
        self.world.tenants().update_tenant(request(&platform(), patch)).await.unwrap();
        Instant::now()
    }

    /// Until both gateways show it; says how long that took.
    async fn seen(&self, what: &str, since: Instant, shows: impl AsyncFn(&Access) -> bool) {
        for gateway in &self.gateways {
            until(what, async || shows(gateway).await.then_some(())).await;
        }
        println!("{what}: at both gateways {} ms after the answer", since.elapsed().as_millis());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_by_every_gateway() {
    let doors = Doors::new().await;
    let id = doors.key.api_key.as_ref().unwrap().id.clone();
    doors.world.revoke(&manager(doors.tenant), &id).await.unwrap();
    let since = Instant::now();
    doors.seen("revocation", since, async |gateway| !works(gateway, &doors.key.secret).await).await;
    assert!(doors.tasks.stop(Duration::from_secs(60)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_limits_and_suspensions_count_at_every_gateway() {
    let doors = Doors::new().await;
    let secret = &doors.key.secret;
    let limit = async |gateway: &Access| {
        let grant = gateway.authenticate(&RequestId::new(), secret).await.ok()?;
        grant.limits().requests_per_minute
    };
    for gateway in &doors.gateways {
        assert_eq!(limit(gateway).await, Some(1_000));
    }
    let rate_limits = Some(RateLimits { requests_per_minute: Some(3), tokens_per_minute: None });
    let since = doors.update(UpdateTenantRequest { rate_limits, ..Default::default() }).await;
    doors.seen("limits", since, async |gateway| limit(gateway).await == Some(3)).await;

    let since = doors.update(UpdateTenantRequest { suspended: Some(true), ..Default::default() }).await;
    doors.seen("suspension", since, async |gateway| !works(gateway, secret).await).await;
    let fresh = doors.world.key(doors.tenant).await;
    assert!(!works(&doors.gateways[0], &fresh.secret).await);

    let since = doors.update(UpdateTenantRequest { suspended: Some(false), ..Default::default() }).await;
    doors.seen("its end", since, async |gateway| works(gateway, secret).await).await;
    until("a key that was asked about meanwhile", async || {
        works(&doors.gateways[0], &fresh.secret).await.then_some(())
    })
    .await;
    for gateway in &doors.gateways {
        assert_eq!(limit(gateway).await, Some(3), "suspension leaves limits alone");
    }
    assert!(doors.tasks.stop(Duration::from_secs(60)).await);
}
