//! All tenants' limit states, bounded without forgetting any that matters.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use weir_error::{Code, Error};
use weir_types::TenantId;

use super::{Tenant, Terms};
use crate::ticker::{Ticker, ms};

const FIRST_SWEEP: usize = 1_024;
const SWEEP_PAUSE: u64 = ms(1_000);
/// Pushed terms of tenants that may not be tracked: enough for those that change while a question about them is under
/// way.
const MAX_PUSHED: usize = 10_000;

/// A state lives while a remembered key points to it or while forgetting it would change an answer: a tenant cannot
/// get a fresh bucket by revoking and creating keys.
#[derive(Debug)]
pub(crate) struct Registry {
    max: usize,
    ticker: Ticker,
    pushed: Cache<TenantId, Terms>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    tenants: HashMap<TenantId, Arc<Tenant>>,
    sweep_at: usize,
    swept: u64,
}

impl Registry {
    pub(crate) fn new(max: usize, ticker: Ticker) -> Self {
        let inner = Inner { tenants: HashMap::new(), sweep_at: FIRST_SWEEP.min(max), swept: 0 };
        Self { max, ticker, pushed: Cache::new(MAX_PUSHED), inner: Mutex::new(inner) }
    }

    /// The tenant's terms changed: they hold from now on, also over an older answer that is under way. Says whether
    /// they end a suspension.
    pub(crate) fn pushed(&self, id: TenantId, terms: Terms) -> bool {
        let inner = self.inner.lock();
        let known = self.pushed.get(&id);
        if known.is_none_or(|known| known.version <= terms.version) {
            self.pushed.insert(id, terms);
        }
        let tenant = inner.tenants.get(&id);
        let suspended = tenant.is_some_and(|t| t.is_suspended()) || known.is_some_and(|k| k.suspended);
        if let Some(tenant) = tenant {
            tenant.set(terms, self.ticker.now());
        }
        suspended && !terms.suspended
    }

    /// The tenant's state, under these terms from now on if no later ones are known.
    ///
    /// # Errors
    /// `Overloaded` when more tenants are busy than this process tracks.
    pub(crate) fn tenant(&self, id: TenantId, terms: Terms) -> Result<Arc<Tenant>, Error> {
        let now = self.ticker.now();
        let mut inner = self.inner.lock();
        if let Some(tenant) = inner.tenants.get(&id) {
            tenant.set(terms, now);
            return Ok(tenant.clone());
        }
        if inner.tenants.len() >= inner.sweep_at && now.saturating_sub(inner.swept) >= SWEEP_PAUSE {
            inner.tenants.retain(|_, tenant| Arc::strong_count(tenant) > 1 || !tenant.is_idle(now));
            inner.swept = now;
            // Doubling keeps the sweeps' cost per insertion constant.
            inner.sweep_at = (inner.tenants.len() * 2).max(FIRST_SWEEP).min(self.max);
        }
        if inner.tenants.len() >= self.max {
            tracing::warn!(tenants = inner.tenants.len(), "too many tenants with limits in use");
            return Err(Error::new(Code::Overloaded, "too many tenants are active on this instance")
                .with_retry_after(std::time::Duration::from_secs(1)));
        }
        let tenant = Tenant::new(terms, now);
        if let Some(pushed) = self.pushed.get(&id) {
            tenant.set(pushed, now);
        }
        inner.tenants.insert(id, tenant.clone());
        Ok(tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Limits;

    #[test]
    fn a_push_beats_an_older_answer_also_for_a_tenant_nobody_asked_about() {
        let registry = Registry::new(3, Ticker::manual());
        let at = |version, suspended| Terms { version, suspended, ..Terms::default() };
        let id = TenantId::new();
        assert!(!registry.pushed(id, at(2, true)));
        registry.pushed(id, at(1, false));
        let tenant = registry.tenant(id, at(1, false)).unwrap();
        assert!(tenant.is_suspended());
        assert!(registry.tenant(id, at(1, false)).unwrap().is_suspended());
        assert!(registry.pushed(id, at(3, false)));
        assert!(!registry.pushed(id, at(4, false)));
        assert!(!tenant.is_suspended());
    }

    #[test]
    fn only_states_that_do_not_matter_are_forgotten() {
        let ticker = Ticker::manual();
        let registry = Registry::new(3, ticker.clone());
        let limits = Limits { requests_per_minute: Some(2), tokens_per_minute: None };
        let limited = Terms { limits, ..Terms::default() };
        let (used, held, idle, new) = (TenantId::new(), TenantId::new(), TenantId::new(), TenantId::new());
        registry.tenant(used, limited).unwrap().enter(0, 9, ticker.now()).unwrap();
        registry.tenant(used, limited).unwrap().leave();
        let _held = registry.tenant(held, limited).unwrap();
        registry.tenant(idle, limited).unwrap();

        registry.tenant(new, limited).unwrap();
        let known: Vec<_> = registry.inner.lock().tenants.keys().copied().collect();
        assert!(known.contains(&used) && known.contains(&held) && !known.contains(&idle));
        let state = registry.tenant(used, limited).unwrap().state(ticker.now());
        assert_eq!(state.requests.unwrap().remaining, 1);

        let _new = registry.tenant(new, limited).unwrap();
        assert_eq!(registry.tenant(idle, limited).unwrap_err().code(), Code::Overloaded);
        ticker.advance_ms(60_000);
        assert!(registry.tenant(idle, limited).is_ok(), "the used one has refilled");
    }
}
