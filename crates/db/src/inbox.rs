//! Effects that happen once: a consumer's inbox remembers the ids of events in the transaction of their effect.
//!
//! An item with bad data is found by halving the batch, so that it holds up no other.

use std::{collections::HashSet, convert::Infallible, future::Future, ops::Range, time::Duration};

use sqlx::PgConnection;
use uuid::Uuid;
use weir_types::{RequestContext, TenantId};

use crate::{Db, DbError};

const DAY: Duration = Duration::from_secs(86_400);

/// The inboxes there are: one per consumer that writes to PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbox {
    Billing,
    Analytics,
}

/// An event for one tenant.
#[derive(Debug, Clone)]
pub struct Item<T> {
    pub tenant: TenantId,
    pub event_id: Uuid,
    pub value: T,
}

/// What events do.
pub trait Effect<T>: Send + Sync {
    /// Writes the effect of one tenant's events, none of them seen before. Never called with none. To keep clear of
    /// deadlocks, rows are written in the order of their keys.
    ///
    /// # Errors
    /// A failed statement undoes everything, and is put down to one of the events if it was about its values.
    fn apply(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        fresh: &[&T],
    ) -> impl Future<Output = Result<(), DbError>> + Send;
}

impl Inbox {
    fn claim(self) -> &'static str {
        match self {
            Self::Billing => {
                "INSERT INTO billing.inbox (tenant_id, event_id) SELECT $1, unnest($2::uuid[]) \
                 ON CONFLICT DO NOTHING RETURNING event_id"
            }
            Self::Analytics => {
                "INSERT INTO analytics.inbox (tenant_id, event_id) SELECT $1, unnest($2::uuid[]) \
                 ON CONFLICT DO NOTHING RETURNING event_id"
            }
        }
    }

    fn prune_call(self) -> &'static str {
        match self {
            Self::Billing => "SELECT billing.prune_inbox($1, $2)",
            Self::Analytics => "SELECT analytics.prune_inbox($1, $2)",
        }
    }

    /// Applies each event once, however often it comes; all that are new in one transaction. One result per item,
    /// in order: an error says that this item could not be stored, whether for ever ([`DbError::is_about_data`]) or
    /// for now.
    ///
    /// # Errors
    /// The database is away, or no item is to blame. Some items may have had their effect; they will not have it
    /// again.
    pub async fn apply_once<T, E>(
        self,
        db: &Db,
        ctx: &RequestContext,
        items: &[Item<T>],
        effect: &E,
    ) -> Result<Vec<Result<(), DbError>>, DbError>
    where
        T: Send + Sync,
        E: Effect<T>,
    {
        let mut results: Vec<_> = items.iter().map(|_| Ok(())).collect();
        let mut ranges: Vec<_> = std::iter::once(0..items.len()).collect();
        while let Some(range) = ranges.pop() {
            match self.transaction(db, ctx, &items[range.clone()], effect).await {
                Ok(()) => {}
                Err(error) if !error.is_about_values() => return Err(error),
                Err(error) if range.len() == 1 => results[range.start] = Err(error),
                Err(_) => ranges.extend(halves(range)),
            }
        }
        Ok(results)
    }

    async fn transaction<T, E>(
        self,
        db: &Db,
        ctx: &RequestContext,
        items: &[Item<T>],
        effect: &E,
    ) -> Result<(), DbError>
    where
        T: Send + Sync,
        E: Effect<T>,
    {
        // Everyone takes locks in this order.
        let mut sorted: Vec<_> = items.iter().collect();
        sorted.sort_by_key(|i| (i.tenant, i.event_id));
        let mut tx = db.batch(ctx).await?;
        for group in sorted.chunk_by(|a, b| a.tenant == b.tenant) {
            let Some(tenant) = group.first().map(|i| i.tenant) else { continue };
            tx.switch(tenant).await?;
            let ids: Vec<_> = group.iter().map(|i| i.event_id).collect();
            let claimed: Vec<Uuid> =
                sqlx::query_scalar(self.claim()).bind(tenant.0).bind(ids).fetch_all(tx.conn()).await?;
            let mut claimed: HashSet<_> = claimed.into_iter().collect();
            // Taken out as it is used: an event may be in the batch twice.
            let fresh: Vec<_> =
                group.iter().filter(|i| claimed.remove(&i.event_id)).map(|i| &i.value).collect();
            if !fresh.is_empty() {
                effect.apply(tx.conn(), tenant, &fresh).await?;
            }
        }
        tx.commit().await
    }

    /// Forgets events older than `keep_days`, a thousand at a time until there are none. Says how many.
    ///
    /// # Errors
    /// The database is away.
    pub async fn prune(self, db: &Db, ctx: &RequestContext, keep_days: u16) -> Result<u64, DbError> {
        const AT_ONCE: i32 = 1_000;
        let mut total = 0;
        loop {
            let mut tx = db.lookup(ctx).await?;
            let gone: i64 = sqlx::query_scalar(self.prune_call())
                .bind(i32::from(keep_days))
                .bind(AT_ONCE)
                .fetch_one(tx.conn())
                .await?;
            tx.commit().await?;
            total += u64::try_from(gone).unwrap_or(0);
            if gone < i64::from(AT_ONCE) {
                return Ok(total);
            }
            // Others want the disk too.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// [`Inbox::prune`] now and once a day, until dropped. A day missed is made up for on the next.
    pub async fn prune_daily(self, db: &Db, ctx: &RequestContext, keep_days: u16) -> Infallible {
        let mut day = tokio::time::interval(DAY);
        loop {
            day.tick().await;
            match self.prune(db, ctx, keep_days).await {
                Ok(rows) => tracing::info!(rows, "old inbox rows forgotten"),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old inbox rows not forgotten");
                }
            }
        }
    }
}

fn halves(range: Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [range.start..middle, middle..range.end]
}
