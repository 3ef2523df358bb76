//! WebSockets: the upgrade is handed to realtime over HTTP/1.1, and from then on bytes are copied both ways. Who may
//! connect is realtime's to decide: the key may come in the first message.

use std::{io, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use weir_error::{Code, Error};
use weir_rpc::{INTRODUCTION, Identity};
use weir_runtime::{OnFailure, Shutdown, Tasks};

use crate::{
    House,
    asked::{Asked, REQUEST_ID, TRACEPARENT},
    edge::Answer,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a tunnel stays for the goodbyes of both sides once the process stops.
/// Longer than realtime lets turns under way go on.
const FAREWELL: Duration = Duration::from_secs(22);
const COPY_BUFFER: usize = 8 * 1024;
const PATIENCE: Patience = Patience { write: Duration::from_secs(30), after_end: Duration::from_secs(2) };
const PATH: &str = "/ws/chat";
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// About one connection only, as RFC 9110 §7.6.1 lists them.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[derive(Clone, Copy)]
struct Patience {
    /// How long a side may leave one buffer untaken.
    write: Duration,
    /// How long the other direction goes on once one has ended.
    after_end: Duration,
}

/// The way to realtime.
pub(crate) struct Realtime {
    address: Option<String>,
    identity: Arc<Identity>,
    free: Arc<Semaphore>,
    tasks: Tasks,
}

impl Realtime {
    pub(crate) fn new(address: Option<String>, identity: Arc<Identity>, max: u32, tasks: Tasks) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { address, identity, free: Arc::new(Semaphore::new(max)), tasks }
    }
}

#[cfg(test)]
impl Realtime {
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }
}

pub(crate) async fn hand_over(house: &House, asked: &Asked) -> Answer {
    let wants_websocket = asked.header("upgrade").is_some_and(|u| u.eq_ignore_ascii_case("websocket"));
    let Some(client) = asked.upgrade.clone().filter(|_| wants_websocket) else {
        return Err(Error::invalid("Upgrade", "this path takes WebSocket connections over HTTP/1.1"));
    };
    let realtime = &house.realtime;
    let place = realtime.free.clone().try_acquire_owned().map_err(|_| {
        Error::new(Code::Overloaded, "too many WebSocket connections")
            .with_retry_after(Duration::from_secs(1))
    })?;
    let address = realtime.address.as_deref().ok_or_else(|| away(io::Error::other("not configured")))?;
    let request = forwarded(asked, &realtime.identity)?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask(address, request, &realtime.tasks)).await;
    let mut answer = answer.map_err(away)??;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        strip(answer.headers_mut());
        return Ok(answer.map(Body::new));
    }
    let service = hyper::upgrade::on(&mut answer);
    let shutdown = realtime.tasks.shutdown();
    realtime.tasks.spawn("websocket", OnFailure::Log, tunnel(client, service, shutdown, place));
    let mut response = answer.map(|_| Body::empty());
    strip(response.headers_mut());
    upgrade_headers(response.headers_mut());
    Ok(response)
}

/// The client's request, as this connection's own.
fn forwarded(asked: &Asked, identity: &Identity) -> Result<Request<Empty<Bytes>>, Error> {
    let target = match asked.uri.query() {
        Some(query) => format!("{PATH}?{query}"),
        None => PATH.to_owned(),
    };
    let mut request = Request::get(target).body(Empty::new()).map_err(Error::internal)?;
    let mut headers = asked.headers.clone();
    strip(&mut headers);
    upgrade_headers(&mut headers);
    if let Ok(id) = HeaderValue::from_str(asked.request_id.as_str()) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(trace) = asked.trace.and_then(|t| HeaderValue::from_str(&t.to_string()).ok()) {
        headers.insert(TRACEPARENT, trace);
    }
    headers.remove(FORWARDED_FOR);
    headers.insert(INTRODUCTION, identity.introduction("realtime").map_err(Error::internal)?);
    if let Some(address) = asked.peer.and_then(|peer| HeaderValue::from_str(&peer.to_string()).ok()) {
        headers.insert(FORWARDED_FOR, address);
    }
    headers.entry(header::HOST).or_insert(HeaderValue::from_static("realtime"));
    *request.headers_mut() = headers;
    Ok(request)
}

/// Without what is about one connection only, by name or because `Connection` says so.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn upgrade_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

async fn ask(
    address: &str,
    request: Request<Empty<Bytes>>,
    tasks: &Tasks,
) -> Result<Response<Incoming>, Error> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = connected.map_err(away)?.map_err(away)?;
    stream.set_nodelay(true).map_err(away)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(away)?;
    tasks.spawn("websocket-handshake", OnFailure::Log, async move {
        // Its errors reach whoever waits for the answer or reads its body.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = %error, "connection to realtime ended");
        }
    });
    sender.send_request(request).await.map_err(away)
}

