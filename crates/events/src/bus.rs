//! The connection to NATS: there at once, whether or not the server is, and back whenever the server is.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, ServerAddr, jetstream};
use prometheus_client::metrics::gauge::Gauge;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::watch;
use weir_runtime::{OnFailure, Tasks, retry::Backoff};

use crate::{EventMetrics, streams};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How often streams are looked at for being too large.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// Commands waiting for the connection; senders wait beyond it.
const CLIENT_CAPACITY: usize = 2_048;
/// Messages waiting in one subscription.
const SUBSCRIPTION_CAPACITY: usize = 4_096;

/// How to reach NATS.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// `nats://[user:password@]host:port`, or `tls://…`; several servers separated by commas.
    pub url: SecretString,
    pub token: Option<SecretString>,
    /// PEM file with the certificates to trust, when they are not public ones.
    pub ca_file: Option<PathBuf>,
    /// `http://host:port` of the server's monitoring, which is asked at the start whether acknowledged events are on the
    /// disk. Default: the first server, port 8222.
    pub monitor_url: Option<String>,
    /// The connection's name in the server's monitoring.
    pub name: String,
    /// Replicas of every stream and bucket; money streams want 3 in production.
    pub replicas: usize,
    /// Beyond this, usage events that every consumer has handled make room; before, they stay for 30 days to be
    /// looked at or replayed.
    pub usage_bytes: u64,
    /// After this many failures of its handler a message becomes a dead letter. Times when PostgreSQL is away count
    /// as none.
    pub max_deliver: u32,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            url: SecretString::from("nats://127.0.0.1:4222"),
            token: None,
            ca_file: None,
            monitor_url: None,
            name: "weir".into(),
            replicas: 1,
            usage_bytes: 1 << 30,
            max_deliver: 8,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("the address of NATS is not valid")]
    Address(#[source] std::io::Error),
    #[error("the NATS client could not start")]
    Connect(#[source] async_nats::ConnectError),
    #[error("JetStream refused")]
    JetStream(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Whether the connection stands. `epoch` grows with every new connection: what a server forgets when it restarts
/// (pull requests, ephemeral consumers) is set up again when the epoch changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    pub up: bool,
    pub epoch: u64,
}

/// What its login lets a connection do to streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Nothing: somebody else makes streams and buckets, it waits for them.
    Wait,
    /// Makes those that are missing.
    Make,
    /// That, brings them up to date and makes room in them.
    Keep,
}

/// A shared connection to NATS. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Bus {
    client: Client,
    jetstream: jetstream::Context,
    link: watch::Receiver<Link>,
    replicas: usize,
    usage_bytes: u64,
    max_deliver: u32,
    duty: Duty,
    metrics: Arc<EventMetrics>,
}

