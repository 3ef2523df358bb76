//! Delays between tries. The only user of the `backoff` crate, which is unmaintained (RUSTSEC-2025-0012): should it
//! have to go, this module is all that changes.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Doubling delays with jitter of half either way, from `initial` to at most `max`, for ever.
#[derive(Debug)]
pub struct Backoff {
    inner: ExponentialBackoff,
    max: Duration,
}

impl Backoff {
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        let inner = ExponentialBackoffBuilder::new()
            .with_initial_interval(initial.min(max))
            .with_max_interval(max)
            .with_multiplier(2.0)
            .with_randomization_factor(0.5)
            .with_max_elapsed_time(None)
            .build();
        Self { inner, max }
    }

    /// How long to wait before the next try.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> Duration {
        self.inner.next_backoff().unwrap_or(self.max).min(self.max)
    }

    /// After a success: the next delay is the initial one.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_bound_and_start_over() {
        let (initial, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(initial, max);
        let first = backoff.next();
        assert!((initial / 2..=initial * 3 / 2).contains(&first), "{first:?}");
        let later: Vec<_> = (0..50).map(|_| backoff.next()).collect();
        assert!(later.iter().all(|d| *d <= max) && later[49] >= max / 2, "{later:?}");
        backoff.reset();
        assert!(backoff.next() <= initial * 3 / 2);
    }
}
