//! The accept loop: admits connections within limits, serves them, and drains them at the end.
//!
//! Our own, because `axum::serve` installs no timer and so leaves slow clients unbounded.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper_util::{rt::TokioExecutor, server::conn::auto::Builder};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weir_config::ByteSize;
use weir_telemetry::Metrics;

use crate::{
    Network, Shutdown,
    conn::{Connection, Ended, builder},
    io::Io,
    limits::Limits,
    retry::Backoff,
    watch::Watch,
};

/// How long connections that are cut may take to notice.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Limits of a listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// The address to listen on; what is not set follows from the command (127.0.0.1 for `weir dev`, 0.0.0.0 for
    /// services that run apart).
    pub host: Option<IpAddr>,
    /// The port, where a process has one service; otherwise each has its own.
    pub port: Option<u16>,
    /// `host:port`, or a port: where `/metrics`, `/info` and `/health` go, so that the other port shows nothing of the
    /// inside.
    pub ops: Option<OpsAddr>,
    /// From the first byte of a request's head (the first time: from the connection) to its last.
    #[serde(with = "weir_config::duration")]
    pub header_timeout: Duration,
    /// How long a connection may have no request.
    #[serde(with = "weir_config::duration")]
    pub idle_timeout: Duration,
    /// How long a request's body may pause. Not for gRPC.
    #[serde(with = "weir_config::duration")]
    pub body_idle_timeout: Duration,
    /// How long a client may take nothing of what we write.
    #[serde(with = "weir_config::duration")]
    pub write_timeout: Duration,
    /// HTTP/2 pings: their interval, and the time for the answer.
    #[serde(with = "weir_config::duration")]
    pub keep_alive: Duration,
    pub max_connections: usize,
    /// Zero: no limit, as behind a proxy. An IPv6 /64 counts as one address.
    pub max_connections_per_ip: usize,
    /// Proxies whose `X-Forwarded-For` names the client, for limits by address. None by default.
    pub trusted_proxies: Vec<Network>,
    /// HTTP/2 requests at a time on one connection.
    pub max_streams: u32,
    pub max_headers: usize,
    /// Bytes of a request's head.
    pub max_header_bytes: ByteSize,
    /// After the shutdown began: how long connections are still accepted, for balancers to see `/ready` fail.
    #[serde(with = "weir_config::duration")]
    pub lame_duck: Duration,
    /// After that: how long requests in flight may take to end.
    #[serde(with = "weir_config::duration")]
    pub drain: Duration,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            ops: None,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_idle_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(20),
            max_connections: 20_000,
            max_connections_per_ip: 1_000,
            trusted_proxies: Vec::new(),
            max_streams: 1_000,
            max_headers: 100,
            max_header_bytes: ByteSize::kib(64),
            lame_duck: Duration::ZERO,
            drain: Duration::from_secs(25),
        }
    }
}

/// Where operators look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OpsAddr {
    host: Option<IpAddr>,
    port: u16,
}

impl OpsAddr {
    /// `host` is where the other port listens.
    #[must_use]
    pub fn at(self, host: IpAddr) -> SocketAddr {
        SocketAddr::new(self.host.unwrap_or(host), self.port)
    }
}

impl TryFrom<String> for OpsAddr {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.trim();
        let whole = text.parse::<SocketAddr>().map(|a| Self { host: Some(a.ip()), port: a.port() });
        whole
            .or_else(|_| text.parse().map(|port| Self { host: None, port }))
            .map_err(|_| "expected an address and a port such as \"0.0.0.0:9000\", or a port")
    }
}

/// The client's address as the socket has it: a proxy's, when there is one. An extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// A listener's metrics.
#[derive(Debug, Clone, Default)]
pub struct ListenMetrics {
    open: Gauge,
    refused: Family<Reason, Counter>,
    closed: Family<Reason, Counter>,
    accept_errors: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl ListenMetrics {
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            open: metrics.gauge("connections_open", "Client connections open"),
            refused: metrics.shared(
                "connections_refused_total",
                "Connections refused by a limit",
                Family::default,
            ),
            closed: metrics.shared(
                "connections_closed_total",
                "Connections closed by a deadline",
                Family::default,
            ),
            accept_errors: metrics
                .counter("accept_errors_total", "Connections the system could not hand over"),
        }
    }

    fn opened(&self) -> OpenGuard {
        self.open.inc();
        OpenGuard(self.open.clone())
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> i64 {
        self.open.get()
    }

    fn on_ended(&self, ended: Ended) {
        let reason = match ended {
            Ended::ByItself => return,
            Ended::Overdue(why) => why.as_str(),
            Ended::Cut => "drain_timeout",
        };
        self.closed.get_or_create(&Reason { reason }).inc();
    }
}

