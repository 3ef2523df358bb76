//! `chat.seals`.

use sqlx::Row as _;
use weir_db::DbError;
use weir_types::RequestContext;

use super::Responses;

impl Responses {
    /// The key under which this tenant's are sealed; `new` becomes it where there is none yet.
    pub(crate) async fn seal_key(
        &self,
        ctx: &RequestContext,
        new: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, DbError> {
        let mut tx = self.db()?.tenant(ctx).await?;
        let tenant = tx.tenant().0;
        if let Some(new) = new {
            sqlx::query("INSERT INTO chat.seals (tenant_id, key) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(tenant)
                .bind(new)
                .execute(tx.conn())
                .await?;
        }
        let row = sqlx::query("SELECT key FROM chat.seals WHERE tenant_id = $1")
            .bind(tenant)
            .fetch_optional(tx.conn())
            .await?;
        tx.commit().await?;
        Ok(row.map(|row| row.try_get("key")).transpose()?)
    }
}
