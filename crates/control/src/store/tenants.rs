//! `control.tenants`.

use uuid::Uuid;
use weir_db::{Db, DbError};
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
}

type Row = (Uuid, String, String, Option<i64>, Option<i64>, i64);

fn tenant((id, name, tier, requests, tokens, created_at_ms): Row) -> Tenant {
    Tenant {
        id: TenantId(id),
        name,
        tier,
        requests_per_minute: count(requests),
        tokens_per_minute: count(tokens),
        created_at_ms,
    }
}

pub(crate) struct Tenants(pub(crate) Db);

impl Tenants {
    /// Inserts the tenant that `ctx` acts for.
    pub(crate) async fn insert(&self, ctx: &RequestContext, new: &NewTenant) -> Result<Tenant, DbError> {
        let mut tx = self.0.tenant(ctx).await?;
        let id = tx.tenant();
        let row: Row = sqlx::query_as(
            "INSERT INTO control.tenants \
             (tenant_id, name, tier, requests_per_minute, tokens_per_minute, created_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             RETURNING tenant_id, name, tier, requests_per_minute, tokens_per_minute, created_at_ms",
        )
        .bind(id.0)
        .bind(&new.name)
        .bind(new.tier)
        .bind(column(new.requests_per_minute))
        .bind(column(new.tokens_per_minute))
        .bind(new.created_at_ms)
        .fetch_one(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(tenant(row))
    }

    /// The tenant that `ctx` acts for.
    pub(crate) async fn get(&self, ctx: &RequestContext) -> Result<Option<Tenant>, DbError> {
        let mut tx = self.0.tenant(ctx).await?;
        let id = tx.tenant();
        let row: Option<Row> = sqlx::query_as(
            "SELECT tenant_id, name, tier, requests_per_minute, tokens_per_minute, created_at_ms \
             FROM control.tenants WHERE tenant_id = $1",
        )
        .bind(id.0)
        .fetch_optional(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(row.map(tenant))
    }

    /// All tenants, newest first, those older than `before`.
    pub(crate) async fn list(
        &self,
        ctx: &RequestContext,
        before: Option<Uuid>,
        limit: i32,
    ) -> Result<Vec<Tenant>, DbError> {
        let mut tx = self.0.lookup(ctx).await?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT tenant_id, name, tier, requests_per_minute, tokens_per_minute, created_at_ms \
             FROM control.list_tenants($1, $2)",
        )
        .bind(before)
        .bind(limit)
        .fetch_all(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(tenant).collect())
    }
}
