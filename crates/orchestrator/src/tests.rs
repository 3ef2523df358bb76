//! The orchestrator against small providers that misbehave on purpose, with its events read back from a real NATS.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Json, Router, body::Body, http::StatusCode, response::IntoResponse as _, routing};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use prost::Message as _;
use tonic::Status;
use weir_error::{Code, Error};
use weir_events::{Bus, EventMetrics, NatsConfig};
use weir_proto::{
    chat::{CompleteFrame, CompleteRequest, Dialect, chat_client::ChatClient, complete_frame::Frame},
    events::{AttemptClosed, Outcome, RequestFinished},
    router::{
        DecideRequest, DecideResponse,
        router_server::{Router as Decider, RouterServer},
    },
};
use weir_rpc::Transport;
use weir_runtime::Tasks;
use weir_telemetry::Metrics;
use weir_testkit::Nats;
use weir_types::{KeyId, Principal, RequestContext, SystemClock, TenantId, scope};

use crate::{Config, Deps, ProviderConfig, ProviderDialect, build};

mod compact;
mod costs;
mod credentials;
mod embeddings;
mod fidelity;
mod gemini;
mod messages;
mod native;
mod refusals;
mod timeouts;

/// What the provider `priced` asks for its one model.
const PRICES: &str = r#"
[[price]]
vendor = "priced"
models = ["m"]
from = "2026-01-01"
usd_per_million = { input = "1", output = "4" }
source = "https://example.com/prices"
reviewed = "2026-11-21"
"#;
const PATIENCE: Duration = Duration::from_secs(20);
const CHUNK: &str = r#"data: {"id":"x","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}],"usage":null}"#;
const LAST: &str =
    r#"data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#;
const USAGE: &str = r#"data: {"id":"x","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;

/// A provider on a port of its own that answers every chat with `answer`.
async fn provider(answer: fn() -> axum::response::Response) -> SocketAddr {
    let app = Router::new()
        .route("/v1/chat/completions", routing::post(move || async move { answer() }))
        .route("/v1/messages", routing::post(move || async move { answer() }))
        .route("/v1/messages/count_tokens", routing::post(told));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Counts the bytes of the headers that only Anthropic's clients send, so that a test sees whether they came.
async fn told(headers: axum::http::HeaderMap) -> axum::response::Response {
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    assert_eq!((text("x-api-key").as_str(), text("authorization").as_str()), ("sk-own", ""));
    let told = text("anthropic-beta").len() + text("anthropic-version").len();
    Json(serde_json::json!({ "input_tokens": told })).into_response()
}

fn plain() -> axum::response::Response {
    let usage = serde_json::json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11});
    Json(serde_json::json!({"choices": [{"message": {"content": "two words"}}], "usage": usage}))
        .into_response()
}

fn events(pieces: &[&str]) -> axum::response::Response {
    let pieces: Vec<_> =
        pieces.iter().map(|p| Ok::<_, std::io::Error>(Bytes::from(format!("{p}\n\n")))).collect();
    ([("content-type", "text/event-stream")], Body::from_stream(stream::iter(pieces))).into_response()
}

fn cut() -> axum::response::Response {
    let broken = stream::iter([Ok(Bytes::from(format!("{CHUNK}\n\n"))), Err(std::io::Error::other("gone"))]);
    // The error may overtake bytes that are not flushed yet: let the first piece leave alone.
    let paced = broken.then(|piece| async {
        tokio::task::yield_now().await;
        piece
    });
    ([("content-type", "text/event-stream")], Body::from_stream(paced)).into_response()
}

fn endless() -> axum::response::Response {
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(format!("{CHUNK}\n\n")))]);
    ([("content-type", "text/event-stream")], Body::from_stream(first.chain(stream::pending())))
        .into_response()
}

/// Knows two aliases, of which one may be a model's name, too.
struct Aliases;

#[tonic::async_trait]
impl Decider for Aliases {
    async fn decide(
        &self,
        request: tonic::Request<DecideRequest>,
    ) -> Result<tonic::Response<DecideResponse>, Status> {
        let asked = request.into_inner().model;
        let model = if ["smart", "taken"].contains(&&*asked) { "m".to_owned() } else { asked };
        Ok(tonic::Response::new(DecideResponse { model, ..DecideResponse::default() }))
    }
}

