//! What a process offers to one of its services.

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};
use weir_config::Settings;
use weir_db::{Db, DbConfig, DbError, LateDb};
use weir_events::{Bus, BusError, Duty, EventMetrics, NatsConfig};
use weir_kv::{Kv, KvError};
use weir_rpc::{Slot, Transport};
use weir_runtime::{Criticality, Health, ListenConfig, OnFailure, Tasks, retry::Backoff};
use weir_telemetry::Metrics;
use weir_types::Clock;

use crate::{Name, identity::Identities, settings::PeersConfig, sync};

/// How long a database that is still starting is waited for.
const DATABASE_PATIENCE: Duration = Duration::from_secs(30);
/// How long one is waited for that the service can begin without.
const LATE_PATIENCE: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A service's place in a process.
pub struct Site {
    pub(crate) name: Name,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) shared: Arc<Shared>,
    bus: OnceCell<Bus>,
    database: OnceCell<Db>,
}

/// The process, as all of its services see it.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) listen: ListenConfig,
    pub(crate) identities: Identities,
    pub(crate) peers: PeersConfig,
    pub(crate) slots: BTreeMap<Name, Slot>,
    pub(crate) addresses: BTreeMap<Name, SocketAddr>,
    /// Listeners: stopped first, so that requests under way end while everything behind them still works.
    pub(crate) edge: Tasks,
    /// Consumers, watchers, the spool's publisher: stopped when nothing new can come.
    pub(crate) inner: Tasks,
    common: Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
}

impl Shared {
    pub(crate) fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        addresses: BTreeMap<Name, SocketAddr>,
    ) -> Result<Self> {
        let names: Vec<Name> = addresses.keys().copied().collect();
        Ok(Self {
            listen: settings.section("listen")?,
            identities: Identities::load(&settings, &names, &clock)?,
            peers: settings.section("peers")?,
            slots: names.into_iter().map(|name| (name, Slot::new(name.as_str()))).collect(),
            addresses,
            edge: Tasks::new(),
            inner: Tasks::new(),
            common: Mutex::default(),
            settings,
            clock,
        })
    }
}

impl Site {
    pub(crate) fn new(name: Name, shared: Arc<Shared>) -> Self {
        Self {
            name,
            health: Health::new(name.as_str(), shared.clock.clone()),
            metrics: Metrics::new(),
            shared,
            bus: OnceCell::new(),
            database: OnceCell::new(),
        }
    }

    #[must_use]
    pub fn name(&self) -> Name {
        self.name
    }

    /// The section of the settings that has the service's name.
    ///
    /// # Errors
    /// A wrong value, by key and source.
    pub fn config<C: DeserializeOwned + Default>(&self) -> Result<C> {
        self.section(self.name.as_str())
    }

    /// Any other section.
    ///
    /// # Errors
    /// A wrong value, by key and source.
    pub fn section<C: DeserializeOwned + Default>(&self, name: &str) -> Result<C> {
        Ok(self.shared.settings.section(name)?)
    }

