//! Realtime on a listener of its own, before an orchestrator and a control plane that do what tests say.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status, service::Routes};
use weir_access::Access;
use weir_error::{Code, Error};
use weir_kv::Kv;
use weir_proto::{
    chat::chat_server::ChatServer,
    control::{
        ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, CreateTenantRequest, GetTenantRequest, KeyGrant,
        ListApiKeysRequest, ListApiKeysResponse, ListTenantsRequest, ListTenantsResponse, RateLimits,
        ResolveKeyRequest, RevokeApiKeyRequest, Tenant,
        api_keys_server::{ApiKeys, ApiKeysServer},
        tenants_server::{Tenants, TenantsServer},
    },
    realtime::{CountSessionsRequest, realtime_client::RealtimeClient},
};
use weir_realtime::{Config, Deps, Service, build};
use weir_rpc::{Identity, Transport};
use weir_runtime::{ListenConfig, OnFailure, Tasks, serve};
use weir_telemetry::Metrics;
use weir_types::{
    KeyId, RequestContext, SystemClock, TenantId,
    api_key::{KeyKind, assemble},
    scope,
};

use crate::{
    client::{Client, PATIENCE, open},
    upstream::Upstream,
};

/// The control plane: keys by their hash.
#[derive(Clone, Default)]
pub(crate) struct Control {
    grants: Arc<Mutex<HashMap<Vec<u8>, KeyGrant>>>,
    tenants: Arc<Mutex<HashMap<TenantId, RateLimits>>>,
}

impl Control {
    /// A tenant with these limits.
    pub(crate) fn tenant(&self, limits: RateLimits) -> TenantId {
        let id = TenantId::new();
        self.tenants.lock().insert(id, limits);
        id
    }

    /// A key of this tenant; of the platform when there is none.
    pub(crate) fn key(&self, tenant: Option<TenantId>, scopes: &[&str]) -> String {
        let id = KeyId::new();
        let kind = if tenant.is_some() { KeyKind::Live } else { KeyKind::Admin };
        let key = assemble(kind, id, &[7; 32]);
        let grant = KeyGrant {
            key_id: id.to_string(),
            tenant_id: tenant.map(|t| t.to_string()).unwrap_or_default(),
            scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
            rate_limits: tenant.and_then(|t| self.tenants.lock().get(&t).copied()),
            ..KeyGrant::default()
        };
        self.grants.lock().insert(Sha256::digest(&key).to_vec(), grant);
        key
    }

    pub(crate) fn revoke(&self, key: &str) {
        self.grants.lock().remove(Sha256::digest(key).as_slice());
    }
}

#[tonic::async_trait]
impl ApiKeys for Control {
    async fn create_api_key(
        &self,
        _: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_api_keys(
        &self,
        _: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn revoke_api_key(&self, _: Request<RevokeApiKeyRequest>) -> Result<Response<ApiKey>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn resolve_key(&self, request: Request<ResolveKeyRequest>) -> Result<Response<KeyGrant>, Status> {
        let found = self.grants.lock().get(&request.get_ref().sha256.to_vec()).cloned();
        Ok(Response::new(found.ok_or_else(|| Error::new(Code::NotFound, "no such key"))?))
    }
}

#[tonic::async_trait]
impl Tenants for Control {
    async fn create_tenant(&self, _: Request<CreateTenantRequest>) -> Result<Response<Tenant>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<Tenant>, Status> {
        let id = request.get_ref().id.parse().map_err(|_| Error::new(Code::NotFound, "no such tenant"))?;
        let limits = self.tenants.lock().get(&id).copied();
        let rate_limits = Some(limits.ok_or_else(|| Error::new(Code::NotFound, "no such tenant"))?);
        Ok(Response::new(Tenant { id: request.into_inner().id, rate_limits, ..Tenant::default() }))
    }

    async fn list_tenants(
        &self,
        _: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) upstream: Upstream,
    pub(crate) control: Control,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
    pub(crate) service: Service,
    pub(crate) gateway: Identity,
    pub(crate) tenant: TenantId,
    /// A key of `tenant`, which has no limits.
    pub(crate) key: String,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        Self::with_access(config, weir_access::Config::default()).await
    }

    pub(crate) async fn with_access(config: Config, access: weir_access::Config) -> Self {
        let (upstream, control) = (Upstream::default(), Control::default());
        let (metrics, tasks, clock) = (Metrics::new(), Tasks::new(), Arc::new(SystemClock));
        let routes =
            Routes::new(ApiKeysServer::new(control.clone())).add_service(TenantsServer::new(control.clone()));
        let access_deps = weir_access::Deps {
            service: "realtime",
            control: Transport::local("control", routes),
            bus: None,
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        let gateway = Identity::generate("gateway", clock.clone()).unwrap();
        let identity = Identity::generate("realtime", clock.clone()).unwrap();
        identity.trust(&[gateway.public().clone()]).unwrap();
        let deps = Deps {
            identity: Arc::new(identity),
            access: Access::build(access, access_deps),
            chat: Transport::local("orchestrator", Routes::new(ChatServer::new(upstream.clone()))),
            kv: Kv::memory(),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            clock,
        };
        let service = build(config, deps).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = serve(listener, service.http(), ListenConfig::default(), tasks.shutdown());
        tasks.spawn("listener", OnFailure::Log, serving);
        let tenant = control.tenant(RateLimits::default());
        let key = control.key(Some(tenant), scope::DEFAULT);
        Self { address, upstream, control, metrics, tasks, service, gateway, tenant, key }
    }

    /// A connection that has not said anything yet.
    pub(crate) async fn connect(&self) -> Client {
        open(self.address, "/ws/chat", &[]).await.expect("refused")
    }

    /// An authenticated session.
    pub(crate) async fn session(&self) -> Client {
        self.session_of(&self.key).await
    }

    pub(crate) async fn session_of(&self, key: &str) -> Client {
        let mut client = self.connect().await;
        client.auth(key).await;
        client.expect("ready").await;
        client
    }

    pub(crate) async fn count(&self, tenant: TenantId) -> u64 {
        let mut client = RealtimeClient::new(Transport::local("realtime", self.service.routes()));
        let ctx = RequestContext {
            tenant: Some(tenant),
            scopes: Arc::from([Arc::from(scope::USAGE_READ)]),
            ..RequestContext::service("gateway")
        };
        let answer = client.count_sessions(weir_rpc::request(&ctx, CountSessionsRequest {})).await;
        answer.unwrap().into_inner().active
    }

    /// Waits until a line of the metrics reads so.
    pub(crate) async fn metric(&self, line: &str) {
        until(line, async || self.metrics.encode().lines().any(|l| l == line)).await;
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never came: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
