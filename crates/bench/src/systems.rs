//! What is compared, as processes: the floor, Weir's way with everything off, Weir as it stands in one process, and
//! the same with another dialect behind it, and with gateway and orchestrator apart. One PostgreSQL, one NATS and one set of the services behind them
//! (control, router, billing, analytics) serve all of the latter.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use weir_e2e::{http::Http, stand::tenant, wait::until};
use weir_testkit::{APP_PASSWORD, APP_ROLE, Nats, Postgres};
use weir_types::{KeyId, api_key};

use crate::{
    canned,
    compare::Args,
    process::{PATIENCE, Process},
};

/// What all but one are asked for.
pub(crate) const GPT: &str = "gpt-4o-mini";
/// Requests and tokens a minute that are counted for every request and never reached.
const LIMIT: u64 = 1_000_000_000;
/// Addresses of the loopback network, so that all services keep their usual ports, beside a `weir dev` too.
const GOVERNED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SPLIT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const BEHIND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
const PEERS: [(&str, u16); 5] =
    [("router", 8002), ("orchestrator", 8003), ("analytics", 8004), ("billing", 8005), ("control", 8007)];
/// Quiet for so long means that what came behind a run is done.
const QUIET: Duration = Duration::from_millis(200);

pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    /// What is asked for: it decides the dialect of the upstream.
    pub(crate) model: &'static str,
    /// Whether its requests are metered by the services behind it.
    pub(crate) metered: bool,
    processes: Vec<Arc<Process>>,
}

impl System {
    /// Of all its processes.
    ///
    /// # Errors
    /// One is gone.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.processes.iter().map(|p| p.cpu()).sum()
    }

    /// Resident, of all its processes, in bytes.
    ///
    /// # Errors
    /// One is gone.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        self.processes.iter().map(|p| p.memory()).sum()
    }
}

pub(crate) struct Systems {
    pub(crate) all: Vec<System>,
    /// Control, router, billing, analytics.
    behind: Vec<Process>,
    _upstream: Process,
    _nats: Option<Nats>,
    _folder: tempfile::TempDir,
}

impl Systems {
    pub(crate) async fn start(args: &Args) -> anyhow::Result<Self> {
        let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
        let (upstream_process, upstream) = Process::own(&["upstream"]).await?;
        let origin = format!("http://{upstream}");
        let mut all = Vec::new();
        for name in ["floor", "plain"] {
            if wanted(name) {
                let (process, address) = Process::own(&[name, &origin]).await?;
                let key = crate::load::layers_key().1;
                let processes = vec![Arc::new(process)];
                all.push(System { name, address, key, model: GPT, metered: false, processes });
            }
        }
        let folder = tempfile::tempdir()?;
        let mut systems =
            Self { all, behind: Vec::new(), _upstream: upstream_process, _nats: None, _folder: folder };
        if wanted("governed") || wanted("translated") || wanted("split") {
            systems.governed(args, &origin, &wanted).await?;
        }
        ensure!(!systems.all.is_empty(), "--only names no system");
        Ok(systems)
    }

    /// Weir as it stands, and the same split, on databases of their own.
    async fn governed(
        &mut self,
        args: &Args,
        origin: &str,
        wanted: &dyn Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let site = Site::start(args, origin, self._folder.path()).await?;
        self.behind.push(site.serve(&["control", "router", "billing", "analytics"], BEHIND)?);
        for (name, host, groups) in [
            ("governed", GOVERNED, &[&["gateway", "orchestrator"] as &[&str]] as &[&[&str]]),
            ("split", SPLIT, &[&["orchestrator"], &["gateway"]]),
        ] {
            // The same processes, asked for a model whose provider speaks another dialect.
            let translated = name == "governed" && wanted("translated");
            if !wanted(name) && !translated {
                continue;
            }
            let processes = groups.iter().map(|group| site.serve(group, host).map(Arc::new));
            let processes = processes.collect::<anyhow::Result<Vec<_>>>()?;
            let address = SocketAddr::from((host, 8000));
            let key = site.key(address).await.context(name)?;
            let system = |name, model, processes: &[Arc<Process>]| {
                let (key, processes) = (key.clone(), processes.to_vec());
                System { name, address, key, model, metered: true, processes }
            };
            self.all.extend(wanted(name).then(|| system(name, GPT, &processes)));
            self.all.extend(translated.then(|| system("translated", canned::CLAUDE, &processes)));
        }
        self._nats = Some(site.nats);
        Ok(())
    }

