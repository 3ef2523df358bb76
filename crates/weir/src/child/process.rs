//! Processes of this machine as the launcher needs them: found by what stands on their command line, signalled,
//! waited for. A child is told apart from others by its program and our folder's path, never by its id alone.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

pub(crate) use nix::sys::signal::Signal;
use nix::{sys::signal::kill, unistd::Pid};

/// How often a condition of another process is looked at: the system does not tell about processes that are not
/// our children.
const POLL: Duration = Duration::from_millis(20);

/// Text that stands on the command line of one program on one folder, and on no other's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker(String);

impl Marker {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn is_on(&self, command_line: &str) -> bool {
        // A whole argument: `…/data` must not find `…/data.new`.
        command_line.match_indices(&self.0).any(|(at, text)| {
            let after = command_line[at + text.len()..].chars().next();
            after.is_none_or(char::is_whitespace)
        })
    }

    /// The processes that carry it, oldest id first.
    pub(crate) fn find(&self) -> Vec<u32> {
        let mut pids: Vec<u32> =
            all().into_iter().filter(|(_, line)| self.is_on(line)).map(|(pid, _)| pid).collect();
        pids.sort_unstable();
        pids
    }

    /// Whether `pid` lives and is the marked program. A zombie is neither.
    pub(crate) fn is(&self, pid: u32) -> bool {
        command_line(pid).is_some_and(|line| self.is_on(&line))
    }

    /// Waits until `pid` is gone.
    pub(crate) async fn gone(&self, pid: u32, interval: Duration) {
        while self.is(pid) {
            tokio::time::sleep(interval).await;
        }
    }

    /// Ends every marked process, with each signal in turn until none is left. Says how many there were.
    pub(crate) async fn stop_all(&self, signals: &[(Signal, Duration)]) -> usize {
        let found = self.find();
        let mut left = found.clone();
        for &(signal, patience) in signals {
            left.retain(|&pid| self.is(pid));
            if left.is_empty() {
                break;
            }
            for &pid in &left {
                self.signal(pid, signal);
                // One that is suspended could not react.
                self.signal(pid, Signal::SIGCONT);
            }
            let deadline = Instant::now() + patience;
            while left.iter().any(|&pid| self.is(pid)) && Instant::now() < deadline {
                tokio::time::sleep(POLL).await;
            }
        }
        found.len()
    }

    /// Signals `pid` if it still is the marked program.
    pub(crate) fn signal(&self, pid: u32, signal: Signal) {
        let Ok(raw) = i32::try_from(pid) else { return };
        if self.is(pid) {
            // It may end between the look and the signal, which is what is wanted.
            let _ = kill(Pid::from_raw(raw), signal);
        }
    }
}

const PROC: &str = "/proc";

fn has_proc() -> bool {
    Path::new("/proc/self/cmdline").exists()
}

/// The arguments joined by spaces.
fn command_line(pid: u32) -> Option<String> {
    if has_proc() {
        if is_in_a_container(pid) {
            return None;
        }
        let raw = fs::read(format!("{PROC}/{pid}/cmdline")).ok()?;
        return joined(&raw);
    }
    all().into_iter().find(|(other, _)| *other == pid).map(|(_, line)| line)
}

/// Whether it is in a container that we are not in: paths on its command line mean other files there.
fn is_in_a_container(pid: u32) -> bool {
    let namespace = |pid: &str| fs::read_link(format!("{PROC}/{pid}/ns/pid")).ok();
    matches!((namespace(&pid.to_string()), namespace("self")), (Some(its), Some(ours)) if its != ours)
}

fn joined(raw: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(raw).replace('\0', " ");
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

fn all() -> Vec<(u32, String)> {
    if has_proc() {
        let entries = fs::read_dir(PROC).into_iter().flatten().flatten();
        return entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, command_line(pid)?)))
            .collect();
    }
    let output = Command::new("ps").args(["-axww", "-o", "pid=,command="]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (pid, line) = line.trim_start().split_once(' ')?;
            Some((pid.parse().ok()?, line.trim().to_owned()))
        })
        .collect()
}

/// Polls `condition` until it is met, `Err` at the deadline with what it last said.
pub(crate) async fn until<T, E, F>(deadline: Instant, mut condition: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::process::CommandExt as _,
        process::Stdio,
    };

    use super::*;

    #[test]
    fn a_marker_is_a_whole_argument() {
        let marker = Marker::new("postgres -D /x/data");
        assert!(marker.is_on("/usr/bin/postgres -D /x/data"));
        assert!(marker.is_on("/usr/bin/postgres -D /x/data -c port=1"));
        assert!(!marker.is_on("/usr/bin/postgres -D /x/data.new"));
        assert!(!marker.is_on("vim /x/data"));
    }

    #[tokio::test]
    async fn a_marked_process_is_found_and_stopped_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let name = |n: u32| format!("{}/server-{n}", folder.path().display());
        let start = |n| Command::new("sleep").arg0(name(n)).arg("600").spawn().unwrap();
        let (mut one, mut other) = (start(1), start(2));
        let marker = Marker::new(name(1));
        assert_eq!(marker.find(), [one.id()]);
        assert!(marker.is(one.id()) && !marker.is(other.id()));
        let stopped = marker.stop_all(&[(Signal::SIGTERM, Duration::from_secs(60))]).await;
        assert_eq!(stopped, 1);
        // Not reaped yet, so it is a zombie: gone all the same.
        assert!(!marker.is(one.id()));
        one.wait().unwrap();
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }

    /// With the same path in its own file system, it would look like ours.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_marked_process_in_a_container_is_not_ours() {
        let marker = Marker::new(format!("--config /x/{}", std::process::id()));
        let mut outer = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "/bin/sh", "-c", "echo here; read -r line; exit 0"])
            .args(marker.0.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(outer.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let found = marker.find();
        drop(outer.stdin.take());
        outer.wait().unwrap();
        if line.is_empty() {
            eprintln!("SKIPPED: unshare may not make a container here");
            return;
        }
        // The one that made the container is outside of it.
        assert_eq!(found, [outer.id()]);
    }
}
