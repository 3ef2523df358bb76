//! Processes under the bench: started, measured through /proc, killed with it.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// Longest wait for a child's address or readiness.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Process {
    pid: u32,
    _child: Child,
}

impl Process {
    /// # Errors
    /// It can't be run.
    pub(crate) fn start(
        program: &Path,
        arguments: &[&str],
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        Self::spawn(command).map(|(process, _)| process)
    }

    /// Starts this program again as another of its commands, which prints where it listens.
    ///
    /// # Errors
    /// It can't be run, or says nothing.
    pub(crate) async fn own(arguments: &[&str]) -> anyhow::Result<(Self, SocketAddr)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let (mut process, what) = Self::spawn(command)?;
        let stdout = process._child.stdout.take().context("no stdout")?;
        let line = tokio::time::timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await;
        let line = line.with_context(|| format!("{what} says nothing"))??;
        let Some(address) = line.and_then(|l| l.parse().ok()) else { bail!("{what} did not start") };
        Ok((process, address))
    }

    fn spawn(mut command: Command) -> anyhow::Result<(Self, String)> {
        let what = format!("{:?}", command.as_std());
        let child = command.spawn().with_context(|| format!("starting {what}"))?;
        let pid = child.id().with_context(|| format!("{what} ended at once"))?;
        Ok((Self { pid, _child: child }, what))
    }

    /// Processor time so far, in the system and out of it. Its grain is a clock tick, 10 ms on Linux.
    ///
    /// # Errors
    /// There is no /proc, or the process is gone.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = self.read("stat")?;
        // The name, in parentheses, may hold anything; the 14th and 15th fields follow it (proc(5)).
        let after = stat.rsplit_once(')').context("no name in stat")?.1;
        let ticks: u64 = after
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().context("a field of stat"))
            .sum::<anyhow::Result<u64>>()?;
        let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
        Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// There is no /proc, or the process is gone.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    }
}
