//! What the machine has left, as health checks.

use std::path::PathBuf;

use futures_util::future::{Ready, ready};

/// Memory the process holds; `None` where the system does not tell (only Linux does here).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// A check for [`crate::Health::check`]: fails when the file system of `path` has less than `min_free` bytes for us.
pub fn disk_check(
    path: PathBuf,
    min_free: u64,
) -> impl Fn() -> Ready<Result<(), String>> + Send + Sync + 'static {
    move || {
        ready(match nix::sys::statvfs::statvfs(&path) {
            Ok(stat) => {
                // Wider than either type is on any system.
                let free = u128::from(stat.blocks_available()) * u128::from(stat.fragment_size());
                enough("free", u64::try_from(free).unwrap_or(u64::MAX), min_free)
            }
            Err(error) => Err(format!("cannot be asked: {error}")),
        })
    }
}

/// A check for [`crate::Health::check`]: fails when the process holds more than `max` bytes of memory.
pub fn memory_check(max: u64) -> impl Fn() -> Ready<Result<(), String>> + Send + Sync + 'static {
    move || {
        ready(match resident_bytes() {
            Some(held) if held > max => {
                Err(format!("{} MiB held, expected at most {}", held >> 20, max >> 20))
            }
            _ => Ok(()),
        })
    }
}

fn enough(what: &str, have: u64, need: u64) -> Result<(), String> {
    if have >= need {
        return Ok(());
    }
    Err(format!("{} MiB {what}, expected at least {}", have >> 20, need >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_seen() {
        assert_eq!(disk_check("/".into(), 0)().await, Ok(()));
        assert!(disk_check("/".into(), u64::MAX)().await.unwrap_err().contains("MiB free"));
        assert!(disk_check("/no/such/folder".into(), 0)().await.is_err());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn memory_is_seen() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(memory_check(1)().await.is_err() && memory_check(u64::MAX)().await.is_ok());
    }
}
