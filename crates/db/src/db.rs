//! The connection pool and the three ways into a transaction.

use std::{sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgPool, Postgres, Row as _, SqlSafeStr as _, Transaction,
    pool::PoolConnection, postgres::PgPoolOptions,
};
use tokio::time::{Instant, timeout_at};
use weir_types::{Principal, RequestContext, TenantId};

use crate::{BatchTx, DbConfig, DbError, Listener, LookupTx, TenantTx, error::is_transient, tx, verify};

/// A connection unused for this long is tried before it is trusted.
const STALE: Duration = Duration::from_secs(30);

/// A connection that comes back must carry nothing of the transaction it served: a `BEGIN` whose future was dropped
/// half-way leaves one open that nobody rolls back, and no session keeps a tenant.
const LEFT_OVER: &str = "SELECT coalesce(current_setting('app.open', true), '') \
     || coalesce(current_setting('app.tenant_id', true), '') <> ''";
/// The same behind a pooler, whose sessions are not ours to judge.
const OPEN: &str = "SELECT coalesce(current_setting('app.open', true), '') <> ''";

/// A pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    config: DbConfig,
}

/// Connections of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUsage {
    pub open: u32,
    pub idle: u32,
    pub max: u32,
}

impl Db {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn connect_lazy(config: &DbConfig) -> Result<Self, DbError> {
        let left_over = if config.pooler { OPEN } else { LEFT_OVER };
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout())
            .idle_timeout(Duration::from_millis(config.idle_timeout_ms))
            .max_lifetime(Duration::from_millis(config.max_lifetime_ms))
            .test_before_acquire(false)
            .before_acquire(|conn, meta| {
                Box::pin(async move {
                    if meta.idle_for > STALE {
                        conn.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_release(move |conn, _| {
                Box::pin(async move {
                    // In one message: behind a pooler, two outside a transaction may reach two servers.
                    let row = sqlx::raw_sql(left_over).fetch_one(&mut *conn).await?;
                    let found: bool = row.try_get(0)?;
                    Ok(!found)
                })
            })
            .connect_lazy_with(config.connect_options()?);
        Ok(Self(Arc::new(Inner { pool, config: config.clone() })))
    }

    /// Refuses a role that could see other tenants' rows, and a schema other than this version's.
    ///
    /// # Errors
    /// `Refused` with what to do about it; `Unavailable` when the database cannot be reached.
    pub async fn verify(&self) -> Result<(), DbError> {
        let conn = self.connection(None).await?;
        let mut tx = Transaction::begin(conn, Some(tx::begin(&self.0.config).into_sql_str())).await?;
        verify::verify(&mut tx).await?;
        Ok(tx.commit().await?)
    }

    /// One round trip.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn ping(&self) -> Result<(), DbError> {
        let within = self.0.config.acquire_timeout();
        let ping = async { Ok(self.connection(None).await?.execute("").await.map(drop)?) };
        tokio::time::timeout(within, ping).await.unwrap_or(Err(DbError::Unavailable(None)))
    }

    /// A transaction that sees the caller's tenant's rows only.
    ///
    /// # Errors
    /// `TenantRequired` for a caller outside any tenant; `Unavailable`; `DeadlineExceeded`.
    pub async fn tenant(&self, ctx: &RequestContext) -> Result<TenantTx, DbError> {
        let tenant = ctx.tenant.ok_or(DbError::TenantRequired)?;
        Ok(TenantTx { tx: self.begin(ctx, Some(tenant)).await?, tenant })
    }

    /// A transaction that sees nothing until [`BatchTx::switch`]. For consumers and timers.
    ///
    /// # Errors
    /// `ServiceRequired` for any caller but a service; `Unavailable`; `DeadlineExceeded`.
    pub async fn batch(&self, ctx: &RequestContext) -> Result<BatchTx, DbError> {
        if !matches!(ctx.principal, Principal::Service(_)) {
            return Err(DbError::ServiceRequired);
        }
        Ok(BatchTx { tx: self.begin(ctx, None).await?, tenant: None })
    }

    /// A transaction that sees no tenant's rows, only what `SECURITY DEFINER` functions answer.
    ///
    /// # Errors
    /// `Unavailable`; `DeadlineExceeded`.
    pub async fn lookup(&self, ctx: &RequestContext) -> Result<LookupTx, DbError> {
        Ok(LookupTx { tx: self.begin(ctx, None).await? })
    }

    /// Follows what PostgreSQL notifies on a channel, over a connection of its own. `None` behind a pooler, whose
    /// sessions cannot listen.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn listen(&self, channel: &str) -> Result<Option<Listener>, DbError> {
        if self.0.config.pooler {
            return Ok(None);
        }
        Listener::new(&self.0.config, channel).await.map(Some)
    }

    /// For metrics.
    #[must_use]
    pub fn usage(&self) -> PoolUsage {
        let pool = &self.0.pool;
        PoolUsage {
            open: pool.size(),
            idle: u32::try_from(pool.num_idle()).unwrap_or(u32::MAX),
            max: self.0.config.max_connections,
        }
    }

    /// Waits for open transactions and closes every connection.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    async fn connection(&self, until: Option<Instant>) -> Result<PoolConnection<Postgres>, DbError> {
        let until = until.unwrap_or_else(|| Instant::now() + self.0.config.acquire_timeout());
        match timeout_at(until, self.0.pool.acquire()).await {
            Ok(conn) => Ok(conn?),
            Err(_) => Err(DbError::Unavailable(None)),
        }
    }

    async fn begin(
        &self,
        ctx: &RequestContext,
        tenant: Option<TenantId>,
    ) -> Result<Transaction<'static, Postgres>, DbError> {
        let patience = self.0.config.acquire_timeout();
        let left = ctx.deadline.map_or(patience, |d| d.remaining());
        if left.is_zero() {
            return Err(DbError::DeadlineExceeded);
        }
        let until = Instant::now() + left.min(patience);
        // Connections are not tried before use. After a restart of the server every pooled one is dead: nothing has
        // run on it, so the next one is as good.
        let mut attempts = self.0.config.max_connections.saturating_add(1);
        loop {
            let conn = self.connection(Some(until)).await.map_err(|e| out_of_time(ctx, e))?;
            let sql = AssertSqlSafe(tx::begin_sql(&self.0.config, ctx, tenant));
            attempts -= 1;
            match timeout_at(until, Transaction::begin(conn, Some(sql.into_sql_str()))).await {
                Ok(Ok(tx)) => return Ok(tx),
                Ok(Err(error)) if attempts > 0 && is_transient(&error) => {
                    tracing::debug!(error = %error, "a pooled connection was dead");
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(out_of_time(ctx, DbError::Unavailable(None))),
            }
        }
    }
}

/// A wait that the caller's own deadline cut short is not the database's failure.
fn out_of_time(ctx: &RequestContext, error: DbError) -> DbError {
    let passed = ctx.deadline.is_some_and(|d| d.remaining().is_zero());
    if passed && matches!(error, DbError::Unavailable(_)) { DbError::DeadlineExceeded } else { error }
}
