//! `control.api_keys`.

use uuid::Uuid;
use weir_db::{Db, DbError, Letter, Outbox};
use weir_types::{KeyId, RequestContext, TenantId, UserId};

use super::count;

#[derive(Debug, Clone)]
pub(crate) struct NewKey {
    pub(crate) id: KeyId,
    pub(crate) name: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) scopes: Vec<String>,
    pub(crate) user: Option<UserId>,
    pub(crate) created_at_ms: i64,
    pub(crate) expires_at_ms: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct ApiKey {
    pub(crate) id: KeyId,
    pub(crate) name: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) user: Option<UserId>,
    pub(crate) created_at_ms: i64,
    pub(crate) expires_at_ms: Option<i64>,
    pub(crate) revoked_at_ms: Option<i64>,
}

/// What a key may do, as gateways ask for it.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) key: KeyId,
    pub(crate) tenant: TenantId,
    pub(crate) user: Option<UserId>,
    pub(crate) scopes: Vec<String>,
    pub(crate) requests_per_minute: Option<u64>,
    pub(crate) tokens_per_minute: Option<u64>,
    pub(crate) expires_at_ms: Option<i64>,
    pub(crate) tenant_version: i64,
}

/// What became of a new key.
#[derive(Debug)]
pub(crate) enum Inserted {
    Key(ApiKey),
    NoTenant,
    TooMany,
}

/// Revoked ones count for so long: a push of each is in the bucket.
const COUNTED_MS: i64 = 86_400_000;

const COUNT: &str = "\
SELECT (SELECT count(*) FROM control.api_keys WHERE tenant_id = $1 AND revoked_at_ms IS NULL
        AND (expires_at_ms IS NULL OR expires_at_ms > $2))
     + (SELECT count(*) FROM control.api_keys WHERE tenant_id = $1 AND revoked_at_ms > $2 - $3)";

const REVOKE: &str = "\
UPDATE control.api_keys SET revoked_at_ms = $3 WHERE tenant_id = $1 AND id = $2 AND revoked_at_ms IS NULL
RETURNING id, name, scopes, user_id, created_at_ms, expires_at_ms, revoked_at_ms";

const GET: &str = "\
SELECT id, name, scopes, user_id, created_at_ms, expires_at_ms, revoked_at_ms FROM control.api_keys
WHERE tenant_id = $1 AND id = $2";

type Row = (Uuid, String, Vec<String>, Option<Uuid>, i64, Option<i64>, Option<i64>);
type GrantRow = (Uuid, Uuid, Option<Uuid>, Vec<String>, Option<i64>, Option<i64>, Option<i64>, i64);

fn key((id, name, scopes, user, created_at_ms, expires_at_ms, revoked_at_ms): Row) -> ApiKey {
    ApiKey {
        id: KeyId(id),
        name,
        scopes,
        user: user.map(UserId),
        created_at_ms,
        expires_at_ms,
        revoked_at_ms,
    }
}

fn grant((key, tenant, user, scopes, requests, tokens, expires_at_ms, tenant_version): GrantRow) -> Grant {
    Grant {
        key: KeyId(key),
        tenant: TenantId(tenant),
        user: user.map(UserId),
        scopes,
        requests_per_minute: count(requests),
        tokens_per_minute: count(tokens),
        expires_at_ms,
        tenant_version,
    }
}

pub(crate) struct Keys(pub(crate) Db);

