//! The server that test processes share.
//!
//! A folder in the temporary folder holds `lock` (held while somebody starts a server), `server.json` (where it
//! is), `users/<pid>` (who uses it) and one `run-*` folder per server. A small shell, the keeper, ends a server
//! that nobody has used for ten minutes. Users register before they read `server.json`; the keeper takes
//! `server.json` away before it looks at the users for the last time: so one of them sees the other.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};
use serde::{Deserialize, Serialize};
use sqlx::Connection as _;
use tokio::time::timeout;

use super::{cluster::Cluster, connect};
use crate::{
    find,
    process::{ONCE, alive, tail, wait_for},
};

/// Ends the server when no user is left for 300 rounds of 2 s (the next test binary may be linked meanwhile), and
/// clears up.
const KEEPER: &str = r#"dir=$1; run=$2; pid=$3
lives() {
  kill -0 "$1" 2>/dev/null || return 1
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
  case ${line##*) } in Z*) return 1 ;; esac
}
used() {
  found=1
  for file in "$dir"/users/*; do
    user=${file##*/}
    if lives "$user"; then found=0; else rm -f "$file"; fi
  done
  return $found
}
idle=0
while [ -e "$run/pg/data/postmaster.pid" ]; do
  sleep 2
  if used; then idle=0; continue; fi
  idle=$((idle + 1))
  [ $idle -lt 300 ] && continue
  mv "$dir/server.json" "$run/server.json" 2>/dev/null
  if used; then mv "$run/server.json" "$dir/server.json"; idle=0; continue; fi
  kill -INT "$pid"
  left=30
  while [ -e "$run/pg/data/postmaster.pid" ] && [ $left -gt 0 ]; do sleep 1; left=$((left - 1)); done
  break
done
rm -rf "$run""#;

/// Somebody may take a port between its choice and the server's start.
const PORTS_TRIED: u32 = 5;

#[derive(Debug, Serialize, Deserialize)]
struct Server {
    url: String,
    keeper: u32,
}

/// The URL of the shared server, without a database name, started if need be.
pub(super) async fn attach() -> Result<String> {
    let dir = folder()?;
    fs::write(dir.join("users").join(process::id().to_string()), "")?;
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    wait_for("another test process that starts PostgreSQL", async || match lock.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    })
    .await?;
    if let Some(server) = read(&dir)
        && reachable(&dir, &server).await?
    {
        return Ok(server.url);
    }
    clear(&dir).await?;
    let server = start(&dir).await?;
    // Written whole or not at all.
    let (new, place) = (dir.join("server.new"), dir.join("server.json"));
    let _ = fs::remove_file(&new);
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(&server)?)?;
    fs::rename(new, place)?;
    Ok(server.url)
}

/// One folder per user and installation, that no other user can have put there.
fn folder() -> Result<PathBuf> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (find::postgres_bin()?, KEEPER).hash(&mut hasher);
    let uid = Uid::effective();
    let dir = env::temp_dir().join(format!("weir-test-pg-{uid}-{:08x}", hasher.finish() & 0xffff_ffff));
    for path in [dir.clone(), dir.join("users")] {
        match fs::DirBuilder::new().mode(0o711).create(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let owner = fs::symlink_metadata(&path)?;
        ensure!(owner.is_dir() && owner.uid() == uid.as_raw(), "{} is not our folder", path.display());
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o711))?;
    Ok(dir)
}

fn read(dir: &Path) -> Option<Server> {
    serde_json::from_slice(&fs::read(dir.join("server.json")).ok()?).ok()
}

/// Waits until it answers; not when it or its keeper is gone. One that lives and is only slow, or full, is in use
/// by other tests.
async fn reachable(dir: &Path, server: &Server) -> Result<bool> {
    let url = format!("{}/postgres", server.url);
    wait_for("the shared PostgreSQL to answer", async || {
        if !i32::try_from(server.keeper).is_ok_and(alive) || !any_runs(dir)? {
            return Ok(Some(false));
        }
        match timeout(ONCE, connect(&url)).await {
            Ok(Ok(conn)) => Ok(conn.close().await.is_ok().then_some(true)),
            _ => Ok(None),
        }
    })
    .await
}

