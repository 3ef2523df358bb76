//! `chat.responses` as clients read them.

use std::time::Duration;

use bytes::Bytes;
use sqlx::Row as _;
use uuid::Uuid;
use weir_db::{Db, DbError, LateDb};
use weir_types::{Principal, RequestContext};

use super::items::name_items;

/// Batches of events read at once, and bytes of them unless the first alone has more.
const BATCHES: i64 = 1_024;
const BATCH_BYTES: i64 = 256 * 1024;
/// An answer that is kept would be gone before it is read.
const AT_LEAST_DAYS: i32 = 1;

/// The table; nobody's until the database is there.
#[derive(Debug, Clone)]
pub(crate) struct Responses(Option<LateDb>);

/// A response as it is kept: JSON, but for its name.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) previous: Option<String>,
    pub(crate) status: String,
    pub(crate) background: bool,
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    pub(crate) object: Vec<u8>,
}

/// A turn of a conversation.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
}

/// A conversation, its oldest turn first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    pub(crate) turns: Vec<Turn>,
    /// The turn before the first of these: one that is gone, or too far back.
    pub(crate) before: Option<String>,
    pub(crate) bytes: usize,
}

/// Events in the order of their numbers.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) events: Bytes,
}

/// What is there after some event.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) batches: Vec<Batch>,
    /// No more will come.
    pub(crate) ended: bool,
    /// The number of the last one there was.
    pub(crate) last: Option<u64>,
    pub(crate) background: bool,
}

/// Bounds of a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) turns: u32,
    pub(crate) bytes: usize,
}

/// Whose responses a caller sees, all or whose: a user sees the user's own, a key without one what such keys made, the platform everything.
pub(super) fn seen(ctx: &RequestContext) -> (bool, Option<Uuid>) {
    (!matches!(ctx.principal, Principal::Key { .. }), user(ctx))
}

/// Whose a response is that this caller makes.
pub(super) fn user(ctx: &RequestContext) -> Option<Uuid> {
    ctx.user().map(|user| user.0)
}

impl Responses {
    pub(crate) fn new(db: Option<LateDb>) -> Self {
        Self(db)
    }

    /// # Errors
    /// `Unavailable` when there is no database, or not yet.
    pub(crate) fn db(&self) -> Result<&Db, DbError> {
        self.0.as_ref().ok_or(DbError::Unavailable(None))?.get()
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.0.is_some()
    }

    /// Whether something could be kept now.
    pub(crate) async fn is_there(&self, within: Duration) -> bool {
        let Ok(db) = self.db() else { return false };
        matches!(tokio::time::timeout(within, db.ping()).await, Ok(Ok(())))
    }

