//! A service over the network: a few connections, taken in turns, none of which keeps a call longer than it may wait.

use std::{
    error::Error as StdError,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::{Request, Response, Uri, header};
use hyper_util::client::legacy::connect::HttpConnector;
use rand::Rng as _;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{
    Code, Status,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::Service;
use weir_error::Error;
use weir_types::{Deadline, RequestContext};

use crate::{
    BoxError, Identity,
    context::{HEARING, write_headers},
    lost::{Relayed, lost},
    room::deadline_passed,
};

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than a health check may take.
const CHECK_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A refusal comes at once, and the next attempt may find the service started: only what took this long counts below.
const SLOW: Duration = Duration::from_millis(100);
/// After a connection could not be made in time: how long nothing waits for another attempt.
const FAIL_FAST: Duration = Duration::from_secs(1);
/// An attempt that is looked at this much too late had nobody who waited for it: its failure says nothing of now.
const STALE: Duration = Duration::from_millis(500);
/// To one service: a connection carries a bounded number of calls at once, and stays with one replica.
pub(crate) const CONNECTIONS: usize = 4;
/// Then new calls go over a new connection, which may lead to a replica that was not there before; calls under way
/// stay where they are. A fifth more or less, so that not all move at once.
const MAX_AGE: Duration = Duration::from_secs(300);
/// What one answer may hold back of itself while its caller does not read.
const STREAM_WINDOW: u32 = 64 << 10;
/// As much for every stream a peer admits by default: those that are not read stall none of the others.
const CONNECTION_WINDOW: u32 = 1_024 * STREAM_WINDOW;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that does not believe us is logged this often.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Any method does to learn whether we are heard and believed: this one has a name others know.
const PROBE: &str = "/grpc.health.v1.Health/Check";

pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

/// Connections to one service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Remote(Arc<Pool>);

struct Pool {
    endpoint: Endpoint,
    links: Vec<ArcSwap<Link>>,
    next: AtomicUsize,
    max_age: Duration,
    audience: &'static str,
    identity: Arc<Identity>,
    /// When it was last said that the peer does not believe us.
    said: ArcSwapOption<Instant>,
}

/// One connection, made again when it is lost.
struct Link {
    channel: Channel,
    door: Arc<Door>,
    until: Instant,
}

/// Whether an attempt to connect was waited for in vain lately.
#[derive(Default)]
struct Door(ArcSwapOption<Instant>);

impl Door {
    fn is_shut(&self) -> bool {
        self.0.load().as_deref().is_some_and(|failed| failed.elapsed() < FAIL_FAST)
    }
}

impl Remote {
    pub(crate) fn new(uri: Uri, audience: &'static str, identity: Arc<Identity>) -> Self {
        Self::with(uri, audience, identity, MAX_AGE)
    }

    pub(crate) fn with(uri: Uri, audience: &'static str, identity: Arc<Identity>, max_age: Duration) -> Self {
        let endpoint = Endpoint::from(uri)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let links = (0..CONNECTIONS).map(|_| ArcSwap::from_pointee(Link::new(&endpoint, max_age))).collect();
        let next = AtomicUsize::new(0);
        Self(Arc::new(Pool {
            endpoint,
            links,
            next,
            max_age,
            audience,
            identity,
            said: ArcSwapOption::empty(),
        }))
    }

    pub(crate) fn audience(&self) -> &'static str {
        self.0.audience
    }

    /// Ends at the call's deadline, whatever the connection does.
    pub(crate) fn call(&self, mut request: Request<Body>) -> Answering {
        let pool = self.0.clone();
        let Some(ctx) = request.extensions_mut().remove::<RequestContext>() else {
            let status = Status::unauthenticated("a call without a request context");
            return Box::pin(std::future::ready(Ok(status.into_http())));
        };
        write_headers(&ctx, &pool.identity, pool.audience, request.headers_mut());
        // The service itself says best what took so long, and is heard a little longer.
        let until = ctx.deadline.map(|deadline| Instant::from_std(deadline.0) + HEARING);
        let mut channel = pool.pick();
        Box::pin(async move {
            let work = async {
                poll_fn(|cx| channel.poll_ready(cx)).await?;
                channel.call(request).await
            };
            let finished = match until {
                Some(at) => timeout_at(at, work).await,
                None => Ok(work.await),
            };
            Ok(match finished {
                Ok(Ok(answer)) if disbelieved(&answer) => pool.refused().into_http(),
                Ok(Ok(answer)) => {
                    let service = pool.audience;
                    answer.map(|inner| Body::new(Relayed { service, inner }))
                }
                // tonic's own client would call this CANCELLED.
                Ok(Err(error)) if timed_out(&error) => deadline_passed().into_http(),
                Ok(Err(error)) => lost(pool.audience, &error).into_http(),
                Err(_) => deadline_passed().into_http(),
            })
        })
    }

    /// Connects ahead of the first calls, some of which may not wait for it. What cannot be reached is left to them.
    pub(crate) async fn warm(&self) {
        for _ in &self.0.links {
            drop(self.check().await);
        }
    }

    /// Whether a call would be heard, and believed to be ours.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let ctx = RequestContext {
            deadline: Some(Deadline::after(CHECK_TIMEOUT)),
            ..RequestContext::service(&self.0.identity.public().service)
        };
        let mut request = Request::post(PROBE)
            .header(header::CONTENT_TYPE, "application/grpc")
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        request.extensions_mut().insert(ctx);
        let answer = self.call(request).await.map_err(|error| error.to_string())?;
        match Status::from_header_map(answer.headers()) {
            Some(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
                Err(status.message().to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Pool {
    /// The next connection; one that failed lately is passed over while there are others.
    fn pick(&self) -> Channel {
        let (turn, n) = (self.next.fetch_add(1, Ordering::Relaxed), self.links.len());
        let mut places = (0..n).map(|i| &self.links[turn.wrapping_add(i) % n]);
        let place = places.find(|place| !place.load().door.is_shut()).unwrap_or(&self.links[turn % n]);
        let link = place.load_full();
        if Instant::now() < link.until {
            return link.channel.clone();
        }
        let fresh = Arc::new(Link::new(&self.endpoint, self.max_age));
        let before = place.compare_and_swap(&link, fresh.clone());
        // Who was faster replaced it already.
        if Arc::ptr_eq(&before, &link) { fresh.channel.clone() } else { before.channel.clone() }
    }

    fn refused(&self) -> Status {
        let service = self.audience;
        if self.said.load().as_deref().is_none_or(|said| said.elapsed() > SAY_AGAIN) {
            self.said.store(Some(Arc::new(Instant::now())));
            let own = &self.identity.public().service;
            tracing::warn!(
                rpc.service = service,
                "calls are refused: {service} does not know the key of this {own} (identity.trusted.{own} there), or \
                 the clocks differ"
            );
        }
        Error::unavailable(format!("{service} does not know this service")).into()
    }
}

impl Link {
    fn new(endpoint: &Endpoint, max_age: Duration) -> Self {
        let door = Arc::new(Door::default());
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        // Shared out among the addresses of a name.
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let channel = endpoint.connect_with_connector_lazy(Connector { http, door: door.clone() });
        let until = Instant::now() + max_age.mul_f64(rand::rng().random_range(0.8..1.2));
        Self { channel, door, until }
    }
}

/// tonic gives a failed attempt to one of the calls that wait for it, and makes another for the next: those fail at
/// once, so all are answered when the first is.
struct Connector {
    http: HttpConnector,
    door: Arc<Door>,
}

impl Service<Uri> for Connector {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (mut http, door) = (self.http.clone(), self.door.clone());
        Box::pin(async move {
            if door.is_shut() {
                return Err("it could not be reached a moment ago".into());
            }
            loop {
                let began = Instant::now();
                let connect = async {
                    poll_fn(|cx| http.poll_ready(cx)).await?;
                    http.call(uri.clone()).await
                };
                let error: BoxError = match timeout(CONNECT_TIMEOUT, connect).await {
                    Ok(Ok(io)) => return Ok(io),
                    Ok(Err(error)) => error.into(),
                    Err(elapsed) => elapsed.into(),
                };
                let took = began.elapsed();
                if took >= SLOW && took < CONNECT_TIMEOUT + STALE {
                    door.0.store(Some(Arc::new(Instant::now())));
                }
                if took < CONNECT_TIMEOUT + STALE {
                    return Err(error);
                }
            }
        })
    }
}

/// The peer's door refused our token. A service's own UNAUTHENTICATED, about who asked us, has details.
fn disbelieved(answer: &Response<Body>) -> bool {
    let headers = answer.headers();
    headers.get("grpc-status").is_some_and(|code| code == "16")
        && !headers.contains_key("grpc-status-details-bin")
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