    /// Of the services behind.
    ///
    /// # Errors
    /// One is gone.
    pub(crate) fn behind_cpu(&self) -> anyhow::Result<Duration> {
        self.behind.iter().map(Process::cpu).sum()
    }

    /// Waits until what the last run left behind, events to publish and to count, is done.
    ///
    /// # Errors
    /// It takes longer than a minute.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let busy = || -> anyhow::Result<Duration> {
            Ok(self.behind_cpu()? + self.all.iter().map(System::cpu).sum::<anyhow::Result<Duration>>()?)
        };
        let began = Instant::now();
        let mut before = busy()?;
        while began.elapsed() < PATIENCE {
            tokio::time::sleep(QUIET).await;
            let now = busy()?;
            // A tick or two are the timers of idle processes.
            if now.saturating_sub(before) <= Duration::from_millis(20) {
                return Ok(());
            }
            before = now;
        }
        bail!("the services were still busy a minute after the load had ended")
    }
}

/// What every Weir process of the bench shares.
struct Site {
    weir: PathBuf,
    env: Vec<(String, String)>,
    folder: PathBuf,
    admin_key: String,
    nats: Nats,
}

impl Site {
    async fn start(args: &Args, origin: &str, folder: &Path) -> anyhow::Result<Self> {
        let weir = match &args.weir {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("weir"),
        };
        ensure!(weir.is_file(), "no program {} (--weir)", weir.display());
        let role = weir_db::AppRole::new(APP_ROLE, SecretString::from(APP_PASSWORD));
        let migrate = |url: String| async move { weir_db::migrate(&url, &role).await };
        let postgres = Postgres::shared().await?;
        let database = postgres.database(&weir_db::fingerprint(), migrate).await?;
        let nats = Nats::start().await?;
        let admin_key = api_key::assemble(api_key::KeyKind::Admin, KeyId::new(), &[42; 32]);
        let admin_sha256: String = Sha256::digest(&admin_key).iter().map(|b| format!("{b:02x}")).collect();
        let keys = std::process::Command::new(&weir).args(["keys", "--format", "env"]).output()?;
        ensure!(keys.status.success(), "weir keys failed");
        let mut env: Vec<(String, String)> = String::from_utf8(keys.stdout)?
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        for (name, value) in [
            ("WEIR_DATABASE__URL", database.app_url.clone()),
            ("WEIR_NATS__URL", nats.url()),
            ("WEIR_CONTROL__ADMIN_KEY_SHA256", admin_sha256),
            ("OPENAI_BASE_URL", format!("{origin}/v1")),
            ("OPENAI_API_KEY", "sk-bench".to_owned()),
            ("ANTHROPIC_BASE_URL", origin.to_owned()),
            ("ANTHROPIC_API_KEY", "sk-bench".to_owned()),
            ("LOG_LEVEL", "info".to_owned()),
        ] {
            env.push((name.to_owned(), value));
        }
        Ok(Self { weir, env, folder: folder.to_owned(), admin_key, nats })
    }

    /// One process with these services on their usual ports; what is behind the gateway and the orchestrator is at
    /// [`BEHIND`].
    fn serve(&self, services: &[&str], host: Ipv4Addr) -> anyhow::Result<Process> {
        let mut env = self.env.clone();
        let spool = self.folder.join(format!("spool-{host}"));
        env.push(("WEIR_ORCHESTRATOR__SPOOL_DIR".to_owned(), spool.display().to_string()));
        for (service, port) in PEERS {
            let at = if service == "orchestrator" { host } else { BEHIND };
            env.push((format!("WEIR_PEERS__{}", service.to_uppercase()), format!("http://{at}:{port}")));
        }
        let host = host.to_string();
        let arguments: Vec<&str> =
            ["serve", "--host", &host].into_iter().chain(services.iter().copied()).collect();
        Process::start(&self.weir, &arguments, &env)
    }

    /// A key of a new tenant whose limits are counted; waits until the gateway is ready.
    async fn key(&self, gateway: SocketAddr) -> anyhow::Result<String> {
        let http = Http::new(gateway);
        let ready = until("the gateway is ready", PATIENCE, async || {
            let answer = http.get("/ready").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        });
        ready.await?;
        let limits = serde_json::json!({"requests_per_minute": LIMIT, "tokens_per_minute": LIMIT});
        let made = tenant(&http.clone().with_key(&self.admin_key), &limits).await?;
        Ok(made.key)
    }
}