struct House {
    chat: ChatClient<Transport>,
    ctx: RequestContext,
    nats: Nats,
    tasks: Tasks,
    /// What ends before them.
    edge: Tasks,
    _spool: tempfile::TempDir,
}

impl House {
    async fn new(providers: &[(&str, SocketAddr)], router: Transport) -> Self {
        Self::listing(providers, router, &["m"]).await
    }

    /// With no models named, each provider is asked for its list; these know none.
    async fn listing(providers: &[(&str, SocketAddr)], router: Transport, models: &[&str]) -> Self {
        Self::set(providers, router, models, |_| {}).await
    }

    /// With other settings.
    async fn set(
        providers: &[(&str, SocketAddr)],
        router: Transport,
        models: &[&str],
        settings: impl FnOnce(&mut Config),
    ) -> Self {
        let nats = Nats::start().await.unwrap();
        let spool = tempfile::tempdir().unwrap();
        let prices = spool.path().join("prices.toml");
        std::fs::write(&prices, PRICES).unwrap();
        let provider = |name: &str, address: &SocketAddr| ProviderConfig {
            base_url: format!("http://{address}/v1"),
            api_key: Some("sk-own".into()),
            dialect: match name {
                name if name.starts_with("claude") => ProviderDialect::Anthropic,
                "native" => ProviderDialect::Responses,
                "gemini" => ProviderDialect::Gemini,
                _ => ProviderDialect::OpenAi,
            },
            responses: (name == "both").then_some(true),
            models: models.iter().map(|m| (*m).to_owned()).collect(),
            ..ProviderConfig::default()
        };
        let mut config = Config {
            providers: providers
                .iter()
                .map(|(name, at)| ((*name).to_owned(), provider(name, at)))
                .collect::<BTreeMap<_, _>>(),
            spool_dir: spool.path().join("spool"),
            fallback_model: Some("m".to_owned()),
            prices_file: Some(prices),
            // Long enough for requests of one moment to meet, however busy the machine is.
            embed_batch_ms: 250,
            ..Config::default()
        };
        settings(&mut config);
        let (metrics, tasks, edge) = (Metrics::new(), Tasks::new(), Tasks::new());
        let nats_config = NatsConfig { url: nats.url().into(), ..NatsConfig::default() };
        let bus = Bus::connect(&nats_config, EventMetrics::new(&metrics)).await.unwrap();
        bus.keep_streams(&tasks);
        let service = build(
            &config,
            Deps {
                router,
                database: None,
                bus,
                kv: weir_kv::Kv::memory(),
                metrics,
                clock: Arc::new(SystemClock),
            },
        )
        .unwrap();
        service.spawn(&tasks);
        service.close_within(&edge);
        let ctx = RequestContext {
            principal: Principal::Key { id: KeyId::new(), user: None },
            tenant: Some(TenantId::new()),
            scopes: Arc::from([scope::CHAT_WRITE.into()]),
            ..RequestContext::service("test")
        };
        let chat = ChatClient::new(Transport::local("orchestrator", service.routes()));
        Self { chat, ctx, nats, tasks, edge, _spool: spool }
    }

