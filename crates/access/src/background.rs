//! Work beside requests: checking remembered keys again, and following what is pushed.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use prost::Message as _;
use tokio::sync::mpsc;
use weir_events::{Bucket, Bus, Change};
use weir_proto::control::{KeyChange, TenantState};
use weir_types::{KeyId, RequestId, TenantId};

use crate::{limit::Terms, lookup::Lookup, memory::Presented};

/// Checks at once.
const WORKERS: usize = 16;

/// Checks keys again as they come in; ends when `Access` is gone.
pub(crate) async fn refresh(lookup: Arc<Lookup>, mut queue: mpsc::Receiver<Presented>) {
    stream::poll_fn(|cx| queue.poll_recv(cx))
        .for_each_concurrent(WORKERS, |key| {
            let lookup = &lookup;
            async move {
                // Refused means many others are being asked about; the next use of the key queues it again.
                if let Err(error) = lookup.ask_again(&key, &RequestId::new()).await {
                    tracing::debug!(key.id = %key.id, error = error.chain(), "api key not checked again");
                }
            }
        })
        .await;
}

/// Applies key changes as they are pushed.
pub(crate) async fn follow_keys(lookup: &Lookup, bus: &Bus, trust: u64) -> Infallible {
    follow(lookup, bus, Bucket::KEYS, |_, value| {
        let change = KeyChange::decode(value).ok()?;
        apply(lookup, &change, trust)
    })
    .await
}

/// Applies new limits and suspensions as they are pushed.
pub(crate) async fn follow_tenants(lookup: &Lookup, bus: &Bus) -> Infallible {
    follow(lookup, bus, Bucket::TENANTS, |key, value| {
        let state = TenantState::decode(value).ok().filter(|state| state.tenant_id == key)?;
        apply_tenant(lookup, &state)
    })
    .await
}

async fn follow(
    lookup: &Lookup,
    bus: &Bus,
    bucket: Bucket,
    apply: impl Fn(&str, Bytes) -> Option<()>,
) -> Infallible {
    let mut watch = bus.push(bucket).watch();
    let mut told = false;
    loop {
        match watch.next().await {
            Change::Put { key, value } => {
                if apply(&key, value).is_none() {
                    bus.metrics().undecodable(bucket.name);
                    tracing::warn!(bucket = bucket.name, key, "pushed value not understood");
                }
            }
            // They vanish with time.
            Change::Delete { .. } => {}
            // Again: the watch was lost, and what was pushed meanwhile may be gone.
            Change::Current if told => lookup.memory.doubt_all(lookup.ticker.now()),
            Change::Current => told = true,
        }
    }
}

/// `None`: it makes no sense.
pub(crate) fn apply_tenant(lookup: &Lookup, state: &TenantState) -> Option<()> {
    let id: TenantId = state.tenant_id.parse().ok()?;
    let terms =
        Terms { version: state.version, limits: state.rate_limits.into(), suspended: state.suspended };
    if lookup.registry.pushed(id, terms) {
        // Its keys were unknown until now.
        lookup.memory.forget_unknown();
    }
    Some(())
}

/// `None`: it makes no sense.
pub(crate) fn apply(lookup: &Lookup, change: &KeyChange, trust: u64) -> Option<()> {
    let id: KeyId = change.key_id.parse().ok()?;
    if change.revoked {
        lookup.memory.revoke(id);
    } else {
        // Old enough to be asked about before its next use, young enough to serve should nobody answer.
        lookup.memory.doubt(id, lookup.ticker.now().saturating_sub(trust));
    }
    Some(())
}
