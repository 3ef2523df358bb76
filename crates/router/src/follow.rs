//! Keeping the catalogue up to date: read from PostgreSQL, which is the truth, and told by push in between. Either of
//! the two may be away; with neither there are the settings.

use std::{convert::Infallible, sync::Arc, time::Duration};

use prost::Message as _;
use tokio::{sync::Notify, time::sleep};
use weir_db::DbError;
use weir_events::{Bucket, Bus, Change};
use weir_proto::router::AliasSet;
use weir_runtime::retry::Backoff;
use weir_types::RequestContext;

use crate::{
    catalogue::{Catalogue, read},
    store::Aliases,
};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How often everything is read while nobody pushes.
const UNTOLD: Duration = Duration::from_secs(30);
/// The same while somebody does: just in case.
const TOLD: Duration = Duration::from_secs(600);

pub(crate) struct Follower {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) store: Option<Aliases>,
    pub(crate) bus: Option<Bus>,
    /// The watch was lost: changes may have been missed.
    pub(crate) lost: Notify,
}

impl Follower {
    pub(crate) async fn run(&self) -> Infallible {
        tokio::select! {
            never = self.read_forever() => never,
            never = self.watch_forever() => never,
        }
    }

    async fn watch_forever(&self) -> Infallible {
        let Some(bus) = &self.bus else { return std::future::pending().await };
        let mut watch = bus.push(Bucket::CATALOGUE).watch();
        let mut told = false;
        loop {
            match watch.next().await {
                Change::Put { key, value } => {
                    let set = AliasSet::decode(value).ok().and_then(read);
                    match set.filter(|(tenant, _)| tenant.to_string() == key) {
                        Some(set) => self.apply([set]),
                        None => {
                            bus.metrics().undecodable(Bucket::CATALOGUE.name);
                            tracing::warn!(
                                bucket = Bucket::CATALOGUE.name,
                                key,
                                "pushed value not understood"
                            );
                        }
                    }
                }
                // Sets are emptied, never deleted.
                Change::Delete { .. } => {}
                Change::Current if told => self.lost.notify_one(),
                Change::Current => told = true,
            }
        }
    }

    async fn read_forever(&self) -> Infallible {
        let Some(store) = &self.store else { return std::future::pending().await };
        let ctx = RequestContext::service("router");
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        loop {
            let pause = match self.read_all(store, &ctx).await {
                Ok(()) => {
                    backoff.reset();
                    let told = self.bus.as_ref().is_some_and(Bus::connected);
                    if told { TOLD } else { UNTOLD }
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "aliases not read");
                    backoff.next()
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.lost.notified() => {}
                () = self.untold(pause) => {}
            }
        }
    }

    /// Once NATS goes away, the next look is sooner.
    async fn untold(&self, pause: Duration) {
        let Some(bus) = self.bus.as_ref().filter(|_| pause > UNTOLD) else {
            return std::future::pending().await;
        };
        // The sender lives as long as the client.
        if bus.link().wait_for(|l| !l.up).await.is_err() {
            return std::future::pending().await;
        }
        sleep(UNTOLD).await;
    }

    async fn read_all(&self, store: &Aliases, ctx: &RequestContext) -> Result<(), DbError> {
        let mut after = None;
        loop {
            let (sets, last) = store.page(ctx, after).await?;
            self.apply(sets);
            if last.is_none() {
                return Ok(());
            }
            after = last;
        }
    }

    fn apply(&self, sets: impl IntoIterator<Item = (weir_types::TenantId, crate::catalogue::Set)>) {
        let left_out = self.catalogue.apply(sets);
        if left_out > 0 {
            tracing::warn!(tenants = left_out, "too many tenants have aliases of their own");
        }
    }
}
