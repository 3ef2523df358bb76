//! Bodies of answers: paced, cut, silent or broken as the faults have it, with the ledger's entry in hand.
//!
//! An error from a body makes hyper drop the connection (HTTP/2: reset the stream). It then also drops what it has
//! not written yet, the response's head included, so a cut waits for hyper to write first, and a refusal does not.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::{
    answer::Answer,
    dialect::Form,
    error::ApiError,
    ledger::{Call, Outcome},
    wire::Event,
};

/// Time to write what came before a cut.
const FLUSH: Duration = Duration::from_millis(2);

type Polled = Poll<Option<Result<Frame<Bytes>, io::Error>>>;

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "broken off, as asked by a fault")
}

fn frame(bytes: Bytes) -> Polled {
    Poll::Ready(Some(Ok(Frame::data(bytes))))
}

/// Fails at once: the client sees the connection closed, and no byte.
pub(crate) struct Refusal;

impl Body for Refusal {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled {
        Poll::Ready(Some(Err(broken())))
    }
}

/// What comes after the bytes of a [`Whole`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    End(Outcome),
    Cut,
    Hang,
}

/// An answer in one piece.
pub(crate) struct Whole {
    pub(crate) call: Call,
    pub(crate) bytes: Option<Bytes>,
    /// What `content-length` says.
    pub(crate) len: u64,
    /// Tokens in the bytes.
    pub(crate) tokens: u64,
    pub(crate) then: Then,
    pub(crate) flush: Option<Pin<Box<Sleep>>>,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        if let Some(bytes) = self.bytes.take() {
            let tokens = self.tokens;
            self.call.sent(tokens);
            if let Then::End(outcome) = self.then {
                self.call.end(outcome);
            }
            return frame(bytes);
        }
        match self.then {
            Then::End(_) => Poll::Ready(None),
            Then::Hang => Poll::Pending,
            Then::Cut => {
                ready!(self.flush.get_or_insert_with(|| Box::pin(sleep(FLUSH))).as_mut().poll(cx));
                self.call.end(Outcome::Cut);
                Poll::Ready(Some(Err(broken())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && matches!(self.then, Then::End(_))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len)
    }
}

/// How a stream stops before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    Cut,
    Hang,
    /// With an error in the stream.
    Error(Box<ApiError>),
    /// With an event whose JSON is broken.
    Malformed,
}

/// How a stream is sent.
#[derive(Debug, Default)]
pub(crate) struct Manner {
    /// Between rounds.
    pub(crate) pace: Duration,
    /// After so many tokens.
    pub(crate) stop: Option<(u64, Stop)>,
    /// After so many tokens, for so long.
    pub(crate) pause: Option<(u64, Duration)>,
    /// Pieces of so many bytes, not whole events.
    pub(crate) chunk: Option<usize>,
}

/// An answer as an event stream.
pub(crate) struct Stream {
    call: Call,
    answer: Answer,
    form: Box<dyn Form>,
    script: std::iter::Peekable<std::vec::IntoIter<(u64, Event)>>,
    manner: Manner,
    start: Instant,
    round: u64,
    timer: Option<Pin<Box<Sleep>>>,
    flush: Option<Pin<Box<Sleep>>>,
    pausing: Option<Pin<Box<Sleep>>>,
    sent: u64,
    /// Written and not sent.
    rest: Bytes,
    over: bool,
}

impl Stream {
    pub(crate) fn new(
        call: Call,
        answer: Answer,
        form: Box<dyn Form>,
        script: Vec<(u64, Event)>,
        manner: Manner,
    ) -> Self {
        Self {
            call,
            answer,
            form,
            script: script.into_iter().peekable(),
            manner,
            start: Instant::now(),
            round: 0,
            timer: None,
            flush: None,
            pausing: None,
            sent: 0,
            rest: Bytes::new(),
            over: false,
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }

    /// Waits for the round, on a schedule that does not drift.
    fn poll_round(&mut self, cx: &mut Context<'_>, round: u64) -> Poll<()> {
        if round > self.round {
            if !self.manner.pace.is_zero() {
                let rounds = u32::try_from(round).unwrap_or(u32::MAX);
                let at = self.start + self.manner.pace.saturating_mul(rounds);
                ready!(self.poll_timer(cx, at));
            }
            self.round = round;
        }
        Poll::Ready(())
    }

    /// Is silent once, where that was asked for. What follows is late by that much.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((_, silence)) = self.manner.pause.filter(|(after, _)| self.sent >= *after) else {
            return Poll::Ready(());
        };
        ready!(self.pausing.get_or_insert_with(|| Box::pin(sleep(silence))).as_mut().poll(cx));
        self.manner.pause = None;
        self.start += silence;
        Poll::Ready(())
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Polled {
        match &self.manner.stop {
            Some((_, Stop::Hang)) => return Poll::Pending,
            Some((_, Stop::Cut)) => {
                ready!(self.flush.get_or_insert_with(|| Box::pin(sleep(FLUSH))).as_mut().poll(cx));
                self.over = true;
                self.call.end(Outcome::Cut);
                return Poll::Ready(Some(Err(broken())));
            }
            _ => {}
        }
        self.over = true;
        self.call.end(Outcome::Failed);
        match (&self.manner.stop, self.script.next()) {
            (Some((_, Stop::Error(error))), _) => frame(self.form.error_event(&self.answer, error)),
            (_, Some((_, event))) => frame(self.form.malformed(&self.answer, event)),
            (_, None) => Poll::Ready(None),
        }
    }

    /// The next event's bytes, or a piece of them.
    fn piece(&mut self) -> Bytes {
        match self.manner.chunk {
            Some(most) if most < self.rest.len() => self.rest.split_to(most),
            _ => std::mem::take(&mut self.rest),
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        loop {
            if !this.rest.is_empty() {
                return frame(this.piece());
            }
            if this.over {
                return Poll::Ready(None);
            }
            if this.manner.stop.as_ref().is_some_and(|(after, _)| this.sent >= *after) {
                return this.poll_stop(cx);
            }
            ready!(this.poll_pause(cx));
            let Some((round, event)) = this.script.peek().copied() else {
                this.over = true;
                this.call.end(Outcome::Cut);
                return Poll::Ready(None);
            };
            ready!(this.poll_round(cx, round));
            this.script.next();
            let (bytes, tokens) = this.form.write(&this.answer, event);
            this.rest = bytes;
            this.sent += tokens;
            this.call.sent(tokens);
            if event == Event::Done {
                this.over = true;
                this.call.sent_all();
                this.call.end(Outcome::Finished);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over && self.rest.is_empty()
    }
}
