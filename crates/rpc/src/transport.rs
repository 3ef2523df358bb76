//! The client's side: what a generated client is built over.

use std::{
    error::Error as _,
    future::{Ready, poll_fn, ready},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use tonic::{
    Status,
    body::Body,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tower::Service;
use weir_types::RequestContext;

use crate::{
    BoxError, Identity,
    context::write_headers,
    lost::{Relayed, lost},
    room::{Room, deadline_passed},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// To one service: a connection carries a bounded number of calls at once, and stays with one replica.
pub(crate) const CONNECTIONS: usize = 4;
/// What one answer may hold back of itself while its caller does not read.
const STREAM_WINDOW: u32 = 64 << 10;
/// As much for every stream a peer admits by default: those that are not read stall none of the others.
const CONNECTION_WINDOW: u32 = 1_024 * STREAM_WINDOW;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A way to a service; cheap to clone.
#[derive(Clone)]
pub struct Transport(Kind);

#[derive(Clone)]
enum Kind {
    Local(Slot),
    Remote(Remote),
    Absent(&'static str),
}

/// The place of a service in this process. Transports to it can be had before it is built, so that services may be
/// built in any order. Cheap to clone.
#[derive(Clone)]
pub struct Slot {
    name: &'static str,
    room: Arc<OnceLock<Room>>,
}

impl Slot {
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, room: Arc::default() }
    }

    /// From now on calls arrive; until now they were answered `UNAVAILABLE`. The first routes stay.
    pub fn fill(&self, routes: Routes) {
        self.room.get_or_init(|| Room::new(self.name, routes));
    }

    #[must_use]
    pub fn transport(&self) -> Transport {
        Transport(Kind::Local(self.clone()))
    }
}

/// Connections to one service, taken in turns.
struct Remote {
    pool: Arc<Pool>,
    /// The one for the next call.
    channel: Channel,
}

struct Pool {
    channels: Vec<Channel>,
    next: AtomicUsize,
    audience: &'static str,
    identity: Arc<Identity>,
}

impl Pool {
    fn next(&self) -> Channel {
        self.channels[self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len()].clone()
    }
}

impl Clone for Remote {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), channel: self.pool.next() }
    }
}

impl Transport {
    /// To a service in this process.
    #[must_use]
    pub fn local(name: &'static str, routes: Routes) -> Self {
        let slot = Slot::new(name);
        slot.fill(routes);
        slot.transport()
    }

    /// To a service over the network. Connects when first used, and again after it was lost.
    #[must_use]
    pub fn remote(uri: Uri, audience: &'static str, identity: Arc<Identity>) -> Self {
        let endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let channels: Vec<_> = (0..CONNECTIONS).map(|_| endpoint.connect_lazy()).collect();
        let pool = Arc::new(Pool { channels, next: AtomicUsize::new(0), audience, identity });
        Self(Kind::Remote(Remote { channel: pool.next(), pool }))
    }

    /// Connects ahead of the first calls, some of which may not wait for it. What cannot be reached is left to them.
    pub async fn warm(&self) {
        let Kind::Remote(remote) = &self.0 else { return };
        for channel in &remote.pool.channels {
            let mut channel = channel.clone();
            let connect = async {
                let request = Request::get("/live").body(Body::empty()).ok()?;
                poll_fn(|cx| channel.poll_ready(cx)).await.ok()?;
                channel.call(request).await.ok()
            };
            drop(tokio::time::timeout(CONNECT_TIMEOUT, connect).await);
        }
    }

    /// To a service that is not there: every call answers `UNAVAILABLE`.
    #[must_use]
    pub fn absent(name: &'static str) -> Self {
        Self(Kind::Absent(name))
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Local(slot) => write!(f, "Transport::local({})", slot.name),
            Kind::Remote(remote) => write!(f, "Transport::remote({})", remote.pool.audience),
            Kind::Absent(name) => write!(f, "Transport::absent({name})"),
        }
    }
}

type Answer = Result<Response<Body>, BoxError>;

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Call;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.0 {
            Kind::Remote(remote) => remote.channel.poll_ready(cx).map_err(Into::into),
            Kind::Local(_) | Kind::Absent(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Call {
        match &mut self.0 {
            Kind::Local(slot) => match slot.room.get() {
                Some(room) => Call::Local(room.call(request)),
                None => unavailable(slot.name, "is still starting"),
            },
            Kind::Remote(Remote { pool, channel }) => {
                if let Some(ctx) = request.extensions_mut().remove::<RequestContext>() {
                    write_headers(&ctx, &pool.identity, pool.audience, request.headers_mut());
                }
                // The next call over this handle takes another connection.
                let call = std::mem::replace(channel, pool.next()).call(request);
                let service = pool.audience;
                Call::Remote(Box::pin(async move {
                    Ok(match call.await {
                        Ok(answer) => answer.map(|inner| Body::new(Relayed { service, inner })),
                        // tonic's own client would call this CANCELLED.
                        Err(error) if timed_out(&error) => deadline_passed().into_http(),
                        Err(error) => lost(service, &error).into_http(),
                    })
                }))
            }
            Kind::Absent(name) => unavailable(name, "is not configured"),
        }
    }
}

fn unavailable(name: &str, why: &str) -> Call {
    Call::Absent(ready(Ok(Status::unavailable(format!("{name} {why}")).into_http())))
}

/// Whether the channel gave up at the call's deadline before the service answered.
fn timed_out(error: &tonic::transport::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The answer to come.
pub enum Call {
    Local(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
    Remote(Pin<Box<dyn Future<Output = Answer> + Send>>),
    Absent(Ready<Answer>),
}

impl Future for Call {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            Self::Local(call) => call.as_mut().poll(cx).map(Ok),
            Self::Remote(call) => call.as_mut().poll(cx),
            Self::Absent(call) => Pin::new(call).poll(cx),
        }
    }
}
