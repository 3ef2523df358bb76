//! A request that is answered before its body was read (a wrong key, a body too large): the answer goes out at
//! once, and the rest of the body is read and thrown away for a while. A connection closed on a client that still
//! sends is reset, and the client would never see the answer; one that was read to the end of the body is used
//! again, as the client expects. HTTP/2 ends the one stream instead and needs none of this.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;
use weir_runtime::{OnFailure, Tasks};

/// Most clients read no answer before all of their body is sent; what they send beyond this is reset.
const MAX_BYTES: usize = 512 * 1024 * 1024;
const MAX_TIME: Duration = Duration::from_secs(10);
/// Bodies read for nothing at once; a client beyond them may miss its answer.
const MAX_AT_ONCE: usize = 256;

/// Reads bodies that nobody wants; cheap to clone.
#[derive(Clone)]
pub(crate) struct Lingering {
    tasks: Tasks,
    free: Arc<Semaphore>,
}

impl Lingering {
    pub(crate) fn new(tasks: Tasks) -> Self {
        Self { tasks, free: Arc::new(Semaphore::new(MAX_AT_ONCE)) }
    }

    /// `body` itself when it is empty or its connection does not depend on its being read.
    pub(crate) fn over(&self, body: Body, version: Version) -> Body {
        if body.is_end_stream() || version > Version::HTTP_11 {
            return body;
        }
        Body::new(Linger { body, ended: false, lingering: self.clone() })
    }
}

struct Linger {
    body: Body,
    /// A chunked body does not say by itself that it was read to its end.
    ended: bool,
    lingering: Lingering,
}

impl http_body::Body for Linger {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended |= !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Linger {
    fn drop(&mut self) {
        if self.ended || self.body.is_end_stream() {
            return;
        }
        let Ok(place) = self.lingering.free.clone().try_acquire_owned() else { return };
        let drain = tokio::time::timeout(MAX_TIME, drain(std::mem::take(&mut self.body)));
        self.lingering.tasks.spawn("gateway-linger", OnFailure::Log, async move {
            drop(drain.await);
            drop(place);
        });
    }
}

async fn drain(mut body: Body) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > MAX_BYTES {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    fn chunk() -> Result<Bytes, std::io::Error> {
        Ok(Bytes::from_static(b"x"))
    }

    /// One chunk, and then silence.
    fn endless() -> Body {
        Body::from_stream(stream::iter([chunk()]).chain(stream::pending()))
    }

    #[tokio::test]
    async fn unread_bodies_are_read_over_http_1_only_and_so_many_at_once() {
        let lingering = Lingering { tasks: Tasks::new(), free: Arc::new(Semaphore::new(2)) };
        drop(lingering.over(endless(), Version::HTTP_2));
        assert_eq!(lingering.free.available_permits(), 2);
        for left in [1, 0, 0] {
            drop(lingering.over(endless(), Version::HTTP_11));
            assert_eq!(lingering.free.available_permits(), left);
        }
        lingering.tasks.stop(Duration::ZERO).await;
        assert_eq!(lingering.free.available_permits(), 2);
    }

    #[tokio::test]
    async fn nothing_is_left_to_read_after_the_end_or_an_error() {
        let lingering = Lingering::new(Tasks::new());
        for last in [None, Some(Err(std::io::Error::other("reset")))] {
            let chunks = stream::iter([Some(chunk()), last].into_iter().flatten());
            let mut body = lingering.over(Body::from_stream(chunks), Version::HTTP_11);
            while let Some(Ok(_)) = body.frame().await {}
            drop(body);
            assert_eq!(lingering.free.available_permits(), MAX_AT_ONCE);
        }
    }
}
