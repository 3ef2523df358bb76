//! Counting usage events: each once, however often it comes, and bad ones without harm to the others.

use weir_db::{Db, DbError, Effect, Inbox, Item};
use weir_events::{
    BatchHandler, InfrastructureDown, Outcome, Reason, ReasonCode, Received, usage::UsageEvent,
};
use weir_types::RequestContext;

pub(crate) struct Count<E> {
    pub(crate) db: Db,
    pub(crate) ctx: RequestContext,
    pub(crate) inbox: Inbox,
    pub(crate) effect: E,
}

impl<E: Effect<UsageEvent> + 'static> BatchHandler for Count<E> {
    async fn handle(&self, batch: &[Received]) -> Result<Vec<Outcome>, InfrastructureDown> {
        let mut outcomes = vec![Outcome::Ack; batch.len()];
        let (mut items, mut places) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for (place, received) in batch.iter().enumerate() {
            match UsageEvent::decode(received) {
                Ok(value) => {
                    items.push(Item { tenant: received.tenant, event_id: received.id, value });
                    places.push(place);
                }
                Err(why) => outcomes[place] = Outcome::DeadLetter(Reason::new(ReasonCode::Undecodable, why)),
            }
        }
        let applied = self.inbox.apply_once(&self.db, &self.ctx, &items, &self.effect).await;
        for (place, result) in places.into_iter().zip(applied.map_err(InfrastructureDown::new)?) {
            if let Err(error) = result {
                let why = words(&error);
                outcomes[place] = if error.is_about_data() {
                    Outcome::DeadLetter(Reason::new(ReasonCode::Rejected, why))
                } else {
                    Outcome::Retry(why)
                };
            }
        }
        Ok(outcomes)
    }
}

/// For the operator, who wants the database's own words too.
fn words(error: &DbError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}