/// Whether the server of one of the `run-*` folders lives.
fn any_runs(dir: &Path) -> Result<bool> {
    Ok(runs(dir)?.any(|run| postmaster(&pidfile(&run)).is_some_and(|pid| belongs(pid, &run))))
}

fn runs(dir: &Path) -> Result<impl Iterator<Item = PathBuf>> {
    let named = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("run-");
    Ok(fs::read_dir(dir)?.flatten().filter(named).map(|entry| entry.path()))
}

fn pidfile(run: &Path) -> PathBuf {
    run.join("pg/data/postmaster.pid")
}

/// Ends and removes what dead predecessors left.
async fn clear(dir: &Path) -> Result<()> {
    let _ = fs::remove_file(dir.join("server.json"));
    for run in runs(dir)? {
        let pidfile = pidfile(&run);
        if let Some(pid) = postmaster(&pidfile)
            && belongs(pid, &run)
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
            wait_for("an abandoned PostgreSQL to end", async || {
                Ok((!pidfile.exists() || !belongs(pid, &run)).then_some(()))
            })
            .await?;
        }
        // Its keeper may be removing it too.
        let _ = fs::remove_dir_all(&run);
    }
    Ok(())
}

fn postmaster(pidfile: &Path) -> Option<i32> {
    fs::read_to_string(pidfile).ok()?.lines().next()?.trim().parse().ok()
}

/// Whether that process is the server of `run`, not a stranger who got its number. Where there is no `/proc` to
/// ask, a process that lives counts.
fn belongs(pid: i32, run: &Path) -> bool {
    if !alive(pid) {
        return false;
    }
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(line) => String::from_utf8_lossy(&line).contains(&*run.to_string_lossy()),
        Err(_) => !Path::new("/proc/self").exists(),
    }
}

async fn start(dir: &Path) -> Result<Server> {
    let run = dir.join(format!("run-{}", uuid::Uuid::new_v4().simple()));
    fs::DirBuilder::new().mode(0o711).create(&run)?;
    let mut cluster = Cluster::create(&run).await?;
    let pid = launch(&mut cluster, &run).await.with_context(|| tail(&cluster.log()))?;
    let keeper = Command::new("/bin/sh")
        .args(["-c", KEEPER, "keeper"])
        .args([dir, &run])
        .arg(pid.to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    Ok(Server { url: cluster.server_url(), keeper: keeper.id() })
}

/// Starts it on a port that is its own in the end; gives the server's process id.
async fn launch(cluster: &mut Cluster, run: &Path) -> Result<i32> {
    for _ in 0..PORTS_TRIED {
        cluster.spawn_detached()?;
        let (url, begun) = (format!("{}/postgres", cluster.server_url()), Instant::now());
        let up = wait_for("PostgreSQL", async || {
            if let Ok(Ok(conn)) = timeout(ONCE, connect(&url)).await {
                return Ok(Some(conn.close().await.is_ok()));
            }
            let lives = postmaster(&pidfile(run)).is_some_and(|pid| belongs(pid, run));
            Ok((!lives && begun.elapsed() > ONCE).then_some(false))
        });
        if up.await? {
            return postmaster(&pidfile(run)).context("PostgreSQL left no postmaster.pid");
        }
        cluster.move_to_another_port()?;
    }
    bail!("PostgreSQL ended {PORTS_TRIED} times while it started")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_server_that_lives_is_waited_for_and_a_dead_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run-1");
        fs::create_dir_all(run.join("pg/data")).unwrap();
        let mut postgres = Command::new("/bin/sh")
            .args(["-c", "read -r line; exit 0"])
            .arg(&run)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        fs::write(pidfile(&run), format!("{}\n", postgres.id())).unwrap();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("postgres://weir@{}", listener.local_addr().unwrap());
        let server = Server { url, keeper: process::id() };
        let mut answer = std::pin::pin!(reachable(dir.path(), &server));
        // As one with too many clients, it hangs up on everybody.
        let full = async {
            for _ in 0..4 {
                drop(listener.accept().await.unwrap());
            }
        };
        tokio::select! {
            answer = &mut answer => panic!("given up: {answer:?}"),
            () = full => {}
        }
        drop(listener);
        postgres.kill().unwrap();
        postgres.wait().unwrap();
        assert!(!answer.await.unwrap());
    }
}