/// A connection that counts as open.
pub(crate) struct OpenGuard(Gauge);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves until the shutdown, then drains. See [`serve_with`], which has metrics.
pub async fn serve(listener: TcpListener, app: Router, config: ListenConfig, shutdown: Shutdown) {
    serve_with(listener, app, config, ListenMetrics::default(), shutdown).await;
}

/// Accepts connections for `app`, HTTP/1.1 (upgrades included) and HTTP/2 without TLS, until the shutdown; then
/// refuses new ones, lets requests in flight end within `config.drain`, cuts what is left, and returns.
pub async fn serve_with(
    listener: TcpListener,
    app: Router,
    config: ListenConfig,
    metrics: ListenMetrics,
    shutdown: Shutdown,
) {
    let server = Server {
        app,
        builder: Arc::new(builder(&config)),
        limits: Limits::new(config.max_connections, config.max_connections_per_ip),
        config: Arc::new(config),
        metrics,
        tracker: TaskTracker::new(),
        soft: CancellationToken::new(),
        hard: CancellationToken::new(),
    };
    let until = async {
        shutdown.cancelled().await;
        sleep(server.config.lame_duck).await;
    };
    tokio::select! {
        () = until => {}
        () = server.accept(&listener) => {}
    }
    // Closed before the drain: new connections are refused, not left to wait in the kernel.
    drop(listener);
    server.drain().await;
}

struct Server {
    app: Router,
    builder: Arc<Builder<TokioExecutor>>,
    limits: Arc<Limits>,
    config: Arc<ListenConfig>,
    metrics: ListenMetrics,
    tracker: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Server {
    /// Never ends by itself.
    async fn accept(&self, listener: &TcpListener) {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let mut failing = false;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if std::mem::take(&mut failing) {
                        backoff.reset();
                        tracing::info!("accepting connections again");
                    }
                    self.admit(stream, peer);
                }
                Err(error) if is_the_clients(&error) => {}
                // Out of file descriptors or memory: nothing helps but time. Said once, not once a try.
                Err(error) => {
                    self.metrics.accept_errors.inc();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "cannot accept connections, trying on");
                    }
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let permit = match self.limits.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(refused) => {
                self.metrics.refused.get_or_create(&Reason { reason: refused.as_str() }).inc();
                tracing::debug!(peer.addr = %peer, reason = refused.as_str(), "connection refused");
                return;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(peer.addr = %peer, %error, "connection gone before it began");
            return;
        }
        let watch = Arc::new(Watch::new(&self.config));
        let open = self.metrics.opened();
        let io = Io::new(stream, watch.clone(), self.hard.clone(), permit, open, self.tracker.token());
        let connection = Connection {
            app: self.app.clone(),
            peer: PeerAddr(peer),
            watch,
            config: self.config.clone(),
            soft: self.soft.child_token(),
            hard: self.hard.clone(),
        };
        let (builder, metrics) = (self.builder.clone(), self.metrics.clone());
        self.tracker.spawn(async move {
            metrics.on_ended(connection.serve(&builder, io).await);
        });
    }

    async fn drain(self) {
        self.soft.cancel();
        self.tracker.close();
        if timeout(self.config.drain, self.tracker.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(
            connections.open = self.limits.open(),
            drain.ms = self.config.drain.as_millis(),
            "connections did not end in time, cutting them"
        );
        self.hard.cancel();
        if timeout(CUT_GRACE, self.tracker.wait()).await.is_err() {
            tracing::warn!(connections.open = self.limits.open(), "upgraded connections still open");
        }
    }
}

/// The connection died while it waited for us; the listener is fine.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
