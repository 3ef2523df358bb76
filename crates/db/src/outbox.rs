//! What a change has to tell the world, written in the transaction of the change. `weir-outbox` publishes it.
//!
//! Rows of one key leave in the order they were written, given that whoever writes them holds a lock for that key:
//! the row that they are about, changed before.

use sqlx::PgConnection;
use uuid::Uuid;
use weir_types::{RequestContext, TenantId};

use crate::{BatchTx, Db, DbError, LookupTx, TenantTx};

/// The outboxes there are: one per service that has changes to tell. `weir.add_outbox` makes one in a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outbox {
    Control,
    Routing,
}

/// Something to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// A UUID of version 7; travels as `Nats-Msg-Id`.
    pub event_id: Uuid,
    /// Letters of one key, within their tenant, stay in order. At most 300 characters.
    pub key: String,
    /// Where to: of a stream, or `$KV.<bucket>.<key>`. At most 500 characters.
    pub subject: String,
    /// When it happened; Unix milliseconds.
    pub time_ms: i64,
    /// At most 512 KiB.
    pub payload: Vec<u8>,
}

/// A letter that a relay has taken: nobody else publishes it while the transaction lasts.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Taken {
    pub tenant_id: Uuid,
    pub key: String,
    pub seq: i64,
    pub event_id: Uuid,
    pub subject: String,
    pub payload: Vec<u8>,
    /// `traceparent` of the request behind it.
    pub trace: Option<String>,
    pub time_ms: i64,
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxState {
    /// 10,000 stands for more.
    pub waiting: i64,
    /// Milliseconds since the oldest was written; 0 when none waits.
    pub oldest_ms: i64,
}

/// A transaction within one tenant.
pub trait Scoped: Send {
    /// Whose rows it writes now, and the connection for statements.
    fn scope(&mut self) -> (Option<TenantId>, &mut PgConnection);
}

impl Scoped for TenantTx {
    fn scope(&mut self) -> (Option<TenantId>, &mut PgConnection) {
        (Some(self.tenant), &mut self.tx)
    }
}

impl Scoped for BatchTx {
    fn scope(&mut self) -> (Option<TenantId>, &mut PgConnection) {
        (self.tenant, &mut self.tx)
    }
}

macro_rules! per_outbox {
    ($outbox:expr, $before:literal, $after:literal) => {
        match $outbox {
            Outbox::Control => concat!($before, "control", $after),
            Outbox::Routing => concat!($before, "routing", $after),
        }
    };
}

impl Outbox {
    /// For logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        per_outbox!(self, "", "")
    }

    /// What PostgreSQL notifies when something was written.
    #[must_use]
    pub fn channel(self) -> &'static str {
        per_outbox!(self, "weir_outbox_", "")
    }

    /// Writes letters of the transaction's tenant; they go out once it is committed. The trace is the caller's.
    ///
    /// # Errors
    /// `TenantRequired` before a batch was switched to a tenant; `Unavailable`; a letter too large.
    pub async fn write(
        self,
        tx: &mut impl Scoped,
        ctx: &RequestContext,
        letters: &[Letter],
    ) -> Result<(), DbError> {
        let (tenant, conn) = tx.scope();
        let tenant = tenant.ok_or(DbError::TenantRequired)?;
        let trace = ctx.trace.map(|t| t.to_string());
        for letter in letters {
            sqlx::query(per_outbox!(
                self,
                "INSERT INTO ",
                ".outbox (tenant_id, key, event_id, subject, payload, trace, time_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)"
            ))
            .bind(tenant.0)
            .bind(&letter.key)
            .bind(letter.event_id)
            .bind(&letter.subject)
            .bind(&letter.payload)
            .bind(&trace)
            .bind(letter.time_ms)
            .execute(&mut *conn)
            .await?;
        }
        Ok(())
    }

    /// The oldest letters that no other relay holds, by order of writing; of each key a run from its first on.
    ///
    /// # Errors
    /// `Unavailable`; the transaction is not a service's.
    pub async fn take(self, tx: &mut LookupTx, max: i32) -> Result<Vec<Taken>, DbError> {
        let sql = per_outbox!(self, "SELECT * FROM ", ".outbox_take($1)");
        Ok(sqlx::query_as(sql).bind(max).fetch_all(tx.conn()).await?)
    }

    /// Forgets letters that were published and puts off those that were not. In the transaction that took them.
    ///
    /// # Errors
    /// `Unavailable`; nothing is settled, and all will be published again.
    pub async fn settle(self, tx: &mut LookupTx, published: &[i64], failed: &[i64]) -> Result<(), DbError> {
        let sql = per_outbox!(self, "SELECT ", ".outbox_settle($1, $2)");
        sqlx::query(sql).bind(published).bind(failed).execute(tx.conn()).await?;
        Ok(())
    }

    /// How much waits.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn state(self, db: &Db, ctx: &RequestContext) -> Result<OutboxState, DbError> {
        let mut tx = db.lookup(ctx).await?;
        let sql = per_outbox!(self, "SELECT waiting, oldest_ms FROM ", ".outbox_state()");
        let (waiting, oldest_ms) = sqlx::query_as(sql).fetch_one(tx.conn()).await?;
        tx.commit().await?;
        Ok(OutboxState { waiting, oldest_ms })
    }
}
