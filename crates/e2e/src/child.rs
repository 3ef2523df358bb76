//! A house as a process of its own, to be killed: `weir dev` on databases that outlive it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use weir_testkit::{Database, Nats, ports};

use crate::wait::until;

const PATIENCE: Duration = Duration::from_secs(120);
const SERVICES: u16 = 8;

/// What `dev.json` says.
#[derive(Debug, Clone, Deserialize)]
pub struct DevJson {
    pub gateway: String,
    pub api_key: String,
    pub admin_key: String,
    pub tenant_id: String,
    pub pid: u32,
}

/// `weir dev`, its folder and its ports. Killed when dropped.
pub struct ChildHouse {
    program: PathBuf,
    data: TempDir,
    port: u16,
    env: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl ChildHouse {
    /// A house whose one provider is the server at `provider` (`http://127.0.0.1:1234`). Not started yet.
    ///
    /// # Errors
    /// No folder, or no eight free ports.
    pub fn new(program: &Path, database: &Database, nats: &Nats, provider: &str) -> Result<Self> {
        let env = vec![
            ("DATABASE_URL", database.admin_url.clone()),
            ("NATS_URL", nats.url()),
            ("OPENAI_BASE_URL", format!("{provider}/v1")),
            ("OPENAI_API_KEY", "sk-simulated".to_owned()),
        ];
        Ok(Self {
            program: program.to_owned(),
            data: TempDir::with_prefix("weir-house-")?,
            port: ports::free(SERVICES)?,
            env,
            child: None,
        })
    }

    /// With a variable more in its surroundings.
    #[must_use]
    pub fn with_env(mut self, name: &'static str, value: String) -> Self {
        self.env.push((name, value));
        self
    }

    /// Everything it keeps.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Its first port, which is the gateway's; the others follow in the order of the services' own ports.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready in time; its log's end is in the error.
    pub async fn start(&mut self) -> Result<DevJson> {
        ensure!(self.child.is_none(), "the house runs already");
        let mut command = Command::new(&self.program);
        command.args(["dev", "--port", &self.port.to_string(), "--data"]).arg(self.data.path());
        // Nothing of the surroundings: a provider's key there would bring a second provider in.
        command.env_clear().envs(self.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = self
            .child
            .insert(command.spawn().with_context(|| format!("starting {}", self.program.display()))?);
        let pid = child.id();
        let file = self.data.path().join("dev.json");
        let ready = until("the house was ready", PATIENCE, async || {
            let dev: DevJson = serde_json::from_slice(&tokio::fs::read(&file).await?)?;
            ensure!(Some(dev.pid) == pid, "dev.json is another process's");
            Ok(dev)
        });
        tokio::select! {
            ready = ready => ready.with_context(|| log_end(self.data.path())),
            ended = child.wait() => bail!("the house ended, {ended:?}: {}", log_end(self.data.path())),
        }
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the house does not run")?;
        child.kill().await?;
        Ok(())
    }
}

fn log_end(data: &Path) -> String {
    let text = std::fs::read_to_string(data.join("logs/app.log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
