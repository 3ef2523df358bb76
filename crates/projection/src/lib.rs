//! Tables built from usage events: what the services that keep some have in common. A service says which rows an
//! event adds to (an [`weir_db::Effect`]); here is everything around it.

mod count;
mod hours;
mod inbox_days;

use weir_db::{Db, Effect, Inbox};
use weir_events::{Bus, ConsumerConfig, USAGE, consume, usage::UsageEvent};
use weir_runtime::{OnFailure, Tasks};
use weir_types::RequestContext;

pub use hours::Hours;
pub use inbox_days::InboxDays;

/// What one service builds from usage events.
#[derive(Debug, Clone)]
pub struct Projection<E> {
    /// Whom it acts as.
    pub service: &'static str,
    /// Name of its consumer on NATS, and of the task.
    pub consumer: &'static str,
    /// The kinds of events it counts; others are skipped.
    pub kinds: &'static [&'static str],
    pub inbox: Inbox,
    pub inbox_days: InboxDays,
    /// Name of the task that forgets old inbox rows.
    pub prune_task: &'static str,
    /// Which rows events add to.
    pub effect: E,
}

impl<E: Effect<UsageEvent> + 'static> Projection<E> {
    /// Starts counting, and forgetting old inbox rows.
    pub fn spawn(self, db: &Db, bus: &Bus, tasks: &Tasks) {
        let ctx = RequestContext::service(self.service);
        let handler =
            count::Count { db: db.clone(), ctx: ctx.clone(), inbox: self.inbox, effect: self.effect };
        let config = ConsumerConfig::new(USAGE, self.consumer, "weir.usage.>", self.kinds);
        consume(bus, config, handler, tasks);

        let (db, shutdown) = (db.clone(), tasks.shutdown());
        tasks.spawn(self.prune_task, OnFailure::Log, async move {
            tokio::select! {
                never = self.inbox.prune_daily(&db, &ctx, self.inbox_days.get()) => match never {},
                () = shutdown.cancelled() => {}
            }
        });
    }
}
