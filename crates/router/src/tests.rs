//! Routers on a real PostgreSQL and a real NATS, either of which may be away.

use std::{sync::Arc, time::Instant};

use sqlx::Connection as _;
use weir_db::{AppRole, Db, DbConfig, migrate};
use weir_error::{Code, Error};
use weir_events::{AUDIT, Bucket, Bus, EventMetrics, NatsConfig};
use weir_proto::router::{
    Alias, DecideRequest, DeleteAliasRequest, ListAliasesRequest, ListAliasesResponse, PutAliasRequest,
    aliases_client::AliasesClient, router_client::RouterClient,
};
use weir_rpc::{Transport, request};
use weir_runtime::Tasks;
use weir_telemetry::Metrics;
use weir_testkit::{APP_PASSWORD, APP_ROLE, Database, Nats, Postgres, until};
use weir_types::{ManualClock, Principal, RequestContext, TenantId, scope};

use crate::{Config, Deps, build, catalogue::MAX_ALIASES};

const NOW: i64 = 1_800_000_000_000;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// Nobody listens there.
const NOWHERE: &str = "postgres://weir_app:x@127.0.0.1:1/nothing";

struct Router {
    transport: Transport,
    tasks: Tasks,
    bus: Option<Bus>,
}

async fn database() -> Database {
    let apply = |url: String| async move { migrate(&url, &AppRole::new(APP_ROLE, APP_PASSWORD)).await };
    Postgres::shared().await.unwrap().database(&weir_db::fingerprint(), apply).await.unwrap()
}

impl Router {
    /// A router with a pool and a connection of its own, like one in a process of its own.
    async fn start(database_url: Option<&str>, nats: Option<&Nats>) -> Self {
        let metrics = Metrics::new();
        let db = database_url.map(|url| {
            let acquire_timeout_ms = if url == NOWHERE { 200 } else { 30_000 };
            Db::connect_lazy(&DbConfig { acquire_timeout_ms, ..DbConfig::new(url) }).unwrap()
        });
        let bus = match nats {
            Some(nats) => {
                let config = NatsConfig { url: nats.url().into(), ..NatsConfig::default() };
                Some(Bus::connect(&config, EventMetrics::new(&metrics)).await.unwrap())
            }
            None => None,
        };
        let deps = Deps { db, bus: bus.clone(), clock: Arc::new(ManualClock::at(NOW)), metrics };
        let service = build(Config::default(), deps).unwrap();
        let tasks = Tasks::new();
        service.spawn(&tasks);
        Self { transport: Transport::local("router", service.routes()), tasks, bus }
    }

    async fn decide(&self, tenant: TenantId, name: &str) -> Result<String, Error> {
        let ctx = caller(tenant, &[scope::CHAT_WRITE]);
        let message = DecideRequest { model: name.into() };
        let answer = RouterClient::new(self.transport.clone()).decide(request(&ctx, message)).await?;
        Ok(answer.into_inner().model)
    }

    async fn put(&self, ctx: &RequestContext, name: &str, model: &str) -> Result<Alias, Error> {
        let message = PutAliasRequest { name: name.into(), model: model.into(), provider: String::new() };
        Ok(self.aliases().put_alias(request(ctx, message)).await?.into_inner())
    }

    async fn delete(&self, ctx: &RequestContext, name: &str) -> Result<Alias, Error> {
        let message = DeleteAliasRequest { name: name.into() };
        Ok(self.aliases().delete_alias(request(ctx, message)).await?.into_inner())
    }

    async fn list(
        &self,
        ctx: &RequestContext,
        message: ListAliasesRequest,
    ) -> Result<ListAliasesResponse, Error> {
        Ok(self.aliases().list_aliases(request(ctx, message)).await?.into_inner())
    }

    fn aliases(&self) -> AliasesClient<Transport> {
        AliasesClient::new(self.transport.clone())
    }

    /// Until it decides so; says how long that took.
    async fn comes_to(&self, tenant: TenantId, name: &str, model: &str) {
        let since = Instant::now();
        until(model, async || (self.decide(tenant, name).await.ok()? == model).then_some(())).await;
        println!("{name} → {model} after {} ms", since.elapsed().as_millis());
    }

