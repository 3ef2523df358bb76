//! The same calls in process and over the network: context, errors, deadlines, panics, cancelled streams.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::Notify;
use tonic::{Request, Response, Status, service::Routes};
use weir_error::{Code, Error};
use weir_proto::chat::{
    CompleteFrame, CompleteRequest, Data, ListModelsRequest, ListModelsResponse, Model,
    chat_client::ChatClient,
    chat_server::{Chat, ChatServer},
    complete_frame::Frame,
};
use weir_types::{Deadline, KeyId, Principal, RequestContext, SystemClock, TenantId, UserId};

use crate::{
    Identity, Slot, Transport, context,
    remote::{CONNECT_TIMEOUT, CONNECTIONS, Remote},
    request, server,
};

/// Behaves as the request's `model` says; `ListModels` answers who asked.
#[derive(Clone, Default)]
struct Fake {
    dropped: Arc<Notify>,
    /// An answer that is not read has filled its window.
    full: Arc<Notify>,
    calls: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

const FRAME: usize = 16 << 10;
/// So many frames are asked for only when those before them have taken a window of 64 KiB.
const WINDOW_FRAMES: usize = 4;

type Frames = Pin<Box<dyn Stream<Item = Result<CompleteFrame, Status>> + Send>>;

fn data(bytes: &'static [u8]) -> Result<CompleteFrame, Status> {
    Ok(CompleteFrame { frame: Some(Frame::Data(Data { bytes: bytes.into() })) })
}

#[tonic::async_trait]
impl Chat for Fake {
    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<Frames>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let frames: Frames = match request.get_ref().model.as_str() {
            "panic" => panic!("secret text"),
            "hang" => std::future::pending().await,
            "fail" => return Err(Error::invalid("model", "no such thing").into()),
            "panic midway" => {
                // tonic encodes what is ready in one go: the pause makes the first frame leave alone.
                Box::pin(stream::iter([data(b"a")]).chain(stream::once(async {
                    tokio::task::yield_now().await;
                    panic!("secret text")
                })))
            }
            "hang midway" => {
                let guard = NotifyOnDrop(self.dropped.clone());
                Box::pin(stream::iter([data(b"a")]).chain(stream::once(async move {
                    let _guard = guard;
                    std::future::pending().await
                })))
            }
            "flood" => {
                let full = self.full.clone();
                Box::pin(stream::iter((0..64).map(move |n| {
                    if n == WINDOW_FRAMES {
                        full.notify_one();
                    }
                    data(&[0; FRAME])
                })))
            }
            _ => Box::pin(stream::iter([data(b"a"), data(b"b")])),
        };
        Ok(Response::new(frames))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let ctx = context(&request)?;
        let id = format!("{:?} {:?} {:?} {}", ctx.principal, ctx.tenant, ctx.scopes, ctx.request_id);
        Ok(Response::new(ListModelsResponse { models: vec![Model { id, ..Model::default() }] }))
    }
}

fn caller() -> RequestContext {
    RequestContext {
        principal: Principal::Key { id: KeyId::new(), user: Some(UserId::new()) },
        tenant: Some(TenantId::new()),
        scopes: Arc::from(["chat:write".into(), "models:read".into()]),
        ..RequestContext::service("gateway")
    }
}

async fn serve(fake: Fake, trusted: &Identity) -> http::Uri {
    let identity = Arc::new(Identity::generate("orchestrator", Arc::new(SystemClock)).unwrap());
    identity.trust(&[trusted.public().clone()]).unwrap();
    let connections = fake.connections.clone();
    let app = server("orchestrator", Routes::new(ChatServer::new(fake)), identity);
    // hyper's own server is enough here; the house's accept loop is tested in `weir-runtime`.
    let routes = Routes::from(axum::Router::new().fallback_service(app));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move {
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener).inspect(move |_| {
            connections.fetch_add(1, Ordering::Relaxed);
        });
        tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming).await
    });
    format!("http://{address}").parse().unwrap()
}

