//! `chat.responses` and `chat.response_events` as those write them who run them in the background.

use std::time::Duration;

use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;
use weir_db::DbError;
use weir_types::{RequestContext, TenantId};

use super::{
    Batch, Kept, Responses,
    items::name_items,
    responses::{seen, signed, unsigned, user},
};

/// Any number that nobody else locks by.
const TENANT_LOCK: i64 = 0x7765_6972_7265_7370;

/// A run as it begins.
#[derive(Debug)]
pub(crate) struct Begin<'a> {
    pub(crate) kept: &'a Kept,
    pub(crate) job: Vec<u8>,
    pub(crate) events: Batch,
    pub(crate) owner: Uuid,
    pub(crate) lease: Duration,
    pub(crate) days: u16,
    /// Runs that a tenant may have at once.
    pub(crate) most: u32,
}

/// A run of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Mine {
    pub(crate) tenant: TenantId,
    pub(crate) id: String,
    pub(crate) run: i32,
}

/// A run that was taken over.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) mine: Mine,
    pub(crate) job: Vec<u8>,
    /// How often whoever ran it was lost.
    pub(crate) crashes: i32,
    /// It is to be cancelled.
    pub(crate) cancelling: bool,
}

/// What a run has come to.
#[derive(Debug, Default)]
pub(crate) struct Write {
    pub(crate) status: Option<&'static str>,
    pub(crate) object: Option<Vec<u8>>,
    pub(crate) output: Option<Vec<u8>>,
    /// Output is among the events.
    pub(crate) started: bool,
    /// Nothing more will come.
    pub(crate) ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Done,
    /// It is no longer ours: cancelled, deleted, or somebody else's.
    Lost,
}

/// A run that is held, for ending it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) kept: Kept,
    pub(crate) active: bool,
    pub(crate) run: i32,
    pub(crate) next: u64,
    /// Of all events so far.
    pub(crate) event_bytes: usize,
}

/// Why a run is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Somebody else is to have it.
    ToOthers,
    /// Nobody runs it, and nobody knows why.
    Astray,
}

/// Whether the server gave a statement up, rather than not being there.
pub(crate) fn took_too_long(error: &DbError) -> bool {
    const QUERY_CANCELED: &str = "57014";
    let DbError::Unavailable(Some(sqlx::Error::Database(error))) = error else { return false };
    error.code().as_deref() == Some(QUERY_CANCELED)
}

