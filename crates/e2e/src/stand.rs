//! A house on a database and a NATS of its own, every service on a port of its own: all in this process, or each in
//! one of its own (`WEIR_E2E=split`).

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use weir_config::Sources;
use weir_runtime::{ListenConfig, OnFailure, Tasks, serve};
use weir_service::{Doors, House, Name};
use weir_simulator::Simulator;
use weir_testkit::{APP_PASSWORD, APP_ROLE, Database, Nats, Postgres};
use weir_types::{KeyId, api_key};

use crate::{
    http::Http,
    split::{self, Split},
};

/// Longer than any stop takes.
const GRACE: Duration = Duration::from_secs(60);

/// How the services of a stand run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In the tests' own process.
    Fused,
    /// As eight processes.
    Split,
}

impl Mode {
    /// What `WEIR_E2E` asks for.
    ///
    /// # Panics
    /// It asks for something else.
    #[must_use]
    pub fn wished() -> Self {
        #[expect(clippy::disallowed_methods, reason = "how tests run is their caller's wish")]
        let wish = std::env::var("WEIR_E2E");
        match wish.as_deref() {
            Err(_) | Ok("" | "fused") => Self::Fused,
            Ok("split") => Self::Split,
            Ok(other) => panic!("WEIR_E2E is {other:?}, expected fused or split"),
        }
    }

    /// Whether tests run this way; says so and why when they don't.
    #[must_use]
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    pub fn is_wished(self, why: &str) -> bool {
        let wished = Self::wished() == self;
        if !wished {
            println!("SKIPPED: in mode {self:?} only: {why}");
        }
        wished
    }
}

/// A running house and what it stands on.
pub struct Stand {
    pub database: Database,
    pub nats: Arc<Nats>,
    pub addresses: Addresses,
    pub admin_key: String,
    house: Running,
    settings: Vec<(String, String)>,
    provider: SocketAddr,
    provider_tasks: Tasks,
    _spool: TempDir,
}

/// Whose settings a stand may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Today,
    LastVersion,
}

enum Running {
    Fused(Option<House>),
    Split(Split),
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
}

/// A tenant and one of its keys.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub id: String,
    pub key_id: String,
    pub key: String,
}