    /// A text of another service's section, where one service follows another's setting.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.shared.settings.text(key)
    }

    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.shared.clock.clone()
    }

    /// The service's own.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// The service's own.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What runs behind requests: stopped once none is under way.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.shared.inner
    }

    /// What ends when the process is told to stop: connections of clients.
    #[must_use]
    pub fn edge(&self) -> &Tasks {
        &self.shared.edge
    }

    #[must_use]
    pub fn listen(&self) -> &ListenConfig {
        &self.shared.listen
    }

    /// The database, with a check in `/health`. Waits for one that is starting.
    ///
    /// # Errors
    /// A wrong setting; a login that could see every tenant, or migrations pending: what to do about it; no database.
    pub async fn database(&self) -> Result<Db> {
        self.database.get_or_try_init(|| Box::pin(self.connect())).await.cloned()
    }

    async fn connect(&self) -> Result<Db> {
        let db = Db::connect_lazy(&self.section("database")?).map_err(|e| self.explain_database(e))?;
        verify(&db).await.map_err(|e| self.explain_database(e))?;
        let checked = db.clone();
        self.health.check("postgres", Criticality::Required, move || {
            let db = checked.clone();
            async move { db.ping().await.map_err(|e| e.to_string()) }
        });
        Ok(db)
    }

    /// A database that the service can do without for a while, with a check in `/health`: it begins without one that
    /// does not answer soon. `None` when no address is set.
    ///
    /// # Errors
    /// A wrong setting; a login that could see every tenant, or migrations pending: what to do about it.
    pub async fn late_database(&self) -> Result<Option<LateDb>> {
        let config: DbConfig = self.section("database")?;
        if config.url.expose_secret().is_empty() {
            tracing::warn!("no database is named: nothing is stored");
            return Ok(None);
        }
        let db = Db::connect_lazy(&config).map_err(|e| self.explain_database(e))?;
        let late = LateDb::new(db.clone());
        match timeout(LATE_PATIENCE, late.verify()).await {
            Ok(Ok(())) => {}
            Ok(Err(DbError::Unavailable(_))) | Err(_) => {
                tracing::warn!("the database does not answer yet, beginning without it");
                let (late, shutdown) = (late.clone(), self.tasks().shutdown());
                self.tasks().spawn("late-database", OnFailure::Log, async move {
                    tokio::select! {
                        () = verify_late(&late) => {}
                        () = shutdown.cancelled() => {}
                    }
                });
            }
            Ok(Err(error)) => return Err(self.explain_database(error)),
        }
        self.health.check("postgres", Criticality::Degraded, move || {
            let db = db.clone();
            async move { db.ping().await.map_err(|e| e.to_string()) }
        });
        Ok(Some(late))
    }

    /// Names key and source.
    fn explain_database(&self, error: DbError) -> anyhow::Error {
        let settings = &self.shared.settings;
        match &error {
            DbError::Config(text) => match text.split_once(' ') {
                Some((key, message)) => anyhow!(settings.refuse(key, message)),
                None => error.into(),
            },
            DbError::Refused(refusal) => {
                anyhow!(settings.refuse("database.url", format!("cannot be used: {refusal}")))
            }
            _ => {
                let origin = settings.origin("database.url").unwrap_or_else(|| "default".to_owned());
                anyhow!(error).context(format!("{origin}: `database.url`"))
            }
        }
    }

    /// A connection to NATS of the service's own, there or not, with a check in `/health`.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub async fn bus(&self) -> Result<Bus> {
        self.bus.get_or_try_init(|| Box::pin(self.subscribe())).await.cloned()
    }

    async fn subscribe(&self) -> Result<Bus> {
        let config: NatsConfig = self.section("nats")?;
        let bus = Bus::connect(&config, EventMetrics::new(&self.metrics)).await.map_err(|error| {
            let key = if matches!(error, BusError::Address(_)) { "nats.url" } else { "nats.ca_file" };
            anyhow!(self.shared.settings.refuse(key, format!("cannot be used: {error}")))
        })?;
        let bus = bus.with_duty(duty(self.name));
        bus.keep_streams(self.tasks());
        let checked = bus.clone();
        self.health.check("nats", Criticality::Degraded, move || std::future::ready(checked.check()));
        self.once(async {
            self.tasks().spawn(
                "nats-sync-check",
                OnFailure::Log,
                sync::check(config, bus.clone(), self.tasks().shutdown()),
            );
            Ok(sync::Checked)
        })
        .await?;
        Ok(bus)
    }

    /// Small values, in Redis where there is one, with a check in `/health`.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub fn kv(&self) -> Result<Kv> {
        let kv =
            Kv::new(&self.section("redis")?, &self.metrics, self.tasks()).map_err(|error| match error {
                KvError::Address => {
                    anyhow!(self.shared.settings.refuse("redis.url", format!("is wrong: {error}")))
                }
                error => error.into(),
            })?;
        let checked = kv.clone();
        self.health.check("redis", Criticality::Degraded, move || {
            let kv = checked.clone();
            async move { kv.health().await }
        });
        Ok(kv)
    }

    /// To another service: in this process, or where `peers` says it is, with a check in `/health`. Connected in the
    /// background, so it need not be there yet.
    ///
    /// # Errors
    /// It is in another process, and its address is no address or this service has no key to be known by.
    pub fn peer(&self, peer: Name) -> Result<Transport> {
        let shared = &self.shared;
        if let Some(slot) = shared.slots.get(&peer) {
            return Ok(slot.transport());
        }
        let uri = shared.peers.uri(&shared.settings, peer)?;
        let identity = shared.identities.for_calls(&shared.settings, self.name, peer)?;
        let transport = Transport::remote(uri, peer.as_str(), identity);
        let checked = transport.clone();
        self.health.check(peer.as_str(), Criticality::Degraded, move || {
            let peer = checked.clone();
            async move { peer.check().await }
        });
        let (warm, shutdown) = (transport.clone(), self.tasks().shutdown());
        self.tasks().spawn("peer", OnFailure::Log, async move {
            tokio::select! {
                () = warm.warm() => {}
                () = shutdown.cancelled() => {}
            }
        });
        Ok(transport)
    }

    /// Where another service listens, as `host:port`, for what is not gRPC.
    ///
    /// # Errors
    /// Its address is no address.
    pub fn address(&self, peer: Name) -> Result<String> {
        if let Some(&address) = self.shared.addresses.get(&peer) {
            return Ok(callable(address).to_string());
        }
        let uri = self.shared.peers.uri(&self.shared.settings, peer)?;
        let host = uri.host().context("an address without a host")?;
        Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
    }

    /// Whether the service runs in this process.
    #[must_use]
    pub fn is_here(&self, service: Name) -> bool {
        self.shared.slots.contains_key(&service)
    }

    /// What the services of a process share, by its type: made by the first that asks.
    ///
    /// # Errors
    /// Those of `make`.
    pub async fn once<T>(&self, make: impl Future<Output = Result<T>> + Send) -> Result<T>
    where
        T: Clone + Send + 'static,
    {
        let known = |common: &HashMap<TypeId, Box<dyn Any + Send>>| {
            common.get(&TypeId::of::<T>()).and_then(|any| any.downcast_ref::<T>().cloned())
        };
        if let Some(found) = known(&self.shared.common.lock()) {
            return Ok(found);
        }
        // Services are built one after the other, so nobody else is making one now.
        let made = make.await?;
        self.shared.common.lock().insert(TypeId::of::<T>(), Box::new(made.clone()));
        Ok(made)
    }
}

/// Who may do what to streams; the logins of deploy/nats/nats.conf say the same. Only billing lets usage go: it counts it.
fn duty(name: Name) -> Duty {
    match name {
        Name::Billing => Duty::Keep,
        Name::Analytics | Name::Router | Name::Control => Duty::Make,
        Name::Gateway | Name::Realtime | Name::Orchestrator | Name::Ingestion => Duty::Wait,
    }
}

async fn verify(db: &Db) -> Result<(), DbError> {
    let (deadline, mut backoff) = (Instant::now() + DATABASE_PATIENCE, Backoff::new(RETRY_FIRST, RETRY_MAX));
    let mut said = false;
    loop {
        match db.verify().await {
            Err(DbError::Unavailable(cause)) if Instant::now() < deadline => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(error = ?cause, "the database does not answer yet, trying on");
                }
                sleep(backoff.next()).await;
            }
            outcome => return outcome,
        }
    }
}

async fn verify_late(late: &LateDb) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    loop {
        match late.verify().await {
            Ok(()) => return tracing::info!("the database is there now"),
            Err(DbError::Unavailable(_)) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the database is not used");
            }
        }
        sleep(backoff.next()).await;
    }
}

/// An unspecified address is listened on, not called.
pub(crate) fn callable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
