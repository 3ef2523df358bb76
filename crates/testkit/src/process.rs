//! A child server that never outlives its test, not even when the test is killed: a small shell holds the
//! server, reads from a pipe of ours, and ends the server when that pipe closes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a server may take to start or stop. Generous: a loaded machine is no failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long one question to a server that may not answer yet.
pub(crate) const ONCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Told to `keep`, it leaves the folder alone; when the pipe just closes, nobody is left to remove it.
const GUARD: &str = r#"log=$1; signal=$2; dir=$3; shift 3
"$@" </dev/null >>"$log" 2>&1 &
pid=$!
echo $pid
word=
read -r word
kill -$signal $pid 2>/dev/null
wait $pid
[ "$word" = keep ] || rm -rf "$dir""#;

/// Ids to run as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunAs {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Debug)]
pub(crate) struct Guarded {
    shell: Child,
    /// Closing it ends the server.
    pipe: Option<ChildStdin>,
    pid: Pid,
}

impl Guarded {
    /// Starts `program`, whose output goes to `log` in `dir`; `end` is the signal that ends it when the test is gone.
    pub(crate) fn spawn(
        program: &Path,
        args: &[String],
        (dir, log): (&Path, &Path),
        end: Signal,
        user: Option<RunAs>,
    ) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARD, "guard"]).arg(log).arg(end.as_str().trim_start_matches("SIG")).arg(dir);
        command.arg(program).args(args).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Its own group: a Ctrl-C in the terminal reaches the test only, and the guard then ends the server.
        command.process_group(0);
        if let Some(RunAs { uid, gid }) = user {
            command.gid(gid).uid(uid);
        }
        let mut shell = command.spawn().context("starting /bin/sh")?;
        let pipe = shell.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let pid = line.trim().parse().with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { shell, pipe, pid: Pid::from_raw(pid) })
    }

    /// Sends `signal` and waits until the server is gone.
    pub(crate) async fn end(mut self, signal: Signal) -> Result<()> {
        // The server may be gone already.
        let _ = kill(self.pid, signal);
        self.let_go();
        wait_for("the server to stop", async || Ok(self.shell.try_wait()?.map(|_| ()))).await
    }

    /// The guard may end: the folder is ours to remove.
    fn let_go(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"keep\n");
        }
    }

    pub(crate) fn exited(&mut self) -> bool {
        // The shell outlives the server, which stays a zombie until the shell reaps it.
        !alive(self.pid.as_raw())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.pipe.is_some() {
            let _ = kill(self.pid, Signal::SIGQUIT);
            self.let_go();
            let _ = self.shell.wait();
        }
    }
}

/// Whether a process with this id runs. A zombie does not; where there is no `/proc`, it seems to.
pub(crate) fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
    !zombie && matches!(kill(Pid::from_raw(pid), None), Ok(()) | Err(Errno::EPERM))
}

/// Polls until `condition` gives a value.
pub(crate) async fn wait_for<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if start.elapsed() > PATIENCE {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The end of a log file, for error texts.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A temporary folder on a short path.
pub(crate) fn temp_dir(prefix: &str) -> Result<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::Builder::new().prefix(prefix).tempdir()?;
    let path = dir.path().to_owned();
    Ok((dir, path))
}