impl Stand {
    /// The house that tests share which only look, or stay among tenants of their own. It runs on a runtime of its own,
    /// since every test has one that ends with it.
    ///
    /// # Panics
    /// It did not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Stand> = OnceLock::new();
        SHARED.get_or_init(|| {
            let start = || -> Result<Self> {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                let stand = runtime.block_on(Self::start());
                // It ends with the process, as do the servers under it.
                std::mem::forget(runtime);
                stand
            };
            // A thread of its own: the test that comes first is inside a runtime already.
            let started = std::thread::spawn(start).join();
            match started {
                Ok(Ok(stand)) => stand,
                Ok(Err(error)) => panic!("the house did not start: {error:#}"),
                Err(_) => panic!("the house panicked while starting"),
            }
        })
    }

    /// A house on the shared PostgreSQL server and a NATS of its own.
    ///
    /// # Errors
    /// Something did not start.
    pub async fn start() -> Result<Self> {
        Self::start_with(Postgres::shared().await?, &[]).await
    }

    /// With these settings, by their dotted keys.
    ///
    /// # Errors
    /// Something did not start.
    pub async fn start_with(postgres: &Postgres, settings: &[(&str, &str)]) -> Result<Self> {
        match Mode::wished() {
            Mode::Fused => {
                Self::build(postgres, settings, Known::Today, async |settings| fused(&settings).await).await
            }
            Mode::Split => Self::split_with(postgres, settings, Known::Today, |_, this| this).await,
        }
    }

    /// As eight processes, whatever the wish; `program` may choose another one than this build's for a service.
    /// Settings are those that the last version knows as well.
    ///
    /// # Errors
    /// Something did not start.
    pub async fn start_split(
        postgres: &Postgres,
        program: impl Fn(Name, PathBuf) -> PathBuf,
    ) -> Result<Self> {
        Self::split_with(postgres, &[], Known::LastVersion, program).await
    }

    async fn split_with(
        postgres: &Postgres,
        more: &[(&str, &str)],
        known: Known,
        program: impl Fn(Name, PathBuf) -> PathBuf,
    ) -> Result<Self> {
        let this = split::this_program()?;
        let start = async |settings: Vec<(String, String)>| {
            Ok(Running::Split(Split::start(&settings, |name| program(name, this.clone())).await?))
        };
        // Eight processes of a debug build on two cores: the router has its moments.
        let more: Vec<_> = [("orchestrator.decide_timeout_ms", "5000")].iter().chain(more).copied().collect();
        Self::build(postgres, &more, known, start).await
    }

    async fn build(
        postgres: &Postgres,
        more: &[(&str, &str)],
        known: Known,
        start: impl AsyncFnOnce(Vec<(String, String)>) -> Result<Running>,
    ) -> Result<Self> {
        let role = weir_db::AppRole::new(APP_ROLE, SecretString::from(APP_PASSWORD));
        let migrate = |url: String| async move { weir_db::migrate(&url, &role).await };
        let database = postgres.database(&weir_db::fingerprint(), migrate).await?;
        let nats = Arc::new(Nats::start().await?);
        let admin_key = api_key::assemble(api_key::KeyKind::Admin, KeyId::new(), &[42; 32]);
        let spool = TempDir::with_prefix("weir-spool-")?;
        let provider_tasks = Tasks::new();
        let provider = provider(&provider_tasks).await?;
        let admin_key_sha256: String =
            Sha256::digest(&admin_key).iter().map(|b| format!("{b:02x}")).collect();
        let mut settings: Vec<(String, String)> = [
            ("database.url", database.app_url.clone()),
            // Many pools begin at once, on machines that do other things as well.
            ("database.acquire_timeout_ms", "30000".to_owned()),
            ("nats.url", nats.url()),
            ("nats.monitor_url", nats.monitor_url()),
            ("control.admin_key_sha256", admin_key_sha256),
            ("orchestrator.spool_dir", spool.path().join("spool").display().to_string()),
            ("orchestrator.providers.simulator.base_url", format!("http://{provider}/v1")),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if known == Known::Today {
            settings.extend(weir_simulator::providers(&format!("http://{provider}")));
            let prices = spool.path().join("prices.toml");
            std::fs::write(&prices, weir_simulator::PRICES)?;
            settings.push(("orchestrator.prices_file".to_owned(), prices.display().to_string()));
        }
        settings.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let house = Box::pin(start(settings.clone())).await.context("starting the house")?;
        let addresses = house.addresses()?;
        Ok(Self {
            database,
            nats,
            addresses,
            admin_key,
            house,
            settings,
            provider,
            provider_tasks,
            _spool: spool,
        })
    }

    /// Stops the house in good order and starts it again, fused on other ports, with the same data.
    ///
    /// # Errors
    /// It did not stop or start.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop_services().await?;
        match &self.house {
            Running::Fused(_) => self.house = Box::pin(fused(&self.settings)).await?,
            Running::Split(split) => split.start_all().await?,
        }
        self.addresses = self.house.addresses()?;
        Ok(())
    }

    /// # Errors
    /// A part had to be ended by force.
    pub async fn stop(&mut self) -> Result<()> {
        self.stop_services().await?;
        ensure!(self.provider_tasks.stop(GRACE).await, "the provider had to be ended by force");
        Ok(())
    }

    async fn stop_services(&mut self) -> Result<()> {
        match &mut self.house {
            Running::Fused(house) => {
                let house = house.take().context("the house does not run")?;
                ensure!(house.stop(GRACE).await, "a part of the house had to be ended by force");
                Ok(())
            }
            Running::Split(split) => split.stop().await,
        }
    }

    /// The processes, to kill them one by one.
    ///
    /// # Panics
    /// The services run in this process.
    #[must_use]
    pub fn split(&self) -> &Split {
        match &self.house {
            Running::Split(split) => split,
            Running::Fused(_) => panic!("the services of this stand run in the tests' own process"),
        }
    }

    /// The gateway, without a key. Made anew for each test: connections belong to a runtime.
    #[must_use]
    pub fn gateway(&self) -> Http {
        Http::new(self.addresses.gateway)
    }

    /// The gateway, as the platform's operator.
    #[must_use]
    pub fn platform(&self) -> Http {
        self.gateway().with_key(&self.admin_key)
    }

    /// The simulated provider.
    #[must_use]
    pub fn simulator(&self) -> Http {
        Http::new(self.provider)
    }

    /// Every service and where it listens.
    #[must_use]
    pub fn services(&self) -> [(&'static str, SocketAddr); 8] {
        let a = &self.addresses;
        [
            ("gateway", a.gateway),
            ("realtime", a.realtime),
            ("router", a.router),
            ("orchestrator", a.orchestrator),
            ("analytics", a.analytics),
            ("billing", a.billing),
            ("ingestion", a.ingestion),
            ("control", a.control),
        ]
    }

    /// A new tenant without limits, with a key that may do everything a tenant's may.
    ///
    /// # Errors
    /// The house refused.
    pub async fn tenant(&self) -> Result<Tenant> {
        self.tenant_with(&Value::Null).await
    }

    /// A new tenant with these `rate_limits`.
    ///
    /// # Errors
    /// The house refused.
    pub async fn tenant_with(&self, rate_limits: &Value) -> Result<Tenant> {
        tenant(&self.platform(), rate_limits).await
    }
}

