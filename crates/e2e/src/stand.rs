//! A house in this process, on a database and a NATS of its own, with every service on a port of its own.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use weir::{Addresses, House, HouseConfig, Listeners, Settings};
use weir_testkit::{APP_PASSWORD, APP_ROLE, Database, Nats, Postgres};
use weir_types::{KeyId, api_key};

use crate::http::Http;

/// Longer than any stop takes.
const GRACE: Duration = Duration::from_secs(60);

/// A running house and what it stands on.
pub struct Stand {
    pub database: Database,
    pub nats: Arc<Nats>,
    pub addresses: Addresses,
    pub admin_key: String,
    house: Option<House>,
    settings: Settings,
    spool: TempDir,
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
        Self::start_with(Postgres::shared().await?, Settings::default()).await
    }

    /// # Errors
    /// Something did not start.
    pub async fn start_with(postgres: &Postgres, settings: Settings) -> Result<Self> {
        let role = weir_db::AppRole::new(APP_ROLE, SecretString::from(APP_PASSWORD));
        let migrate = |url: String| async move { weir_db::migrate(&url, &role).await };
        let database = postgres.database(&weir_db::fingerprint(), migrate).await?;
        let nats = Arc::new(Nats::start().await?);
        let admin_key = api_key::assemble(api_key::KeyKind::Admin, KeyId::new(), &[42; 32]);
        let spool = TempDir::with_prefix("weir-spool-")?;
        let listeners = listeners().await?;
        let config = house_config(&database, &nats, &admin_key, &spool, settings.clone(), listeners);
        let house = Box::pin(House::start(config)).await.context("starting the house")?;
        Ok(Self {
            database,
            nats,
            addresses: house.addresses,
            admin_key,
            house: Some(house),
            settings,
            spool,
        })
    }

    /// Stops the house in good order and starts it again, on other ports, with the same data.
    ///
    /// # Errors
    /// It did not stop or start.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let listeners = listeners().await?;
        let settings = self.settings.clone();
        let config =
            house_config(&self.database, &self.nats, &self.admin_key, &self.spool, settings, listeners);
        let house = Box::pin(House::start(config)).await.context("starting the house again")?;
        self.addresses = house.addresses;
        self.house = Some(house);
        Ok(())
    }

    /// # Errors
    /// A part had to be ended by force.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(house) = self.house.take() {
            ensure!(house.stop(GRACE).await, "a part of the house had to be ended by force");
        }
        Ok(())
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
        Http::new(self.addresses.simulator)
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

fn house_config(
    database: &Database,
    nats: &Nats,
    admin_key: &str,
    spool: &TempDir,
    settings: Settings,
    listeners: Listeners,
) -> HouseConfig {
    HouseConfig {
        settings,
        listeners,
        database_url: database.app_url.clone().into(),
        nats_url: nats.url().into(),
        redis_url: None,
        admin_key_sha256: Sha256::digest(admin_key).iter().map(|b| format!("{b:02x}")).collect(),
        spool_dir: spool.path().join("spool"),
    }
}

async fn listeners() -> Result<Listeners> {
    let free = || TcpListener::bind("127.0.0.1:0");
    Ok(Listeners {
        gateway: free().await?,
        realtime: free().await?,
        router: free().await?,
        orchestrator: free().await?,
        analytics: free().await?,
        billing: free().await?,
        ingestion: free().await?,
        control: free().await?,
        simulator: free().await?,
    })
}
