//! Dead letters, for the platform's operator. What is done to one is told to the audit log.

use std::{sync::Arc, time::Duration};

use weir_error::{Code, Error};
use weir_events::{
    Bulk, Bus, DeadLetter, DeadLetterError, DeadLetters as Queue, Deed, Filter, LetterId, Operator, Page,
};
use weir_types::{Clock, RequestContext};

use super::{changes::actor, require_platform, validate};

const DEFAULT_BULK: usize = 100;
const MAX_BULK: usize = 1_000;
const COUNT_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct DeadLetters {
    queue: Queue,
    clock: Arc<dyn Clock>,
}

impl DeadLetters {
    pub(crate) fn new(bus: &Bus, clock: Arc<dyn Clock>) -> Self {
        Self { queue: bus.dead_letters(), clock }
    }

    /// Oldest first.
    pub(crate) async fn list(
        &self,
        ctx: &RequestContext,
        filter: &Filter,
        after: &str,
        limit: u32,
    ) -> Result<Page, Error> {
        require_platform(ctx)?;
        let limit = validate::limit(limit)?;
        let after =
            match after {
                "" => None,
                text => Some(text.parse::<LetterId>().map_err(|_| {
                    Error::invalid("after", "after must be the next_cursor of an earlier page")
                })?),
            };
        self.queue.list(filter, after, limit).await.map_err(refused)
    }

    pub(crate) async fn get(&self, ctx: &RequestContext, id: &str) -> Result<DeadLetter, Error> {
        require_platform(ctx)?;
        self.queue.get(letter_id(id)?).await.map_err(refused)
    }

    pub(crate) async fn one(&self, ctx: &RequestContext, deed: Deed, id: &str) -> Result<DeadLetter, Error> {
        require_platform(ctx)?;
        self.queue.one(deed, letter_id(id)?, &self.operator(ctx)).await.map_err(refused)
    }

    pub(crate) async fn many(
        &self,
        ctx: &RequestContext,
        deed: Deed,
        filter: &Filter,
        limit: u32,
    ) -> Result<Bulk, Error> {
        require_platform(ctx)?;
        let limit = match usize::try_from(limit) {
            Ok(0) => DEFAULT_BULK,
            Ok(limit) if limit <= MAX_BULK => limit,
            _ => return Err(Error::invalid("limit", format!("limit must be between 1 and {MAX_BULK}"))),
        };
        let bulk = self.queue.all(deed, filter, limit, &self.operator(ctx)).await.map_err(refused)?;
        match bulk.error {
            Some(error) if bulk.done == 0 => Err(refused(error)),
            // What was done is the answer, and that there is more.
            _ => Ok(bulk),
        }
    }

    fn operator(&self, ctx: &RequestContext) -> Operator {
        Operator { actor: Some(actor(ctx)), clock: self.clock.clone(), deadline: ctx.deadline }
    }

    /// Keeps the gauge of waiting letters, until dropped.
    pub(crate) async fn watch_depth(&self) {
        loop {
            if let Err(error) = self.queue.depth().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "dead letters not counted");
            }
            tokio::time::sleep(COUNT_EVERY).await;
        }
    }
}

fn not_found() -> Error {
    Error::new(Code::NotFound, "no such dead letter")
}

fn letter_id(text: &str) -> Result<LetterId, Error> {
    text.parse().map_err(|_| not_found())
}

fn refused(error: DeadLetterError) -> Error {
    match error {
        DeadLetterError::NotFound => not_found(),
        DeadLetterError::Filter { field: "tenant" } => {
            Error::invalid("tenant_id", "no tenant has such an id")
        }
        DeadLetterError::Filter { field } => Error::invalid(field, format!("no {field} has such a name")),
        DeadLetterError::Refused(text) => Error::new(Code::Conflict, text),
        DeadLetterError::Unavailable(_) => Error::unavailable("events are unavailable").with_source(error),
    }
}
