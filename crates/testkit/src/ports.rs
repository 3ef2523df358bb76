//! Ports for processes that must be told where to listen, and find them free again when they are started anew.

use std::{
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

/// Below those that systems hand out to outgoing connections, so that nothing takes one between two starts.
const PORTS: Range<u16> = 20_000..32_000;

/// The next one to try, in this process.
static NEXT: Mutex<Option<u16>> = Mutex::new(None);

/// The first of `count` ports in a row that are free now.
///
/// # Errors
/// There are none.
pub fn free(count: u16) -> Result<u16> {
    let span = PORTS.end - PORTS.start - count;
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    // Where to begin differs between processes, by far between two that began together, so that they rarely meet.
    let own = std::process::id().wrapping_mul(997) % u32::from(span);
    let begin = next.unwrap_or(u16::try_from(own)?);
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let first = (0..span)
        .step_by(usize::from(count))
        .map(|step| PORTS.start + (begin + step) % span)
        .find(|&first| (first..first + count).all(is_free))
        .with_context(|| format!("no {count} free ports in a row"))?;
    *next = Some((first - PORTS.start + count) % span);
    Ok(first)
}
