//! `weir dev stop`, `status` and `reset`: about a house that another process runs.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use weir_service::Name;

use super::{Folder, StateFile, leftovers, report::say};
use crate::child::{http_status, until};

/// Longer than a house may take to drain and to end its children.
const PATIENCE: Duration = Duration::from_secs(150);

/// Ends the house of the folder, or the children that a killed one left; with `wipe` its data too.
pub(crate) async fn stop(data: &Path, wipe: bool) -> Result<ExitCode> {
    let Some(folder) = Folder::existing(data) else {
        say(&format!("nothing runs on {}", data.display()));
        return Ok(ExitCode::SUCCESS);
    };
    let free = || async { folder.try_lock()?.map_err(|pid| anyhow!("process {pid} does not stop")) };
    let _lock = match folder.try_lock()? {
        Ok(lock) => lock,
        Err(pid) => {
            let raw = i32::try_from(pid).ok().filter(|&pid| pid > 0).context("the lock names no process")?;
            if holds(pid, &folder.lock_path())? {
                kill(Pid::from_raw(raw), Signal::SIGTERM)
                    .with_context(|| format!("signalling process {pid}"))?;
                until(Instant::now() + PATIENCE, free).await?
            } else {
                // It may have ended since we looked.
                folder.try_lock()?.map_err(|_| {
                    anyhow!(
                        "{} is held by a process that cannot be seen from here (in another container?): stop it there",
                        folder.root().display()
                    )
                })?
            }
        }
    };
    let left = leftovers::stop(&folder, false).await;
    // A launcher that was killed could not.
    folder.remove_dev_json()?;
    if wipe {
        folder.wipe()?;
        folder.refuse_strangers()?;
    }
    let left = if left > 0 { ", with children a killed launcher had left" } else { "" };
    let wiped = if wipe { "stopped and wiped" } else { "stopped" };
    say(&format!("{} is {wiped}{left}", folder.root().display()));
    Ok(ExitCode::SUCCESS)
}

/// Whether `pid` has the file open. Its number alone proves nothing: on a shared folder it may be another
/// container's. Where there is no `/proc` to ask, it has.
fn holds(pid: u32, file: &Path) -> io::Result<bool> {
    if !Path::new("/proc/self/fd").exists() {
        return Ok(true);
    }
    let file = fs::metadata(file)?;
    let mut open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    Ok(open.any(|entry| {
        fs::metadata(entry.path()).is_ok_and(|meta| (meta.dev(), meta.ino()) == (file.dev(), file.ino()))
    }))
}

/// Whether it runs, and which services and children do. Fails when one is not ready.
pub(crate) async fn status(data: &Path) -> Result<ExitCode> {
    let holder = match Folder::existing(data) {
        Some(folder) => folder.try_lock()?.err().map(|pid| (folder, pid)),
        None => None,
    };
    let Some((folder, pid)) = holder else {
        say(&format!("nothing runs on {}", data.display()));
        return Ok(ExitCode::FAILURE);
    };
    let mut text = format!("weir dev runs on {} (pid {pid})", folder.root().display());
    let dev: Option<serde_json::Value> =
        fs::read(folder.dev_json()).ok().and_then(|raw| serde_json::from_slice(&raw).ok());
    let gateway = dev.as_ref().and_then(|dev| dev["gateway"].as_str()?.strip_prefix("http://")?.parse().ok());
    let Some(gateway) = gateway else {
        say(&format!("{text}, not ready yet"));
        return Ok(ExitCode::FAILURE);
    };
    let mut all_ready = true;
    for (name, address) in addresses(gateway) {
        let answer = match http_status(address, "/ready").await {
            Ok(200) => "ready".to_owned(),
            Ok(status) => format!("not ready: {status}"),
            Err(error) => format!("not ready: {error:#}"),
        };
        all_ready &= answer == "ready";
        text += &format!("\n  {name:<13} http://{address}  {answer}");
    }
    for (name, child) in StateFile::load(&folder.children_json())?.get().children {
        text += &format!("\n  {name:<13} pid {}", child.pid);
    }
    say(&text);
    Ok(if all_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The others stand on loopback, on the ports after the gateway's.
fn addresses(gateway: SocketAddr) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    (gateway.port()..).zip(Name::ALL).map(move |(port, name)| {
        let address = if name == Name::Gateway { gateway } else { (Ipv4Addr::LOCALHOST, port).into() };
        (name.as_str(), address)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// As another container's launcher on the same folder would write it: the number means somebody else here.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_stranger_with_the_lock_holders_number_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let lock = folder.lock().unwrap();
        assert!(holds(std::process::id(), &folder.lock_path()).unwrap());
        let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(folder.lock_path(), stranger.id().to_string()).unwrap();
        let refused = tokio::time::timeout(Duration::from_secs(20), stop(dir.path(), false)).await;
        let alive = stranger.try_wait().unwrap().is_none();
        let _ = stranger.kill();
        stranger.wait().unwrap();
        assert!(alive, "the stranger was signalled");
        let refused = refused.unwrap().unwrap_err().to_string();
        assert!(refused.contains("another container"), "{refused}");
        drop(lock);
    }
}
