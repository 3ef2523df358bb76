//! How many requests this process works on at once.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

#[derive(Debug, Clone)]
pub(crate) struct Slots {
    max: u32,
    used: Arc<AtomicU32>,
}

impl Slots {
    pub(crate) fn new(max: u32) -> Self {
        Self { max, used: Arc::default() }
    }

    pub(crate) fn take(&self) -> Option<Slot> {
        let slot = Slot(self.used.clone());
        // Counted before the check, so the drop of a refused slot takes it back.
        (self.used.fetch_add(1, Ordering::AcqRel) < self.max).then_some(slot)
    }
}

/// One request's place, until dropped.
#[derive(Debug)]
pub struct Slot(Arc<AtomicU32>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_slot_is_free_again() {
        let slots = Slots::new(1);
        let slot = slots.take().unwrap();
        assert!(slots.take().is_none());
        drop(slot);
        assert!(slots.take().is_some());
    }
}
