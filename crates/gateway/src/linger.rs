//! A request that is answered before its body was read (a wrong key, a body too large): the answer goes out at
//! once, and the rest of the body is read and thrown away for a while. A connection closed on a client that still
//! sends is reset, and the client would never see the answer.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use weir_runtime::{OnFailure, Tasks};

/// What the sockets' buffers take anyway.
const SMALL: u64 = 64 * 1024;
const MAX_BYTES: usize = 64 * 1024 * 1024;
const MAX_TIME: Duration = Duration::from_secs(10);

/// `body` itself when it is small.
pub(crate) fn linger(body: Body, headers: &HeaderMap, tasks: &Tasks) -> Body {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if body.is_end_stream() || length.is_some_and(|length| length <= SMALL) {
        return body;
    }
    Body::new(Linger { body, tasks: tasks.clone() })
}

struct Linger {
    body: Body,
    tasks: Tasks,
}

impl http_body::Body for Linger {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
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
        if !self.body.is_end_stream() {
            let body = std::mem::take(&mut self.body);
            let drain = tokio::time::timeout(MAX_TIME, drain(body));
            self.tasks.spawn("gateway-linger", OnFailure::Log, async move { drop(drain.await) });
        }
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
