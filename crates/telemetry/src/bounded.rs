//! Label values that come from outside, kept to a bounded number.

use std::{collections::HashSet, sync::Arc};

use parking_lot::RwLock;

/// What a value beyond the bound is called.
const OTHER: &str = "other";
/// Longer values are nobody's name.
const MAX_LENGTH: usize = 128;

/// Lets the first so many values through as labels and calls every later one `other`: what a client can invent must
/// not become a time series each. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BoundedLabels(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    known: RwLock<HashSet<Arc<str>>>,
    max: usize,
}

impl BoundedLabels {
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Inner { known: RwLock::default(), max }))
    }

    /// The value itself, or `other`.
    #[must_use]
    pub fn label(&self, value: &str) -> Arc<str> {
        if let Some(known) = self.0.known.read().get(value) {
            return known.clone();
        }
        if value.len() > MAX_LENGTH {
            return OTHER.into();
        }
        let mut known = self.0.known.write();
        if known.len() >= self.0.max && !known.contains(value) {
            return OTHER.into();
        }
        let value: Arc<str> = value.into();
        known.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_are_kept_and_the_rest_share_a_name() {
        let labels = BoundedLabels::new(2);
        let seen: Vec<_> = ["a", "b", "c", "a", "d"].map(|v| labels.label(v)).into();
        assert_eq!(seen.iter().map(|v| &**v).collect::<Vec<_>>(), ["a", "b", "other", "a", "other"]);
        assert_eq!(&*BoundedLabels::new(9).label(&"x".repeat(129)), "other");
    }
}
