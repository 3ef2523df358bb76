//! The rows, from the bare upstream to the whole gateway: each has one layer more than the one before.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use axum::{Router, body::Body, extract::Request, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use tokio::net::TcpListener;
use tonic::{Status, service::Routes};
use weir_access::Access;
use weir_events::{Bus, EventMetrics, NatsConfig};
use weir_llm::{
    openai::{self, ChatView},
    upstream::{Answer, Upstream, UpstreamConfig},
};
use weir_orchestrator::ProviderConfig;
use weir_proto::{
    chat::{
        CompleteFrame, CompleteRequest, Data, Dialect, End, Head,
        chat_client::ChatClient,
        chat_server::{Chat, ChatServer},
        complete_frame::Frame,
    },
    control::{
        KeyGrant, ResolveKeyRequest,
        api_keys_server::{ApiKeys, ApiKeysServer},
    },
};
use weir_rpc::Transport;
use weir_runtime::{ListenConfig, Tasks, serve};
use weir_telemetry::Metrics;
use weir_types::{Principal, RequestContext, SystemClock, TenantId, scope};

use super::Rung;
use crate::{background, canned, floor, load};

/// Kept while the bench runs.
pub(crate) struct Kept {
    _tasks: Tasks,
    _spool: tempfile::TempDir,
}

pub(crate) async fn start() -> anyhow::Result<(Vec<Rung>, Kept)> {
    let tasks = Tasks::new();
    let spool = tempfile::tempdir()?;
    let mut rungs = Vec::new();

    let (listener, address) = listen().await?;
    background(canned::serve(listener));
    rungs.push(Rung { name: "upstream alone", address });
    let origin: Uri = format!("http://{address}").parse()?;

    let (listener, proxy) = listen().await?;
    background(floor::serve(listener, origin.clone()));
    rungs.push(Rung { name: "floor: bare hyper proxy", address: proxy });

    let client = axum_client();
    let to = origin.clone();
    let app = Router::new().fallback(move |request: Request| forward(client.clone(), to.clone(), request));
    rungs.push(Rung { name: "+ accept loop, axum", address: house(app, &tasks).await? });

    let upstream = Upstream::new(UpstreamConfig {
        base_url: format!("{origin}v1").parse()?,
        ..UpstreamConfig::default()
    })?;
    let client = upstream.clone();
    let app = Router::new().fallback(move |request: Request| send(client.clone(), false, request));
    rungs.push(Rung { name: "+ provider client, time limits", address: house(app, &tasks).await? });

    let client = upstream.clone();
    let app = Router::new().fallback(move |request: Request| send(client.clone(), true, request));
    rungs.push(Rung { name: "+ body scan and splice", address: house(app, &tasks).await? });

    rungs.push(Rung { name: "+ in-process hop, span", address: house(relay(upstream), &tasks).await? });

    let chat = orchestrator(&origin, spool.path(), &tasks).await?;
    rungs.push(Rung { name: "+ models, tap, spool", address: house(over_rpc(chat.clone()), &tasks).await? });

    let app = gateway(chat, &tasks)?;
    rungs.push(Rung { name: "+ key, limits, edge (governed)", address: house(app, &tasks).await? });
    Ok((rungs, Kept { _tasks: tasks, _spool: spool }))
}

async fn listen() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// On Weir's own accept loop.
async fn house(app: Router, tasks: &Tasks) -> anyhow::Result<SocketAddr> {
    let (listener, address) = listen().await?;
    background(serve(listener, app, ListenConfig::default(), tasks.shutdown()));
    Ok(address)
}

type AxumClient =
    hyper_util::client::legacy::Client<hyper_util::client::legacy::connect::HttpConnector, Body>;

fn axum_client() -> AxumClient {
    let mut connector = hyper_util::client::legacy::connect::HttpConnector::new();
    connector.set_nodelay(true);
    hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build(connector)
}

