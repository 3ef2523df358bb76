//! An idle timeout for request bodies: a client that stops sending halfway does not hold a request for ever.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The error of a body whose sender fell silent; find it with `downcast_ref` along the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no part of the request body arrived for {0:?}")]
pub struct BodyIdle(pub Duration);

/// The request with [`BodyIdle`] as the error of its body when nothing arrives for `idle`. [`crate::serve`] does
/// this for all requests but gRPC ones, whose streams may be silent.
pub fn body_idle_timeout(request: Request<Body>, idle: Duration) -> Request<Body> {
    request.map(|body| Body::new(IdleBody::new(body, idle)))
}

pub(crate) struct IdleBody<B> {
    body: B,
    idle: Duration,
    // Made on the first wait: bodies that are there at once cost no timer.
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<B> IdleBody<B> {
    pub(crate) fn new(body: B, idle: Duration) -> Self {
        Self { body, idle, sleep: None, waiting: false }
    }
}

impl<B> HttpBody for IdleBody<B>
where
    B: HttpBody + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|f| f.map_err(Into::into)));
        }
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep(this.idle)));
        if !this.waiting {
            this.waiting = true;
            sleep.as_mut().reset(Instant::now() + this.idle);
        }
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(BodyIdle(this.idle).into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
