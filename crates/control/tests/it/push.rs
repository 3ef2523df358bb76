//! Changes reach those who watch and the audit log, at once or as soon as NATS is back, whoever died in between.

use std::time::Duration;

use prost::Message as _;
use weir_events::{AUDIT, Bucket, Bus, Change, EventMetrics, NatsConfig, Watch};
use weir_proto::{
    control::{KeyChange, RateLimits, TenantState, UpdateTenantRequest},
    events::{ApiKeyChanged, TenantChanged},
};
use weir_rpc::request;
use weir_runtime::Tasks;
use weir_telemetry::Metrics;
use weir_testkit::{Nats, until};

use crate::{NOW, World, manager, platform};

const PATIENCE: Duration = Duration::from_secs(60);

async fn bus(nats: &Nats) -> Bus {
    let config = NatsConfig { url: nats.url().into(), ..NatsConfig::default() };
    Bus::connect(&config, EventMetrics::new(&Metrics::new())).await.unwrap()
}

async fn watch(nats: &Nats, bucket: Bucket) -> Watch {
    bus(nats).await.push(bucket).watch()
}

/// The next value and its key, `Current` marks aside.
async fn next<M: prost::Message + Default>(watch: &mut Watch) -> (String, M) {
    let change = async {
        loop {
            if let Change::Put { key, value } = watch.next().await {
                return (key, M::decode(value).unwrap());
            }
        }
    };
    tokio::time::timeout(PATIENCE, change).await.expect("nothing was pushed")
}

/// The next revocation.
async fn revocation(watch: &mut Watch) -> String {
    loop {
        let (key, change) = next::<KeyChange>(watch).await;
        if change.revoked {
            assert!(key.ends_with(&format!(".{}", change.key_id)));
            return key;
        }
    }
}

#[tokio::test]
async fn a_revocation_is_pushed() {
    let nats = Nats::start().await.unwrap();
    let world = World::with_nats(&nats.url()).await;
    let tasks = Tasks::new();
    world.service.spawn(&tasks);
    let mut watch = watch(&nats, Bucket::KEYS).await;
    let tenant = world.tenant("acme").await;
    let id = world.key(tenant).await.api_key.unwrap().id;
    world.revoke(&manager(tenant), &id).await.unwrap();
    assert_eq!(revocation(&mut watch).await, format!("{tenant}.{id}"));
    assert!(tasks.stop(PATIENCE).await);
    let mut admin = world.admin().await;
    let mut waiting = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM control.outbox").fetch_one(&mut admin).await.unwrap()
    };
    assert_eq!(waiting().await, 0);
    world.revoke(&manager(tenant), &id).await.unwrap();
    assert_eq!(waiting().await, 0, "it was told");
}

