//! Monotonic time as a plain number, so that tests can set it.

use std::time::{Duration, Instant};

#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Nanoseconds since this process built its [`Access`](crate::Access).
#[derive(Debug, Clone)]
pub(crate) enum Ticker {
    System(Instant),
    #[cfg(test)]
    Manual(Arc<AtomicU64>),
}

impl Ticker {
    pub(crate) fn system() -> Self {
        Self::System(Instant::now())
    }

    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::System(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            #[cfg(test)]
            Self::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    #[cfg(test)]
    pub(crate) fn manual() -> Self {
        // Not zero: an age of "never" must not look like an age of "just now".
        Self::Manual(Arc::new(AtomicU64::new(1_000_000_000_000)))
    }

    #[cfg(test)]
    pub(crate) fn advance_ms(&self, ms: u64) {
        if let Self::Manual(now) = self {
            now.fetch_add(ms * 1_000_000, Ordering::SeqCst);
        }
    }
}

/// Milliseconds in the unit of [`Ticker::now`].
pub(crate) const fn ms(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// A duration in the unit of [`Ticker::now`].
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
