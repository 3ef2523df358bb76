//! The client's side: what a generated client is built over.

use std::{
    error::Error as _,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
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
    room::{Room, deadline_passed},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A way to a service; cheap to clone.
#[derive(Clone)]
pub struct Transport(Kind);

#[derive(Clone)]
enum Kind {
    Local(Room),
    Remote { channel: Channel, audience: &'static str, identity: Arc<Identity> },
    Absent(&'static str),
}

impl Transport {
    /// To a service in this process.
    #[must_use]
    pub fn local(name: &'static str, routes: Routes) -> Self {
        Self(Kind::Local(Room::new(name, routes)))
    }

    /// To a service over the network. Connects when first used, and again after it was lost.
    #[must_use]
    pub fn remote(uri: Uri, audience: &'static str, identity: Arc<Identity>) -> Self {
        let channel = Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .http2_adaptive_window(true)
            .connect_lazy();
        Self(Kind::Remote { channel, audience, identity })
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
            Kind::Local(room) => write!(f, "Transport::local({})", room.name),
            Kind::Remote { audience, .. } => write!(f, "Transport::remote({audience})"),
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
            Kind::Remote { channel, .. } => channel.poll_ready(cx).map_err(Into::into),
            Kind::Local(_) | Kind::Absent(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Call {
        match &mut self.0 {
            Kind::Local(room) => Call::Local(room.call(request)),
            Kind::Remote { channel, audience, identity } => {
                if let Some(ctx) = request.extensions_mut().remove::<RequestContext>() {
                    write_headers(&ctx, identity, audience, request.headers_mut());
                }
                let call = channel.call(request);
                Call::Remote(Box::pin(async move {
                    match call.await {
                        // tonic's own client would call this CANCELLED.
                        Err(error) if timed_out(&error) => Ok(deadline_passed().into_http()),
                        answer => Ok(answer?),
                    }
                }))
            }
            Kind::Absent(name) => {
                let status = Status::unavailable(format!("{name} is not configured"));
                Call::Absent(ready(Ok(status.into_http())))
            }
        }
    }
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