async fn forward(client: AxumClient, upstream: Uri, mut request: Request) -> Response<Body> {
    let mut parts = upstream.into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    match client.request(request).await {
        Ok(response) => response.map(Body::new),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

async fn body_of(request: Request) -> Bytes {
    axum::body::to_bytes(request.into_body(), 10 << 20).await.unwrap_or_default()
}

async fn send(upstream: Upstream, scan: bool, request: Request) -> Response<Body> {
    let body = body_of(request).await;
    match post(&upstream, scan, body).await {
        Ok(answer) => {
            let (status, headers) = (answer.status, answer.headers.clone());
            let mut response = Response::new(Body::from_stream(pieces(answer)));
            *response.status_mut() = status;
            if let Some(kind) = headers.get(header::CONTENT_TYPE) {
                response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
            }
            response
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

async fn post(upstream: &Upstream, scan: bool, body: Bytes) -> anyhow::Result<Answer> {
    let body = if scan {
        let view = ChatView::scan(&body)?;
        openai::upstream_body(&view, &body, "gpt-4o-mini")
    } else {
        body
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(upstream.send("/chat/completions", headers, body, None).await?)
}

fn pieces(answer: Answer) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::unfold(answer.body, |mut body| async move {
        let piece = body.chunk().await?;
        Some((piece.map_err(std::io::Error::other), body))
    })
}

/// Weir's way to a provider with every safeguard off: accept loop, scan, in-process hop, the provider's client.
pub(crate) fn plain(origin: &Uri) -> anyhow::Result<Router> {
    let base_url = format!("{origin}v1").parse()?;
    Ok(relay(Upstream::new(UpstreamConfig { base_url, ..UpstreamConfig::default() })?))
}

fn relay(upstream: Upstream) -> Router {
    over_rpc(Transport::local("orchestrator", Routes::new(ChatServer::new(Relay(upstream)))))
}

/// A client of the orchestrator's RPC, without the gateway.
fn over_rpc(transport: Transport) -> Router {
    let ctx = RequestContext {
        principal: Principal::Key { id: load::layers_key().0, user: None },
        tenant: Some(TenantId::new()),
        scopes: Arc::from([scope::CHAT_WRITE.into()]),
        ..RequestContext::service("bench")
    };
    let chat = ChatClient::new(transport);
    Router::new().fallback(move |request: Request| complete(chat.clone(), ctx.clone(), request))
}

async fn complete(mut chat: ChatClient<Transport>, ctx: RequestContext, request: Request) -> Response<Body> {
    let body = body_of(request).await;
    let Ok(view) = ChatView::scan(&body) else { return StatusCode::BAD_REQUEST.into_response() };
    let message = CompleteRequest {
        dialect: Dialect::OpenaiChat.into(),
        model: view.model.clone(),
        stream: view.stream,
        include_usage: view.include_usage,
        body,
        ..CompleteRequest::default()
    };
    let frames = match chat.complete(weir_rpc::request(&ctx, message)).await {
        Ok(frames) => frames.into_inner(),
        Err(status) => return (StatusCode::BAD_GATEWAY, status.message().to_owned()).into_response(),
    };
    let data = frames.filter_map(|frame| {
        std::future::ready(match frame {
            Ok(CompleteFrame { frame: Some(Frame::Data(data)) }) => Some(Ok(data.bytes)),
            Ok(_) => None,
            Err(status) => Some(Err(status)),
        })
    });
    Body::from_stream(data).into_response()
}

/// What the orchestrator's RPC costs with nothing behind it but the provider's client.
struct Relay(Upstream);

type Frames = Pin<Box<dyn Stream<Item = Result<CompleteFrame, Status>> + Send>>;

#[tonic::async_trait]
impl Chat for Relay {
    async fn complete(
        &self,
        request: tonic::Request<CompleteRequest>,
    ) -> Result<tonic::Response<Frames>, Status> {
        let body = request.into_inner().body;
        let answer = post(&self.0, true, body).await.map_err(|e| Status::unavailable(e.to_string()))?;
        let frame = |frame| Ok(CompleteFrame { frame: Some(frame) });
        let head = Head { status: 200, ..Head::default() };
        let data = pieces(answer).map(move |piece| match piece {
            Ok(bytes) => frame(Frame::Data(Data { bytes })),
            Err(error) => Err(Status::from_error(error.into())),
        });
        let frames = stream::iter([frame(Frame::Head(head))])
            .chain(data)
            .chain(stream::iter([frame(Frame::End(End { usage: None, cost_nano_usd: None }))]));
        Ok(tonic::Response::new(Box::pin(frames)))
    }
}

async fn orchestrator(origin: &Uri, spool: &std::path::Path, tasks: &Tasks) -> anyhow::Result<Transport> {
    let provider = ProviderConfig {
        base_url: format!("{origin}v1"),
        models: vec!["gpt-4o-mini".to_owned()],
        ..ProviderConfig::default()
    };
    let config = weir_orchestrator::Config {
        providers: [("bench".to_owned(), provider)].into(),
        spool_dir: spool.join("spool"),
        ..weir_orchestrator::Config::default()
    };
    let metrics = Metrics::new();
    // Nobody listens there: events stay in the spool, which is what the hot path sees of them anyway.
    let nats = NatsConfig { url: "nats://127.0.0.1:9".into(), ..NatsConfig::default() };
    let bus = Bus::connect(&nats, EventMetrics::new(&metrics)).await?;
    let deps = weir_orchestrator::Deps {
        database: None,
        router: Transport::absent("router"),
        bus,
        kv: weir_kv::Kv::memory(),
        metrics,
        clock: Arc::new(SystemClock),
    };
    let service = weir_orchestrator::build(&config, deps).map_err(|e| anyhow::anyhow!(e.chain()))?;
    service.spawn(tasks);
    Ok(Transport::local("orchestrator", service.routes()))
}

fn gateway(chat: Transport, tasks: &Tasks) -> anyhow::Result<Router> {
    let control = Transport::local("control", Routes::new(ApiKeysServer::new(OneKey(TenantId::new()))));
    let (metrics, clock) = (Metrics::new(), Arc::new(SystemClock));
    let deps = weir_access::Deps {
        service: "gateway",
        control: control.clone(),
        bus: None,
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    let access = Access::build(weir_access::Config::default(), deps);
    access.spawn(tasks);
    let absent = || Transport::absent("bench");
    let deps = weir_gateway::Deps {
        access,
        orchestrator: chat,
        control,
        billing: absent(),
        analytics: absent(),
        ingestion: absent(),
        router: absent(),
        realtime: None,
        identity: Arc::new(weir_rpc::Identity::generate("gateway", clock.clone())?),
        metrics,
        clock,
        tasks: tasks.clone(),
    };
    let service =
        weir_gateway::build(weir_gateway::Config::default(), deps).map_err(|e| anyhow::anyhow!(e.chain()))?;
    Ok(service.http())
}

/// A control plane that knows the bench's key, with limits that are counted but never reached.
struct OneKey(TenantId);

#[tonic::async_trait]
impl ApiKeys for OneKey {
    async fn resolve_key(
        &self,
        _: tonic::Request<ResolveKeyRequest>,
    ) -> Result<tonic::Response<KeyGrant>, Status> {
        let limits = weir_proto::control::RateLimits {
            requests_per_minute: Some(1_000_000_000),
            tokens_per_minute: Some(1_000_000_000),
        };
        Ok(tonic::Response::new(KeyGrant {
            key_id: load::layers_key().0.to_string(),
            tenant_id: self.0.to_string(),
            scopes: vec![scope::CHAT_WRITE.to_owned()],
            rate_limits: Some(limits),
            ..KeyGrant::default()
        }))
    }
}
