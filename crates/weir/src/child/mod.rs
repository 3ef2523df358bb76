//! A server program as a child: found again after a launcher was killed, started, watched, restarted, stopped.

mod account;
mod probe;
mod process;
mod supervise;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::process::Command;

pub(crate) use account::Account;
pub(crate) use probe::{Nats, Probe, http_status};
pub(crate) use process::{Marker, Signal, until};
pub(crate) use supervise::supervise;

/// A database that was killed may have much to replay before it answers.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// A child of the last run that is well answers at once; one that stops or starts gets a moment.
const FOUND_PATIENCE: Duration = Duration::from_secs(6);
/// How often a child that is not ours to wait for is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
const LOG_LIMIT_BYTES: u64 = 16 * 1024 * 1024;
const TAIL_LINES: usize = 15;

/// Signals to end a program with, each with the time it may take; the next one follows when it did not.
pub(crate) type Ending = &'static [(Signal, Duration)];

/// How to run one server.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    /// What the program is told its own name is, when that serves as the marker.
    pub(crate) arg0: Option<String>,
    pub(crate) args: Vec<String>,
    pub(crate) account: Option<Account>,
    pub(crate) marker: Marker,
    pub(crate) log: PathBuf,
    pub(crate) probe: Probe,
    pub(crate) ending: Ending,
    /// Files that a killed one leaves and that would keep it from starting: it trusts the process id in them,
    /// whoever has that id by now.
    pub(crate) stale: Vec<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{name} could not be started from {program}")]
    Spawn { name: &'static str, program: PathBuf, source: io::Error },
    #[error("{name} ended while starting ({status}); its log {log} says:\n{tail}")]
    Ended { name: &'static str, status: String, log: PathBuf, tail: String },
    #[error("{name} did not answer within {} s ({last}); its log {log} says:\n{tail}", START_PATIENCE.as_secs())]
    Silent { name: &'static str, last: String, log: PathBuf, tail: String },
}

impl StartError {
    /// Whether another program was faster to take the port, or the remains of the last run still hold it.
    pub(crate) fn in_use(&self) -> bool {
        matches!(self, Self::Ended { tail, .. } if tail.to_ascii_lowercase().contains("in use"))
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Child {
    spec: Arc<Spec>,
    pub(crate) pid: u32,
    /// `None` for a child of a launcher that is gone.
    own: Option<tokio::process::Child>,
}

impl Child {
    /// The child of the last run when it is well; one that is not is stopped first.
    pub(crate) async fn find(spec: &Arc<Spec>) -> Option<Self> {
        let pid = *spec.marker.find().first()?;
        let well = tokio::select! {
            well = until(Instant::now() + FOUND_PATIENCE, || spec.probe.check()) => well.is_ok(),
            () = spec.marker.gone(pid, WATCH_INTERVAL) => false,
        };
        if well {
            tracing::info!(child = spec.name, pid, "found the child of the last run");
            return Some(Self { spec: spec.clone(), pid, own: None });
        }
        tracing::warn!(child = spec.name, pid, "the child of the last run does not answer, stopping it");
        spec.marker.stop_all(spec.ending).await;
        None
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(spec: &Arc<Spec>) -> Result<Self, StartError> {
        let name = spec.name;
        let spawn_error = |source| StartError::Spawn { name, program: spec.program.clone(), source };
        if spec.marker.find().is_empty() {
            spec.forget_the_last().map_err(spawn_error)?;
        }
        let (log, from) = open_log(&spec.log).map_err(spawn_error)?;
        let mut own = spec.command(log).and_then(|mut c| c.spawn()).map_err(spawn_error)?;
        let pid = own.id().unwrap_or_default();
        let outcome = tokio::select! {
            status = own.wait() => Err(StartError::Ended {
                name,
                status: status.map_or_else(|e| e.to_string(), |s| s.to_string()),
                log: spec.log.clone(),
                tail: tail(&spec.log, from),
            }),
            ready = until(Instant::now() + START_PATIENCE, || spec.probe.check()) => {
                ready.map_err(|last| StartError::Silent {
                    name,
                    last: format!("{last:#}"),
                    log: spec.log.clone(),
                    tail: tail(&spec.log, from),
                })
            }
        };
        let mut child = Self { spec: spec.clone(), pid, own: Some(own) };
        match outcome {
            Ok(()) => {
                tracing::info!(child = name, pid, "started");
                Ok(child)
            }
            Err(error) => {
                child.stop().await;
                Err(error)
            }
        }
    }

    /// Waits until it has ended, and says how.
    async fn ended(&mut self) -> String {
        match &mut self.own {
            Some(own) => own.wait().await.map_or_else(|e| e.to_string(), |s| s.to_string()),
            None => {
                self.spec.marker.gone(self.pid, WATCH_INTERVAL).await;
                "not our child, exit status unknown".to_owned()
            }
        }
    }

    async fn stop(&mut self) {
        self.spec.marker.stop_all(self.spec.ending).await;
        if let Some(own) = &mut self.own {
            // Gone by now; this takes its exit status so that no zombie stays.
            let _ = own.wait().await;
        }
    }
}

impl Spec {
    fn forget_the_last(&self) -> io::Result<()> {
        for path in &self.stale {
            match fs::remove_file(path) {
                Ok(()) => {
                    tracing::info!(child = self.name, file = %path.display(), "removed what a killed one left");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn command(&self, log: File) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        if let Some(arg0) = &self.arg0 {
            command.arg0(arg0);
        }
        command.args(&self.args).current_dir("/");
        plain_environment(&mut command);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C in the terminal reaches the launcher alone, which stops the children in order.
        command.process_group(0);
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        Ok(command)
    }
}

/// Programs of ours must not be steered by variables such as `PGDATA` that mean another installation.
pub(crate) fn plain_environment(command: &mut Command) {
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C");
}

/// The log to append to, and where this run's part begins. One that grew large is set aside.
fn open_log(path: &Path) -> io::Result<(File, u64)> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_LIMIT_BYTES) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let from = file.metadata()?.len();
    Ok((file, from))
}

/// The last lines written since `from`.
fn tail(path: &Path, from: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut raw = Vec::new();
        file.take(LOG_LIMIT_BYTES).read_to_end(&mut raw)?;
        Ok(String::from_utf8_lossy(&raw).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDING: Ending =
        &[(Signal::SIGTERM, Duration::from_secs(60)), (Signal::SIGKILL, Duration::from_secs(60))];

    fn spec(folder: &Path, script: &str) -> Arc<Spec> {
        let name = format!("{}/server", folder.display());
        Arc::new(Spec {
            name: "server",
            program: "/bin/sh".into(),
            arg0: Some(name.clone()),
            args: vec!["-c".into(), script.into()],
            account: None,
            marker: Marker::new(name),
            log: folder.join("server.log"),
            probe: Probe::File(folder.join("ready")),
            ending: ENDING,
            stale: Vec::new(),
        })
    }

    #[tokio::test]
    async fn a_program_that_ends_while_starting_shows_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(folder.path(), "echo 'address already in use' >&2; exit 3");
        let error = Child::start(&spec).await.unwrap_err();
        assert!(error.in_use(), "{error}");
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }

    #[tokio::test]
    async fn only_this_runs_part_of_the_log_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(folder.path(), "echo now >&2; exit 1");
        fs::write(&spec.log, "before\n").unwrap();
        let text = Child::start(&spec).await.unwrap_err().to_string();
        assert!(text.contains("now") && !text.contains("before"), "{text}");
    }

    #[tokio::test]
    async fn a_child_whose_launcher_is_gone_is_found_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("touch {}; while :; do sleep 1; done", folder.path().join("ready").display());
        let spec = spec(folder.path(), &script);
        assert!(Child::find(&spec).await.is_none());
        let child = Child::start(&spec).await.unwrap();
        let pid = child.pid;
        drop(child);
        let mut found = Child::find(&spec).await.unwrap();
        assert_eq!(found.pid, pid);
        found.stop().await;
        assert!(!spec.marker.is(pid));
    }
}