    /// The conversation up to a response, as far as the bounds go.
    pub(crate) async fn chain(&self, ctx: &RequestContext, id: &str, page: Page) -> Result<Chain, DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        let tenant = tx.tenant().0;
        let (all, user) = seen(ctx);
        let rows = sqlx::query(
            "WITH RECURSIVE chain AS ( \
                 SELECT r.id, r.previous_id, r.status, r.input, r.output, r.expires_at, 1 AS depth, \
                     octet_length(r.input)::bigint + octet_length(r.output) AS bytes \
                 FROM chat.responses r WHERE r.tenant_id = $1 AND r.id = $2 \
                     AND ($6 OR r.user_id IS NOT DISTINCT FROM $7) \
                 UNION ALL \
                 SELECT p.id, p.previous_id, p.status, p.input, p.output, p.expires_at, c.depth + 1, \
                     c.bytes + octet_length(p.input) + octet_length(p.output) \
                 FROM chain c JOIN chat.responses p ON p.tenant_id = $1 AND p.id = c.previous_id \
                     AND ($6 OR p.user_id IS NOT DISTINCT FROM $7) \
                 WHERE c.depth < $3 AND c.bytes < $4) \
             SELECT id, previous_id, status, input, output, bytes, expires_at < now() + make_interval(days => $5) AS old \
             FROM chain ORDER BY depth DESC",
        )
        .bind(tenant)
        .bind(id)
        .bind(i32::try_from(page.turns).unwrap_or(i32::MAX))
        .bind(i64::try_from(page.bytes).unwrap_or(i64::MAX))
        .bind(AT_LEAST_DAYS)
        .bind(all)
        .bind(user)
        .fetch_all(tx.conn())
        .await?;
        let mut chain = Chain::default();
        let mut old = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let turn = Turn {
                id: row.try_get("id")?,
                status: row.try_get("status")?,
                input: row.try_get("input")?,
                output: row.try_get("output")?,
            };
            if at == 0 {
                chain.before = row.try_get("previous_id")?;
                chain.bytes = usize::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(usize::MAX);
            }
            if row.try_get("old")? {
                old.push(turn.id.clone());
            }
            chain.turns.push(turn);
        }
        if !old.is_empty() {
            // The turn that is being made will need them.
            sqlx::query(
                "UPDATE chat.responses SET expires_at = now() + make_interval(days => $3) \
                 WHERE tenant_id = $1 AND id = ANY ($2)",
            )
            .bind(tenant)
            .bind(old)
            .bind(AT_LEAST_DAYS)
            .execute(tx.conn())
            .await?;
        }
        tx.commit().await?;
        Ok(chain)
    }

    /// Keeps one that has ended.
    pub(crate) async fn insert(&self, ctx: &RequestContext, kept: &Kept, days: u16) -> Result<(), DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        let tenant = tx.tenant().0;
        sqlx::query(
            "INSERT INTO chat.responses (tenant_id, id, previous_id, status, background, input, output, object, expires_at, user_id) \
             VALUES ($1, $2, $3, $4, false, $5, $6, $7, now() + make_interval(days => $8), $9) ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(&kept.id)
        .bind(&kept.previous)
        .bind(&kept.status)
        .bind(&kept.input)
        .bind(&kept.output)
        .bind(&kept.object)
        .bind(i32::from(days))
        .bind(user(ctx))
        .execute(tx.conn())
        .await?;
        name_items(tx.conn(), tenant, &kept.id, &kept.output).await?;
        tx.commit().await
    }

    pub(crate) async fn get(&self, ctx: &RequestContext, id: &str) -> Result<Option<Kept>, DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        let tenant = tx.tenant().0;
        let (all, user) = seen(ctx);
        let row = sqlx::query(
            "SELECT id, previous_id, status, background, input, output, object FROM chat.responses \
             WHERE tenant_id = $1 AND id = $2 AND ($3 OR user_id IS NOT DISTINCT FROM $4)",
        )
        .bind(tenant)
        .bind(id)
        .bind(all)
        .bind(user)
        .fetch_optional(tx.conn())
        .await?;
        tx.commit().await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Kept {
            id: row.try_get("id")?,
            previous: row.try_get("previous_id")?,
            status: row.try_get("status")?,
            background: row.try_get("background")?,
            input: row.try_get("input")?,
            output: row.try_get("output")?,
            object: row.try_get("object")?,
        }))
    }

    /// Whether there was one. Its events go with it.
    pub(crate) async fn delete(&self, ctx: &RequestContext, id: &str) -> Result<bool, DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        let tenant = tx.tenant().0;
        let (all, user) = seen(ctx);
        let gone = sqlx::query(
            "DELETE FROM chat.responses WHERE tenant_id = $1 AND id = $2 AND ($3 OR user_id IS NOT DISTINCT FROM $4)",
        )
            .bind(tenant)
            .bind(id)
            .bind(all)
            .bind(user)
            .execute(tx.conn())
            .await?;
        tx.commit().await?;
        Ok(gone.rows_affected() > 0)
    }

    /// Events from a number on, as many as are read at once. `None`: no such response.
    pub(crate) async fn events(
        &self,
        ctx: &RequestContext,
        id: &str,
        from: u64,
    ) -> Result<Option<Events>, DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        let tenant = tx.tenant().0;
        let (all, user) = seen(ctx);
        // First where it stands, then the events: what is written in between is seen, and not taken for the end.
        let row = sqlx::query(
            "SELECT background, sequence, status IN ('queued', 'in_progress') AS active FROM chat.responses \
             WHERE tenant_id = $1 AND id = $2 AND ($3 OR user_id IS NOT DISTINCT FROM $4)",
        )
        .bind(tenant)
        .bind(id)
        .bind(all)
        .bind(user)
        .fetch_optional(tx.conn())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let rows = sqlx::query(
            "SELECT first_sequence, last_sequence, events FROM ( \
                 SELECT first_sequence, last_sequence, events, row_number() OVER upto AS at, \
                     sum(octet_length(events)) OVER upto AS bytes \
                 FROM ( \
                     SELECT first_sequence, last_sequence, events FROM chat.response_events \
                     WHERE tenant_id = $1 AND response_id = $2 AND last_sequence >= $3 AND first_sequence >= coalesce( \
                         (SELECT max(first_sequence) FROM chat.response_events \
                          WHERE tenant_id = $1 AND response_id = $2 AND first_sequence <= $3), 0) \
                     ORDER BY first_sequence LIMIT $4) e \
                 WINDOW upto AS (ORDER BY first_sequence ROWS UNBOUNDED PRECEDING)) page \
             WHERE at = 1 OR bytes <= $5 ORDER BY first_sequence",
        )
        .bind(tenant)
        .bind(id)
        .bind(signed(from))
        .bind(BATCHES)
        .bind(BATCH_BYTES)
        .fetch_all(tx.conn())
        .await?;
        tx.commit().await?;
        let mut batches = Vec::with_capacity(rows.len());
        for row in rows {
            batches.push(Batch {
                first: unsigned(row.try_get("first_sequence")?),
                last: unsigned(row.try_get("last_sequence")?),
                events: row.try_get::<Vec<u8>, _>("events")?.into(),
            });
        }
        let active: bool = row.try_get("active")?;
        let last = u64::try_from(row.try_get::<i64, _>("sequence")?).ok();
        Ok(Some(Events { batches, ended: !active, last, background: row.try_get("background")? }))
    }

    /// Forgets what has expired, a few hundred at a time. Says how many.
    pub(crate) async fn prune(&self, ctx: &RequestContext) -> Result<u64, DbError> {
        const AT_ONCE: i64 = 200;
        self.forget(ctx, "SELECT chat.prune_responses($1::integer)", &[AT_ONCE]).await
    }

    /// Forgets the events of runs that ended so many seconds ago. Says of how many.
    pub(crate) async fn prune_events(&self, ctx: &RequestContext, after_s: u32) -> Result<u64, DbError> {
        const AT_ONCE: i64 = 20;
        let sql = "SELECT chat.prune_response_events($2, $1::integer)";
        self.forget(ctx, sql, &[AT_ONCE, i64::from(after_s)]).await
    }

    /// Until there is no more to forget.
    async fn forget(&self, ctx: &RequestContext, sql: &'static str, args: &[i64]) -> Result<u64, DbError> {
        let mut total = 0;
        loop {
            let mut tx = self.db()?.lookup(ctx).await?;
            let query = args.iter().fold(sqlx::query_scalar(sql), |query, arg| query.bind(*arg));
            let gone: i64 = query.fetch_one(tx.conn()).await?;
            tx.commit().await?;
            total += unsigned(gone);
            if gone == 0 {
                return Ok(total);
            }
            // Others want the disk too.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
