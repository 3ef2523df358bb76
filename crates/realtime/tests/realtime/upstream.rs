//! An orchestrator that behaves as the request's model says.

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
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Response, Status};
use weir_error::{Code, Error};
use weir_proto::chat::{
    CompleteFrame, CompleteRequest, Data, End, Head, ListModelsRequest, ListModelsResponse, Usage,
    chat_server::Chat, complete_frame::Frame,
};
use weir_types::RequestContext;

type Frames = Pin<Box<dyn Stream<Item = Result<CompleteFrame, Status>> + Send>>;

#[derive(Clone)]
pub(crate) struct Upstream {
    /// Who asked, and what.
    pub(crate) requests: Arc<Mutex<Vec<(RequestContext, CompleteRequest)>>>,
    /// Frames handed out by the `flood` model.
    pub(crate) flooded: Arc<AtomicUsize>,
    gates: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    /// Turns whose stream was dropped before its end.
    pub(crate) dropped: Arc<watch::Sender<usize>>,
}

impl Default for Upstream {
    fn default() -> Self {
        let dropped = Arc::new(watch::Sender::new(0));
        Self { requests: Arc::default(), flooded: Arc::default(), gates: Arc::default(), dropped }
    }
}

impl Upstream {
    /// What holds the `gated` turn with this content: one permit, one chunk.
    pub(crate) fn gate(&self, content: &str) -> Arc<Semaphore> {
        let mut gates = self.gates.lock();
        gates.entry(content.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))).clone()
    }
}

pub(crate) fn chunk(content: &str) -> Value {
    json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": content}}]})
}

fn event(data: &Value) -> Bytes {
    format!("data: {data}\n\n").into()
}

fn head(status: u32, content_type: &str) -> CompleteFrame {
    let head = Head {
        status,
        content_type: content_type.to_owned(),
        provider: "fake".to_owned(),
        model: "fake-1".to_owned(),
        headers: HashMap::new(),
    };
    CompleteFrame { frame: Some(Frame::Head(head)) }
}

fn data(bytes: impl Into<Bytes>) -> CompleteFrame {
    CompleteFrame { frame: Some(Frame::Data(Data { bytes: bytes.into() })) }
}

fn end(input_tokens: u64, output_tokens: u64) -> CompleteFrame {
    let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
    CompleteFrame { frame: Some(Frame::End(End { usage: Some(usage), ..End::default() })) }
}

fn frames(frames: Vec<CompleteFrame>) -> Frames {
    Box::pin(stream::iter(frames.into_iter().map(Ok)))
}

/// Tells when a stream is dropped before its end.
struct Guard(Option<Arc<watch::Sender<usize>>>);

impl Guard {
    fn finish(&mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(dropped) = self.0.take() {
            dropped.send_modify(|n| *n += 1);
        }
    }
}

impl Upstream {
    fn gated(&self, content: &str) -> Frames {
        let (gate, guard) = (self.gate(content), Guard(Some(self.dropped.clone())));
        let content = content.to_owned();
        let chunks = stream::unfold((0, guard), move |(n, mut guard)| {
            let (gate, content) = (gate.clone(), content.clone());
            async move {
                if n == 3 {
                    guard.finish();
                    return None;
                }
                gate.acquire().await.unwrap().forget();
                Some((Ok(data(event(&chunk(&format!("{content}{n}"))))), (n + 1, guard)))
            }
        });
        let tail = stream::iter([Ok(data("data: [DONE]\n\n")), Ok(end(1, 3))]);
        Box::pin(stream::iter([Ok(head(200, "text/event-stream"))]).chain(chunks).chain(tail))
    }

    fn flood(&self) -> Frames {
        let (flooded, guard) = (self.flooded.clone(), Guard(Some(self.dropped.clone())));
        let big = event(&chunk(&"x".repeat(64 << 10)));
        let chunks = stream::unfold(guard, move |guard| {
            flooded.fetch_add(1, Ordering::Relaxed);
            let big = big.clone();
            async move { Some((Ok(data(big)), guard)) }
        });
        Box::pin(stream::iter([Ok(head(200, "text/event-stream"))]).chain(chunks))
    }
}

#[tonic::async_trait]
impl Chat for Upstream {
    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<Frames>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let request = request.into_inner();
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        self.requests.lock().push((ctx, request.clone()));
        let content = body["messages"][0]["content"].as_str().unwrap_or_default();
        let sse = "text/event-stream";
        let answer = match request.model.as_str() {
            // Two events in one frame, as a fast provider's come.
            "echo" => frames(vec![
                head(200, sse),
                data([event(&chunk(content)), event(&chunk("!"))].concat()),
                data(": a comment\n\ndata: [DONE]\n\n"),
                end(7, 5),
            ]),
            "gated" => self.gated(content),
            "flood" => self.flood(),
            "chatty" => {
                let events: Vec<u8> = (0..600).flat_map(|_| event(&chunk("x"))).collect();
                let all = stream::iter([Ok(head(200, sse)), Ok(data(events))]);
                Box::pin(all.chain(stream::pending()))
            }
            "unreached" => return Err(Error::new(Code::UpstreamFailed, "nobody answered").into()),
            "unserved" => return Err(Error::invalid("model", "nobody serves that").into()),
            "refused" => frames(vec![
                head(400, "application/json"),
                data(
                    r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                ),
                end(0, 0),
            ]),
            "cut" => frames(vec![
                head(200, sse),
                data(event(&chunk("half"))),
                data(
                    "data: {\"error\":{\"message\":\"broke off\",\"code\":\"upstream_failed\",\"param\":null}}\n\ndata: [DONE]\n\n",
                ),
                end(7, 1),
            ]),
            "vanishing" => frames(vec![head(200, sse), data(event(&chunk("half")))]),
            "unstreamed" => frames(vec![
                head(200, "application/json"),
                data(r#"{"object":"chat.completion","choices":[]}"#),
                end(7, 5),
            ]),
            "garbled" => frames(vec![head(200, sse), data("data: {oops\n\n"), end(0, 0)]),
            other => panic!("no such behaviour: {other}"),
        };
        Ok(Response::new(answer))
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(ListModelsResponse::default()))
    }
}
