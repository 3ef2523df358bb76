//! One WebSocket connection: authentication, then a reader with its turns and a writer beside it, in one task.

pub(crate) mod outbound;
mod reader;
mod turn;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures_util::StreamExt as _;
use tokio::time::timeout;
use tungstenite::error::Error as WireError;
use uuid::Uuid;
use weir_error::{Code, Error};
use weir_types::{RequestId, TraceContext};

use crate::{
    Shared,
    caller::{Caller, Credential},
    protocol::{ClientMessage, Close, ServerMessage},
    registry::{Record, Slot},
};
use outbound::{WriteError, close_frame};
use reader::Reader;

/// What the upgrade request already told.
pub(crate) struct Greeting {
    pub(crate) caller: Option<Caller>,
    /// `X-Tenant-ID`.
    pub(crate) tenant: Option<String>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) trace: Option<TraceContext>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By this server.
    Close(Close),
    /// The client closed it, or it broke.
    Gone,
}

/// What arrived.
pub(crate) enum Incoming {
    Text(Utf8Bytes),
    Binary,
    /// A ping or a pong.
    Sign,
    End(End),
}

impl From<Option<Result<Message, axum::Error>>> for Incoming {
    fn from(frame: Option<Result<Message, axum::Error>>) -> Self {
        match frame {
            Some(Ok(Message::Text(text))) => Self::Text(text),
            Some(Ok(Message::Binary(_))) => Self::Binary,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Self::Sign,
            Some(Ok(Message::Close(_))) | None => Self::End(End::Gone),
            Some(Err(error)) => Self::End(match error.into_inner().downcast_ref::<WireError>() {
                Some(WireError::Capacity(_)) => End::Close(Close::TOO_BIG),
                Some(WireError::Protocol(_) | WireError::Utf8(_)) => End::Close(Close::PROTOCOL),
                _ => End::Gone,
            }),
        }
    }
}

/// Runs a connection to its end.
pub(crate) async fn run(shared: Arc<Shared>, mut socket: WebSocket, greeting: Greeting, slot: Option<Slot>) {
    let Some(_slot) = slot else {
        return finish(&shared, &mut socket, End::Close(Close::TRY_AGAIN), false).await;
    };
    let caller = match greeting.caller {
        Some(caller) => caller,
        None => {
            match Box::pin(first_message(&shared, &mut socket, greeting.tenant, greeting.address)).await {
                Ok(caller) => caller,
                Err(end) => return finish(&shared, &mut socket, end, false).await,
            }
        }
    };
    let id = Uuid::new_v4().to_string();
    let record = Arc::new(Record::open(shared.clone(), id, &caller).await);
    let (end, sent) = serve(&shared, &mut socket, caller, greeting.trace, &record).await;
    record.close().await;
    finish(&shared, &mut socket, end, sent).await;
}

/// Waits for the client to say who it is.
async fn first_message(
    shared: &Shared,
    socket: &mut WebSocket,
    tenant_header: Option<String>,
    address: Option<IpAddr>,
) -> Result<Caller, End> {
    let wait = async {
        loop {
            match Incoming::from(socket.recv().await) {
                Incoming::Text(text) => return Ok(ClientMessage::parse(&text)),
                Incoming::Binary => return Ok(Err(binary().into())),
                Incoming::Sign => {}
                Incoming::End(end) => return Err(end),
            }
        }
    };
    let said = tokio::select! {
        said = timeout(shared.config.auth_timeout, wait) => {
            said.unwrap_or(Err(End::Close(Close::AUTH_TIMEOUT)))?
        }
        () = shared.shutdown.cancelled() => return Err(End::Close(Close::GOING_AWAY)),
    };
    let refusal = match said {
        Ok(ClientMessage::Auth { token, tenant }) => {
            let credential = Credential::new(token, tenant.or(tenant_header), address);
            match Caller::authenticate(shared, credential, &RequestId::new()).await {
                Ok(caller) => return Ok(caller),
                Err(error) => error,
            }
        }
        Ok(_) => Error::new(Code::InvalidApiKey, "the first message must be of type auth").with_param("type"),
        Err(bad) => *bad.error,
    };
    tracing::debug!(error = refusal.chain(), "refused a websocket client");
    let text = ServerMessage::Error { id: None, error: (&refusal).into() }.encode();
    let sent = timeout(shared.config.close_timeout, socket.send(Message::Text(text.into()))).await;
    if !matches!(sent, Ok(Ok(()))) {
        return Err(End::Gone);
    }
    // What is not the key's fault is worth another try.
    let close = if is_transient(refusal.code()) { Close::UNAVAILABLE } else { Close::AUTH_FAILED };
    Err(End::Close(close))
}

fn is_transient(code: Code) -> bool {
    code.http().is_server_error() || matches!(code, Code::RateLimited | Code::Cancelled)
}

pub(crate) fn binary() -> Error {
    Error::invalid("type", "binary frames are not accepted: send JSON as text")
}

/// Runs an authenticated session. Says how it ended, and whether a close was already written.
async fn serve(
    shared: &Arc<Shared>,
    socket: &mut WebSocket,
    caller: Caller,
    trace: Option<TraceContext>,
    record: &Arc<Record>,
) -> (End, bool) {
    let (out, mut backlog) = outbound::queue(shared.config.outbound_bytes());
    let (mut sink, mut stream) = socket.split();
    out.send(ServerMessage::Ready { session_id: record.id() }.encode()).await;
    let mut reader = Reader::new(shared.clone(), caller, trace, out.clone(), record.clone());
    let writing = backlog.write(&mut sink, shared.config.stall_timeout);
    let reading = reader.read(&mut stream);
    tokio::pin!(writing, reading);
    tokio::select! {
        end = &mut reading => {
            if let End::Close(close) = end {
                out.close(close);
                let written = timeout(shared.config.close_timeout, writing).await;
                return (end, matches!(written, Ok(Ok(()))));
            }
            (end, false)
        }
        written = &mut writing => match written {
            Err(WriteError::Stalled) => {
                shared.metrics.dropped();
                (End::Close(Close::SLOW), false)
            }
            Ok(()) | Err(WriteError::Broken) => (End::Gone, false),
        }
    }
}

/// Closes the connection in order: our close frame, then the client's answer to it, both within a bound.
async fn finish(shared: &Shared, socket: &mut WebSocket, end: End, sent: bool) {
    let bound: Duration = shared.config.close_timeout;
    shared.metrics.closed(if let End::Close(close) = end { close.code } else { 0 });
    if let (End::Close(close), false) = (end, sent)
        && !matches!(timeout(bound, socket.send(close_frame(close))).await, Ok(Ok(())))
    {
        return;
    }
    // Reading to the end also sends the answer to a client's own close.
    let rest = async { while let Some(Ok(_)) = socket.recv().await {} };
    drop(timeout(bound, rest).await);
}