impl Responses {
    /// `false`: the tenant has as many as it may.
    pub(crate) async fn begin(&self, ctx: &RequestContext, begin: Begin<'_>) -> Result<bool, DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        let tenant = tx.tenant().0;
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::text, $2))")
            .bind(tenant.to_string())
            .bind(TENANT_LOCK)
            .execute(tx.conn())
            .await?;
        let kept = begin.kept;
        let made = sqlx::query(
            "INSERT INTO chat.responses (tenant_id, id, previous_id, status, background, input, output, object, \
                 expires_at, owner, lease_until, job, sequence, event_bytes, user_id) \
             SELECT $1, $2, $3, 'queued', true, $4, $5, $6, now() + make_interval(days => $7), $8, \
                 now() + $9 * interval '1 millisecond', $10, $11, $12, $14 \
             WHERE (SELECT count(*) FROM chat.responses \
                 WHERE tenant_id = $1 AND status IN ('queued', 'in_progress')) < $13",
        )
        .bind(tenant)
        .bind(&kept.id)
        .bind(&kept.previous)
        .bind(&kept.input)
        .bind(&kept.output)
        .bind(&kept.object)
        .bind(i32::from(begin.days))
        .bind(begin.owner)
        .bind(millis(begin.lease))
        .bind(begin.job)
        .bind(signed(begin.events.last))
        .bind(i64::try_from(begin.events.events.len()).unwrap_or(i64::MAX))
        .bind(i64::from(begin.most))
        .bind(user(ctx))
        .execute(tx.conn())
        .await?;
        if made.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("INSERT INTO chat.response_events VALUES ($1, $2, $3, $4, $5)")
            .bind(tenant)
            .bind(&kept.id)
            .bind(signed(begin.events.first))
            .bind(signed(begin.events.last))
            .bind(&begin.events.events[..])
            .execute(tx.conn())
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Adds events to a run of ours, and what they make of it. Doing so again changes nothing: whether a commit that
    /// broke off happened need not be known.
    pub(crate) async fn write(
        &self,
        ctx: &RequestContext,
        mine: &Mine,
        batch: &Batch,
        write: &Write,
    ) -> Result<Written, DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        let added = sqlx::query(
            "WITH mine AS ( \
                 UPDATE chat.responses SET status = coalesce($4, status), object = coalesce($5, object), \
                     output = coalesce($6, output), sequence = $8, event_bytes = event_bytes + octet_length($12), \
                     started = started OR $10, \
                     ended_at = CASE WHEN $11 THEN now() END, \
                     owner = CASE WHEN $11 THEN NULL ELSE owner END, \
                     lease_until = CASE WHEN $11 THEN NULL ELSE lease_until END, \
                     job = CASE WHEN $11 THEN NULL ELSE job END \
                 WHERE tenant_id = $1 AND id = $2 AND run = $3 AND sequence = $9 \
                     AND status IN ('queued', 'in_progress') RETURNING 1) \
             INSERT INTO chat.response_events (tenant_id, response_id, first_sequence, last_sequence, events) \
             SELECT $1, $2, $7, $8, $12 FROM mine",
        )
        .bind(mine.tenant.0)
        .bind(&mine.id)
        .bind(mine.run)
        .bind(write.status)
        .bind(&write.object)
        .bind(&write.output)
        .bind(signed(batch.first))
        .bind(signed(batch.last))
        .bind(signed(batch.first) - 1)
        .bind(write.started)
        .bind(write.ended)
        .bind(&batch.events[..])
        .execute(tx.conn())
        .await?;
        let mut done = added.rows_affected() > 0;
        if !done {
            done = sqlx::query_scalar(
                "SELECT run = $3 AND sequence = $4 FROM chat.responses WHERE tenant_id = $1 AND id = $2",
            )
            .bind(mine.tenant.0)
            .bind(&mine.id)
            .bind(mine.run)
            .bind(signed(batch.last))
            .fetch_optional(tx.conn())
            .await?
            .unwrap_or(false);
        } else if let Some(output) = &write.output {
            name_items(tx.conn(), mine.tenant.0, &mine.id, output).await?;
        }
        tx.commit().await?;
        Ok(if done { Written::Done } else { Written::Lost })
    }

    /// Takes one from whoever runs it, to be ended. `None`: it has ended, or there is none.
    pub(crate) async fn seize(
        &self,
        ctx: &RequestContext,
        id: &str,
        owner: Uuid,
        lease: Duration,
    ) -> Result<Option<Mine>, DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        let tenant = tx.tenant();
        let (all, whose) = seen(ctx);
        let row = sqlx::query(
            "UPDATE chat.responses SET run = run + 1, owner = $3, started = true, cancelling = true, \
                 lease_until = now() + $4 * interval '1 millisecond' \
             WHERE tenant_id = $1 AND id = $2 AND status IN ('queued', 'in_progress') \
                 AND ($5 OR user_id IS NOT DISTINCT FROM $6) RETURNING tenant_id, id, run",
        )
        .bind(tenant.0)
        .bind(id)
        .bind(owner)
        .bind(millis(lease))
        .bind(all)
        .bind(whose)
        .fetch_optional(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(row.as_ref().map(mine).transpose()?)
    }

    /// One as it stands, for whoever would end it or go on with it. `None`: there is none.
    pub(crate) async fn held(&self, ctx: &RequestContext, id: &str) -> Result<Option<Held>, DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        let tenant = tx.tenant().0;
        let row = sqlx::query(
            "SELECT id, previous_id, status, background, input, output, object, run, sequence, event_bytes, \
                 status IN ('queued', 'in_progress') AS active \
             FROM chat.responses WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant)
        .bind(id)
        .fetch_optional(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(row.as_ref().map(held).transpose()?)
    }

    /// Renews our leases. Says what we still run.
    pub(crate) async fn renew(
        &self,
        ctx: &RequestContext,
        owner: Uuid,
        lease: Duration,
    ) -> Result<Vec<Mine>, DbError> {
        let mut tx = self.db()?.lookup(ctx).await?;
        let rows = sqlx::query("SELECT tenant_id, id, run FROM chat.renew_responses($1, $2)")
            .bind(owner)
            .bind(millis(lease))
            .fetch_all(tx.conn())
            .await?;
        tx.commit().await?;
        rows.iter().map(|row| Ok(mine(row)?)).collect()
    }

    /// Takes what others have left, or have lost unless `only_left`.
    pub(crate) async fn take(
        &self,
        ctx: &RequestContext,
        owner: Uuid,
        lease: Duration,
        with_output: bool,
        only_left: bool,
        most: u32,
    ) -> Result<Vec<Taken>, DbError> {
        let mut tx = self.db()?.lookup(ctx).await?;
        let sql = "SELECT tenant_id, id, run, job, crashes, cancelling \
                   FROM chat.take_responses($1, $2, $3, $4, $5)";
        let rows = sqlx::query(sql)
            .bind(owner)
            .bind(millis(lease))
            .bind(with_output)
            .bind(only_left)
            .bind(i32::try_from(most).unwrap_or(i32::MAX))
            .fetch_all(tx.conn())
            .await?;
        tx.commit().await?;
        let taken = |row: &PgRow| -> Result<Taken, DbError> {
            let job: Option<Vec<u8>> = row.try_get("job")?;
            Ok(Taken {
                mine: mine(row)?,
                job: job.unwrap_or_default(),
                crashes: row.try_get("crashes")?,
                cancelling: row.try_get("cancelling")?,
            })
        };
        rows.iter().map(taken).collect()
    }

    /// Leaves a run to whoever takes it.
    pub(crate) async fn release(&self, ctx: &RequestContext, mine: &Mine, left: Left) -> Result<(), DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        sqlx::query(
            "UPDATE chat.responses SET owner = NULL, lease_until = '-infinity', crashes = crashes + $4 \
             WHERE tenant_id = $1 AND id = $2 AND run = $3 AND status IN ('queued', 'in_progress')",
        )
        .bind(mine.tenant.0)
        .bind(&mine.id)
        .bind(mine.run)
        .bind(i32::from(left == Left::Astray))
        .execute(tx.conn())
        .await?;
        tx.commit().await
    }
}

fn mine(row: &PgRow) -> Result<Mine, sqlx::Error> {
    Ok(Mine { tenant: TenantId(row.try_get("tenant_id")?), id: row.try_get("id")?, run: row.try_get("run")? })
}

fn held(row: &PgRow) -> Result<Held, sqlx::Error> {
    Ok(Held {
        kept: Kept {
            id: row.try_get("id")?,
            previous: row.try_get("previous_id")?,
            status: row.try_get("status")?,
            background: row.try_get("background")?,
            input: row.try_get("input")?,
            output: row.try_get("output")?,
            object: row.try_get("object")?,
        },
        active: row.try_get("active")?,
        run: row.try_get("run")?,
        next: unsigned(row.try_get::<i64, _>("sequence")? + 1),
        event_bytes: usize::try_from(row.try_get::<i64, _>("event_bytes")?).unwrap_or_default(),
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