impl Keys {
    /// With what there is to tell of it, unless the tenant has `most` already.
    pub(crate) async fn insert(
        &self,
        ctx: &RequestContext,
        new: &NewKey,
        most: u32,
        tell: impl FnOnce(TenantId, &ApiKey) -> Vec<Letter> + Send,
    ) -> Result<Inserted, DbError> {
        let mut tx = self.0.tenant(ctx).await?;
        let tenant = tx.tenant();
        // One at a time, so that the count holds.
        let locked: Option<i32> =
            sqlx::query_scalar("SELECT 1 FROM control.tenants WHERE tenant_id = $1 FOR NO KEY UPDATE")
                .bind(tenant.0)
                .fetch_optional(tx.conn())
                .await?;
        if locked.is_none() {
            return Ok(Inserted::NoTenant);
        }
        let there: i64 = sqlx::query_scalar(COUNT)
            .bind(tenant.0)
            .bind(new.created_at_ms)
            .bind(COUNTED_MS)
            .fetch_one(tx.conn())
            .await?;
        if there >= i64::from(most) {
            return Ok(Inserted::TooMany);
        }
        let row: Row = sqlx::query_as(
            "INSERT INTO control.api_keys \
             (tenant_id, id, name, sha256, scopes, user_id, created_at_ms, expires_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             RETURNING id, name, scopes, user_id, created_at_ms, expires_at_ms, revoked_at_ms",
        )
        .bind(tenant.0)
        .bind(new.id.0)
        .bind(&new.name)
        .bind(new.sha256)
        .bind(&new.scopes)
        .bind(new.user.map(|u| u.0))
        .bind(new.created_at_ms)
        .bind(new.expires_at_ms)
        .fetch_one(tx.conn())
        .await?;
        let key = key(row);
        Outbox::Control.write(&mut tx, ctx, &tell(tenant, &key)).await?;
        tx.commit().await?;
        Ok(Inserted::Key(key))
    }

    /// `None` when the tenant has no such key.
    pub(crate) async fn get(&self, ctx: &RequestContext, id: KeyId) -> Result<Option<ApiKey>, DbError> {
        let mut tx = self.0.tenant(ctx).await?;
        let tenant = tx.tenant();
        let row: Option<Row> =
            sqlx::query_as(GET).bind(tenant.0).bind(id.0).fetch_optional(tx.conn()).await?;
        tx.commit().await?;
        Ok(row.map(key))
    }

    /// The tenant's keys, newest first, those older than `before`.
    pub(crate) async fn list(
        &self,
        ctx: &RequestContext,
        before: Option<Uuid>,
        limit: i32,
    ) -> Result<Vec<ApiKey>, DbError> {
        let mut tx = self.0.tenant(ctx).await?;
        let tenant = tx.tenant();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, scopes, user_id, created_at_ms, expires_at_ms, revoked_at_ms FROM control.api_keys \
             WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        )
        .bind(tenant.0)
        .bind(before)
        .bind(limit)
        .fetch_all(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(key).collect())
    }

    /// Revokes it, with what there is to tell of it, unless that was done before: the first time stays. `None` when
    /// the tenant has no such key.
    pub(crate) async fn revoke(
        &self,
        ctx: &RequestContext,
        id: KeyId,
        now_ms: i64,
        tell: impl FnOnce(TenantId, &ApiKey) -> Vec<Letter> + Send,
    ) -> Result<Option<ApiKey>, DbError> {
        let mut tx = self.0.tenant(ctx).await?;
        let tenant = tx.tenant();
        let revoked: Option<Row> =
            sqlx::query_as(REVOKE).bind(tenant.0).bind(id.0).bind(now_ms).fetch_optional(tx.conn()).await?;
        let key = match revoked.map(key) {
            Some(key) => {
                Outbox::Control.write(&mut tx, ctx, &tell(tenant, &key)).await?;
                Some(key)
            }
            None => {
                let before: Option<Row> =
                    sqlx::query_as(GET).bind(tenant.0).bind(id.0).fetch_optional(tx.conn()).await?;
                before.map(key)
            }
        };
        tx.commit().await?;
        Ok(key)
    }

    /// What the key with this hash may do now.
    pub(crate) async fn resolve(
        &self,
        ctx: &RequestContext,
        sha256: &[u8],
        now_ms: i64,
    ) -> Result<Option<Grant>, DbError> {
        let mut tx = self.0.lookup(ctx).await?;
        let row: Option<GrantRow> = sqlx::query_as(
            "SELECT key_id, tenant_id, user_id, scopes, requests_per_minute, tokens_per_minute, expires_at_ms, \
             tenant_version FROM control.key_grant($1, $2)",
        )
        .bind(sha256)
        .bind(now_ms)
        .fetch_optional(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(row.map(grant))
    }
}