/// A new tenant and a key of it, made over REST by the platform's operator.
///
/// # Errors
/// The house refused.
pub async fn tenant(platform: &Http, rate_limits: &Value) -> Result<Tenant> {
    let mut body = json!({"name": "a test's tenant", "tier": "standard"});
    if !rate_limits.is_null() {
        body["rate_limits"] = rate_limits.clone();
    }
    let made = platform.post("/v1/tenants", &body).await?;
    ensure!(made.status == 201, "creating a tenant: {made:?}");
    let id = text(&made.json(), "id")?;
    let (key_id, key) = key(&platform.with_header("x-tenant-id", &id), weir_types::scope::TENANT).await?;
    Ok(Tenant { id, key_id, key })
}

/// A new key of the caller's tenant: its id and the key itself.
///
/// # Errors
/// The house refused.
pub async fn key(caller: &Http, scopes: &[&str]) -> Result<(String, String)> {
    let made = caller.post("/v1/api-keys", &json!({"name": "a test's key", "scopes": scopes})).await?;
    ensure!(made.status == 201, "creating a key: {made:?}");
    let made = made.json();
    Ok((text(&made["api_key"], "id")?, text(&made, "secret")?))
}

fn text(value: &Value, name: &str) -> Result<String> {
    value[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {value}"))
}

impl Running {
    fn addresses(&self) -> Result<Addresses> {
        let of = |name: Name| match self {
            Self::Fused(house) => {
                house.as_ref().and_then(|house| house.address(name)).context("the house does not run")
            }
            Self::Split(split) => Ok(split.address(name)),
        };
        Ok(Addresses {
            gateway: of(Name::Gateway)?,
            realtime: of(Name::Realtime)?,
            router: of(Name::Router)?,
            orchestrator: of(Name::Orchestrator)?,
            analytics: of(Name::Analytics)?,
            billing: of(Name::Billing)?,
            ingestion: of(Name::Ingestion)?,
            control: of(Name::Control)?,
        })
    }
}

async fn fused(settings: &[(String, String)]) -> Result<Running> {
    let mut sources = Sources::default();
    for (key, value) in settings {
        sources.set(key, value, "the test");
    }
    let mut services = Vec::new();
    for service in weir::SERVICES {
        services.push((service, Doors::one(TcpListener::bind("127.0.0.1:0").await?)));
    }
    let house = Box::pin(House::start(weir_service::load(&sources)?, services)).await?;
    house.ready().await;
    Ok(Running::Fused(Some(house)))
}

/// The simulator outlives the house: what it counted is what the house is measured by.
async fn provider(tasks: &Tasks) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let simulator = Simulator::new(weir_simulator::Config::default());
    let serving = serve(listener, simulator.router(), ListenConfig::default(), tasks.shutdown());
    tasks.spawn("provider", OnFailure::Log, serving);
    Ok(address)
}
