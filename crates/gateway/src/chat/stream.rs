//! Streamed answers: whole server-sent events as they come, comment lines in silence, an error event at the end of
//! one that failed. Polled by the connection itself: no task, no channel; a client that reads slowly slows the
//! upstream, one that leaves drops the call.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::Stream as _;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Frame as BodyFrame;
use tokio::time::{Instant, Sleep, sleep};
use weir_error::{Code, Error};
use weir_llm::{Dialect, Follower};
use weir_proto::chat::{Head, complete_frame::Frame};
use weir_telemetry::StreamGuard;
use weir_types::RequestId;

use super::{
    Frames, Held, Opening,
    answer::{self, Collected, head_headers, is_event_stream, stream_headers},
    late,
};
use crate::{House, edge::Answer, reply};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// Answers with the head when it comes soon, else begins without it.
pub(super) async fn answer(
    house: &House,
    mut held: Held,
    mut opening: Opening,
    id: RequestId,
    dialect: Dialect,
) -> Answer {
    let wait = house.config.keep_alive;
    let max = house.config.max_answer.as_usize();
    let opened = match tokio::time::timeout(wait, &mut opening).await {
        Ok(Ok((head, frames))) if !is_event_stream(&head) => {
            return answer::whole(&head, frames, held, max).await;
        }
        Ok(Ok(opened)) => Some(opened),
        Ok(Err(error)) => return Err(held.failed(error)),
        Err(_) => None,
    };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    stream_headers(headers);
    reply::rate_headers(headers, &held.permit.headers());
    let state = match opened {
        Some((head, frames)) => {
            begin(&head, response.headers_mut());
            *response.status_mut() = answer::status(&head);
            State::Relaying(frames)
        }
        None => {
            response.headers_mut().insert(header::CONTENT_TYPE, EVENT_STREAM);
            *response.status_mut() = StatusCode::OK;
            State::Opening(opening)
        }
    };
    // A stream that began without its head has been silent for long enough to say so.
    let silent = matches!(state, State::Opening(_));
    *response.body_mut() = Body::new(ChatStream {
        state,
        held,
        timer: Box::pin(sleep(if silent { Duration::ZERO } else { wait })),
        interval: wait,
        last: Instant::now(),
        silent,
        ended: false,
        max,
        request_id: id,
        dialect,
        follower: Follower::new(dialect),
        pause: None,
        _streaming: house.streams.enter(),
    });
    Ok(response)
}

fn begin(head: &Head, headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, answer::content_type(head, EVENT_STREAM));
    head_headers(head, headers);
}

enum State {
    /// The answer has begun without its head.
    Opening(Opening),
    Relaying(Frames),
    /// What came is no event stream, too late to say so: it becomes one event.
    Collecting(Frames, Collected, StatusCode),
    Done,
}

struct ChatStream {
    state: State,
    held: Held,
    timer: Pin<Box<Sleep>>,
    interval: Duration,
    /// When something was last sent.
    last: Instant,
    /// Send a comment at the timer's first ring, whatever `last` says.
    silent: bool,
    /// The orchestrator said how it went.
    ended: bool,
    max: usize,
    request_id: RequestId,
    dialect: Dialect,
    /// Should we have to end the stream.
    follower: Follower,
    /// The tenant's streams are ahead of what they may get a second: nothing is read meanwhile.
    pause: Option<Pin<Box<Sleep>>>,
    _streaming: StreamGuard,
}

type Next = Option<Result<BodyFrame<Bytes>, Error>>;

