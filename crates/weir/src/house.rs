//! All eight services in one process, calling each other without a network hop. Each still listens on a port of
//! its own, for gRPC with identity tokens and for its health and metrics.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::Router;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tonic::service::Routes;
use weir_events::{Bus, EventMetrics};
use weir_orchestrator::ProviderConfig;
use weir_rpc::{Identity, Transport};
use weir_runtime::{
    Criticality, Health, Info, ListenConfig, ListenMetrics, OnFailure, Tasks, ops_router, serve, serve_with,
};
use weir_telemetry::Metrics;
use weir_types::{Clock, SystemClock};

use crate::Settings;

/// Longest wait for the providers' lists of models; without them, models named outright are passed on.
const MODELS_WAIT: Duration = Duration::from_secs(2);

/// Sockets that are bound already, so that a taken port is known before anything starts.
#[derive(Debug)]
pub struct Listeners {
    pub gateway: TcpListener,
    pub realtime: TcpListener,
    pub router: TcpListener,
    pub orchestrator: TcpListener,
    pub analytics: TcpListener,
    pub billing: TcpListener,
    pub ingestion: TcpListener,
    pub control: TcpListener,
    pub simulator: TcpListener,
}

pub struct HouseConfig {
    pub settings: Settings,
    pub listeners: Listeners,
    /// The role that services log in as.
    pub database_url: SecretString,
    pub nats_url: SecretString,
    pub redis_url: Option<SecretString>,
    /// SHA-256 of the platform's key, in hex.
    pub admin_key_sha256: String,
    /// The orchestrator's spool.
    pub spool_dir: PathBuf,
}

/// Where everything listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub gateway: SocketAddr,
    pub realtime: SocketAddr,
    pub router: SocketAddr,
    pub orchestrator: SocketAddr,
    pub analytics: SocketAddr,
    pub billing: SocketAddr,
    pub ingestion: SocketAddr,
    pub control: SocketAddr,
    pub simulator: SocketAddr,
}

/// A running platform.
pub struct House {
    pub addresses: Addresses,
    control: Transport,
    /// Listeners: stopped first, so that requests under way end while everything behind them still works.
    edge: Tasks,
    /// Consumers, watchers, the spool's publisher: stopped when nothing new can come.
    inner: Tasks,
}

/// One service on its port.
struct Room {
    name: &'static str,
    listener: TcpListener,
    routes: Option<Routes>,
    http: Router,
    health: Health,
    metrics: Metrics,
}

