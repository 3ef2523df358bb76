//! Work beside requests: checking remembered keys again, and following revocations.

use std::{convert::Infallible, sync::Arc};

use futures_util::{StreamExt as _, stream};
use prost::Message as _;
use tokio::sync::mpsc;
use weir_events::{Bus, Change};
use weir_proto::control::KeyChange;
use weir_types::{KeyId, RequestId};

use crate::{lookup::Lookup, memory::Presented};

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
pub(crate) async fn follow(lookup: Arc<Lookup>, bus: Bus, trust: u64) -> Infallible {
    let mut watch = bus.key_changes().watch();
    loop {
        if let Change::Put { key, value } = watch.next().await {
            match KeyChange::decode(value) {
                Ok(change) => apply(&lookup, &change, trust),
                Err(error) => tracing::warn!(key.id = key, error = %error, "key change not understood"),
            }
        }
    }
}

pub(crate) fn apply(lookup: &Lookup, change: &KeyChange, trust: u64) {
    let Ok(id) = change.key_id.parse::<KeyId>() else {
        tracing::warn!(key.id = change.key_id, "key change names no key");
        return;
    };
    if change.revoked {
        lookup.memory.revoke(id);
    } else {
        // Old enough to be asked about before its next use, young enough to serve should nobody answer.
        lookup.memory.doubt(id, lookup.ticker.now().saturating_sub(trust));
    }
}
