//! The control plane on a real PostgreSQL, called as gateways call it.
#![cfg(test)]

mod dead_letters;
mod gateways;
mod keys;
mod push;
mod resolve;
mod tenants;

use std::sync::Arc;

use sqlx::{Connection as _, PgConnection};
use weir_control::{Config, Deps, Service};
use weir_db::{AppRole, Db, DbConfig, migrate};
use weir_error::{Code, Error};
use weir_events::{Bus, EventMetrics, NatsConfig};
use weir_proto::control::{
    ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, CreateTenantRequest, GetApiKeyRequest, KeyGrant,
    ListApiKeysRequest, ListApiKeysResponse, ResolveKeyRequest, RevokeApiKeyRequest, Tenant,
    api_keys_client::ApiKeysClient, tenants_client::TenantsClient,
};
use weir_rpc::{Transport, request};
use weir_telemetry::Metrics;
use weir_testkit::{APP_PASSWORD, APP_ROLE, Database, Postgres};
use weir_types::{
    KeyId, ManualClock, Principal, RequestContext, TenantId, UserId,
    api_key::{KeyKind, assemble},
    scope,
};

const NOW: i64 = 1_800_000_000_000;
const MAX_KEYS: u32 = 20;

struct World {
    database: Database,
    nats_url: String,
    service: Service,
    transport: Transport,
    clock: ManualClock,
    metrics: Metrics,
    admin_key: String,
}

/// A busy machine may take its time to connect.
fn patient(database: &Database) -> DbConfig {
    DbConfig { acquire_timeout_ms: 30_000, ..DbConfig::new(database.app_url.as_str()) }
}

impl World {
    async fn new() -> Self {
        // Nobody listens there.
        Self::with_nats("nats://127.0.0.1:1").await
    }

    async fn with_nats(url: &str) -> Self {
        let apply = |url: String| async move { migrate(&url, &AppRole::new(APP_ROLE, APP_PASSWORD)).await };
        let postgres = Postgres::shared().await.unwrap();
        let database = postgres.database(&weir_db::fingerprint(), apply).await.unwrap();
        let metrics = Metrics::new();
        let clock = ManualClock::at(NOW);
        let nats = NatsConfig { url: url.into(), ..NatsConfig::default() };
        let bus = Bus::connect(&nats, EventMetrics::new(&metrics)).await.unwrap();
        let db = Db::connect_lazy(&patient(&database)).unwrap();
        db.verify().await.unwrap();
        let admin_key = assemble(KeyKind::Admin, KeyId::new(), &[9; 32]);
        let config =
            Config { admin_key_sha256: Some(hex(&sha256(&admin_key))), max_keys_per_tenant: MAX_KEYS };
        let deps = Deps { db, bus, clock: Arc::new(clock.clone()), metrics: metrics.clone() };
        let service = weir_control::build(config, deps).unwrap();
        let transport = Transport::local("control", service.routes());
        Self { database, nats_url: url.into(), service, transport, clock, metrics, admin_key }
    }

    /// Another process of the same service.
    async fn again(&self) -> Service {
        let metrics = Metrics::new();
        let nats = NatsConfig { url: self.nats_url.as_str().into(), ..NatsConfig::default() };
        let bus = Bus::connect(&nats, EventMetrics::new(&metrics)).await.unwrap();
        let db = Db::connect_lazy(&patient(&self.database)).unwrap();
        let deps = Deps { db, bus, clock: Arc::new(self.clock.clone()), metrics };
        weir_control::build(Config::default(), deps).unwrap()
    }

    fn tenants(&self) -> TenantsClient<Transport> {
        TenantsClient::new(self.transport.clone())
    }

    fn keys(&self) -> ApiKeysClient<Transport> {
        ApiKeysClient::new(self.transport.clone())
    }

    async fn admin(&self) -> PgConnection {
        PgConnection::connect(&self.database.admin_url).await.unwrap()
    }

    async fn tenant(&self, name: &str) -> TenantId {
        let message = CreateTenantRequest { name: name.into(), ..CreateTenantRequest::default() };
        let tenant: Tenant =
            self.tenants().create_tenant(request(&platform(), message)).await.unwrap().into_inner();
        tenant.id.parse().unwrap()
    }

    async fn create(
        &self,
        ctx: &RequestContext,
        message: CreateApiKeyRequest,
    ) -> Result<CreateApiKeyResponse, Error> {
        self.keys()
            .create_api_key(request(ctx, message))
            .await
            .map(tonic::Response::into_inner)
            .map_err(Error::from)
    }

    /// A key with the default scopes.
    async fn key(&self, tenant: TenantId) -> CreateApiKeyResponse {
        self.create(&manager(tenant), named("a key")).await.unwrap()
    }

    async fn list(
        &self,
        ctx: &RequestContext,
        limit: u32,
        after: &str,
    ) -> Result<ListApiKeysResponse, Error> {
        let message = ListApiKeysRequest { limit, after: after.into() };
        self.keys()
            .list_api_keys(request(ctx, message))
            .await
            .map(tonic::Response::into_inner)
            .map_err(Error::from)
    }

    async fn get(&self, ctx: &RequestContext, id: &str) -> Result<ApiKey, Error> {
        let message = GetApiKeyRequest { id: id.into() };
        self.keys()
            .get_api_key(request(ctx, message))
            .await
            .map(tonic::Response::into_inner)
            .map_err(Error::from)
    }

    async fn revoke(&self, ctx: &RequestContext, id: &str) -> Result<ApiKey, Error> {
        let message = RevokeApiKeyRequest { id: id.into() };
        self.keys()
            .revoke_api_key(request(ctx, message))
            .await
            .map(tonic::Response::into_inner)
            .map_err(Error::from)
    }

    async fn resolve(&self, key: &str) -> Result<KeyGrant, Error> {
        let message = ResolveKeyRequest { sha256: sha256(key).to_vec().into() };
        let gateway = RequestContext::service("gateway");
        self.keys()
            .resolve_key(request(&gateway, message))
            .await
            .map(tonic::Response::into_inner)
            .map_err(Error::from)
    }
}

fn scopes(all: &[&str]) -> Arc<[Arc<str>]> {
    all.iter().map(|&s| Arc::from(s)).collect()
}

fn platform() -> RequestContext {
    let principal = Principal::Platform;
    RequestContext { principal, scopes: scopes(&[scope::PLATFORM_ADMIN]), ..RequestContext::service("test") }
}

/// A key of the tenant with these scopes.
fn caller(tenant: TenantId, all: &[&str]) -> RequestContext {
    let principal = Principal::Key { id: KeyId::new(), user: Some(UserId::new()) };
    RequestContext { principal, tenant: Some(tenant), scopes: scopes(all), ..RequestContext::service("test") }
}

fn manager(tenant: TenantId) -> RequestContext {
    caller(tenant, scope::TENANT)
}

fn named(name: &str) -> CreateApiKeyRequest {
    CreateApiKeyRequest { name: name.into(), ..CreateApiKeyRequest::default() }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (Code, Option<String>) {
    let error = result.unwrap_err();
    (error.code(), error.param().map(str::to_owned))
}

fn sha256(text: &str) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
