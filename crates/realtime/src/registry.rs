//! Which sessions are open: counted here, and recorded where other instances can see them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_kv::Key;
use weir_types::TenantId;

use crate::{Shared, caller::Caller, metrics::RealtimeMetrics};

/// Open connections of this instance.
#[derive(Clone)]
pub(crate) struct Registry {
    slots: Arc<Semaphore>,
    by_tenant: Arc<Mutex<HashMap<TenantId, u64>>>,
}

/// A connection's place, until dropped.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    metrics: RealtimeMetrics,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.metrics.active.dec();
    }
}

impl Registry {
    pub(crate) fn new(max_connections: usize) -> Self {
        let slots = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        Self { slots, by_tenant: Arc::default() }
    }

    /// `None` when all places are taken.
    pub(crate) fn take(&self, metrics: &RealtimeMetrics) -> Option<Slot> {
        let permit = self.slots.clone().try_acquire_owned().ok()?;
        metrics.active.inc();
        Some(Slot { _permit: permit, metrics: metrics.clone() })
    }

    /// Authenticated sessions of a tenant.
    pub(crate) fn count(&self, tenant: TenantId) -> u64 {
        self.by_tenant.lock().get(&tenant).copied().unwrap_or(0)
    }

    fn enter(&self, tenant: TenantId) {
        *self.by_tenant.lock().entry(tenant).or_default() += 1;
    }

    fn leave(&self, tenant: TenantId) {
        let mut by_tenant = self.by_tenant.lock();
        if let Some(count) = by_tenant.get_mut(&tenant) {
            *count -= 1;
            if *count == 0 {
                by_tenant.remove(&tenant);
            }
        }
    }
}

/// An authenticated session: counted until dropped, recorded until closed or for the time to live.
pub(crate) struct Record {
    shared: Arc<Shared>,
    id: String,
    tenant: TenantId,
    key: Key,
    value: String,
}

impl Record {
    pub(crate) async fn open(shared: Arc<Shared>, id: String, caller: &Caller) -> Self {
        let tenant = caller.tenant();
        let value = json!({
            "key_id": caller.grant().key().map(|key| key.to_string()),
            "opened_at_ms": shared.clock.now_ms(),
        });
        shared.registry.enter(tenant);
        let key = Key::tenant(tenant, "ws", &id);
        let record = Self { shared, id, tenant, key, value: value.to_string() };
        record.renew().await;
        record
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) async fn renew(&self) {
        self.shared.kv.set(&self.key, self.value.clone(), self.shared.config.session_ttl).await;
    }

    pub(crate) async fn close(&self) {
        self.shared.kv.delete(&self.key).await;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.shared.registry.leave(self.tenant);
    }
}