    async fn ask(
        &self,
        model: &str,
        stream: bool,
        include_usage: bool,
    ) -> Result<tonic::Streaming<CompleteFrame>, Error> {
        let options = if include_usage { r#","stream_options":{"include_usage":true}"# } else { "" };
        let body = format!(
            r#"{{"model":"{model}","stream":{stream}{options},"messages":[{{"role":"user","content":"Hello"}}]}}"#
        );
        let message = CompleteRequest {
            dialect: Dialect::OpenaiChat.into(),
            model: model.to_owned(),
            stream,
            include_usage,
            body: body.into(),
            ..CompleteRequest::default()
        };
        let mut chat = self.chat.clone();
        Ok(chat.complete(weir_rpc::request(&self.ctx, message)).await?.into_inner())
    }

    async fn ask_anthropic(&self, stream: bool, more: CompleteRequest) -> Result<Vec<Frame>, Error> {
        let body = format!(
            r#"{{"model":"m","max_tokens":50,"stream":{stream},"messages":[{{"role":"user","content":"Hello"}}]}}"#
        );
        let message = CompleteRequest {
            dialect: Dialect::AnthropicMessages.into(),
            model: "m".to_owned(),
            stream,
            body: body.into(),
            ..more
        };
        let mut chat = self.chat.clone();
        let mut frames = chat.complete(weir_rpc::request(&self.ctx, message)).await?.into_inner();
        let mut all = Vec::new();
        while let Some(frame) = frames.message().await? {
            all.push(frame.frame.unwrap());
        }
        Ok(all)
    }

    /// Status, provider, text and usage of a whole answer.
    async fn answer(
        &self,
        model: &str,
        stream: bool,
        include_usage: bool,
    ) -> (u32, String, String, (u64, u64)) {
        let mut frames = self.ask(model, stream, include_usage).await.unwrap();
        let (mut head, mut text, mut usage) = (None, Vec::new(), None);
        while let Some(frame) = frames.message().await.unwrap() {
            match frame.frame.unwrap() {
                Frame::Head(h) => head = Some(h),
                Frame::Data(d) => text.extend_from_slice(&d.bytes),
                Frame::End(e) => usage = e.usage,
            }
        }
        let (head, usage) = (head.unwrap(), usage.unwrap());
        let tokens = (usage.input_tokens, usage.output_tokens);
        (head.status, head.provider, String::from_utf8(text).unwrap(), tokens)
    }

    /// What was metered, once one request is: the attempts in their order, and the request.
    async fn metered(&self) -> (Vec<AttemptClosed>, RequestFinished) {
        tokio::time::timeout(PATIENCE, self.read_events()).await.expect("events in time")
    }

    async fn read_events(&self) -> (Vec<AttemptClosed>, RequestFinished) {
        let jetstream = async_nats::jetstream::new(async_nats::connect(self.nats.url()).await.unwrap());
        let stream = loop {
            if let Ok(stream) = jetstream.get_stream(weir_events::USAGE).await {
                break stream;
            }
            tokio::task::yield_now().await;
        };
        let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
        let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
        let (mut attempts, mut request) = (Vec::new(), None);
        loop {
            let message = messages.next().await.unwrap().unwrap();
            if message.subject.ends_with(".attempt_closed") {
                attempts.push(AttemptClosed::decode(message.payload.clone()).unwrap());
            } else {
                request = Some(RequestFinished::decode(message.payload.clone()).unwrap());
            }
            let done =
                request.as_ref().filter(|r| attempts.len() as u32 >= r.attempts.min(attempts_expected(r)));
            if let Some(request) = done {
                attempts.sort_by_key(|a| a.number);
                return (attempts, request.clone());
            }
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.tasks.trigger();
    }
}

/// An attempt that can't have reached its provider has no event.
fn attempts_expected(request: &RequestFinished) -> u32 {
    if request.outcome() == Outcome::Failed && request.provider == "dead" { 0 } else { u32::MAX }
}

fn tokens(of: &RequestFinished) -> (u64, u64) {
    of.tokens.map(|t| (t.input, t.output)).unwrap_or_default()
}

#[tokio::test]
async fn a_plain_answer_passes_untouched_and_is_metered() {
    let house = House::new(&[("one", provider(plain).await)], Transport::absent("router")).await;
    let (status, name, text, usage) = house.answer("m", false, false).await;
    assert_eq!((status, name.as_str(), usage), (200, "one", (9, 2)));
    assert!(text.contains("two words"));
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts.len(), attempts[0].outcome(), attempts[0].status), (1, Outcome::Succeeded, 200));
    assert_eq!((request.outcome(), tokens(&request), request.attempts), (Outcome::Succeeded, (9, 2), 1));
    assert_eq!(request.caller.unwrap().tenant_id, house.ctx.tenant.unwrap().to_string());
}

