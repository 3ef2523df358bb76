//! Services as these tests need them. How the chat answers is chosen by the model's name.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::{Request, Response, Status, service::Routes};
use weir_error::{Code, Error};
use weir_proto::{analytics, billing, chat, control, ingestion, router};
use weir_types::{
    KeyId, RequestContext, TenantId,
    api_key::{KeyKind, assemble},
    scope,
};

#[derive(Clone, Default)]
pub(super) struct Fakes(pub(super) Arc<State>);

pub(super) struct State {
    pub(super) keys: Mutex<HashMap<Vec<u8>, control::KeyGrant>>,
    pub(super) tenants: Mutex<HashMap<String, control::Tenant>>,
    /// What arrived last, and on whose behalf.
    pub(super) calls: Mutex<Vec<(&'static str, RequestContext)>>,
    pub(super) chats: Mutex<Vec<chat::CompleteRequest>>,
    pub(super) usage_asked: Mutex<Option<billing::GetMyUsageRequest>>,
    pub(super) kpis_asked: Mutex<Option<analytics::HourlyKpisRequest>>,
    /// What the router knows besides models, and what kind of name it is.
    pub(super) names: Mutex<Vec<(&'static str, &'static str)>>,
    /// What slow models wait for.
    pub(super) release: watch::Sender<bool>,
    /// Chats that were dropped before they ended.
    pub(super) dropped: Arc<AtomicUsize>,
    serial: AtomicUsize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            keys: Mutex::default(),
            tenants: Mutex::default(),
            calls: Mutex::default(),
            chats: Mutex::default(),
            usage_asked: Mutex::default(),
            kpis_asked: Mutex::default(),
            names: Mutex::default(),
            release: watch::Sender::new(false),
            dropped: Arc::default(),
            serial: AtomicUsize::new(0),
        }
    }
}

pub(super) fn sha256(text: &str) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).to_vec()
}

impl Fakes {
    pub(super) fn routes(&self) -> Routes {
        Routes::new(chat::chat_server::ChatServer::new(self.clone()).max_decoding_message_size(64 << 20))
            .add_service(chat::responses_server::ResponsesServer::new(self.clone()))
            .add_service(control::api_keys_server::ApiKeysServer::new(self.clone()))
            .add_service(control::tenants_server::TenantsServer::new(self.clone()))
            .add_service(billing::usage_server::UsageServer::new(self.clone()))
            .add_service(analytics::analytics_server::AnalyticsServer::new(self.clone()))
            .add_service(router::router_server::RouterServer::new(self.clone()))
            .add_service(ingestion::ingestion_server::IngestionServer::new(self.clone()))
    }

    /// A key with all of a tenant's scopes, unless changed.
    pub(super) fn add_key(&self, tenant: TenantId, change: impl FnOnce(&mut control::KeyGrant)) -> String {
        let (id, n) = (KeyId::new(), self.0.serial.fetch_add(1, Ordering::SeqCst));
        let text = assemble(KeyKind::Live, id, &[u8::try_from(n).unwrap(); 32]);
        let mut grant = control::KeyGrant {
            key_id: id.to_string(),
            tenant_id: tenant.to_string(),
            scopes: scope::TENANT.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        };
        change(&mut grant);
        self.0.keys.lock().insert(sha256(&text), grant);
        text
    }

    pub(super) fn release(&self) {
        self.0.release.send_replace(true);
    }

    pub(super) fn last_call(&self) -> (&'static str, RequestContext) {
        self.0.calls.lock().last().cloned().unwrap()
    }

    pub(super) fn called(&self, name: &str) -> usize {
        self.0.calls.lock().iter().filter(|(n, _)| *n == name).count()
    }