#[tokio::test]
async fn a_control_plane_that_dies_after_the_commit_leaves_the_push_to_another() {
    let nats = Nats::start().await.unwrap();
    let world = World::with_nats(&nats.url()).await;
    let tenant = world.tenant("acme").await;
    let id = world.key(tenant).await.api_key.unwrap().id;
    // Its relay never runs.
    world.revoke(&manager(tenant), &id).await.unwrap();
    let other = world.again().await;
    let tasks = Tasks::new();
    other.spawn(&tasks);
    let mut watch = watch(&nats, Bucket::KEYS).await;
    assert_eq!(revocation(&mut watch).await, format!("{tenant}.{id}"));
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test]
async fn without_nats_it_is_revoked_all_the_same_and_pushed_later() {
    let nats = Nats::start().await.unwrap();
    let world = World::with_nats(&nats.url()).await;
    nats.stop().await.unwrap();
    let tasks = Tasks::new();
    world.service.spawn(&tasks);
    let tenant = world.tenant("acme").await;
    let mut expected = Vec::new();
    for _ in 0..3 {
        let made = world.key(tenant).await;
        let id = made.api_key.unwrap().id;
        world.revoke(&manager(tenant), &id).await.unwrap();
        assert!(world.resolve(&made.secret).await.is_err());
        expected.push(format!("{tenant}.{id}"));
    }
    nats.restart().await.unwrap();
    let mut watch = watch(&nats, Bucket::KEYS).await;
    let mut pushed = Vec::new();
    while pushed.len() < expected.len() {
        pushed.push(revocation(&mut watch).await);
    }
    pushed.sort();
    assert_eq!(pushed, expected);
    until("an empty outbox", async || {
        world.metrics.encode().contains("weir_outbox_rows{outbox=\"control\"} 0").then_some(())
    })
    .await;
    assert_eq!(world.service.check(), Ok(()));
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test]
async fn a_tenants_changes_are_pushed_with_growing_versions() {
    let nats = Nats::start().await.unwrap();
    let world = World::with_nats(&nats.url()).await;
    let tasks = Tasks::new();
    world.service.spawn(&tasks);
    let mut watch = watch(&nats, Bucket::TENANTS).await;
    let tenant = world.tenant("acme").await.to_string();
    let rate_limits = Some(RateLimits { requests_per_minute: None, tokens_per_minute: None });
    let first = TenantState { tenant_id: tenant.clone(), version: 1, rate_limits, suspended: false };
    assert_eq!(next::<TenantState>(&mut watch).await, (tenant.clone(), first.clone()));
    let rate_limits = Some(RateLimits { requests_per_minute: Some(7), tokens_per_minute: None });
    let patch = UpdateTenantRequest {
        id: tenant.clone(),
        rate_limits,
        suspended: Some(true),
        ..UpdateTenantRequest::default()
    };
    world.tenants().update_tenant(request(&platform(), patch)).await.unwrap();
    let (key, state) = next::<TenantState>(&mut watch).await;
    let second = TenantState { version: state.version, rate_limits, suspended: true, ..first };
    assert_eq!((key, &state), (tenant, &second));
    assert!(state.version > 1);
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test]
async fn the_audit_log_hears_who_changed_what_once() {
    let nats = Nats::start().await.unwrap();
    let world = World::with_nats(&nats.url()).await;
    let tasks = Tasks::new();
    world.service.spawn(&tasks);
    let tenant = world.tenant("acme").await;
    let patch = UpdateTenantRequest {
        id: tenant.to_string(),
        name: Some("Acme".into()),
        ..UpdateTenantRequest::default()
    };
    world.tenants().update_tenant(request(&platform(), patch)).await.unwrap();
    let owner = manager(tenant);
    let key = world.create(&owner, crate::named("ci")).await.unwrap().api_key.unwrap();
    world.revoke(&owner, &key.id).await.unwrap();

    let bus = bus(&nats).await;
    let messages = until("four events", async || {
        let stream = bus.jetstream().get_stream(AUDIT).await.ok()?;
        let mut messages = Vec::new();
        for sequence in 1..=4 {
            messages.push(stream.get_raw_message(sequence).await.ok()?);
        }
        Some(messages)
    })
    .await;
    let kinds: Vec<_> = messages.iter().map(|m| m.subject.to_string()).collect();
    let of = |kind: &str| format!("weir.audit.{tenant}.{kind}");
    // Those of one tenant and of one key are in order; one tenant's and one key's may overtake each other.
    assert_eq!(
        kinds.iter().filter(|k| k.contains("tenant_")).collect::<Vec<_>>(),
        [&of("tenant_created"), &of("tenant_updated")]
    );
    assert_eq!(
        kinds.iter().filter(|k| k.contains("api_key_")).collect::<Vec<_>>(),
        [&of("api_key_created"), &of("api_key_revoked")]
    );
    for message in &messages {
        let header = |name: &str| message.headers.get(name).unwrap().as_str().to_owned();
        assert_eq!(header("ce-id"), header("Nats-Msg-Id"));
        assert_eq!(header("ce-source"), "weir/control");
        if message.subject.contains("tenant_") {
            let event = TenantChanged::decode(message.payload.clone()).unwrap();
            assert_eq!((event.id, event.at_ms), (header("ce-id"), NOW));
            assert_eq!((event.tenant_id, event.actor.unwrap().kind), (tenant.to_string(), "platform".into()));
        } else {
            let event = ApiKeyChanged::decode(message.payload.clone()).unwrap();
            let actor = event.actor.unwrap();
            assert_eq!((event.key_id, event.name), (key.id.clone(), "ci".into()));
            assert_eq!((actor.kind, actor.key_id), ("key".into(), owner.key().unwrap().to_string()));
            assert_eq!(actor.user_id, owner.user().unwrap().to_string());
        }
    }
    assert!(tasks.stop(PATIENCE).await);
}
