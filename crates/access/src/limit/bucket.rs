//! A token bucket in exact integer arithmetic.
//!
//! One token is 60·10⁹ units, so a rate of *n* tokens a minute is exactly *n* units a nanosecond and nothing is ever
//! rounded: what is admitted never exceeds burst + rate · time.

use std::time::Duration;

const TOKEN: i128 = 60_000_000_000;

/// Callers hold it under a lock and call [`Bucket::refill`] first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    per_minute: u64,
    burst: u64,
    /// Units; below zero when more was used than was expected.
    level: i128,
    /// When `level` was right, in nanoseconds.
    at: u64,
}

impl Bucket {
    /// A full one.
    pub(crate) fn full(per_minute: u64, burst: u64, now: u64) -> Self {
        Self { per_minute, burst, level: i128::from(burst) * TOKEN, at: now }
    }

    pub(crate) fn per_minute(&self) -> u64 {
        self.per_minute
    }

    fn capacity(&self) -> i128 {
        i128::from(self.burst) * TOKEN
    }

    /// Adds what came in since the last call. A clock that another thread read earlier changes nothing.
    pub(crate) fn refill(&mut self, now: u64) {
        if now > self.at {
            let gained = i128::from(now - self.at).saturating_mul(i128::from(self.per_minute));
            self.level = self.level.saturating_add(gained).min(self.capacity());
            self.at = now;
        }
    }

    /// How long until `tokens` are there: zero when they are, `None` when they never will be.
    pub(crate) fn wait(&self, tokens: u64) -> Option<Duration> {
        let missing = i128::from(tokens) * TOKEN - self.level;
        if missing <= 0 {
            return Some(Duration::ZERO);
        }
        if tokens > self.burst {
            return None;
        }
        self.time_for(missing)
    }

    /// Takes without asking; what is missing becomes debt.
    pub(crate) fn take(&mut self, tokens: u64) {
        self.level = self.level.saturating_sub(i128::from(tokens) * TOKEN);
    }

    /// Gives back; never above the burst.
    pub(crate) fn give(&mut self, tokens: u64) {
        self.level = self.level.saturating_add(i128::from(tokens) * TOKEN).min(self.capacity());
    }

    /// Another limit from now on. A raise is there at once; a cut takes what is above it, and leaves no debt that
    /// was not there.
    pub(crate) fn resize(&mut self, per_minute: u64, burst: u64) {
        let raise = (i128::from(burst) - i128::from(self.burst)) * TOKEN;
        self.per_minute = per_minute;
        self.burst = burst;
        self.level = (self.level + raise.max(0)).min(self.capacity());
    }

    /// Whole tokens left.
    pub(crate) fn remaining(&self) -> u64 {
        u64::try_from(self.level.max(0) / TOKEN).unwrap_or(u64::MAX)
    }

    /// Time until it is full again.
    pub(crate) fn until_full(&self) -> Duration {
        self.time_for(self.capacity() - self.level).unwrap_or(Duration::MAX)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.level >= self.capacity()
    }

    /// Rounded up, so that waiting that long is enough.
    fn time_for(&self, units: i128) -> Option<Duration> {
        let rate = i128::from(self.per_minute);
        if units <= 0 {
            return Some(Duration::ZERO);
        }
        if rate == 0 {
            return None;
        }
        let nanos = (units + rate - 1) / rate;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Pass(u64),
        Ask(u64),
        Settle(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0u64..5_000_000_000).prop_map(Step::Pass),
            (0u64..40).prop_map(Step::Ask),
            (-30i64..30).prop_map(Step::Settle),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        /// In any window that starts with the bucket's birth: taken − given ≤ burst + rate · time, whenever the last
        /// step was an admission.
        #[test]
        fn never_more_than_burst_and_rate(per_minute in 1u64..2_000, burst in 1u64..60, steps in steps()) {
            let mut bucket = Bucket::full(per_minute, burst, 0);
            let (mut now, mut taken, mut given) = (0u64, 0i128, 0i128);
            for step in steps {
                match step {
                    Step::Pass(nanos) => now += nanos,
                    Step::Ask(tokens) => {
                        bucket.refill(now);
                        if bucket.wait(tokens) == Some(Duration::ZERO) {
                            bucket.take(tokens);
                            taken += i128::from(tokens);
                            let bound = i128::from(burst) * TOKEN + i128::from(now) * i128::from(per_minute);
                            prop_assert!((taken - given) * TOKEN <= bound, "{taken} − {given} at {now}");
                        }
                    }
                    Step::Settle(more) => {
                        bucket.refill(now);
                        if more >= 0 {
                            bucket.take(more.unsigned_abs());
                            taken += i128::from(more);
                        } else {
                            bucket.give(more.unsigned_abs());
                            given += i128::from(-more);
                        }
                    }
                }
            }
        }

        /// The wait that is promised is enough, and a nanosecond less is not.
        #[test]
        fn the_promised_wait_is_exact(per_minute in 1u64..100_000, used in 1u64..100, asked in 1u64..100) {
            let mut bucket = Bucket::full(per_minute, 100, 0);
            bucket.take(used);
            let wait = bucket.wait(asked).unwrap().as_nanos() as u64;
            if wait > 0 {
                let mut early = bucket.clone();
                early.refill(wait - 1);
                prop_assert_ne!(early.wait(asked), Some(Duration::ZERO));
            }
            bucket.refill(wait);
            prop_assert_eq!(bucket.wait(asked), Some(Duration::ZERO));
        }

        /// Any split of time refills the same.
        #[test]
        fn refills_add_up(per_minute in 0u64..10_000, parts in proptest::collection::vec(0u64..1_000_000_007, 1..50)) {
            let mut stepped = Bucket::full(per_minute, 1_000_000, 0);
            stepped.take(1_000_000);
            let mut whole = stepped.clone();
            let mut now = 0;
            for part in parts {
                now += part;
                stepped.refill(now);
            }
            whole.refill(now);
            prop_assert_eq!(stepped.level, whole.level);
        }
    }

    #[test]
    fn a_request_larger_than_the_bucket_never_fits() {
        let bucket = Bucket::full(60, 60, 0);
        assert_eq!(bucket.wait(61), None);
        assert_eq!(bucket.wait(60), Some(Duration::ZERO));
        assert_eq!(Bucket::full(0, 0, 0).wait(1), None);
    }

    #[test]
    fn a_raise_is_there_at_once_and_a_cut_leaves_no_debt() {
        let mut bucket = Bucket::full(10, 10, 0);
        bucket.take(10);
        bucket.resize(100, 100);
        assert_eq!(bucket.remaining(), 90);
        bucket.resize(5, 5);
        assert_eq!(bucket.remaining(), 5);
        bucket.take(7);
        bucket.resize(3, 3);
        assert_eq!(bucket.wait(1), Some(Duration::from_secs(60)));
    }
}