    fn note<T>(&self, name: &'static str, request: Request<T>) -> Result<T, Status> {
        self.0.calls.lock().push((name, weir_rpc::context(&request)?));
        Ok(request.into_inner())
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<chat::CompleteFrame, Status>> + Send>>;
type Frame = Result<chat::CompleteFrame, Status>;

fn frame(frame: chat::complete_frame::Frame) -> Frame {
    Ok(chat::CompleteFrame { frame: Some(frame) })
}

fn head(status: u32, content_type: &str) -> Frame {
    let headers = [("retry-after", "7"), ("x-should-retry", "true"), ("server", "theirs")];
    frame(chat::complete_frame::Frame::Head(chat::Head {
        status,
        content_type: content_type.to_owned(),
        provider: "sim".to_owned(),
        model: "sim-1".to_owned(),
        headers: headers.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect(),
    }))
}

fn data(bytes: &'static str) -> Frame {
    frame(chat::complete_frame::Frame::Data(chat::Data { bytes: Bytes::from_static(bytes.as_bytes()) }))
}

fn end() -> Frame {
    let usage = chat::Usage { input_tokens: 10, output_tokens: 5, ..Default::default() };
    frame(chat::complete_frame::Frame::End(chat::End { usage: Some(usage), cost_nano_usd: Some(1_500) }))
}

pub(super) const EVENTS: [&str; 3] =
    ["data: {\"n\":1}\n\n", "data: {\"n\":2}\n\ndata: {\"n\":3}\n\n", "data: [DONE]\n\n"];
/// Of a dialect whose streams end with their body.
pub(super) const GOOGLES: [&str; 2] = ["data: {\"a\":1}\n\ndata: {\"a\":2}\n\n", "data: {\"a\":3}\n\n"];
pub(super) const ANSWER: &str = "{\"object\":\"chat.completion\"}";
pub(super) const PROVIDER_ERROR: &str = "{\n  \"error\": {\"message\": \"slow down\"}\n}";
const SSE: &str = "text/event-stream";

/// Counts a drop, unless told that all went well.
struct DropCount(Arc<AtomicUsize>, bool);

impl Drop for DropCount {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Fakes {
    /// Waits for the release, then goes on with the frames.
    fn later(&self, frames: Vec<Frame>) -> Frames {
        let mut released = self.0.release.subscribe();
        let wait = async move {
            released.wait_for(|r| *r).await.unwrap();
            stream::iter(frames)
        };
        Box::pin(stream::once(wait).flatten())
    }

    fn whole_stream() -> Vec<Frame> {
        let events = EVENTS.iter().map(|e| data(e));
        [head(200, SSE)].into_iter().chain(events).chain([end()]).collect()
    }

    fn frames(&self, model: &str, streamed: bool) -> Result<Frames, Status> {
        let now = |frames: Vec<Frame>| -> Frames { Box::pin(stream::iter(frames)) };
        let cut = Status::from(Error::new(Code::UpstreamFailed, "the provider broke off"));
        Ok(match model {
            "blocks-then-cut" => {
                let start =
                    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0}\n\n";
                now(vec![head(200, SSE), data(start), Err(cut)])
            }
            "gem" if streamed => now(vec![head(200, SSE), data(GOOGLES[0]), data(GOOGLES[1]), end()]),
            "gem-thinking" => self.later(vec![head(200, SSE), data(GOOGLES[0]), data(GOOGLES[1]), end()]),
            "sim-1" if streamed => now(Self::whole_stream()),
            "sim-1" => now(vec![
                head(200, "application/json"),
                data("{\"object\":"),
                data("\"chat.completion\"}"),
                end(),
            ]),
            "cut" => now(vec![head(200, SSE), data(EVENTS[0]), Err(cut)]),
            "chatty" => {
                let events = "data: {}\n\n".repeat(600).into();
                let events = frame(chat::complete_frame::Frame::Data(chat::Data { bytes: events }));
                Box::pin(now(vec![head(200, SSE), events]).chain(self.later(vec![end()])))
            }
            "unfinished" => now(vec![head(200, SSE), data(EVENTS[0])]),
            "breaking" => now(vec![head(200, "application/json"), data("{\"id\":\"resp_breaking\"}"), end()]),
            "conversing" => {
                let usage = chat::Usage { input_tokens: 40_000, ..Default::default() };
                let end = chat::End { usage: Some(usage), cost_nano_usd: None };
                let end = frame(chat::complete_frame::Frame::End(end));
                now(vec![head(200, "application/json"), data("{\"id\":\"resp_1\"}"), end])
            }
            "refusing" => now(vec![head(429, "application/json"), data(PROVIDER_ERROR), end()]),
            "pausing" => Box::pin(now(vec![head(200, SSE), data(EVENTS[0])]).chain(self.later(vec![
                data(EVENTS[1]),
                data(EVENTS[2]),
                end(),
            ]))),
            "thinking" => self.later(Self::whole_stream()),
            "thinking-then-refusing" => {
                self.later(vec![head(429, "application/json"), data(PROVIDER_ERROR), end()])
            }
            "thinking-then-failing" => self.later(vec![Err(cut)]),
            "hanging" => {
                let first = if streamed { vec![head(200, SSE), data(EVENTS[0])] } else { Vec::new() };
                let count = DropCount(self.0.dropped.clone(), false);
                let forever = stream::once(async move {
                    std::future::pending::<()>().await;
                    drop(count);
                    end()
                });
                Box::pin(now(first).chain(forever))
            }
            "panicking" => panic!("secret inside"),
            "headless" => now(vec![data("x")]),
            _ => {
                let text = format!("the model `{model}` does not exist");
                return Err(Error::new(Code::ModelNotFound, text).with_param("model").into());
            }
        })
    }
}

#[tonic::async_trait]
impl chat::chat_server::Chat for Fakes {
    async fn complete(&self, request: Request<chat::CompleteRequest>) -> Result<Response<Frames>, Status> {
        let request = self.note("complete", request)?;
        let (model, streamed) = (request.model.clone(), request.stream);
        self.0.chats.lock().push(request);
        self.frames(&model, streamed).map(Response::new)
    }

    async fn compact(&self, request: Request<chat::CompleteRequest>) -> Result<Response<Frames>, Status> {
        let request = self.note("compact", request)?;
        let model = request.model.clone();
        self.0.chats.lock().push(request);
        self.frames(&model, false).map(Response::new)
    }

    async fn count_tokens(
        &self,
        request: Request<chat::CountTokensRequest>,
    ) -> Result<Response<chat::CountTokensResponse>, Status> {
        let request = self.note("count_tokens", request)?;
        let input_tokens = request.body.len() as u64;
        Ok(Response::new(chat::CountTokensResponse { input_tokens, provider: request.model }))
    }

    async fn list_models(
        &self,
        request: Request<chat::ListModelsRequest>,
    ) -> Result<Response<chat::ListModelsResponse>, Status> {
        let name = self.note("list_models", request)?.name;
        if name == "sim/slow" {
            self.0.release.subscribe().wait_for(|r| *r).await.unwrap();
        }
        let model = |id: &str| chat::Model {
            id: id.to_owned(),
            created: 1_700_000_000,
            owned_by: "sim".to_owned(),
            provider: "sim".to_owned(),
        };
        let mut models = vec![model("meta/llama:3"), model("sim-1")];
        if !name.is_empty() {
            models = name.starts_with("sim/").then(|| model(&name)).into_iter().collect();
        }
        Ok(Response::new(chat::ListModelsResponse { models }))
    }
}

type Stored = Result<Response<chat::ResponseBody>, Status>;

/// Shows what it was asked.
fn shown(what: impl std::fmt::Debug) -> Stored {
    let body = serde_json::json!({ "asked": format!("{what:?}") }).to_string().into();
    Ok(Response::new(chat::ResponseBody { body }))
}

#[tonic::async_trait]
impl chat::responses_server::Responses for Fakes {
    async fn get(&self, request: Request<chat::GetResponseRequest>) -> Stored {
        let request = self.note("get_response", request)?;
        if request.id == "resp_unknown" {
            return Err(Error::new(Code::NotFound, "Response with id 'resp_unknown' not found.").into());
        }
        shown((request.id, request.include))
    }

    async fn delete(&self, request: Request<chat::DeleteResponseRequest>) -> Stored {
        shown(self.note("delete_response", request)?.id)
    }

    async fn cancel(&self, request: Request<chat::CancelResponseRequest>) -> Stored {
        shown(self.note("cancel_response", request)?.id)
    }

    async fn input_items(&self, request: Request<chat::ListInputItemsRequest>) -> Stored {
        let request = self.note("input_items", request)?;
        shown((request.id, request.limit, request.after, request.ascending))
    }

    async fn attach(
        &self,
        request: Request<chat::AttachResponseRequest>,
    ) -> Result<Response<Frames>, Status> {
        let request = self.note("attach", request)?;
        if request.id == "resp_unknown" {
            return Err(Error::new(Code::NotFound, "Response with id 'resp_unknown' not found.").into());
        }
        if request.id == "resp_breaking" {
            let next = request.starting_after.map_or(0, |after| after + 1);
            let event = format!("event: x\nid: {next}\ndata: {{}}\n\n");
            let event = frame(chat::complete_frame::Frame::Data(chat::Data { bytes: event.into() }));
            let broken = if next == 3 { end() } else { Err(Status::unavailable("gone")) };
            return Ok(Response::new(Box::pin(stream::iter(vec![head(200, SSE), event, broken]))));
        }
        if request.id == "resp_deleted" {
            let gone = Error::new(Code::NotFound, "Response with id 'resp_deleted' not found.");
            let seen = data("event: x\nid: 4\ndata: {\"type\":\"x\",\"sequence_number\":4}\n\n");
            return Ok(Response::new(Box::pin(stream::iter(vec![head(200, SSE), seen, Err(gone.into())]))));
        }
        let event = format!("event: x\ndata: {:?}\n\n", request.starting_after);
        let event = frame(chat::complete_frame::Frame::Data(chat::Data { bytes: event.into() }));
        if request.id == "resp_silent" {
            let rest = self.later(vec![event, end()]);
            return Ok(Response::new(Box::pin(stream::iter(vec![head(200, SSE)]).chain(rest))));
        }
        Ok(Response::new(Box::pin(stream::iter(vec![head(200, SSE), event, end()]))))
    }
}

#[tonic::async_trait]
impl control::api_keys_server::ApiKeys for Fakes {
    async fn create_api_key(
        &self,
        request: Request<control::CreateApiKeyRequest>,
    ) -> Result<Response<control::CreateApiKeyResponse>, Status> {
        let request = self.note("create_api_key", request)?;
        let api_key = control::ApiKey {
            id: "018f0000-0000-7000-8000-000000000001".to_owned(),
            name: request.name,
            prefix: "pk_live_x".to_owned(),
            scopes: request.scopes,
            user_id: request.user_id,
            created_at_ms: 5,
            expires_at_ms: request.expires_at_ms,
            revoked_at_ms: 0,
        };
        let secret = "pk_live_x_secret".to_owned();
        Ok(Response::new(control::CreateApiKeyResponse { api_key: Some(api_key), secret }))
    }

    async fn list_api_keys(
        &self,
        request: Request<control::ListApiKeysRequest>,
    ) -> Result<Response<control::ListApiKeysResponse>, Status> {
        let request = self.note("list_api_keys", request)?;
        let data = vec![control::ApiKey { id: request.after, ..Default::default() }];
        Ok(Response::new(control::ListApiKeysResponse {
            data,
            has_more: true,
            next_cursor: request.limit.to_string(),
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<control::RevokeApiKeyRequest>,
    ) -> Result<Response<control::ApiKey>, Status> {
        let id = self.note("revoke_api_key", request)?.id;
        let known = self.0.keys.lock().values().any(|grant| grant.key_id == id);
        if !known {
            return Err(Error::new(Code::NotFound, "no such API key").into());
        }
        Ok(Response::new(control::ApiKey { id, revoked_at_ms: 9, ..Default::default() }))
    }

    async fn resolve_key(
        &self,
        request: Request<control::ResolveKeyRequest>,
    ) -> Result<Response<control::KeyGrant>, Status> {
        let hash = self.note("resolve_key", request)?.sha256;
        let grant = self.0.keys.lock().get(hash.as_ref()).cloned();
        grant.map(Response::new).ok_or_else(|| Error::new(Code::NotFound, "no such key").into())
    }
}

#[tonic::async_trait]
impl control::tenants_server::Tenants for Fakes {
    async fn create_tenant(
        &self,
        request: Request<control::CreateTenantRequest>,
    ) -> Result<Response<control::Tenant>, Status> {
        let request = self.note("create_tenant", request)?;
        let (_, ctx) = self.last_call();
        weir_error::require_scope(&ctx, scope::PLATFORM_ADMIN)?;
        let tenant = control::Tenant {
            id: TenantId::new().to_string(),
            name: request.name,
            tier: request.tier,
            rate_limits: request.rate_limits,
            created_at_ms: 5,
            ..Default::default()
        };
        self.0.tenants.lock().insert(tenant.id.clone(), tenant.clone());
        Ok(Response::new(tenant))
    }

    async fn get_tenant(
        &self,
        request: Request<control::GetTenantRequest>,
    ) -> Result<Response<control::Tenant>, Status> {
        let id = self.note("get_tenant", request)?.id;
        let tenant = self.0.tenants.lock().get(&id).cloned();
        tenant.map(Response::new).ok_or_else(|| Error::new(Code::NotFound, "no such tenant").into())
    }

    async fn list_tenants(
        &self,
        request: Request<control::ListTenantsRequest>,
    ) -> Result<Response<control::ListTenantsResponse>, Status> {
        self.note("list_tenants", request)?;
        let data = self.0.tenants.lock().values().cloned().collect();
        Ok(Response::new(control::ListTenantsResponse { data, has_more: false, next_cursor: String::new() }))
    }
}

#[tonic::async_trait]
impl billing::usage_server::Usage for Fakes {
    async fn get_my_usage(
        &self,
        request: Request<billing::GetMyUsageRequest>,
    ) -> Result<Response<billing::UsageReport>, Status> {
        let request = self.note("get_my_usage", request)?;
        *self.0.usage_asked.lock() = Some(request);
        let totals =
            Some(billing::Totals { requests: 9_007_199_254_740_993, input_tokens: 3, ..Default::default() });
        Ok(Response::new(billing::UsageReport {
            from_ms: request.from_ms,
            to_ms: request.to_ms,
            totals,
            by_model: vec![billing::ModelUsage { model: "sim-1".to_owned(), totals }],
            by_hour: vec![billing::HourUsage { hour_ms: 3_600_000, totals }],
        }))
    }
}

#[tonic::async_trait]
impl analytics::analytics_server::Analytics for Fakes {
    async fn hourly_kpis(
        &self,
        request: Request<analytics::HourlyKpisRequest>,
    ) -> Result<Response<analytics::HourlyKpisResponse>, Status> {
        let request = self.note("hourly_kpis", request)?;
        let hour = analytics::HourKpis { model: request.model.clone(), requests: 2, ..Default::default() };
        let slow = request.model == "slow";
        *self.0.kpis_asked.lock() = Some(request);
        if slow {
            self.0.release.subscribe().wait_for(|r| *r).await.unwrap();
        }
        Ok(Response::new(analytics::HourlyKpisResponse { data: vec![hour] }))
    }
}

#[tonic::async_trait]
impl router::router_server::Router for Fakes {
    async fn decide(
        &self,
        request: Request<router::DecideRequest>,
    ) -> Result<Response<router::DecideResponse>, Status> {
        let model = self.note("decide", request)?.model;
        let reasons = vec!["named outright".to_owned()];
        Ok(Response::new(router::DecideResponse { model, reasons, ..Default::default() }))
    }

    async fn list_names(
        &self,
        request: Request<router::ListNamesRequest>,
    ) -> Result<Response<router::ListNamesResponse>, Status> {
        self.note("list_names", request)?;
        let name = |(name, kind): (&str, &str)| router::Name {
            name: name.to_owned(),
            model: "sim-1".to_owned(),
            kind: kind.to_owned(),
        };
        let names = self.0.names.lock().iter().copied().map(name).collect();
        Ok(Response::new(router::ListNamesResponse { names }))
    }
}

#[tonic::async_trait]
impl ingestion::ingestion_server::Ingestion for Fakes {
    async fn create_document(
        &self,
        request: Request<ingestion::CreateDocumentRequest>,
    ) -> Result<Response<ingestion::Document>, Status> {
        self.note("create_document", request)?;
        Err(Error::new(Code::NotImplemented, "documents are not stored yet").into())
    }
}