async fn both(fake: &Fake) -> [(&'static str, ChatClient<Transport>); 2] {
    let identity = Arc::new(Identity::generate("gateway", Arc::new(SystemClock)).unwrap());
    let uri = serve(fake.clone(), &identity).await;
    let local = Transport::local("orchestrator", Routes::new(ChatServer::new(fake.clone())));
    [
        ("in process", ChatClient::new(local)),
        ("network", ChatClient::new(Transport::remote(uri, "orchestrator", identity))),
    ]
}

fn ask(model: &str) -> CompleteRequest {
    CompleteRequest { model: model.to_owned(), ..CompleteRequest::default() }
}

#[tokio::test]
async fn the_caller_arrives_as_it_was_sent() {
    let ctx = caller();
    let expected = format!("{:?} {:?} {:?} {}", ctx.principal, ctx.tenant, ctx.scopes, ctx.request_id);
    for (mode, mut client) in both(&Fake::default()).await {
        let answer = client.list_models(request(&ctx, ListModelsRequest::default())).await.unwrap();
        assert_eq!(answer.get_ref().models[0].id, expected, "{mode}");
    }
}

#[tokio::test]
async fn a_call_without_context_reaches_nothing() {
    let fake = Fake::default();
    for (mode, mut client) in both(&fake).await {
        let status = client.complete(ask("x")).await.err().unwrap();
        assert_eq!(status.code(), tonic::Code::Unauthenticated, "{mode}");
    }
    assert_eq!(fake.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_stranger_s_token_reaches_nothing() {
    let fake = Fake::default();
    let trusted = Identity::generate("gateway", Arc::new(SystemClock)).unwrap();
    let uri = serve(fake.clone(), &trusted).await;
    let stranger = Arc::new(Identity::generate("gateway", Arc::new(SystemClock)).unwrap());
    let transport = Transport::remote(uri, "orchestrator", stranger);
    let refused = "orchestrator does not know this service";
    assert_eq!(transport.check().await, Err(refused.to_owned()));
    let error = ChatClient::new(transport).complete(request(&caller(), ask("x"))).await.err().unwrap();
    let error = Error::from(error);
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unavailable, refused),
        "our mistake, not the caller's"
    );
    assert_eq!(fake.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn errors_keep_code_and_param() {
    for (mode, mut client) in both(&Fake::default()).await {
        let error = Error::from(client.complete(request(&caller(), ask("fail"))).await.err().unwrap());
        assert_eq!((error.code(), error.param()), (Code::InvalidArgument, Some("model")), "{mode}");
        assert_eq!(error.message(), "no such thing", "{mode}");
    }
}

#[tokio::test]
async fn a_panic_ends_one_call_and_shows_nothing_of_itself() {
    for (mode, mut client) in both(&Fake::default()).await {
        let status = client.complete(request(&caller(), ask("panic"))).await.err().unwrap();
        assert_eq!(status.message(), "internal error", "{mode}");
        let mut stream = client.complete(request(&caller(), ask("panic midway"))).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some(), "{mode}");
        let status = stream.message().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (tonic::Code::Internal, "internal error"), "{mode}");
        let frames = client.complete(request(&caller(), ask("x"))).await.unwrap().into_inner();
        assert_eq!(frames.count().await, 2, "{mode}: the next call is served");
    }
}

#[tokio::test]
async fn deadlines_end_calls_before_and_after_the_first_frame() {
    for (mode, mut client) in both(&Fake::default()).await {
        let soon =
            || RequestContext { deadline: Some(Deadline::after(Duration::from_millis(50))), ..caller() };
        let error = Error::from(client.complete(request(&soon(), ask("hang"))).await.err().unwrap());
        assert_eq!(error.code(), Code::DeadlineExceeded, "{mode}");
        // Enough for the first frame on a busy machine.
        let later = RequestContext { deadline: Some(Deadline::after(Duration::from_secs(2))), ..caller() };
        let mut stream = client.complete(request(&later, ask("hang midway"))).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some(), "{mode}");
        assert_eq!(Error::from(stream.message().await.unwrap_err()).code(), Code::DeadlineExceeded, "{mode}");
    }
}

