//! Names that the router left as they are. Nearly all names are, and a model named outright needs no router: one that is
//! listed is asked about once a second for each tenant, in case an alias has its name.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quick_cache::DefaultHashBuilder;
use weir_types::TenantId;

/// An alias is known everywhere within this time, as pushes are.
const FRESH: Duration = Duration::from_secs(1);
/// Of all tenants together; beyond it all are forgotten.
const MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Decided(Mutex<Names>);

/// Looked at for every request, and of keys that no client makes up.
type Quick<K, V> = HashMap<K, V, DefaultHashBuilder>;

#[derive(Debug, Default)]
struct Names {
    by_tenant: Quick<Option<TenantId>, Quick<Box<str>, Instant>>,
    count: usize,
}

impl Decided {
    /// Whether `name` was no alias of the tenant's a moment ago.
    pub(super) fn is_its_own(&self, tenant: Option<TenantId>, name: &str, now: Instant) -> bool {
        let names = self.0.lock();
        let since = names.by_tenant.get(&tenant).and_then(|names| names.get(name));
        since.is_some_and(|since| now.saturating_duration_since(*since) < FRESH)
    }

    /// `name` is no alias; a name that is listed, so that nobody fills this with names of his own.
    pub(super) fn remember(&self, tenant: Option<TenantId>, name: &str, now: Instant) {
        let mut names = self.0.lock();
        if names.count >= MAX {
            *names = Names::default();
        }
        if names.by_tenant.entry(tenant).or_default().insert(name.into(), now).is_none() {
            names.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_a_second_for_that_tenant_and_within_bounds() {
        let (decided, now) = (Decided::default(), Instant::now());
        let (one, other) = (Some(TenantId::new()), Some(TenantId::new()));
        decided.remember(one, "m", now);
        assert!(decided.is_its_own(one, "m", now) && !decided.is_its_own(other, "m", now));
        assert!(!decided.is_its_own(one, "m", now + FRESH));
        decided.remember(one, "m", now + FRESH);
        assert!(decided.is_its_own(one, "m", now + FRESH));
        assert_eq!(decided.0.lock().count, 1);
        for n in 0..MAX {
            decided.remember(other, &n.to_string(), now);
        }
        assert!(decided.0.lock().count <= MAX && !decided.is_its_own(one, "m", now + FRESH));
    }
}
