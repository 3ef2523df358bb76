//! `control.tenants`.

use uuid::Uuid;
use weir_db::{Db, DbError, Letter, Outbox};
use weir_types::{RequestContext, TenantId};

use super::{column, count};

#[derive(Debug, Clone)]
pub(crate) struct NewTenant {
    pub(crate) name: String,
    pub(crate) tier: &'static str,
    pub(crate) requests_per_minute: Option<u64>,
    pub(crate) tokens_per_minute: Option<u64>,
    pub(crate) created_at_ms: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) name: String,
    pub(crate) tier: String,
    pub(crate) requests_per_minute: Option<u64>,
    pub(crate) tokens_per_minute: Option<u64>,
    pub(crate) created_at_ms: i64,
    pub(crate) suspended: bool,
    pub(crate) version: i64,
}

/// What is to be changed; `None` stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct TenantPatch {
    pub(crate) name: Option<String>,
    pub(crate) tier: Option<&'static str>,
    /// Requests and tokens per minute, both of them.
    pub(crate) rates: Option<(Option<u64>, Option<u64>)>,
    pub(crate) suspended: Option<bool>,
}

impl TenantPatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.name.is_none() && self.tier.is_none() && self.rates.is_none() && self.suspended.is_none()
    }
}

type Row = (Uuid, String, String, Option<i64>, Option<i64>, i64, bool, i64);

fn tenant((id, name, tier, requests, tokens, created_at_ms, suspended, version): Row) -> Tenant {
    Tenant {
        id: TenantId(id),
        name,
        tier,
        requests_per_minute: count(requests),
        tokens_per_minute: count(tokens),
        created_at_ms,
        suspended,
        version,
    }
}

pub(crate) struct Tenants(pub(crate) Db);

impl Tenants {
    /// Inserts the tenant that `ctx` acts for, with what there is to tell of it.
    pub(crate) async fn insert(
        &self,
        ctx: &RequestContext,
        new: &NewTenant,
        tell: impl FnOnce(&Tenant) -> Vec<Letter> + Send,
    ) -> Result<Tenant, DbError> {
        let mut tx = self.0.tenant(ctx).await?;
        let id = tx.tenant();
        let row: Row = sqlx::query_as(
            "INSERT INTO control.tenants \
             (tenant_id, name, tier, requests_per_minute, tokens_per_minute, created_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             RETURNING tenant_id, name, tier, requests_per_minute, tokens_per_minute, created_at_ms, \
             status = 'suspended', version",
        )
        .bind(id.0)
        .bind(&new.name)
        .bind(new.tier)
        .bind(column(new.requests_per_minute))
        .bind(column(new.tokens_per_minute))
        .bind(new.created_at_ms)
        .fetch_one(tx.conn())
        .await?;
        let tenant = tenant(row);
        Outbox::Control.write(&mut tx, ctx, &tell(&tenant)).await?;
        tx.commit().await?;
        Ok(tenant)
    }

    /// Changes the tenant that `ctx` acts for, with what there is to tell of it. `None` when there is no such tenant.
    pub(crate) async fn update(
        &self,
        ctx: &RequestContext,
        patch: &TenantPatch,
        tell: impl FnOnce(&Tenant) -> Vec<Letter> + Send,
    ) -> Result<Option<Tenant>, DbError> {
        let (requests, tokens) = patch.rates.unwrap_or_default();
        let mut tx = self.0.tenant(ctx).await?;
        let id = tx.tenant();
        // Locks the row, so that versions and what is told of them are in one order. Microseconds, so that they grow
        // even where the database has forgotten versions that were told.
        let row: Option<Row> = sqlx::query_as(
            "UPDATE control.tenants SET name = coalesce($2, name), tier = coalesce($3, tier), \
             requests_per_minute = CASE WHEN $4 THEN $5 ELSE requests_per_minute END, \
             tokens_per_minute = CASE WHEN $4 THEN $6 ELSE tokens_per_minute END, \
             status = CASE $7 WHEN true THEN 'suspended' WHEN false THEN 'active' ELSE status END, \
             version = greatest(version + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) \
             WHERE tenant_id = $1 \
             RETURNING tenant_id, name, tier, requests_per_minute, tokens_per_minute, created_at_ms, \
             status = 'suspended', version",
        )
        .bind(id.0)
        .bind(&patch.name)
        .bind(patch.tier)
        .bind(patch.rates.is_some())
        .bind(column(requests))
        .bind(column(tokens))
        .bind(patch.suspended)
        .fetch_optional(tx.conn())
        .await?;
        let Some(tenant) = row.map(tenant) else { return Ok(None) };
        Outbox::Control.write(&mut tx, ctx, &tell(&tenant)).await?;
        tx.commit().await?;
        Ok(Some(tenant))
    }

    /// The tenant that `ctx` acts for.
    pub(crate) async fn get(&self, ctx: &RequestContext) -> Result<Option<Tenant>, DbError> {
        let mut tx = self.0.tenant(ctx).await?;
        let id = tx.tenant();
        let row: Option<Row> = sqlx::query_as(
            "SELECT tenant_id, name, tier, requests_per_minute, tokens_per_minute, created_at_ms, \
             status = 'suspended', version FROM control.tenants WHERE tenant_id = $1",
        )
        .bind(id.0)
        .fetch_optional(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(row.map(tenant))
    }

    /// All tenants, newest first, those older than `before`. The platform's only: the database refuses others.
    pub(crate) async fn list(
        &self,
        ctx: &RequestContext,
        before: Option<Uuid>,
        limit: i32,
    ) -> Result<Vec<Tenant>, DbError> {
        let mut tx = self.0.lookup(ctx).await?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT tenant_id, name, tier, requests_per_minute, tokens_per_minute, created_at_ms, suspended, version \
             FROM control.tenants_page($1, $2)",
        )
        .bind(before)
        .bind(limit)
        .fetch_all(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(tenant).collect())
    }
}
