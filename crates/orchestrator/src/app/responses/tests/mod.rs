//! Instances on one real PostgreSQL and one real NATS, with a model that says what a test tells it to.

mod background;
mod compact;
mod kept;
mod outage;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture, stream};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use weir_db::{AppRole, Db, DbConfig, LateDb};
use weir_error::Error;
use weir_events::{Bus, EventMetrics, NatsConfig};
use weir_proto::chat::{
    AttachResponseRequest, CompleteFrame, CompleteRequest, Data, Dialect, End, GetResponseRequest, Head,
    complete_frame::Frame,
};
use weir_runtime::Tasks;
use weir_telemetry::Metrics;
use weir_testkit::{APP_PASSWORD, APP_ROLE, Database, Nats, Postgres};
use weir_types::{KeyId, Principal, RequestContext, SystemClock, TenantId, UserId, scope};

use super::{Hub, Model, Responses, ResponsesConfig, Shared};
use crate::{
    app::{Compacted, Frames},
    metrics::ResponsesMetrics,
    store,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a test feeds a run with; closed when nobody reads it any more.
type Feed = mpsc::UnboundedSender<Bytes>;

#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<CompleteRequest>>,
    scripts: Mutex<VecDeque<mpsc::UnboundedReceiver<Bytes>>>,
    /// What whole answers say, instead of two words.
    says: Mutex<Option<String>>,
}

impl Fake {
    /// The next run gets what is fed here.
    fn script(&self) -> Feed {
        let (feed, script) = mpsc::unbounded_channel();
        self.scripts.lock().unwrap().push_back(script);
        feed
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn body(&self, at: usize) -> Value {
        serde_json::from_slice(&self.asked.lock().unwrap()[at].body).unwrap()
    }
}

fn frame(frame: Frame) -> Result<CompleteFrame, tonic::Status> {
    Ok(CompleteFrame { frame: Some(frame) })
}

fn head(content_type: &str) -> Result<CompleteFrame, tonic::Status> {
    frame(Frame::Head(Head { status: 200, content_type: content_type.to_owned(), ..Head::default() }))
}

fn piece(bytes: Bytes) -> Result<CompleteFrame, tonic::Status> {
    frame(Frame::Data(Data { bytes }))
}

impl Model for Fake {
    fn run<'a>(
        &'a self,
        _: &'a RequestContext,
        request: CompleteRequest,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Frames, Error>> {
        let streamed = request.stream;
        self.asked.lock().unwrap().push(request);
        let script = self.scripts.lock().unwrap().pop_front();
        let end = stream::iter([frame(Frame::End(End::default()))]);
        let mut whole = answer();
        if let Some(says) = &*self.says.lock().unwrap() {
            whole["output"][1]["content"][0]["text"] = says.as_str().into();
        }
        Box::pin(async move {
            if !streamed {
                let whole = stream::iter([head("application/json"), piece(whole.to_string().into())]);
                return Ok(Box::pin(whole.chain(end)) as Frames);
            }
            let start = stream::iter([head("text/event-stream")]);
            let pieces = match script {
                Some(script) => stream::unfold(script, |mut script| async move {
                    script.recv().await.map(|bytes| (piece(bytes), script))
                })
                .boxed(),
                None => stream::iter(whole_stream().into_iter().map(piece)).boxed(),
            };
            Ok(Box::pin(start.chain(pieces).chain(end)) as Frames)
        })
    }

    fn foresee<'a>(
        &'a self,
        _: &'a RequestContext,
        request: CompleteRequest,
    ) -> BoxFuture<'a, Result<String, Error>> {
        let known = request.body.windows(7).all(|w| w != b"unknown");
        Box::pin(async move {
            let unknown = || Error::new(weir_error::Code::ModelNotFound, "no such model");
            known.then(|| "dropped;truncation".to_owned()).ok_or_else(unknown)
        })
    }

    /// Nobody does it himself.
    fn compact<'a>(
        &'a self,
        ctx: &'a RequestContext,
        request: CompleteRequest,
    ) -> BoxFuture<'a, Result<Compacted<'a>, Error>> {
        let instead = move |body: Result<Bytes, Error>| match body {
            Ok(body) => self.run(ctx, CompleteRequest { body, ..request }, "resp_compacted"),
            Err(error) => Box::pin(async { Err(error) }),
        };
        Box::pin(async { Ok(Compacted::Instead(Box::new(instead))) })
    }
}

