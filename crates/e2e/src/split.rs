//! Services as processes of their own: `weir serve SERVICE`, which links what the thin binaries link and more. One
//! program for all eight is built once and its pages are shared, so that they cost little.

use std::{
    collections::BTreeMap,
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::Mutex,
    time::timeout,
};
use weir_service::{Keys, Name};
use weir_testkit::ports;
use weir_types::{Clock, SystemClock};

use crate::{http::Http, wait::until};

const PATIENCE: Duration = Duration::from_secs(120);
const SERVICES: u16 = 8;
const LOG_LINES: usize = 20;

/// Eight processes. Killed when dropped.
pub struct Split {
    services: BTreeMap<Name, Process>,
    logs: TempDir,
}

struct Process {
    program: PathBuf,
    address: SocketAddr,
    env: Vec<(String, String)>,
    child: Mutex<Option<Running>>,
}

/// A process that ends with the tests, even if they are killed, or end without dropping it.
struct Running {
    child: Child,
    /// Waits for its pipe from us to close, and kills.
    _guard: Child,
}

impl Running {
    fn guarded(child: Child) -> Result<Self> {
        let pid = child.id().context("it ended at once")?.to_string();
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", "cat >/dev/null; kill -9 \"$1\" 2>/dev/null", "guard", &pid]);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Ok(Self { child, _guard: guard.spawn()? })
    }
}

/// The `weir` of this build, next to the tests that use it.
///
/// # Errors
/// It is not there.
pub fn this_program() -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let folder = tests.parent().and_then(Path::parent).context("the tests are in no folder")?;
    let program = folder.join("weir-under-test");
    ensure!(program.exists(), "{} is not built", program.display());
    Ok(program)
}

impl Split {
    /// Starts all services with these settings, each from the program that is named for it, and waits until all are
    /// ready.
    ///
    /// # Errors
    /// One ended, or was not ready in time; its log's end is in the error.
    pub async fn start(settings: &[(String, String)], program: impl Fn(Name) -> PathBuf) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keys = Keys::generate(&Name::ALL, &clock)?;
        let addresses: Vec<(Name, SocketAddr)> = (ports::free(SERVICES)?..)
            .zip(Name::ALL)
            .map(|(port, name)| (name, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
            .collect();
        let mut common: Vec<(String, String)> =
            settings.iter().map(|(key, value)| (variable(key), value.clone())).collect();
        common.extend(
            addresses
                .iter()
                .map(|(name, address)| (variable(&format!("peers.{name}")), format!("http://{address}"))),
        );
        // Eight processes share two cores with the tests.
        common.push(("TOKIO_WORKER_THREADS".to_owned(), "2".to_owned()));
        let services = addresses.into_iter().map(|(name, address)| {
            let env = common.iter().cloned().chain(keys.of(name)).collect();
            (name, Process { program: program(name), address, env, child: Mutex::default() })
        });
        let split = Self { services: services.collect(), logs: TempDir::with_prefix("weir-split-")? };
        split.start_all().await?;
        Ok(split)
    }

    #[must_use]
    pub fn address(&self, name: Name) -> SocketAddr {
        self.services[&name].address
    }

    /// Starts those that do not run.
    ///
    /// # Errors
    /// As [`Split::start`].
    pub async fn start_all(&self) -> Result<()> {
        try_join_all(self.services.keys().map(|&name| self.start_one(name))).await.map(drop)
    }

    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// As [`Split::start`].
    pub async fn start_one(&self, name: Name) -> Result<()> {
        let service = &self.services[&name];
        let mut slot = service.child.lock().await;
        ensure!(slot.is_none(), "{name} runs already");
        let log = File::options().create(true).append(true).open(self.log(name))?;
        let mut command = Command::new(&service.program);
        command.args(["serve", name.as_str(), "--host", "127.0.0.1"]);
        command.args(["--port", &service.address.port().to_string()]);
        // Nothing of the surroundings: a provider's key there would bring a second provider in.
        command.env_clear().envs(service.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let started = command.spawn().with_context(|| format!("starting {}", service.program.display()))?;
        let child = &mut slot.insert(Running::guarded(started)?).child;
        let http = Http::new(service.address);
        let ready = until("the service was ready", PATIENCE, async || {
            let answer = http.get("/ready").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        });
        tokio::select! {
            ready = ready => ready.with_context(|| format!("{name}: {}", self.log_end(name))),
            ended = child.wait() => bail!("{name} ended, {ended:?}: {}", self.log_end(name)),
        }
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&self, name: Name) -> Result<()> {
        let Running { mut child, _guard } =
            self.services[&name].child.lock().await.take().context("it does not run")?;
        Ok(child.kill().await?)
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It does not run, does not end, or does not end well.
    pub async fn stop_one(&self, name: Name) -> Result<()> {
        let Running { mut child, _guard } =
            self.services[&name].child.lock().await.take().context("it does not run")?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).context("it ended before")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let status =
            timeout(PATIENCE, child.wait()).await.with_context(|| format!("{name} does not end"))??;
        ensure!(status.success(), "{name} ended with {status}: {}", self.log_end(name));
        Ok(())
    }

    /// Stops all, doors first.
    ///
    /// # Errors
    /// As [`Split::stop_one`].
    pub async fn stop(&self) -> Result<()> {
        let (doors, inner): (Vec<Name>, Vec<Name>) =
            Name::ALL.into_iter().partition(|name| matches!(name, Name::Gateway | Name::Realtime));
        for part in [doors, inner] {
            try_join_all(part.into_iter().map(|name| self.stop_one(name))).await?;
        }
        Ok(())
    }

    /// Memory that a process holds.
    ///
    /// # Errors
    /// It does not run, or the system does not tell.
    pub async fn resident_bytes(&self, name: Name) -> Result<u64> {
        let pid = self.services[&name].child.lock().await.as_ref().and_then(|running| running.child.id());
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.context("it does not run")?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }

    fn log(&self, name: Name) -> PathBuf {
        self.logs.path().join(format!("{name}.log"))
    }

    fn log_end(&self, name: Name) -> String {
        let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// `section.key` as the environment has it.
fn variable(key: &str) -> String {
    format!("WEIR_{}", key.replace('.', "__").to_ascii_uppercase())
}
