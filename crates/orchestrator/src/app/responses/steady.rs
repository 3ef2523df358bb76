//! Whether a lease that is over says that its owner is gone. After an outage of the database, everyone's leases are over:
//! until all have had the time to renew theirs, that means nothing.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Steady {
    /// Since when the database has answered without a gap, and when it last did.
    since: Option<(Instant, Instant)>,
}

impl Steady {
    /// Our own leases were renewed.
    pub(super) fn renewed(&mut self, now: Instant, lease: Duration) {
        // Twice the usual distance: it may have been away without our seeing it fail.
        let gap = lease * 2 / 3;
        let since = self.since.filter(|(_, last)| now - *last < gap).map_or(now, |(since, _)| since);
        self.since = Some((since, now));
    }

    pub(super) fn failed(&mut self) {
        self.since = None;
    }

    /// Whether whoever still lives has renewed by now.
    pub(super) fn is_steady(&self, now: Instant, lease: Duration) -> bool {
        self.since.is_some_and(|(since, _)| now - since >= lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_mean_something_after_a_lease_without_a_gap() {
        let lease = Duration::from_secs(15);
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut steady = Steady::default();
        assert!(!steady.is_steady(at(100), lease));
        for s in [0, 5, 10] {
            steady.renewed(at(s), lease);
            assert!(!steady.is_steady(at(s), lease), "{s}");
        }
        steady.renewed(at(15), lease);
        assert!(steady.is_steady(at(15), lease));
        // It failed.
        steady.failed();
        steady.renewed(at(20), lease);
        assert!(!steady.is_steady(at(34), lease) && steady.is_steady(at(35), lease));
        // It hung.
        steady.renewed(at(40), lease);
        assert!(!steady.is_steady(at(40), lease));
        steady.renewed(at(49), lease);
        assert!(!steady.is_steady(at(54), lease) && steady.is_steady(at(55), lease));
    }
}
