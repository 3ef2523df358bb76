//! A stream for clients that did not ask for events (`alt=sse`): an array of what is in them, element by element.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use weir_llm::sse;

pub(super) struct Listed {
    /// Of whole events.
    events: Body,
    begun: bool,
    ended: bool,
}

impl Listed {
    pub(super) fn over(events: Body) -> Self {
        Self { events, begun: false, ended: false }
    }

    /// What the events become. Anything else is silence, which a space fills.
    fn elements(&mut self, events: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(events.len() + 2);
        let mut splitter = sse::Splitter::new();
        splitter.feed(Bytes::copy_from_slice(events));
        while let Ok(Some(event)) = splitter.next_event() {
            let Some(data) = sse::data(&event) else { continue };
            out.extend_from_slice(if std::mem::replace(&mut self.begun, true) { b",\r\n" } else { b"[" });
            out.extend_from_slice(&data);
        }
        if out.is_empty() {
            out.extend_from_slice(b"\n");
        }
        out.freeze()
    }
}

impl http_body::Body for Listed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(Pin::new(&mut self.events).poll_frame(cx)) {
            Some(Ok(frame)) => frame.map_data(|events| self.elements(&events)),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {
                self.ended = true;
                Frame::data(Bytes::from_static(if self.begun { b"]" } else { b"[]" }))
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::BodyExt as _;

    use super::*;

    async fn listed(pieces: &'static [&'static str]) -> String {
        let pieces = pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes())));
        let body = Body::new(Listed::over(Body::from_stream(stream::iter(pieces))));
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn events_become_an_array_with_silence_between() {
        assert_eq!(
            listed(&["\n", "data: {\"a\":1}\n\ndata: {\"b\":2}\r\n\r\n", "\n", "data: {}\n\n"]).await,
            "\n[{\"a\":1},\r\n{\"b\":2}\n,\r\n{}]"
        );
        assert_eq!(listed(&[]).await, "[]");
    }
}
