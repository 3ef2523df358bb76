//! The client's side: what a generated client is built over.

use std::{
    future::{Ready, ready},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{Request, Response, Uri};
use tonic::{Status, body::Body, service::Routes};
use tower::Service;

use crate::{
    BoxError, Identity,
    remote::{Answering, Remote},
    room::Room,
};

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
        Self::over(Remote::new(uri, audience, identity))
    }

    pub(crate) fn over(remote: Remote) -> Self {
        Self(Kind::Remote(remote))
    }

    /// Connects ahead of the first calls, some of which may not wait for it. What cannot be reached is left to them.
    pub async fn warm(&self) {
        if let Kind::Remote(remote) = &self.0 {
            remote.warm().await;
        }
    }

    /// Whether the service hears calls and believes them to be ours.
    ///
    /// # Errors
    /// What is wrong, for operators.
    pub async fn check(&self) -> Result<(), String> {
        match &self.0 {
            Kind::Remote(remote) => remote.check().await,
            Kind::Local(_) => Ok(()),
            Kind::Absent(name) => Err(format!("{name} is not configured")),
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
            Kind::Remote(remote) => write!(f, "Transport::remote({})", remote.audience()),
            Kind::Absent(name) => write!(f, "Transport::absent({name})"),
        }
    }
}

type Answer = Result<Response<Body>, BoxError>;

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Call;

    /// Always: what a call waits for, it waits for within its deadline.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Call {
        match &self.0 {
            Kind::Local(slot) => match slot.room.get() {
                Some(room) => Call::Local(room.call(request)),
                None => unavailable(slot.name, "is still starting"),
            },
            Kind::Remote(remote) => Call::Remote(remote.call(request)),
            Kind::Absent(name) => unavailable(name, "is not configured"),
        }
    }
}

fn unavailable(name: &str, why: &str) -> Call {
    Call::Absent(ready(Ok(Status::unavailable(format!("{name} {why}")).into_http())))
}

/// The answer to come.
pub enum Call {
    Local(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
    Remote(Answering),
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