#[tokio::test]
async fn the_usage_chunk_goes_to_those_who_asked() {
    let good = || events(&[CHUNK, CHUNK, LAST, USAGE, "data: [DONE]"]);
    let house = House::new(&[("one", provider(good).await)], Transport::absent("router")).await;
    let (_, _, with, usage) = house.answer("m", true, true).await;
    assert_eq!(with, format!("{CHUNK}\n\n{CHUNK}\n\n{LAST}\n\n{USAGE}\n\ndata: [DONE]\n\n"));
    assert_eq!(usage, (9, 2));
    let (_, _, without, usage) = house.answer("m", true, false).await;
    assert_eq!(without, format!("{CHUNK}\n\n{CHUNK}\n\n{LAST}\n\ndata: [DONE]\n\n"));
    assert_eq!(usage, (9, 2));
}

#[tokio::test]
async fn the_usage_chunk_is_made_here_when_the_provider_sends_none() {
    let silent = || events(&[CHUNK, CHUNK, LAST, "data: [DONE]"]);
    let house = House::new(&[("one", provider(silent).await)], Transport::absent("router")).await;
    let (_, _, text, usage) = house.answer("m", true, true).await;
    assert!(usage.0 > 0 && usage.1 == 2, "{usage:?}");
    let events: Vec<_> = text.split_terminator("\n\n").collect();
    let [.., last, made, "data: [DONE]"] = events.as_slice() else { panic!("{text}") };
    assert_eq!(*last, LAST);
    let made: serde_json::Value = serde_json::from_str(made.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&made["id"], &made["choices"]), (&"x".into(), &serde_json::json!([])));
    assert_eq!(made["usage"]["total_tokens"], usage.0 + usage.1);
    let (_, _, text, _) = house.answer("m", true, false).await;
    assert!(!text.contains("total_tokens"));
}

#[tokio::test]
async fn a_provider_that_lists_nothing_still_serves_models_named_outright() {
    let address = provider(plain).await;
    let router = Transport::local("router", tonic::service::Routes::new(RouterServer::new(Aliases)));
    let house = House::listing(&[("one", address)], router, &[]).await;
    for model in ["anything", "one/anything", "smart"] {
        assert_eq!(house.answer(model, false, false).await.0, 200, "{model}");
    }
}