impl ChatStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.state {
                State::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Ready(Ok((head, frames))) if is_event_stream(&head) => {
                        self.state = State::Relaying(frames);
                    }
                    Poll::Ready(Ok((head, frames))) => {
                        self.state = State::Collecting(frames, Collected::default(), answer::status(&head));
                    }
                    Poll::Ready(Err(error)) => {
                        let error = self.held.failed(error);
                        return Poll::Ready(Some(self.fail(&error)));
                    }
                    Poll::Pending => return self.poll_silence(cx),
                },
                State::Relaying(frames) | State::Collecting(frames, ..) => {
                    if let Some(pause) = &mut self.pause {
                        if pause.as_mut().poll(cx).is_pending() {
                            return self.poll_silence(cx);
                        }
                        self.pause = None;
                    }
                    let frame = match Pin::new(frames).poll_next(cx) {
                        Poll::Ready(Some(Ok(frame))) => frame.frame,
                        Poll::Ready(Some(Err(status))) => {
                            return Poll::Ready(Some(self.fail(&status.into())));
                        }
                        Poll::Ready(None) => return Poll::Ready(self.finish()),
                        Poll::Pending => return self.poll_silence(cx),
                    };
                    if let Some(bytes) = self.take(frame) {
                        return Poll::Ready(Some(bytes));
                    }
                }
                State::Done => return Poll::Ready(None),
            }
        }
    }

    /// What a frame gives to send now.
    fn take(&mut self, frame: Option<Frame>) -> Option<Bytes> {
        match (frame?, &mut self.state) {
            (Frame::Data(data), State::Collecting(_, body, _)) => {
                body.push(data.bytes, self.max).err().map(|error| self.fail(&error))
            }
            (Frame::Data(data), _) if data.bytes.is_empty() => None,
            (Frame::Data(data), _) => {
                self.last = Instant::now();
                self.silent = false;
                self.follower.observe(&data.bytes);
                let tokens = events(&data.bytes, self.dialect);
                self.held.permit.used(tokens);
                let wait = self.held.permit.pace(tokens);
                self.pause = (!wait.is_zero()).then(|| Box::pin(sleep(wait)));
                Some(data.bytes)
            }
            (Frame::End(end), _) => {
                self.ended = true;
                answer::settle(&mut self.held.permit, end.usage);
                None
            }
            (Frame::Head(_), _) => None,
        }
    }

    /// A comment line, once nothing was sent for the interval. Frames are whole events, so between two of them is
    /// always between two events. The timer is only moved when it rings: a busy stream leaves it alone.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let due = self.last + self.interval;
            if self.silent || now >= due {
                self.silent = false;
                self.last = now;
                self.timer.as_mut().reset(now + self.interval);
                return Poll::Ready(Some(self.dialect.client().keep_alive()));
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// The stream is over; without a word from the orchestrator how it went, it broke off.
    fn finish(&mut self) -> Option<Bytes> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Collecting(_, body, status) if self.dialect == Dialect::Responses => {
                Some(late::response(&body.into_bytes(), status, &self.follower))
            }
            State::Collecting(_, body, _) => Some(event(&body.into_bytes(), self.dialect)),
            _ if self.ended => None,
            _ => Some(self.fail(&Error::new(Code::UpstreamFailed, "the answer broke off"))),
        }
    }

    fn fail(&mut self, error: &Error) -> Bytes {
        self.state = State::Done;
        tracing::warn!(request_id = %self.request_id, error = error.chain(), "stream failed");
        self.follower.fail(error)
    }
}

impl http_body::Body for ChatStream {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next> {
        self.poll_next(cx).map(|next| next.map(|bytes| Ok(BodyFrame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

/// About how many events there are in whole events' bytes, each of which is about a token.
fn events(bytes: &[u8], dialect: Dialect) -> u64 {
    let newlines = bytes.iter().map(|&b| u64::from(b == b'\n')).sum::<u64>();
    newlines / dialect.client().lines_an_event()
}

/// A JSON text as one event, and the end of the stream. Line breaks inside become lines of the same event. What isn't
/// streamed is an error, to all that can be told here.
fn event(json: &[u8], dialect: Dialect) -> Bytes {
    let mut out = BytesMut::with_capacity(json.len() + 64);
    if dialect == Dialect::Anthropic {
        out.extend_from_slice(b"event: error\n");
    }
    // Google's SDK for Node reads one line.
    let compact =
        (dialect == Dialect::Gemini).then(|| serde_json::from_slice::<serde_json::Value>(json).ok());
    let compact = compact.flatten().map(|value| value.to_string());
    let json = compact.as_ref().map_or(json, String::as_bytes);
    for line in json.split(|&b| b == b'\n' || b == b'\r').filter(|line| !line.is_empty()) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.extend_from_slice(b"\n");
    }
    out.extend_from_slice(b"\n");
    out.extend_from_slice(&dialect.terminal());
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted() {
        for (text, count) in [("", 0), ("data: {}\n\n", 1), ("data: 1\r\n\r\ndata: 2\r\n\r\n", 2)] {
            assert_eq!(events(text.as_bytes(), Dialect::OpenAi), count, "{text:?}");
        }
    }

    #[test]
    fn a_json_text_of_many_lines_is_one_event() {
        assert_eq!(
            event(b"{\"a\":\r\n 1}\n", Dialect::OpenAi),
            "data: {\"a\":\ndata:  1}\n\ndata: [DONE]\n\n"
        );
        assert_eq!(event(b"{\"error\":\r\n 1}\n", Dialect::Gemini), "data: {\"error\":1}\n\n");
    }
}
