//! A response body under guard: a panic or a passed deadline ends it with a status in its trailers, and the
//! concurrency permit of its call goes with it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::{sync::OwnedSemaphorePermit, time::Sleep};
use tonic::{Status, body::Body};

pub(crate) struct Guarded {
    pub(crate) inner: Body,
    pub(crate) deadline: Option<Pin<Box<Sleep>>>,
    pub(crate) span: tracing::Span,
    /// Ends with the body.
    pub(crate) trace: weir_telemetry::Span,
    pub(crate) _permit: OwnedSemaphorePermit,
    pub(crate) ended: bool,
}

impl Guarded {
    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        crate::room::note_code(&mut self.trace, i64::from(status.code() as i32));
        self.inner = Body::empty();
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(error) => Err(error),
        }))
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let polled = {
            let _entered = this.span.enter();
            catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.inner).poll_frame(cx)))
        };
        match polled {
            Ok(Poll::Pending) => {
                let passed = this.deadline.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
                if passed { this.end(&crate::room::deadline_passed()) } else { Poll::Pending }
            }
            Ok(ready) => ready,
            Err(panic) => {
                let status = crate::room::panicked(&*panic);
                this.end(&status)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