    async fn stop(self) {
        assert!(self.tasks.stop(PATIENCE).await);
    }
}

fn scopes(all: &[&str]) -> Arc<[Arc<str>]> {
    all.iter().map(|&s| Arc::from(s)).collect()
}

fn caller(tenant: TenantId, all: &[&str]) -> RequestContext {
    let principal = Principal::Key { id: weir_types::KeyId::new(), user: None };
    RequestContext { principal, tenant: Some(tenant), scopes: scopes(all), ..RequestContext::service("test") }
}

fn owner(tenant: TenantId) -> RequestContext {
    caller(tenant, scope::TENANT)
}

fn platform() -> RequestContext {
    let principal = Principal::Platform;
    RequestContext { principal, scopes: scopes(&[scope::PLATFORM_ADMIN]), ..RequestContext::service("test") }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_counts_at_once_where_it_is_put_and_soon_at_every_other_router() {
    let (database, nats) = (database().await, Nats::start().await.unwrap());
    let url = Some(database.app_url.as_str());
    let (one, two) = (Router::start(url, Some(&nats)).await, Router::start(url, Some(&nats)).await);
    let (tenant, other) = (TenantId::new(), TenantId::new());
    let put = one.put(&owner(tenant), "smart-model", "gpt-4.1").await.unwrap();
    assert_eq!((put.scope.as_str(), put.updated_at_ms), ("tenant", NOW));
    assert_eq!(one.decide(tenant, "smart-model").await.unwrap(), "gpt-4.1");
    two.comes_to(tenant, "smart-model", "gpt-4.1").await;
    for router in [&one, &two] {
        assert_eq!(router.decide(other, "smart-model").await.unwrap(), "gpt-4o", "the settings' still");
    }
    two.put(&platform(), "smart-model", "claude").await.unwrap();
    one.comes_to(other, "smart-model", "claude").await;
    assert_eq!(one.decide(tenant, "smart-model").await.unwrap(), "gpt-4.1");
    one.put(&platform(), "auto", "smart-model").await.unwrap();
    two.comes_to(tenant, "auto", "gpt-4.1").await;

    assert_eq!(two.delete(&owner(tenant), "smart-model").await.unwrap().model, "gpt-4.1");
    one.comes_to(tenant, "smart-model", "claude").await;
    assert_eq!(two.delete(&owner(tenant), "smart-model").await.unwrap_err().code(), Code::NotFound);

    let stream = one.bus.as_ref().unwrap().jetstream().get_stream(AUDIT).await.unwrap();
    until("the audit log", async || {
        let state = stream.get_info().await.ok()?.state;
        (state.messages == 4).then_some(())
    })
    .await;
    let bucket = one.bus.as_ref().unwrap().jetstream().get_stream("KV_weir_catalogue").await.unwrap();
    assert_eq!(bucket.cached_info().state.messages, 2, "one value a tenant, one for the platform");
    assert!(bucket.cached_info().config.max_bytes > 0);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_starts_with_either_of_the_two_or_none() {
    let (database, nats) = (database().await, Nats::start().await.unwrap());
    let tenant = TenantId::new();
    let writer = Router::start(Some(&database.app_url), Some(&nats)).await;
    writer.put(&owner(tenant), "mine", "gpt-4.1").await.unwrap();

    let without_nats = Router::start(Some(&database.app_url), None).await;
    without_nats.comes_to(tenant, "mine", "gpt-4.1").await;
    without_nats.stop().await;

    let without_postgres = Router::start(Some(NOWHERE), Some(&nats)).await;
    without_postgres.comes_to(tenant, "mine", "gpt-4.1").await;
    assert_eq!(without_postgres.decide(tenant, "fast-model").await.unwrap(), "gpt-4o-mini");
    let refused = without_postgres.put(&owner(tenant), "mine", "x").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    without_postgres.stop().await;

    let alone = Router::start(None, None).await;
    assert_eq!(alone.decide(tenant, "fast-model").await.unwrap(), "gpt-4o-mini");
    assert_eq!(alone.put(&owner(tenant), "mine", "x").await.unwrap_err().code(), Code::Unavailable);
    alone.stop().await;
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_nobody_told_reads_again_when_its_watch_comes_back() {
    let (database, nats) = (database().await, Nats::start().await.unwrap());
    let tenant = TenantId::new();
    let told = Router::start(Some(&database.app_url), Some(&nats)).await;
    told.put(&owner(tenant), "mine", "one").await.unwrap();
    let watching = async || {
        let stream = told.bus.as_ref()?.jetstream().get_stream("KV_weir_catalogue").await.ok()?;
        (stream.cached_info().state.messages == 1).then_some(())
    };
    until("the push", watching).await;
    nats.stop().await.unwrap();
    // Its push never arrives: the router that made the change has no NATS.
    let untold = Router::start(Some(&database.app_url), None).await;
    untold.put(&owner(tenant), "mine", "two").await.unwrap();
    nats.restart().await.unwrap();
    told.comes_to(tenant, "mine", "two").await;
    untold.stop().await;
    told.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_nats_has_lost_is_filled_again() {
    let (database, nats) = (database().await, Nats::start().await.unwrap());
    let tenants = [TenantId::new(), TenantId::new()];
    let router = Router::start(Some(&database.app_url), Some(&nats)).await;
    let told = Router::start(None, Some(&nats)).await;
    for tenant in tenants {
        router.put(&owner(tenant), "mine", "first").await.unwrap();
        router.put(&owner(tenant), "mine", "second").await.unwrap();
        told.comes_to(tenant, "mine", "second").await;
    }
    nats.lose().await.unwrap();
    nats.restart().await.unwrap();
    let fresh = Router::start(None, Some(&nats)).await;
    for tenant in tenants {
        fresh.comes_to(tenant, "mine", "second").await;
    }
    router.put(&owner(tenants[0]), "mine", "third").await.unwrap();
    for other in [&told, &fresh] {
        other.comes_to(tenants[0], "mine", "third").await;
    }
    for router in [router, told, fresh] {
        router.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_count_even_after_the_database_has_forgotten_some() {
    let (database, nats) = (database().await, Nats::start().await.unwrap());
    let tenant = TenantId::new();
    let mut admin = sqlx::PgConnection::connect(&database.admin_url).await.unwrap();
    let other = Router::start(Some(NOWHERE), Some(&nats)).await;
    let router = Router::start(Some(&database.app_url), Some(&nats)).await;
    for (model, forget) in [
        ("first", "UPDATE routing.alias_sets SET version = 1"),
        ("second", "TRUNCATE routing.alias_sets CASCADE"),
        ("third", "SELECT"),
    ] {
        router.put(&owner(tenant), "mine", model).await.unwrap();
        other.comes_to(tenant, "mine", model).await;
        // As after a backup was restored.
        sqlx::query(forget).execute(&mut admin).await.unwrap();
    }
    router.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_and_makes_no_sense_is_skipped() {
    let nats = Nats::start().await.unwrap();
    let router = Router::start(None, Some(&nats)).await;
    let (tenant, bus) = (TenantId::new(), router.bus.clone().unwrap());
    let alias = |name: &str| Alias { name: name.into(), model: "m".into(), ..Alias::default() };
    let set = |name: &str| {
        let aliases = vec![alias(name)];
        let set = weir_proto::router::AliasSet { tenant_id: tenant.to_string(), version: 1, aliases };
        prost::Message::encode_to_vec(&set)
    };
    for (key, value) in [
        (tenant.to_string(), b"\xff\xff".to_vec()),
        (TenantId::new().to_string(), set("wrong")),
        (tenant.to_string(), set("")),
        (tenant.to_string(), set("right")),
    ] {
        until("a push", async || bus.push(Bucket::CATALOGUE).put(&key, value.clone().into()).await.ok())
            .await;
    }
    router.comes_to(tenant, "right", "m").await;
    assert_eq!(router.decide(tenant, "wrong").await.unwrap(), "wrong");
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_change_and_see_what() {
    let database = database().await;
    let router = Router::start(Some(&database.app_url), None).await;
    let (one, two) = (TenantId::new(), TenantId::new());
    let refused = |result: Result<Alias, Error>| result.unwrap_err().code();
    let reader = caller(one, scope::DEFAULT);
    assert_eq!(refused(router.put(&reader, "a", "m").await), Code::PermissionDenied);
    assert_eq!(refused(router.delete(&reader, "a").await), Code::PermissionDenied);
    let service = RequestContext::service("orchestrator");
    assert_eq!(refused(router.put(&service, "a", "m").await), Code::TenantRequired);
    let nil = owner(TenantId(uuid::Uuid::nil()));
    assert_eq!(
        refused(router.put(&nil, "a", "m").await),
        Code::NotFound,
        "the platform's are not a tenant's"
    );

    router.put(&owner(one), "a", "m").await.unwrap();
    assert_eq!(refused(router.delete(&owner(two), "a").await), Code::NotFound);
    assert_eq!(router.decide(two, "a").await.unwrap(), "a");
    let acting = RequestContext { tenant: Some(two), ..platform() };
    assert_eq!(router.put(&acting, "b", "m").await.unwrap().scope, "tenant");
    assert_eq!(router.put(&platform(), "c", "m").await.unwrap().scope, "platform");
    let names = async |ctx: &RequestContext, scope: &str| {
        let message = ListAliasesRequest { scope: scope.into(), ..ListAliasesRequest::default() };
        let list = router.list(ctx, message).await?;
        Ok::<_, Error>(list.data.into_iter().map(|a| a.name).collect::<Vec<_>>())
    };
    assert_eq!(names(&reader, "").await.unwrap(), ["a"]);
    assert_eq!(names(&owner(two), "tenant").await.unwrap(), ["b"]);
    assert_eq!(names(&reader, "platform").await.unwrap(), ["c"]);
    assert_eq!(names(&platform(), "").await.unwrap(), ["c"]);
    assert_eq!(names(&platform(), "tenant").await.unwrap_err().code(), Code::TenantRequired);
    assert_eq!(names(&reader, "all").await.unwrap_err().param(), Some("scope"));
    assert_eq!(names(&caller(one, &[]), "").await.unwrap_err().code(), Code::PermissionDenied);
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_are_checked_bounded_and_listed_in_pages() {
    let database = database().await;
    let router = Router::start(Some(&database.app_url), None).await;
    let owner = owner(TenantId::new());
    let long = "x".repeat(257);
    for (name, model, param) in [
        ("", "m", "name"),
        ("a b", "m", "name"),
        ("-a", "m", "name"),
        ("a/b", "m", "name"),
        (&*long, "m", "name"),
        ("a", "", "model"),
        ("a", &*long, "model"),
        ("a", "a", "model"),
        ("gpt-4o", "smart-model", "model"),
    ] {
        let error = router.put(&owner, name, model).await.unwrap_err();
        assert_eq!((error.code(), error.param()), (Code::InvalidArgument, Some(param)), "{name} → {model}");
    }
    let mut names: Vec<String> = (0..MAX_ALIASES).map(|n| format!("n{n}")).collect();
    for name in &names {
        router.put(&owner, name, "m").await.unwrap();
    }
    assert_eq!(router.put(&owner, "more", "m").await.unwrap_err().param(), Some("name"));
    assert_eq!(router.decide(owner.tenant.unwrap(), "more").await.unwrap(), "more", "nothing half-done");
    router.put(&owner, "n0", "other").await.unwrap();
    names.sort();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let message = ListAliasesRequest { limit: 30, after, scope: String::new() };
        let page = router.list(&owner, message).await.unwrap();
        seen.extend(page.data.into_iter().map(|a| a.name));
        if !page.has_more {
            break;
        }
        after = page.next_cursor;
    }
    assert_eq!(seen, names);
    let wrong = ListAliasesRequest { limit: 101, ..ListAliasesRequest::default() };
    assert_eq!(router.list(&owner, wrong).await.unwrap_err().param(), Some("limit"));
    router.stop().await;
}