#[tokio::test]
async fn a_cut_stream_ends_in_shape_and_is_metered_as_relayed() {
    let house = House::new(&[("one", provider(cut).await)], Transport::absent("router")).await;
    let (_, _, text, usage) = house.answer("m", true, false).await;
    assert!(text.starts_with(CHUNK) && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(text.contains(r#""code":"upstream_failed""#), "{text}");
    assert_eq!(usage.1, 1);
    let (attempts, request) = house.metered().await;
    assert_eq!(
        (attempts[0].outcome(), request.outcome(), tokens(&request).1),
        (Outcome::Cut, Outcome::Cut, 1)
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_metered_for_what_it_got() {
    let house = House::new(&[("one", provider(endless).await)], Transport::absent("router")).await;
    let mut frames = house.ask("m", true, false).await.unwrap();
    for _ in 0..2 {
        frames.message().await.unwrap().unwrap();
    }
    drop(frames);
    let (_, request) = house.metered().await;
    assert_eq!((request.outcome(), tokens(&request).1, request.status), (Outcome::Cancelled, 1, 499));
    assert!(tokens(&request).0 > 0, "the prompt had reached the provider");
}

#[tokio::test]
async fn what_a_runtime_that_ends_leaves_open_is_metered() {
    let house = House::new(&[("one", provider(endless).await)], Transport::absent("router")).await;
    let ending = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // So long that its tokens are counted on a thread of their own, which this runtime will not have.
    let text = "word ".repeat(50_000);
    let body = format!(r#"{{"model":"m","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let message = CompleteRequest {
        dialect: Dialect::OpenaiChat.into(),
        model: "m".to_owned(),
        stream: true,
        body: body.into(),
        ..CompleteRequest::default()
    };
    let (mut chat, request) = (house.chat.clone(), weir_rpc::request(&house.ctx, message));
    let (began, begun) = tokio::sync::oneshot::channel();
    ending.spawn(async move {
        let mut frames = chat.complete(request).await.unwrap().into_inner();
        for _ in 0..2 {
            frames.message().await.unwrap().unwrap();
        }
        began.send(()).unwrap();
        std::future::pending::<()>().await;
        drop(frames);
    });
    begun.await.unwrap();
    ending.shutdown_background();
    let (_, request) = house.metered().await;
    assert_eq!((request.outcome(), tokens(&request).1, request.status), (Outcome::Cancelled, 1, 499));
    assert!(tokens(&request).0 > 40_000, "the prompt had reached the provider");
}

#[tokio::test]
async fn the_next_provider_is_tried_before_the_first_byte() {
    let busy = || (StatusCode::SERVICE_UNAVAILABLE, "busy").into_response();
    let providers = [("a", provider(busy).await), ("b", provider(plain).await)];
    let house = House::new(&providers, Transport::absent("router")).await;
    let (status, name, _, _) = house.answer("m", false, false).await;
    assert_eq!((status, name.as_str()), (200, "b"));
    let (attempts, request) = house.metered().await;
    let outcomes: Vec<_> = attempts.iter().map(|a| (a.provider.as_str(), a.outcome())).collect();
    assert_eq!(outcomes, [("a", Outcome::Failed), ("b", Outcome::Succeeded)]);
    assert_eq!((request.attempts, tokens(&request), request.provider.as_str()), (2, (9, 2), "b"));
}

#[tokio::test]
async fn a_provider_that_is_not_there_costs_nothing() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let house = House::new(&[("dead", closed)], Transport::absent("router")).await;
    let error = house.ask("m", false, false).await.unwrap_err();
    assert_eq!(error.code(), Code::UpstreamFailed);
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts.len(), request.outcome(), tokens(&request)), (0, Outcome::Failed, (0, 0)));
}

#[tokio::test]
async fn refused_credentials_of_ours_are_not_the_client_s() {
    let refuses = || (StatusCode::UNAUTHORIZED, "Incorrect API key provided: sk-own").into_response();
    let house = House::new(&[("one", provider(refuses).await)], Transport::absent("router")).await;
    let (status, _, text, _) = house.answer("m", false, false).await;
    assert_eq!(status, 502);
    assert!(!text.contains("sk-own"), "{text}");
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts[0].status, request.status, request.outcome()), (401, 502, Outcome::Failed));
}

#[tokio::test]
async fn names_are_outright_qualified_aliases_or_unknown() {
    let router = Transport::local("router", tonic::service::Routes::new(RouterServer::new(Aliases)));
    let house = House::new(&[("one", provider(plain).await)], router).await;
    for model in ["m", "one/m", "smart"] {
        assert_eq!(house.answer(model, false, false).await.0, 200, "{model}");
    }
    for model in ["nobody", "two/m", "auto", "..", "one/..", "a/../m", "."] {
        let error = house.ask(model, false, false).await.unwrap_err();
        assert_eq!((error.code(), error.param()), (Code::ModelNotFound, Some("model")), "{model}");
    }
}

#[tokio::test]
async fn an_alias_wins_over_a_model_of_its_name() {
    let router = Transport::local("router", tonic::service::Routes::new(RouterServer::new(Aliases)));
    let house = House::listing(&[("one", provider(plain).await)], router, &["m", "taken"]).await;
    house.answer("taken", false, false).await;
    let (attempts, _) = house.metered().await;
    assert_eq!(attempts[0].model, "m");
    // Without the router a model goes by its own name.
    let models = ["m", "taken"];
    let house = House::listing(&[("one", provider(plain).await)], Transport::absent("router"), &models).await;
    house.answer("taken", false, false).await;
    assert_eq!(house.metered().await.0[0].model, "taken");
}

#[tokio::test]
async fn auto_has_a_fallback_when_the_router_is_away() {
    let house = House::new(&[("one", provider(plain).await)], Transport::absent("router")).await;
    assert_eq!(house.answer("auto", false, false).await.0, 200);
    assert_eq!(house.ask("smart", false, false).await.unwrap_err().code(), Code::Unavailable);
}
