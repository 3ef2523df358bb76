//! `routing.aliases`.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use uuid::Uuid;
use weir_db::{Db, DbError, Letter, Outbox, TenantTx};
use weir_types::{RequestContext, TenantId};

use crate::{AliasTarget, catalogue::Set};

/// Tenants read at once.
const PAGE: i32 = 500;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) target: AliasTarget,
    pub(crate) updated_at_ms: i64,
}

type Columns = (String, String, Option<String>, i64);

fn row((name, model, provider, updated_at_ms): Columns) -> Row {
    Row { name, target: AliasTarget { model, provider }, updated_at_ms }
}

/// All aliases of one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub(crate) version: u64,
    pub(crate) rows: Vec<Row>,
}

impl Rows {
    pub(crate) fn set(&self) -> Set {
        let aliases = self.rows.iter().map(|r| (r.name.clone(), r.target.clone())).collect();
        Set { version: self.version, aliases }
    }
}

/// A transaction in which one tenant's aliases change, and nobody else changes them.
pub(crate) struct Change {
    tx: TenantTx,
    version: i64,
}

/// The router starts and decides without a database, so nothing was looked at before the first use.
#[derive(Clone)]
pub(crate) struct Aliases {
    db: Db,
    verified: Arc<AtomicBool>,
}

impl Aliases {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, verified: Arc::default() }
    }

    /// # Errors
    /// Also when the login could see every tenant, or migrations are pending.
    async fn db(&self) -> Result<&Db, DbError> {
        if !self.verified.load(Ordering::Acquire) {
            self.db.verify().await?;
            self.verified.store(true, Ordering::Release);
        }
        Ok(&self.db)
    }

    /// The aliases of the tenant that `ctx` acts for, by name, those after `after`.
    pub(crate) async fn list(
        &self,
        ctx: &RequestContext,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Row>, DbError> {
        let mut tx = self.db().await?.tenant(ctx).await?;
        let tenant = tx.tenant();
        let rows: Vec<Columns> = sqlx::query_as(
            "SELECT name, model, provider, updated_at_ms FROM routing.aliases \
             WHERE tenant_id = $1 AND ($2::text IS NULL OR name COLLATE \"C\" > $2) \
             ORDER BY name COLLATE \"C\" LIMIT $3",
        )
        .bind(tenant.0)
        .bind(after)
        .bind(limit)
        .fetch_all(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(row).collect())
    }

    /// Begins a change of the aliases of the tenant that `ctx` acts for.
    pub(crate) async fn change(&self, ctx: &RequestContext) -> Result<Change, DbError> {
        let mut tx = self.db().await?.tenant(ctx).await?;
        let tenant = tx.tenant();
        // Locks the row: versions and what is told of them are in one order. Microseconds, so that they grow even where
        // the database has forgotten versions that were told.
        let version: i64 = sqlx::query_scalar(
            "INSERT INTO routing.alias_sets VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) \
             ON CONFLICT (tenant_id) DO UPDATE SET version = greatest(alias_sets.version + 1, excluded.version) \
             RETURNING version",
        )
        .bind(tenant.0)
        .fetch_one(tx.conn())
        .await?;
        Ok(Change { tx, version })
    }

    /// Begins a look at the aliases of the tenant that `ctx` acts for, which nobody changes meanwhile. `None` when it
    /// never had any.
    pub(crate) async fn hold(&self, ctx: &RequestContext) -> Result<Option<Change>, DbError> {
        let mut tx = self.db().await?.tenant(ctx).await?;
        let tenant = tx.tenant();
        let version: Option<i64> =
            sqlx::query_scalar("SELECT version FROM routing.alias_sets WHERE tenant_id = $1 FOR UPDATE")
                .bind(tenant.0)
                .fetch_optional(tx.conn())
                .await?;
        Ok(version.map(|version| Change { tx, version }))
    }

    /// Everybody's aliases, page by page: those of tenants after `after`. The last tenant of a page, if there may be
    /// more.
    pub(crate) async fn page(
        &self,
        ctx: &RequestContext,
        after: Option<TenantId>,
    ) -> Result<(HashMap<TenantId, Set>, Option<TenantId>), DbError> {
        type All = (Uuid, i64, Option<String>, Option<String>, Option<String>);
        let mut tx = self.db().await?.lookup(ctx).await?;
        let rows: Vec<All> = sqlx::query_as(
            "SELECT tenant_id, version, name, model, provider FROM routing.alias_sets_page($1, $2)",
        )
        .bind(after.map(|t| t.0))
        .bind(PAGE)
        .fetch_all(tx.conn())
        .await?;
        tx.commit().await?;
        let mut sets: HashMap<TenantId, Set> = HashMap::new();
        let mut last = None;
        for (tenant, version, name, model, provider) in rows {
            let tenant = TenantId(tenant);
            last = Some(tenant);
            let set = sets.entry(tenant).or_default();
            set.version = u64::try_from(version).unwrap_or(0);
            if let (Some(name), Some(model)) = (name, model) {
                set.aliases.insert(name, AliasTarget { model, provider });
            }
        }
        let full = sets.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
        Ok((sets, last.filter(|_| full)))
    }
}

impl Change {
    pub(crate) async fn put(&mut self, row: &Row) -> Result<(), DbError> {
        let tenant = self.tx.tenant();
        sqlx::query(
            "INSERT INTO routing.aliases (tenant_id, name, model, provider, updated_at_ms) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, name) DO UPDATE \
             SET model = excluded.model, provider = excluded.provider, updated_at_ms = excluded.updated_at_ms",
        )
        .bind(tenant.0)
        .bind(&row.name)
        .bind(&row.target.model)
        .bind(&row.target.provider)
        .bind(row.updated_at_ms)
        .execute(self.tx.conn())
        .await?;
        Ok(())
    }

    /// What it was; `None` when there was none.
    pub(crate) async fn delete(&mut self, name: &str) -> Result<Option<Row>, DbError> {
        let tenant = self.tx.tenant();
        let gone: Option<Columns> = sqlx::query_as(
            "DELETE FROM routing.aliases WHERE tenant_id = $1 AND name = $2 \
             RETURNING name, model, provider, updated_at_ms",
        )
        .bind(tenant.0)
        .bind(name)
        .fetch_optional(self.tx.conn())
        .await?;
        Ok(gone.map(row))
    }

    /// All there are now.
    pub(crate) async fn rows(&mut self) -> Result<Rows, DbError> {
        let tenant = self.tx.tenant();
        let rows: Vec<Columns> = sqlx::query_as(
            "SELECT name, model, provider, updated_at_ms FROM routing.aliases WHERE tenant_id = $1 ORDER BY name",
        )
        .bind(tenant.0)
        .fetch_all(self.tx.conn())
        .await?;
        let version = u64::try_from(self.version).unwrap_or(0);
        Ok(Rows { version, rows: rows.into_iter().map(row).collect() })
    }

    /// Done, with what there is to tell of it. Dropped instead, nothing has changed.
    pub(crate) async fn commit(mut self, ctx: &RequestContext, tell: &[Letter]) -> Result<(), DbError> {
        Outbox::Routing.write(&mut self.tx, ctx, tell).await?;
        self.tx.commit().await
    }
}