fn away(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("WebSocket connections are not possible right now").with_source(cause)
}

/// Copies until either side ends; its place is free again then.
async fn tunnel(client: OnUpgrade, service: OnUpgrade, shutdown: Shutdown, _place: OwnedSemaphorePermit) {
    let copying = async {
        let upgraded =
            tokio::time::timeout(ANSWER_TIMEOUT, async { tokio::try_join!(client, service) }).await;
        let (client, service) = match upgraded {
            Ok(Ok(both)) => both,
            Ok(Err(error)) => return tracing::debug!(error = %error, "websocket not upgraded"),
            Err(_) => return tracing::debug!("websocket not upgraded in time"),
        };
        if let Err(error) = relay(TokioIo::new(client), TokioIo::new(service), PATIENCE).await {
            tracing::debug!(error = %error, "websocket broke off");
        }
    };
    let stopping = async {
        shutdown.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        () = copying => {}
        () = stopping => {}
    }
}

/// Copies both ways. One side that neither ends nor reads cannot keep it: once a direction has ended, however it
/// did, the other has little time left for what is on its way.
async fn relay<A, B>(client: A, service: B, patience: Patience) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let ((from_client, to_client), (from_service, to_service)) =
        (tokio::io::split(client), tokio::io::split(service));
    let mut up = std::pin::pin!(pump(from_client, to_service, patience));
    let mut down = std::pin::pin!(pump(from_service, to_client, patience));
    tokio::select! {
        ended = &mut up => tokio::time::timeout(patience.after_end, down).await.unwrap_or(Ok(())).and(ended),
        ended = &mut down => tokio::time::timeout(patience.after_end, up).await.unwrap_or(Ok(())).and(ended),
    }
}

/// One direction; its end is passed on, also that of an error.
async fn pump<A: AsyncRead, B: AsyncWrite>(
    mut from: ReadHalf<A>,
    mut to: WriteHalf<B>,
    patience: Patience,
) -> io::Result<()> {
    let copied = copy(&mut from, &mut to, patience.write).await;
    let closed = tokio::time::timeout(patience.after_end, to.shutdown()).await.unwrap_or(Ok(()));
    copied.and(closed)
}

async fn copy<A: AsyncRead, B: AsyncWrite>(
    from: &mut ReadHalf<A>,
    to: &mut WriteHalf<B>,
    patience: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let written = async {
            to.write_all(&buffer[..read]).await?;
            to.flush().await
        };
        tokio::time::timeout(patience, written).await??;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const SHORT: Patience =
        Patience { write: Duration::from_millis(50), after_end: Duration::from_millis(50) };

    #[tokio::test]
    async fn a_tunnel_ends_soon_after_either_side_whatever_the_other_does() {
        for service_ends in [true, false] {
            let (client, mut their_client) = tokio::io::duplex(64);
            let (service, mut their_service) = tokio::io::duplex(64);
            let talking = async {
                let (ending, staying) = if service_ends {
                    (&mut their_service, &mut their_client)
                } else {
                    (&mut their_client, &mut their_service)
                };
                ending.write_all(b"bye").await.unwrap();
                ending.shutdown().await.unwrap();
                let mut heard = String::new();
                staying.read_to_string(&mut heard).await.unwrap();
                heard
            };
            // Neither end is dropped: the one that stays never says that it is done.
            let both = async { tokio::join!(relay(client, service, SHORT), talking) };
            let (ended, heard) = tokio::time::timeout(SOON, both).await.expect("the tunnel stayed");
            ended.unwrap();
            assert_eq!(heard, "bye");
        }
    }

    #[tokio::test]
    async fn a_side_that_reads_nothing_ends_the_tunnel() {
        let (client, _their_client) = tokio::io::duplex(64);
        let (service, mut their_service) = tokio::io::duplex(64);
        let talking = their_service.write_all(&[0; 1024]);
        let both = async { tokio::join!(relay(client, service, SHORT), talking) };
        let (ended, _) = tokio::time::timeout(SOON, both).await.expect("the tunnel stayed");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn only_what_is_about_one_connection_is_left_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Upgrade, x-private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("sec-websocket-key", "k"),
            ("sec-websocket-protocol", "bearer"),
            ("cookie", "c"),
            ("authorization", "Bearer a"),
            ("upgrade", "websocket"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "cookie", "sec-websocket-key", "sec-websocket-protocol"]);
    }
}
