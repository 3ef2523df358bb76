//! PostgreSQL for tests: one server shared by all test processes, each test with a database of its own; or a
//! private server that a test may stop and start.

mod cluster;
mod shared;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::{Mutex, OnceCell};

use crate::{
    find,
    process::{Guarded, wait_for},
};
use cluster::Cluster;
pub(crate) use cluster::run_as;

/// The role services log in as, in every test database.
pub const APP_ROLE: &str = "weir_app";
pub const APP_PASSWORD: &str = "weir_app";

/// Any number that no one else in the cluster's maintenance database uses.
const TEMPLATE_LOCK: i64 = 0x7765_6972_7470_6c01;
const PREFIX: &str = "weir_test_";

static SHARED: OnceCell<Postgres> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A server. Cheap to clone when shared.
#[derive(Debug)]
pub struct Postgres {
    /// Of the maintenance database, as superuser, without a database name: `postgres://user:pw@host:port`.
    server: String,
    private: Option<Private>,
    /// The template of this server, by fingerprint, once made: spares the round trips.
    template: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Private {
    // Before `cluster`: the server goes before its folder.
    process: Mutex<Option<Guarded>>,
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

/// One test's database. It stays until a later test run finds its owner gone, so a failure can be looked into.
#[derive(Debug, Clone)]
pub struct Database {
    pub name: String,
    /// As superuser, like a migrator that may bypass row-level security.
    pub admin_url: String,
    /// As [`APP_ROLE`], like a service.
    pub app_url: String,
}

impl Postgres {
    /// The server that all tests share: `WEIR_TEST_DATABASE_URL` (a superuser's) when set, else one started on
    /// first use and reused by later test processes until none has used it for a minute.
    ///
    /// # Errors
    /// No binaries, or it did not start.
    pub async fn shared() -> Result<&'static Self> {
        SHARED
            .get_or_try_init(|| async {
                let server = match find::var("WEIR_TEST_DATABASE_URL") {
                    Some(url) => without_database(&url)?,
                    None => shared::attach().await?,
                };
                let postgres = Self { server, private: None, template: Mutex::new(None) };
                postgres.drop_leftovers().await?;
                Ok(postgres)
            })
            .await
    }

    /// A server of this test's own, for [`stop`](Self::stop) and [`start`](Self::start).
    ///
    /// # Errors
    /// No binaries, or it did not start.
    pub async fn private() -> Result<Self> {
        let (dir, root) = crate::process::temp_dir("weir-pg-")?;
        let cluster = Cluster::create(&root).await?;
        let process = cluster.spawn_guarded()?;
        let server = cluster.server_url();
        let private = Private { process: Mutex::new(Some(process)), cluster, _dir: dir };
        let postgres = Self { server, private: Some(private), template: Mutex::new(None) };
        postgres.ready().await?;
        Ok(postgres)
    }

    /// A fresh database with migrations applied. `fingerprint` names the schema (`weir_db::fingerprint()`):
    /// `migrate` runs once for each on a template, which every later call copies.
    ///
    /// # Errors
    /// The server is away, or the migrations fail.
    pub async fn database<F, R, E>(&self, fingerprint: &str, migrate: F) -> Result<Database>
    where
        F: FnOnce(String) -> R,
        R: Future<Output = Result<(), E>>,
        E: Into<anyhow::Error>,
    {
        let template = self.template(fingerprint, migrate).await?;
        self.create(&format!(" TEMPLATE {template}")).await
    }

    /// A fresh database with nothing in it.
    ///
    /// # Errors
    /// The server is away.
    pub async fn empty(&self) -> Result<Database> {
        self.create("").await
    }

    /// Stops a private server; open connections break.
    ///
    /// # Errors
    /// The server is shared, or would not stop.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::SIGINT).await
    }

