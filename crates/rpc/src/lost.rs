//! A service that goes away within a call: what tonic and hyper say of it becomes `UNAVAILABLE`, with when to try
//! again, so that callers need not know how a connection can break.

use std::{
    error::Error as StdError,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body::Body};
use weir_error::Error;

/// Before an answer began.
pub(crate) fn lost(service: &str, error: &(dyn StdError + 'static)) -> Status {
    tracing::debug!(rpc.service = service, error, "a call was lost");
    Error::unavailable(format!("{service} cannot be reached")).into()
}

/// The body of an answer. Statuses of the service itself come as trailers: an error here is the connection's.
pub(crate) struct Relayed {
    pub(crate) service: &'static str,
    pub(crate) inner: Body,
}

impl http_body::Body for Relayed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let service = self.service;
        Pin::new(&mut self.inner).poll_frame(cx).map_err(|status| {
            if status.code() == Code::DeadlineExceeded { status } else { lost(service, &status) }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