impl Bus {
    /// Returns at once, connected or not; connects and reconnects in the background for ever.
    ///
    /// # Errors
    /// The address or a certificate file cannot be used.
    pub async fn connect(config: &NatsConfig, metrics: EventMetrics) -> Result<Self, BusError> {
        let servers = config
            .url
            .expose_secret()
            .split(',')
            .map(|url| url.trim().parse::<ServerAddr>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(BusError::Address)?;
        let (sender, link) = watch::channel(Link::default());
        let sender = Arc::new(sender);
        let up = metrics.connected.clone();
        let mut options = ConnectOptions::new()
            .name(&config.name)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(Duration::from_secs(3))
            .ping_interval(Duration::from_secs(10))
            .client_capacity(CLIENT_CAPACITY)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                note(&sender, &up, &event);
                std::future::ready(())
            });
        if let Some((user, password)) = login(&servers) {
            // Answers come to subjects of this login's own: no other may read them.
            options = options.custom_inbox_prefix(inbox(&user)).user_and_password(user, password);
        }
        if let Some(token) = &config.token {
            options = options.token(token.expose_secret().to_owned());
        }
        if let Some(file) = &config.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        let client = options.connect(servers).await.map_err(BusError::Connect)?;
        let jetstream = jetstream::ContextBuilder::new()
            .timeout(Duration::from_secs(5))
            .ack_timeout(Duration::from_secs(1))
            .build(client.clone());
        Ok(Self {
            client,
            jetstream,
            link,
            replicas: config.replicas.max(1),
            usage_bytes: config.usage_bytes,
            max_deliver: config.max_deliver.max(1),
            duty: Duty::Keep,
            metrics: Arc::new(metrics),
        })
    }

    /// The same connection, which leaves the rest to others.
    #[must_use]
    pub fn with_duty(self, duty: Duty) -> Self {
        Self { duty, ..self }
    }

    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    #[must_use]
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    #[must_use]
    pub fn connected(&self) -> bool {
        self.link.borrow().up
    }

    /// Follows the connection.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    #[must_use]
    pub fn metrics(&self) -> &EventMetrics {
        &self.metrics
    }

    pub(crate) fn max_deliver(&self) -> u32 {
        self.max_deliver
    }

    pub(crate) fn duty(&self) -> Duty {
        self.duty
    }

    pub(crate) fn replicas(&self) -> usize {
        self.replicas
    }

    /// For `/health`: the connection is there.
    ///
    /// # Errors
    /// It is not; events wait.
    pub fn check(&self) -> Result<(), String> {
        if self.connected() { Ok(()) } else { Err("not connected to nats; events wait".into()) }
    }

    /// Sees that this version's streams are there and, as far as that is its duty, makes them and brings them up to
    /// date. Running it again changes nothing.
    ///
    /// # Errors
    /// NATS is away, or refuses (too few servers for the replicas, no JetStream); one is missing and others make it.
    pub async fn ensure_streams(&self) -> Result<(), BusError> {
        streams::ensure(&self.jetstream, self.replicas, self.duty).await
    }

    /// Makes room in the stream of usage events if it is too large. Gives how many went.
    ///
    /// # Errors
    /// NATS is away, or the stream or one of its consumers is missing; nothing went.
    pub async fn trim_streams(&self) -> Result<u64, BusError> {
        streams::trim(&self.jetstream, self.usage_bytes).await
    }

    /// Ensures the streams in the background: now, and again whenever a server comes back (it may come back empty).
    /// Keeps them from growing without end meanwhile. Does what is its duty of that.
    pub fn keep_streams(&self, tasks: &Tasks) {
        if self.duty == Duty::Wait {
            return;
        }
        let bus = self.clone();
        let shutdown = tasks.shutdown();
        tasks.spawn("nats-streams", OnFailure::Log, async move {
            tokio::select! {
                () = bus.keep_streams_forever() => {}
                () = bus.keep_trimming() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }

    async fn keep_trimming(&self) {
        if self.duty != Duty::Keep {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(TRIM_EVERY).await;
            match self.trim_streams().await {
                Ok(0) => {}
                Ok(messages) => tracing::info!(messages, "old usage events made room"),
                Err(_) if !self.connected() => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "usage events could not make room");
                }
            }
        }
    }

    async fn keep_streams_forever(&self) {
        let mut link = self.link();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        loop {
            // The sender lives as long as the client, so an error here means the end of both.
            let Ok(now) = link.wait_for(|l| l.up).await.map(|l| *l) else { return };
            match self.ensure_streams().await {
                Ok(()) => {
                    backoff.reset();
                    tracing::info!(epoch = now.epoch, "streams are there");
                    if link.wait_for(|l| l.epoch != now.epoch).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "streams could not be ensured");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }
}

/// User and password of the first address that has both: the client library reads them from no address by itself.
fn login(servers: &[ServerAddr]) -> Option<(String, String)> {
    servers.iter().find_map(|server| Some((unescaped(server.username()?), unescaped(server.password()?))))
}

/// What stands before the subjects of a login's answers: a permission names it. Letters that mean something in subjects
/// become underlines.
fn inbox(user: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("_INBOX_{}", user.chars().map(plain).collect::<String>())
}

/// The percent-encoding of URLs undone.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.filter(|_| first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// At once, then growing to half a second: events should flow as soon as the server is back.
fn reconnect_delay(attempts: usize) -> Duration {
    Duration::from_millis(match attempts {
        0 | 1 => 0,
        n => (10 << n.min(6)).min(500),
    })
}

fn note(link: &watch::Sender<Link>, up: &Gauge, event: &async_nats::Event) {
    match event {
        async_nats::Event::Connected => {
            link.send_modify(|l| *l = Link { up: true, epoch: l.epoch + 1 });
            up.set(1);
        }
        async_nats::Event::Disconnected | async_nats::Event::Closed => {
            link.send_modify(|l| l.up = false);
            up.set(0);
        }
        async_nats::Event::SlowConsumer(subscription) => {
            tracing::warn!(subscription, "a subscription cannot keep up");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_login_is_read_and_unescaped() {
        let servers = |urls: &[&str]| urls.iter().map(|u| u.parse().unwrap()).collect::<Vec<ServerAddr>>();
        let found = login(&servers(&["nats://a:4222", "nats://we%40ir:p%2Fw%25@b:4222"]));
        assert_eq!(found, Some(("we@ir".to_owned(), "p/w%".to_owned())));
        assert_eq!(login(&servers(&["nats://a:4222", "nats://token@b:4222"])), None);
    }

    #[test]
    fn each_login_has_answers_of_its_own() {
        assert_eq!(inbox("gateway"), "_INBOX_gateway");
        assert_eq!(inbox("a.>*b-c"), "_INBOX_a___b-c");
    }
}
