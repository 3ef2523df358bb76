//! The three kinds of transaction. Read committed, like PostgreSQL's default.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Postgres, Transaction};
use weir_types::{Principal, RequestContext, TenantId};

use crate::{DbConfig, DbError};

/// One round trip opens the transaction with everything it needs. All values are ours: a UUID, numbers, and what kind
/// of principal acts, which functions over several tenants' rows ask for.
///
/// The tenant is always set, to nothing where there is none, so that no session's past can show through.
pub(crate) fn begin_sql(config: &DbConfig, ctx: &RequestContext, tenant: Option<TenantId>) -> String {
    let tenant = tenant.map(|t| t.to_string()).unwrap_or_default();
    let bound = u128::from(config.statement_timeout_ms);
    // No statement outlives its caller.
    let statement = ctx.deadline.map_or(bound, |d| d.remaining().as_millis().clamp(1, bound));
    let idle = config.idle_in_transaction_timeout_ms;
    let principal = match ctx.principal {
        Principal::Key { .. } => "key",
        Principal::Platform => "platform",
        Principal::Service(_) => "service",
    };
    let begin = begin(config);
    format!(
        "{begin}; SET LOCAL app.open = 'yes'; SET LOCAL app.tenant_id = '{tenant}'; \
         SET LOCAL app.principal = '{principal}'; SET LOCAL statement_timeout = {statement}; SET LOCAL idle_in_transaction_session_timeout = {idle}"
    )
}

/// The driver names its statements even with its cache off (sqlx 0.9: `persistent` is a property of each query).
/// Behind a pooler in transaction mode other clients' statements of the same names are still on the server
/// connection that this transaction happens to get; ours live no longer than the transaction.
pub(crate) fn begin(config: &DbConfig) -> &'static str {
    if config.pooler { "BEGIN; DEALLOCATE ALL" } else { "BEGIN" }
}

/// Sees and writes one tenant's rows.
#[derive(Debug)]
pub struct TenantTx {
    pub(crate) tx: Transaction<'static, Postgres>,
    pub(crate) tenant: TenantId,
}

impl TenantTx {
    /// For statements: `query(…).execute(tx.conn())`.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// # Errors
    /// The outcome is unknown when the connection broke meanwhile.
    pub async fn commit(self) -> Result<(), DbError> {
        Ok(self.tx.commit().await?)
    }

    /// Like dropping it, but waits.
    ///
    /// # Errors
    /// The connection broke, which rolls back as well.
    pub async fn rollback(self) -> Result<(), DbError> {
        Ok(self.tx.rollback().await?)
    }
}

/// Sees and writes the rows of the tenant it was last switched to.
#[derive(Debug)]
pub struct BatchTx {
    pub(crate) tx: Transaction<'static, Postgres>,
    pub(crate) tenant: Option<TenantId>,
}

impl BatchTx {
    /// From here on the transaction is this tenant's.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn switch(&mut self, tenant: TenantId) -> Result<(), DbError> {
        if self.tenant == Some(tenant) {
            return Ok(());
        }
        // Until it is done, and should it be cancelled, for no tenant at all is what we assume.
        self.tenant = None;
        self.tx.execute(AssertSqlSafe(format!("SET LOCAL app.tenant_id = '{tenant}'"))).await?;
        self.tenant = Some(tenant);
        Ok(())
    }

    /// For statements.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// Whose rows it sees now.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// # Errors
    /// The outcome is unknown when the connection broke meanwhile.
    pub async fn commit(self) -> Result<(), DbError> {
        Ok(self.tx.commit().await?)
    }

    /// Like dropping it, but waits.
    ///
    /// # Errors
    /// The connection broke, which rolls back as well.
    pub async fn rollback(self) -> Result<(), DbError> {
        Ok(self.tx.rollback().await?)
    }
}

/// Sees no tenant's rows. Its functions see all, and answer narrowly.
#[derive(Debug)]
pub struct LookupTx {
    pub(crate) tx: Transaction<'static, Postgres>,
}

impl LookupTx {
    /// For calls of lookup functions.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// # Errors
    /// The outcome is unknown when the connection broke meanwhile.
    pub async fn commit(self) -> Result<(), DbError> {
        Ok(self.tx.commit().await?)
    }
}
