//! What models of a provider were seen to do.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;

/// It is looked at again after this: providers change.
const TTL: Duration = Duration::from_secs(3_600);
/// Models of one provider that are remembered. Names may be a client's.
const MOST: usize = 256;

/// By model, for a while.
pub(crate) struct Learned {
    /// Nothing was ever learned of most providers.
    any: AtomicBool,
    until: Cache<String, Instant>,
}

impl Default for Learned {
    fn default() -> Self {
        Self { any: AtomicBool::new(false), until: Cache::new(MOST) }
    }
}

impl Learned {
    pub(crate) fn learn(&self, model: &str) {
        self.learn_at(model, Instant::now());
    }

    pub(crate) fn holds(&self, model: &str) -> bool {
        self.any.load(Ordering::Relaxed) && self.holds_at(model, Instant::now())
    }

    fn learn_at(&self, model: &str, now: Instant) {
        self.until.insert(model.to_owned(), now + TTL);
        self.any.store(true, Ordering::Relaxed);
    }

    fn holds_at(&self, model: &str, now: Instant) -> bool {
        self.until.get(model).is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_is_of_one_model_and_forgotten_in_time() {
        let (learned, now) = (Learned::default(), Instant::now());
        assert!(!learned.holds("m"));
        learned.learn_at("m", now);
        assert!(learned.holds("m") && !learned.holds("n"));
        assert!(learned.holds_at("m", now + TTL / 2) && !learned.holds_at("m", now + TTL));
        (0..10_000).for_each(|n| learned.learn(&n.to_string()));
        assert!(learned.until.len() <= MOST);
    }
}