    /// Stops a private server as a power cut would; what it committed is there after [`start`](Self::start).
    ///
    /// # Errors
    /// The server is shared, or would not stop.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::SIGQUIT).await
    }

    /// Starts a stopped private server again, on the same port with the same data.
    ///
    /// # Errors
    /// The server is shared, or did not start.
    pub async fn start(&self) -> Result<()> {
        let private = self.own()?;
        let mut slot = private.process.lock().await;
        anyhow::ensure!(slot.is_none(), "PostgreSQL runs already");
        *slot = Some(private.cluster.spawn_guarded()?);
        drop(slot);
        self.ready().await
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        match self.own()?.process.lock().await.take() {
            Some(server) => server.end(signal).await,
            None => Ok(()),
        }
    }

    fn own(&self) -> Result<&Private> {
        self.private.as_ref().context("a shared server is not a test's to stop or start")
    }

    async fn ready(&self) -> Result<()> {
        let log = self.private.as_ref().map(|p| p.cluster.log());
        wait_for("PostgreSQL", async || Ok(connect(&self.url("postgres")).await.ok()))
            .await
            .with_context(|| log.map(|l| crate::process::tail(&l)).unwrap_or_default())?
            .close()
            .await?;
        Ok(())
    }

    fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.server)
    }

    async fn create(&self, options: &str) -> Result<Database> {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let random = uuid::Uuid::new_v4().as_fields().0;
        let name = format!("{PREFIX}{}_{}_{count}_{random:08x}", host(), process::id());
        let mut admin = connect(&self.url("postgres")).await?;
        admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}{options}"))).await?;
        admin.close().await?;
        let (_, address) = self.server.split_once('@').context("a database URL names its user")?;
        Ok(Database {
            admin_url: self.url(&name),
            app_url: format!("postgres://{APP_ROLE}:{APP_PASSWORD}@{address}/{name}"),
            name,
        })
    }

    async fn template<F, R, E>(&self, fingerprint: &str, migrate: F) -> Result<String>
    where
        F: FnOnce(String) -> R,
        R: Future<Output = Result<(), E>>,
        E: Into<anyhow::Error>,
    {
        let mut hasher = DefaultHasher::new();
        fingerprint.hash(&mut hasher);
        let name = format!("weir_template_{:016x}", hasher.finish());
        let mut known = self.template.lock().await;
        if known.as_deref() == Some(&name) {
            return Ok(name);
        }
        let mut admin = connect(&self.url("postgres")).await?;
        // Freed with the connection; other test processes wait here.
        sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut admin).await?;
        // A finished template takes no connections.
        let finished: Option<bool> =
            sqlx::query_scalar("SELECT NOT datallowconn FROM pg_database WHERE datname = $1")
                .bind(&name)
                .fetch_optional(&mut admin)
                .await?;
        if finished != Some(true) {
            admin.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))).await?;
            admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
            migrate(self.url(&name)).await.map_err(Into::into).context("migrating the template database")?;
            let done = format!("ALTER DATABASE {name} WITH IS_TEMPLATE true ALLOW_CONNECTIONS false");
            admin.execute(AssertSqlSafe(done)).await?;
        }
        admin.close().await?;
        *known = Some(name.clone());
        Ok(name)
    }

    /// Drops databases whose test process on this host is gone.
    async fn drop_leftovers(&self) -> Result<()> {
        let mut admin = connect(&self.url("postgres")).await?;
        let ours = format!("{PREFIX}{}_", host());
        let names: Vec<String> =
            sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)")
                .bind(&ours)
                .fetch_all(&mut admin)
                .await?;
        for name in names {
            let owner = name[ours.len()..].split('_').next().and_then(|pid| pid.parse().ok());
            if owner.is_some_and(crate::process::alive) {
                continue;
            }
            // Two processes may clear up at once.
            let _ =
                admin.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))).await;
        }
        admin.close().await?;
        Ok(())
    }
}

/// A few hex digits for this host, so that hosts that share a server leave each other's databases alone.
fn host() -> String {
    let mut hasher = DefaultHasher::new();
    nix::unistd::gethostname().unwrap_or_default().hash(&mut hasher);
    format!("{:06x}", hasher.finish() & 0xff_ffff)
}

/// Everything before the database name.
fn without_database(url: &str) -> Result<String> {
    let bad = "WEIR_TEST_DATABASE_URL is not postgres://user:password@host:port/database";
    let (scheme, rest) = url.split_once("://").context(bad)?;
    anyhow::ensure!(rest.contains('@'), "{bad}");
    let address = rest.split(['/', '?']).next().context(bad)?;
    Ok(format!("{scheme}://{address}"))
}

async fn connect(url: &str) -> Result<PgConnection> {
    let connecting = PgConnection::connect(url);
    Ok(tokio::time::timeout(Duration::from_secs(30), connecting)
        .await
        .context("connecting to PostgreSQL")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(url: &str) -> Result<i32> {
        let mut conn = connect(url).await?;
        let one = sqlx::query_scalar("SELECT 1").fetch_one(&mut conn).await?;
        conn.close().await?;
        Ok(one)
    }

    #[tokio::test]
    async fn databases_are_apart_and_templates_are_made_once() {
        let postgres = Postgres::shared().await.unwrap();
        let key = uuid::Uuid::new_v4().to_string();
        let migrate = |url: String| async move {
            let mut conn = connect(&url).await?;
            conn.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await?;
            conn.close().await?;
            anyhow::Ok(())
        };
        let first = postgres.database(&key, migrate).await.unwrap();
        let second = postgres.database(&key, |_| async { anyhow::bail!("migrated twice") }).await.unwrap();
        let mut conn = connect(&first.admin_url).await.unwrap();
        conn.execute("DELETE FROM t").await.unwrap();
        let mut conn = connect(&second.admin_url).await.unwrap();
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut conn).await.unwrap();
        assert_eq!(rows, 1);
        // Nobody else will use it.
        let template = postgres.template.lock().await.clone().unwrap();
        let mut admin = connect(&postgres.url("postgres")).await.unwrap();
        for sql in
            [format!("ALTER DATABASE {template} IS_TEMPLATE false"), format!("DROP DATABASE {template}")]
        {
            admin.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        let failed = postgres.database("broken", |_| async { anyhow::bail!("no") }).await;
        assert!(failed.is_err());
    }

    #[tokio::test]
    async fn a_private_server_stops_and_starts_with_its_data() {
        let postgres = Postgres::private().await.unwrap();
        let database = postgres.empty().await.unwrap();
        assert_eq!(answer(&database.admin_url).await.unwrap(), 1);
        postgres.stop().await.unwrap();
        assert!(answer(&database.admin_url).await.is_err());
        postgres.start().await.unwrap();
        assert_eq!(answer(&database.admin_url).await.unwrap(), 1);
        postgres.kill().await.unwrap();
        postgres.start().await.unwrap();
        assert_eq!(answer(&database.admin_url).await.unwrap(), 1);
    }

    #[test]
    fn a_server_is_named_without_its_database() {
        assert_eq!(without_database("postgres://u:p@h:1/x?sslmode=disable").unwrap(), "postgres://u:p@h:1");
        assert!(without_database("postgres://h/x").is_err());
    }
}
