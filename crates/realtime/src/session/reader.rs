//! What a client says, the turns it started, and the clock over both.

use std::{collections::HashMap, pin::Pin, sync::Arc};

use axum::extract::ws::WebSocket;
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    future::{AbortHandle, Abortable},
    stream::{FuturesUnordered, SplitStream},
};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use weir_error::{Code, Error};
use weir_types::{RequestId, TraceContext};

use super::{End, Incoming, binary, outbound::Outbound, turn};
use crate::{
    Shared,
    caller::Caller,
    protocol::{BadMessage, ClientMessage, Close, ServerMessage},
    registry::Record,
};

/// What a session waits for besides its client.
enum Event {
    /// A turn ended; `None`: it was cancelled.
    Turn(String, Option<turn::After>),
    /// A reply found room in the queue.
    Replied,
    /// The key was looked at again.
    Renewed(Result<Caller, Error>),
}

type Work = Pin<Box<dyn Future<Output = Event> + Send>>;

/// Nothing here waits but the one `select!`: a wait elsewhere would hold up the turns, whose messages may hold the
/// very room it waits for.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    caller: Caller,
    trace: Option<TraceContext>,
    out: Outbound,
    record: Arc<Record>,
    work: FuturesUnordered<Work>,
    running: HashMap<String, AbortHandle>,
    /// Replies that wait for room; the client is not heard meanwhile.
    replies: usize,
    draining: bool,
}

impl Reader {
    pub(crate) fn new(
        shared: Arc<Shared>,
        caller: Caller,
        trace: Option<TraceContext>,
        out: Outbound,
        record: Arc<Record>,
    ) -> Self {
        let work = FuturesUnordered::new();
        Self {
            shared,
            caller,
            trace,
            out,
            record,
            work,
            running: HashMap::new(),
            replies: 0,
            draining: false,
        }
    }

    /// Reads until the connection should end. Turns still running are then dropped, which cancels them upstream.
    pub(crate) async fn read(&mut self, stream: &mut SplitStream<&mut WebSocket>) -> End {
        let end = self.read_on(stream).await;
        self.work.clear();
        end
    }

    async fn read_on(&mut self, stream: &mut SplitStream<&mut WebSocket>) -> End {
        let shared = self.shared.clone();
        let config = &shared.config;
        let mut heartbeat = interval_at(Instant::now() + config.heartbeat, config.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pong_by: Option<Instant> = None;
        let mut drain_by = Instant::now();
        loop {
            if self.draining && self.running.is_empty() && self.replies == 0 {
                return End::Close(Close::GOING_AWAY);
            }
            tokio::select! {
                frame = stream.next(), if self.replies == 0 => {
                    pong_by = None;
                    match Incoming::from(frame) {
                        Incoming::Text(text) => self.hear(&text),
                        Incoming::Binary => self.refuse(None, &binary()),
                        Incoming::Sign => {}
                        Incoming::End(end) => return end,
                    }
                }
                Some(event) = self.work.next(), if !self.work.is_empty() => {
                    if let Some(end) = self.happened(event) {
                        return end;
                    }
                }
                _ = heartbeat.tick() => {
                    self.look_after_session();
                    self.out.ping();
                    pong_by.get_or_insert(Instant::now() + config.pong_deadline);
                }
                () = sleep_until(pong_by.unwrap_or(drain_by)), if pong_by.is_some() => {
                    // A client that is still taking what was sent before the ping can't have seen it; the stall
                    // timeout watches that.
                    if !self.out.is_waiting() {
                        return End::Close(Close::NO_PONG);
                    }
                    pong_by = Some(Instant::now() + config.pong_deadline);
                }
                () = shared.shutdown.cancelled(), if !self.draining => {
                    self.draining = true;
                    drain_by = Instant::now() + config.drain;
                }
                () = sleep_until(drain_by), if self.draining => return End::Close(Close::GOING_AWAY),
            }
        }
    }

    fn happened(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Turn(id, after) => {
                self.running.remove(&id);
                match after {
                    Some(turn::After::GoOn) => {}
                    Some(turn::After::KeyRefused) => return Some(End::Close(Close::AUTH_FAILED)),
                    None => self.reply(&ServerMessage::Cancelled { id: &id }),
                }
            }
            Event::Replied => self.replies -= 1,
            Event::Renewed(Ok(caller)) => self.caller = caller,
            // Trouble in finding out leaves the session alone.
            Event::Renewed(Err(error)) if error.code() == Code::InvalidApiKey => {
                return Some(End::Close(Close::AUTH_FAILED));
            }
            Event::Renewed(Err(_)) => {}
        }
        None
    }

    /// With each heartbeat: is the key still good, and does the record still live?
    fn look_after_session(&self) {
        let (shared, caller, record) = (self.shared.clone(), self.caller.clone(), self.record.clone());
        self.work.push(Box::pin(async move {
            record.renew().await;
            Event::Renewed(caller.renewed(&shared, &RequestId::new()).await)
        }));
    }

    fn reply(&mut self, message: &ServerMessage<'_>) {
        let (out, text) = (self.out.clone(), message.encode());
        self.replies += 1;
        self.work.push(Box::pin(async move {
            out.send(text).await;
            Event::Replied
        }));
    }

    fn refuse(&mut self, id: Option<&str>, error: &Error) {
        self.reply(&ServerMessage::Error { id, error: error.into() });
    }

    fn hear(&mut self, text: &str) {
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Chat { id, body }) => {
                if let Err(error) = self.start(&id, body) {
                    self.refuse(Some(&id), &error);
                }
            }
            Ok(ClientMessage::Cancel { id }) => match self.running.get(&id) {
                Some(turn) => turn.abort(),
                None => {
                    let error =
                        Error::new(Code::NotFound, "no turn of this id is in flight").with_param("id");
                    self.refuse(Some(&id), &error);
                }
            },
            Ok(ClientMessage::Ping) => self.reply(&ServerMessage::Pong),
            Ok(ClientMessage::Auth { .. }) => {
                self.refuse(None, &Error::invalid("type", "this session is authenticated already"));
            }
            Err(BadMessage { id, error }) => self.refuse(id.as_deref(), &error),
        }
    }

    fn start(&mut self, id: &str, body: Bytes) -> Result<(), Error> {
        if self.draining {
            return Err(Error::unavailable("this instance is stopping: connect again"));
        }
        if self.running.contains_key(id) {
            return Err(Error::new(Code::Conflict, "a turn of this id is in flight").with_param("id"));
        }
        let most = self.shared.config.max_turns;
        if self.running.len() >= most {
            let message = format!("{most} turns are in flight already, the most a session may have");
            return Err(Error::new(Code::Overloaded, message));
        }
        let turn = turn::Turn {
            shared: self.shared.clone(),
            caller: self.caller.clone(),
            trace: self.trace,
            id: id.to_owned(),
            body,
            out: self.out.clone(),
        };
        let (abort, registration) = AbortHandle::new_pair();
        self.running.insert(id.to_owned(), abort);
        let id = id.to_owned();
        self.work.push(Box::pin(async move {
            let after = Abortable::new(turn.run(), registration).await.ok();
            Event::Turn(id, after)
        }));
        Ok(())
    }
}