#[tokio::test]
async fn dropping_a_stream_drops_the_work() {
    let fake = Fake::default();
    for (mode, mut client) in both(&fake).await {
        let mut stream = client.complete(request(&caller(), ask("hang midway"))).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some(), "{mode}");
        drop(stream);
        tokio::time::timeout(Duration::from_secs(10), fake.dropped.notified()).await.unwrap();
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_stall_no_others() {
    let fake = Fake::default();
    let [_, (_, mut client)] = both(&fake).await;
    let mut unread = Vec::new();
    // One on each connection.
    for _ in 0..CONNECTIONS {
        unread.push(client.complete(request(&caller(), ask("flood"))).await.unwrap());
        fake.full.notified().await;
    }
    let read = client.complete(request(&caller(), ask("flood"))).await.unwrap().into_inner();
    let frames = tokio::time::timeout(Duration::from_secs(10), read.count()).await.unwrap();
    assert_eq!(frames, 64);
}

#[tokio::test]
async fn an_absent_service_is_unavailable() {
    let mut client = ChatClient::new(Transport::absent("orchestrator"));
    let error = Error::from(client.complete(request(&caller(), ask("x"))).await.err().unwrap());
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_service_that_is_still_built_is_unavailable_until_it_is_there() {
    let slot = Slot::new("orchestrator");
    let mut client = ChatClient::new(slot.transport());
    let error = Error::from(client.complete(request(&caller(), ask("x"))).await.err().unwrap());
    assert_eq!(error.code(), Code::Unavailable);
    slot.fill(Routes::new(ChatServer::new(Fake::default())));
    assert!(client.complete(request(&caller(), ask("x"))).await.is_ok());
}

/// A peer that hears a call and is gone, as a killed process is.
async fn dies_within_a_call() -> http::Uri {
    use tokio::io::AsyncReadExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    format!("http://{address}").parse().unwrap()
}

/// Where nobody listens, nor anybody else will while this is kept.
fn nobody() -> (http::Uri, impl Sized) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (format!("http://{}", socket.local_addr().unwrap()).parse().unwrap(), socket)
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_or_dies_is_unavailable() {
    let identity = Arc::new(Identity::generate("gateway", Arc::new(SystemClock)).unwrap());
    let (nobody, _kept) = nobody();
    for uri in [nobody, dies_within_a_call().await] {
        let mut client = ChatClient::new(Transport::remote(uri, "orchestrator", identity.clone()));
        let error = Error::from(client.complete(request(&caller(), ask("x"))).await.err().unwrap());
        assert_eq!((error.code(), error.message()), (Code::Unavailable, "orchestrator cannot be reached"));
        assert!(error.retry_after().is_some());
    }
}

/// A peer that answers no attempt to connect: packets to it are dropped.
fn silent() -> (http::Uri, impl Sized) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let waiting: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
    (format!("http://{address}").parse().unwrap(), (listener, waiting))
}

/// As many calls at once as make several wait for each connection.
async fn all_at_once(uri: http::Uri, ctx: &RequestContext) -> Vec<Code> {
    let identity = Arc::new(Identity::generate("gateway", Arc::new(SystemClock)).unwrap());
    let transport = Transport::remote(uri, "orchestrator", identity);
    let calls = (0..4 * CONNECTIONS).map(|_| {
        let mut client = ChatClient::new(transport.clone());
        async move { Error::from(client.complete(request(ctx, ask("x"))).await.err().unwrap()).code() }
    });
    futures_util::future::join_all(calls).await
}

#[tokio::test]
async fn a_service_that_is_silent_is_waited_for_until_the_deadline() {
    let (uri, _silence) = silent();
    let ctx = RequestContext { deadline: Some(Deadline::after(Duration::from_millis(50))), ..caller() };
    assert_eq!(all_at_once(uri, &ctx).await, [Code::DeadlineExceeded; 4 * CONNECTIONS]);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_connection_fails_with_it() {
    let (uri, _silence) = silent();
    let began = tokio::time::Instant::now();
    assert_eq!(all_at_once(uri, &caller()).await, [Code::Unavailable; 4 * CONNECTIONS]);
    assert!(began.elapsed() < CONNECT_TIMEOUT * 2, "one attempt on each connection: {:?}", began.elapsed());
}

#[tokio::test]
async fn connections_are_renewed_and_calls_under_way_stay() {
    let fake = Fake::default();
    let identity = Arc::new(Identity::generate("gateway", Arc::new(SystemClock)).unwrap());
    let uri = serve(fake.clone(), &identity).await;
    let remote = Remote::with(uri, "orchestrator", identity, Duration::ZERO);
    let mut client = ChatClient::new(Transport::over(remote));
    let long = client.complete(request(&caller(), ask("flood"))).await.unwrap().into_inner();
    for _ in 0..CONNECTIONS {
        client.list_models(request(&caller(), ListModelsRequest::default())).await.unwrap();
    }
    assert_eq!(fake.connections.load(Ordering::Relaxed), CONNECTIONS + 1);
    assert_eq!(long.count().await, 64);
}

#[tokio::test]
async fn a_peer_that_hears_and_believes_is_well() {
    let identity = Arc::new(Identity::generate("gateway", Arc::new(SystemClock)).unwrap());
    let uri = serve(Fake::default(), &identity).await;
    assert_eq!(Transport::remote(uri, "orchestrator", identity.clone()).check().await, Ok(()));
    let (nobody, _kept) = nobody();
    let nobody = Transport::remote(nobody, "orchestrator", identity);
    assert_eq!(nobody.check().await, Err("orchestrator cannot be reached".to_owned()));
}
