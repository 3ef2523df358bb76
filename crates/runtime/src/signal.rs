//! The signals that ask a process to stop. Binaries wait for them; libraries take a `Shutdown`.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Bit of SIGHUP in the kernel's masks.
const HANGUP_BIT: u64 = 1;

/// SIGINT, SIGTERM and SIGHUP. Installed once and kept, so that one that comes between two waits counts.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` when whoever started us wants us to outlive the terminal.
    hangup: Option<Signal>,
}

impl Signals {
    /// # Errors
    /// The system refuses a handler.
    pub fn install() -> io::Result<Self> {
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup,
        })
    }

    /// Waits for the next one, and names it.
    pub async fn next(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = hangup => "SIGHUP",
        }
    }
}

/// `nohup` ignores the signal for us, which a handler would undo.
#[must_use]
pub fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & HANGUP_BIT != 0)
}