/// What every service shares while the house is built.
struct Site {
    clock: Arc<dyn Clock>,
    listen: ListenConfig,
    identities: Vec<(&'static str, Arc<Identity>)>,
    edge: Tasks,
}

impl House {
    /// Builds the services from the inside out and opens their ports. Returns once the database is verified and the
    /// models are known.
    ///
    /// # Errors
    /// Whatever keeps a service from starting: a database role that may bypass row-level security, migrations
    /// pending, a spool in use, a wrong setting.
    #[expect(
        clippy::too_many_lines,
        reason = "one line of wiring after the other; splitting it would hide the order"
    )]
    pub async fn start(config: HouseConfig) -> anyhow::Result<Self> {
        let HouseConfig {
            mut settings,
            listeners,
            database_url,
            nats_url,
            redis_url,
            admin_key_sha256,
            spool_dir,
        } = config;
        let addresses = Addresses::of(&listeners)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (edge, inner) = (Tasks::new(), Tasks::new());
        let site = Site {
            clock: clock.clone(),
            listen: settings.listen.clone(),
            identities: identities(&clock)?,
            edge,
        };

        settings.database.url = database_url;
        settings.nats.url = nats_url;
        settings.control.admin_key_sha256 = Some(admin_key_sha256);
        settings.orchestrator.spool_dir = spool_dir;
        if settings.orchestrator.fallback_model.is_none() {
            settings.orchestrator.fallback_model = Some(settings.router.default_model.clone());
        }
        let simulated = settings.orchestrator.endpoints().context("orchestrator")?.is_empty();
        if simulated {
            let base_url = format!("http://{}/v1", addresses.simulator);
            let simulator = ProviderConfig { base_url, ..ProviderConfig::default() };
            settings.orchestrator.providers.insert("simulator".to_owned(), simulator);
        }

        let simulator = weir_simulator::Simulator::new(settings.simulator.clone());
        let serve_simulator =
            serve(listeners.simulator, simulator.router(), site.listen.clone(), inner.shutdown());
        inner.spawn("simulator", OnFailure::Shutdown, serve_simulator);

        // Control.
        let metrics = Metrics::new();
        let health = site.health("control");
        let db = site.database(&settings, &health).await.context("control")?;
        let bus = site.bus(&settings, &metrics, &health, &inner).await?;
        let deps = weir_control::Deps { db, bus, clock: clock.clone(), metrics: metrics.clone() };
        let control = weir_control::build(settings.control.clone(), deps)?;
        control.spawn(&inner);
        let control_transport = Transport::local("control", control.routes());
        site.open(Room {
            name: "control",
            listener: listeners.control,
            routes: Some(control.routes()),
            http: Router::new(),
            health,
            metrics,
        })?;

        // Router.
        let metrics = Metrics::new();
        let deps = weir_router::Deps { metrics: metrics.clone() };
        let router = weir_router::build(settings.router.clone(), deps)?;
        let router_transport = Transport::local("router", router.routes());
        site.open(Room {
            name: "router",
            listener: listeners.router,
            routes: Some(router.routes()),
            http: Router::new(),
            health: site.health("router"),
            metrics,
        })?;

        // Billing.
        let metrics = Metrics::new();
        let health = site.health("billing");
        let db = site.database(&settings, &health).await.context("billing")?;
        let bus = site.bus(&settings, &metrics, &health, &inner).await?;
        let deps = weir_billing::Deps { db, bus, clock: clock.clone() };
        let billing = weir_billing::build(settings.billing.clone(), deps)?;
        billing.spawn(&inner);
        let billing_transport = Transport::local("billing", billing.routes());
        site.open(Room {
            name: "billing",
            listener: listeners.billing,
            routes: Some(billing.routes()),
            http: Router::new(),
            health,
            metrics,
        })?;

        // Analytics.
        let metrics = Metrics::new();
        let health = site.health("analytics");
        let db = site.database(&settings, &health).await.context("analytics")?;
        let bus = site.bus(&settings, &metrics, &health, &inner).await?;
        let deps = weir_analytics::Deps { db, bus, clock: clock.clone() };
        let analytics = weir_analytics::build(settings.analytics.clone(), deps)?;
        analytics.spawn(&inner);
        let analytics_transport = Transport::local("analytics", analytics.routes());
        site.open(Room {
            name: "analytics",
            listener: listeners.analytics,
            routes: Some(analytics.routes()),
            http: Router::new(),
            health,
            metrics,
        })?;

        // Ingestion.
        let ingestion = weir_ingestion::build(settings.ingestion.clone(), weir_ingestion::Deps {})?;
        let ingestion_transport = Transport::local("ingestion", ingestion.routes());
        site.open(Room {
            name: "ingestion",
            listener: listeners.ingestion,
            routes: Some(ingestion.routes()),
            http: Router::new(),
            health: site.health("ingestion"),
            metrics: Metrics::new(),
        })?;

        // Orchestrator.
        let metrics = Metrics::new();
        let health = site.health("orchestrator");
        let bus = site.bus(&settings, &metrics, &health, &inner).await?;
        let deps = weir_orchestrator::Deps {
            router: router_transport.clone(),
            bus,
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let orchestrator = weir_orchestrator::build(&settings.orchestrator, deps)?;
        orchestrator.spawn(&inner);
        let checked = orchestrator.clone();
        health.check("spool", Criticality::Degraded, move || std::future::ready(checked.check()));
        let chat_transport = Transport::local("orchestrator", orchestrator.routes());
        site.open(Room {
            name: "orchestrator",
            listener: listeners.orchestrator,
            routes: Some(orchestrator.routes()),
            http: Router::new(),
            health,
            metrics,
        })?;

        // Access is shared by the two doors, so that a tenant's limits hold over both.
        let gateway_metrics = Metrics::new();
        let gateway_health = site.health("gateway");
        let bus = site.bus(&settings, &gateway_metrics, &gateway_health, &inner).await?;
        let deps = weir_access::Deps {
            service: "gateway",
            control: control_transport.clone(),
            bus: Some(bus),
            clock: clock.clone(),
            metrics: gateway_metrics.clone(),
        };
        let access = weir_access::Access::build(settings.access.clone(), deps);
        access.spawn(&inner);

        // Realtime.
        let metrics = Metrics::new();
        let health = site.health("realtime");
        settings.redis.url = redis_url.or(settings.redis.url.take());
        let kv = weir_kv::Kv::new(&settings.redis, &metrics, &inner)?;
        let checked = kv.clone();
        health.check("redis", Criticality::Degraded, move || {
            let kv = checked.clone();
            async move { kv.health().await }
        });
        let deps = weir_realtime::Deps {
            access: access.clone(),
            chat: chat_transport.clone(),
            kv,
            tasks: site.edge.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let realtime = weir_realtime::build(settings.realtime.clone(), deps)?;
        realtime.spawn(&inner);
        site.open(Room {
            name: "realtime",
            listener: listeners.realtime,
            routes: Some(realtime.routes()),
            http: realtime.http(),
            health,
            metrics,
        })?;

        // Gateway.
        let deps = weir_gateway::Deps {
            access,
            orchestrator: chat_transport,
            control: control_transport.clone(),
            billing: billing_transport,
            analytics: analytics_transport,
            ingestion: ingestion_transport,
            router: router_transport,
            realtime: Some(addresses.realtime.to_string()),
            metrics: gateway_metrics.clone(),
            clock,
            tasks: site.edge.clone(),
        };
        let gateway = weir_gateway::build(settings.gateway.clone(), deps)?;
        let models = async {
            while !orchestrator.models_known() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(MODELS_WAIT, models).await.is_err() {
            tracing::warn!("starting although a provider has not listed its models yet");
        }
        site.open(Room {
            name: "gateway",
            listener: listeners.gateway,
            routes: None,
            http: gateway.http(),
            health: gateway_health,
            metrics: gateway_metrics,
        })?;
        Ok(Self { addresses, control: control_transport, edge: site.edge, inner })
    }

    /// To `control`, for the launcher's own calls.
    #[must_use]
    pub fn control(&self) -> Transport {
        self.control.clone()
    }

    /// Whether a part ended that the house can't do without.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.edge.failed() || self.inner.failed()
    }

    /// Ends when a part asks for the house to stop.
    pub async fn stopping(&self) {
        let (edge, inner) = (self.edge.shutdown(), self.inner.shutdown());
        tokio::select! {
            () = edge.cancelled() => {}
            () = inner.cancelled() => {}
        }
    }

    /// Takes nothing new, lets requests under way end, then stops what is behind them. `false`: something had to be
    /// cut off.
    pub async fn stop(self, grace: Duration) -> bool {
        let drained = self.edge.stop(grace).await;
        self.inner.stop(grace).await && drained
    }
}

impl Site {
    fn health(&self, service: &'static str) -> Health {
        Health::new(service, self.clock.clone())
    }

    async fn database(&self, settings: &Settings, health: &Health) -> anyhow::Result<weir_db::Db> {
        let db = weir_db::Db::connect_lazy(&settings.database)?;
        db.verify().await?;
        let checked = db.clone();
        health.check("postgres", Criticality::Required, move || {
            let db = checked.clone();
            async move { db.ping().await.map_err(|e| e.to_string()) }
        });
        Ok(db)
    }

    /// A connection of the service's own, as it has when it runs alone.
    async fn bus(
        &self,
        settings: &Settings,
        metrics: &Metrics,
        health: &Health,
        tasks: &Tasks,
    ) -> anyhow::Result<Bus> {
        let bus = Bus::connect(&settings.nats, EventMetrics::new(metrics)).await?;
        bus.keep_streams(tasks);
        let checked = bus.clone();
        health.check("nats", Criticality::Degraded, move || std::future::ready(checked.check()));
        Ok(bus)
    }

    fn open(&self, room: Room) -> anyhow::Result<()> {
        let mut app =
            room.http.merge(ops_router(room.health.clone(), room.metrics.clone(), Info::new(room.name)));
        if let Some(routes) = room.routes {
            let named = self.identities.iter().find(|(name, _)| *name == room.name);
            let (_, identity) = named.with_context(|| format!("{} has no identity", room.name))?;
            app = app.fallback_service(weir_rpc::server(room.name, routes, identity.clone()));
        }
        room.health.drain_on(self.edge.shutdown());
        let metrics = ListenMetrics::new(&room.metrics);
        let task = serve_with(room.listener, app, self.listen.clone(), metrics, self.edge.shutdown());
        self.edge.spawn(room.name, OnFailure::Shutdown, task);
        Ok(())
    }
}

/// A key for each service, trusted by all of them.
fn identities(clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<(&'static str, Arc<Identity>)>> {
    const SERVICES: [&str; 8] =
        ["gateway", "control", "router", "orchestrator", "realtime", "ingestion", "analytics", "billing"];
    let mut all = Vec::new();
    for name in SERVICES {
        all.push((name, Arc::new(Identity::generate(name, clock.clone())?)));
    }
    let keys: Vec<_> = all.iter().map(|(_, identity)| identity.public().clone()).collect();
    for (_, identity) in &all {
        identity.trust(&keys)?;
    }
    Ok(all)
}

impl Addresses {
    fn of(listeners: &Listeners) -> anyhow::Result<Self> {
        Ok(Self {
            gateway: listeners.gateway.local_addr()?,
            realtime: listeners.realtime.local_addr()?,
            router: listeners.router.local_addr()?,
            orchestrator: listeners.orchestrator.local_addr()?,
            analytics: listeners.analytics.local_addr()?,
            billing: listeners.billing.local_addr()?,
            ingestion: listeners.ingestion.local_addr()?,
            control: listeners.control.local_addr()?,
            simulator: listeners.simulator.local_addr()?,
        })
    }
}
