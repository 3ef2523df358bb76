//! One connection: HTTP/1 or HTTP/2, its deadlines, and how it ends.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::future::RouteFuture,
};
use http::{Request, Response, StatusCode, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::{
    ListenConfig, PeerAddr,
    body::IdleBody,
    io::Io,
    owed::{Owed, OwedBody},
    proxy::ClientAddr,
    watch::{Overdue, Watch},
};

/// How long a client that was told to go may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// Streams a client may reset before we took them, as in the rapid-reset attack (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Streams we reset for a client's protocol errors before the connection is given up.
const LOCAL_RESETS: usize = 256;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How a connection ended, when it was not the client's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    ByItself,
    Overdue(Overdue),
    /// The time to drain was over.
    Cut,
}

pub(crate) fn builder(config: &ListenConfig) -> Builder<TokioExecutor> {
    let header_bytes = config.max_header_bytes.as_usize();
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Ours (see `watch`) tells a slow head from an idle connection; hyper's does not.
        .header_read_timeout(None)
        .max_headers(config.max_headers)
        // Bounds the head, and what is buffered of a body. Hyper wants at least 8 KiB.
        .max_buf_size(header_bytes.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams)
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(header_bytes.max(64 << 10))
        .keep_alive_interval(config.keep_alive)
        .keep_alive_timeout(config.keep_alive);
    builder
}

pub(crate) struct Connection {
    pub(crate) app: Router,
    pub(crate) peer: PeerAddr,
    pub(crate) watch: Arc<Watch>,
    pub(crate) config: Arc<ListenConfig>,
    pub(crate) soft: CancellationToken,
    pub(crate) hard: CancellationToken,
}

impl Connection {
    /// Serves until the client goes, a deadline passes, or a drain ends.
    pub(crate) async fn serve(self, builder: &Builder<TokioExecutor>, io: Io) -> Ended {
        let watch = self.watch.clone();
        let owed = Arc::new(Owed::new());
        let service = App {
            router: self.app,
            peer: self.peer,
            watch: self.watch,
            owed: owed.clone(),
            config: self.config,
        };
        let mut conn = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
        let mut soft = std::pin::pin!(self.soft.cancelled());
        let mut look = std::pin::pin!(sleep_until(Instant::now()));
        let (mut leaving, mut ended) = (false, None);
        loop {
            tokio::select! {
                biased;
                result = conn.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(peer.addr = %self.peer.0, error = &*error, "connection ended with an error");
                    }
                    return ended.unwrap_or(Ended::ByItself);
                }
                () = soft.as_mut(), if !leaving => {
                    conn.as_mut().graceful_shutdown();
                    leaving = true;
                }
                () = self.hard.cancelled(), if leaving => return ended.unwrap_or(Ended::Cut),
                () = look.as_mut() => match (due(&watch, &owed), ended) {
                    (_, Some(ended)) => return ended,
                    (Ok(next), None) => look.as_mut().reset(next),
                    // A peer that is merely idle may have a request on its way: say goodbye first.
                    (Err(Overdue::Idle), None) if watch.is_http2() => {
                        conn.as_mut().graceful_shutdown();
                        (leaving, ended) = (true, Some(Ended::Overdue(Overdue::Idle)));
                        look.as_mut().reset(Instant::now() + GOODBYE);
                    }
                    (Err(why), None) => return Ended::Overdue(why),
                },
            }
        }
    }
}

/// As [`Watch::due`], and gives up answers that are not taken; a connection with no others is overdue.
fn due(watch: &Watch, owed: &Owed<InFlight>) -> Result<Instant, Overdue> {
    if owed.give_up(watch.handed_over_by()) {
        tracing::debug!("an answer was not taken in time");
        if !watch.is_busy() {
            return Err(Overdue::Write);
        }
    }
    watch.due(Instant::now())
}

/// The application as hyper calls it.
struct App {
    router: Router,
    peer: PeerAddr,
    watch: Arc<Watch>,
    owed: Arc<Owed<InFlight>>,
    config: Arc<ListenConfig>,
}

impl hyper::service::Service<Request<Incoming>> for App {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let in_flight = InFlight::enter(&self.watch);
        let owed = (request.version() == Version::HTTP_2).then(|| self.owed.clone());
        let mut request = request;
        request.extensions_mut().insert(self.peer);
        let client = ClientAddr::find(&self.config.trusted_proxies, self.peer.0.ip(), request.headers());
        if let Some(client) = client {
            request.extensions_mut().insert(client);
        }
        let request = if request.body().is_end_stream() {
            request.map(|_| Body::empty())
        } else if is_grpc(&request) {
            request.map(Body::new)
        } else {
            request.map(|body| Body::new(IdleBody::new(body, self.config.body_idle_timeout)))
        };
        Answering { inner: self.router.clone().call(request), in_flight: Some(in_flight), owed }
    }
}

/// Streams of calls may be silent for long.
fn is_grpc<B>(request: &Request<B>) -> bool {
    request.headers().get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// A request that has not been answered to its end.
#[derive(Debug)]
struct InFlight(Arc<Watch>);

impl InFlight {
    fn enter(watch: &Arc<Watch>) -> Self {
        watch.on_request();
        Self(watch.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.on_answered();
    }
}

pin_project_lite::pin_project! {
    struct Answering {
        #[pin]
        inner: RouteFuture<Infallible>,
        in_flight: Option<InFlight>,
        owed: Option<Arc<Owed<InFlight>>>,
    }
}

impl Future for Answering {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match ready!(this.inner.poll(cx)) {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let in_flight = this.in_flight.take();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(InFlight(watch)) = &in_flight
        {
            watch.on_upgrade();
        }
        let owed = this.owed.take();
        Poll::Ready(Ok(response.map(|body| match (owed, in_flight) {
            (Some(owed), Some(in_flight)) => {
                let watch = in_flight.0.clone();
                Answer::Http2(owed.add(body, in_flight), watch)
            }
            (_, in_flight) => Answer::Http1 { body, _in_flight: in_flight },
        })))
    }
}

/// A response's body; the request is in flight until it is dropped.
enum Answer {
    Http1 { body: Body, _in_flight: Option<InFlight> },
    Http2(OwedBody<InFlight>, Arc<Watch>),
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut *self {
            Self::Http1 { body, .. } => Pin::new(body).poll_frame(cx),
            Self::Http2(body, watch) => body.poll(cx, || watch.now()),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1 { body, .. } => body.is_end_stream(),
            Self::Http2(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1 { body, .. } => body.size_hint(),
            Self::Http2(body, _) => body.size_hint(),
        }
    }
}
