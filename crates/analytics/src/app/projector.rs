//! Adding usage events to the read models.

use weir_db::{Db, Inbox, Item};
use weir_events::{BatchHandler, InfrastructureDown, Outcome, Received, usage::UsageEvent};
use weir_types::RequestContext;

use crate::store::Hourly;

pub(crate) struct Projector {
    db: Db,
    ctx: RequestContext,
}

impl Projector {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, ctx: RequestContext::service("analytics") }
    }
}

impl BatchHandler for Projector {
    async fn handle(&self, batch: &[Received]) -> Result<Vec<Outcome>, InfrastructureDown> {
        let mut outcomes = vec![Outcome::Ack; batch.len()];
        let (mut items, mut places) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for (place, received) in batch.iter().enumerate() {
            match UsageEvent::decode(received) {
                Ok(value) => {
                    items.push(Item { tenant: received.tenant, event_id: received.id, value });
                    places.push(place);
                }
                Err(reason) => outcomes[place] = Outcome::DeadLetter(reason),
            }
        }
        let applied = Inbox::Analytics.apply_once(&self.db, &self.ctx, &items, &Hourly).await;
        for (place, result) in places.into_iter().zip(applied.map_err(InfrastructureDown::new)?) {
            if let Err(error) = result {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                outcomes[place] = Outcome::DeadLetter(format!("{error}: {}", cause.unwrap_or_default()));
            }
        }
        Ok(outcomes)
    }
}