fn thought() -> Value {
    json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "secret thought"})
}

fn message() -> Value {
    json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "two words", "annotations": []}]})
}

fn answer() -> Value {
    json!({"id": "resp_theirs", "object": "response", "created_at": 5, "status": "completed", "model": "m",
        "output": [thought(), message()], "store": false, "previous_response_id": null, "background": false,
        "vendor_thing": 1, "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}})
}

fn event(name: &str, number: u64, more: Value) -> Bytes {
    let mut data = more;
    data["type"] = name.into();
    data["sequence_number"] = number.into();
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn opening(number: u64) -> Bytes {
    let mut response = answer();
    response["status"] = "in_progress".into();
    response["output"] = json!([]);
    let name = if number == 0 { "response.created" } else { "response.in_progress" };
    event(name, number, json!({"response": response}))
}

fn delta(number: u64) -> Bytes {
    let text = format!("word{number} ");
    event("response.output_text.delta", number, json!({"item_id": "msg_1", "delta": text}))
}

fn item(number: u64, item: &Value) -> Bytes {
    event("response.output_item.done", number, json!({"output_index": 0, "item": item}))
}

fn completed(number: u64) -> Bytes {
    event("response.completed", number, json!({"response": answer()}))
}

fn whole_stream() -> Vec<Bytes> {
    vec![opening(0), opening(1), item(2, &thought()), delta(3), delta(4), item(5, &message()), completed(6)]
}

/// What instances stand on.
struct Ground {
    database: Database,
    nats: Nats,
    fake: Arc<Fake>,
    ctx: RequestContext,
}

struct Instance {
    responses: Responses,
    tasks: Tasks,
    db: Db,
}

fn caller() -> RequestContext {
    RequestContext {
        principal: Principal::Key { id: KeyId::new(), user: None },
        tenant: Some(TenantId::new()),
        scopes: Arc::from([scope::CHAT_WRITE.into()]),
        ..RequestContext::service("test")
    }
}

/// Leases that are over soon, or only when they are given up.
fn short() -> ResponsesConfig {
    ResponsesConfig { lease_ms: 2_000, ..ResponsesConfig::default() }
}

fn long() -> ResponsesConfig {
    ResponsesConfig { lease_ms: 600_000, ..ResponsesConfig::default() }
}

impl Ground {
    async fn new() -> Self {
        Self::on(Postgres::shared().await.unwrap()).await
    }

    async fn on(postgres: &Postgres) -> Self {
        let role = AppRole::new(APP_ROLE, SecretString::from(APP_PASSWORD));
        let migrate = |url: String| async move { weir_db::migrate(&url, &role).await };
        let database = postgres.database(&weir_db::fingerprint(), migrate).await.unwrap();
        Self { database, nats: Nats::start().await.unwrap(), fake: Arc::default(), ctx: caller() }
    }

    /// All of it made on the runtime it is called on.
    async fn instance(&self, config: ResponsesConfig) -> Instance {
        instance(self.database.app_url.clone(), self.nats.url(), self.fake.clone(), config).await
    }

    /// On a runtime of its own, which ends like a process that is killed.
    async fn mortal(&self, config: ResponsesConfig) -> Mortal {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (url, nats, fake) = (self.database.app_url.clone(), self.nats.url(), self.fake.clone());
        let instance = runtime.spawn(instance(url, nats, fake, config)).await.unwrap();
        Mortal { responses: instance.responses, runtime: Some(runtime) }
    }
}

struct Mortal {
    responses: Responses,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Mortal {
    /// Begins a background response there.
    async fn begin(&self, ctx: &RequestContext) -> String {
        let (responses, ctx) = (self.responses.clone(), ctx.clone());
        let begun = async move { begin(&responses, &ctx).await };
        self.runtime.as_ref().unwrap().spawn(begun).await.unwrap()
    }

    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn instance(url: String, nats: String, fake: Arc<Fake>, config: ResponsesConfig) -> Instance {
    let db = Db::connect_lazy(&DbConfig::new(url)).unwrap();
    let late = LateDb::new(db.clone());
    late.verify().await.unwrap();
    let metrics = Metrics::new();
    let nats = NatsConfig { url: nats.into(), ..NatsConfig::default() };
    let bus = Bus::connect(&nats, EventMetrics::new(&metrics)).await.unwrap();
    let responses = Responses::new(Shared {
        store: store::Responses::new(Some(late)),
        hub: Hub::new(bus),
        model: fake,
        config: Arc::new(config),
        clock: Arc::new(SystemClock),
        metrics: ResponsesMetrics::new(&metrics),
    });
    let tasks = Tasks::new();
    responses.spawn(&tasks);
    Instance { responses, tasks, db }
}

async fn ask(responses: &Responses, ctx: &RequestContext, body: Value) -> Result<Frames, Error> {
    let request = CompleteRequest {
        dialect: Dialect::OpenaiResponses.into(),
        model: "m".to_owned(),
        stream: body["stream"] == true,
        body: body.to_string().into(),
        ..CompleteRequest::default()
    };
    responses.create(ctx, request).await
}

/// The head, and all bytes.
async fn read(mut frames: Frames) -> (Head, Vec<u8>) {
    let all = async {
        let (mut head, mut bytes) = (None, Vec::new());
        while let Some(frame) = frames.next().await {
            match frame.unwrap().frame.unwrap() {
                Frame::Head(h) => head = Some(h),
                Frame::Data(data) => bytes.extend_from_slice(&data.bytes),
                Frame::End(_) => {}
            }
        }
        (head.unwrap(), bytes)
    };
    tokio::time::timeout(PATIENCE, all).await.expect("an answer in time")
}

async fn plain(responses: &Responses, ctx: &RequestContext, body: Value) -> Value {
    let (_, bytes) = read(ask(responses, ctx, body).await.unwrap()).await;
    serde_json::from_slice(&bytes).unwrap()
}

/// Type and data of every event.
fn events(bytes: &[u8]) -> Vec<(String, Value)> {
    let text = std::str::from_utf8(bytes).unwrap();
    let parse = |event: &str| {
        let line = |prefix: &str| event.lines().find_map(|l| l.strip_prefix(prefix)).map(str::to_owned);
        (line("event: ").unwrap(), serde_json::from_str(&line("data: ").unwrap()).unwrap())
    };
    text.split_terminator("\n\n").map(parse).collect()
}

fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(name, _)| name.strip_prefix("response.").unwrap()).collect()
}

/// Every number once and in order, from `first` on.
fn assert_numbered(events: &[(String, Value)], first: u64) {
    let numbers: Vec<_> = events.iter().map(|(_, data)| data["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (first..first + numbers.len() as u64).collect::<Vec<_>>());
}

/// A background response without a stream; its id.
async fn begin(responses: &Responses, ctx: &RequestContext) -> String {
    let begun = plain(responses, ctx, json!({"model": "m", "input": "Hi", "background": true})).await;
    assert_eq!(begun["status"], "queued", "{begun}");
    begun["id"].as_str().unwrap().to_owned()
}

async fn attach(responses: &Responses, ctx: &RequestContext, id: &str, after: Option<u64>) -> Frames {
    let request = AttachResponseRequest { id: id.to_owned(), starting_after: after };
    responses.attach(ctx, request).await.unwrap()
}

async fn get(
    responses: &Responses,
    ctx: &RequestContext,
    id: &str,
    include: &[&str],
) -> Result<Value, Error> {
    let include = include.iter().map(|i| (*i).to_owned()).collect();
    let request = GetResponseRequest { id: id.to_owned(), include };
    Ok(serde_json::from_slice(&responses.get(ctx, &request).await?).unwrap())
}

/// Waits until that many events are kept.
async fn until_kept(responses: &Responses, ctx: &RequestContext, id: &str, last: u64) {
    let kept = async {
        let mut frames = attach(responses, ctx, id, last.checked_sub(1)).await;
        loop {
            if let Some(Ok(CompleteFrame { frame: Some(Frame::Data(_)) })) = frames.next().await {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.expect("events in time");
}
