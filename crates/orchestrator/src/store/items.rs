//! `chat.response_items`: which response an item is of.

use serde::Deserialize;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;
use weir_db::DbError;
use weir_types::RequestContext;

use super::{Responses, Turn, responses::seen};

const MAX_ID: usize = 128;

/// The ids of an answer's items, so that requests may refer to them.
pub(super) async fn name_items(
    conn: &mut PgConnection,
    tenant: Uuid,
    response: &str,
    output: &[u8],
) -> Result<(), sqlx::Error> {
    #[derive(Deserialize)]
    struct Item {
        id: Option<String>,
    }
    let items: Vec<Item> = serde_json::from_slice(output).unwrap_or_default();
    let ids: Vec<String> = items.into_iter().filter_map(|item| item.id).filter(|id| is_id(id)).collect();
    if ids.is_empty() {
        return Ok(());
    }
    // A run may have been deleted meanwhile.
    let sql = "INSERT INTO chat.response_items (tenant_id, item_id, response_id) \
               SELECT r.tenant_id, item, r.id FROM chat.responses r, unnest($3::text[]) item \
               WHERE r.tenant_id = $1 AND r.id = $2 ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(tenant).bind(response).bind(ids).execute(conn).await?;
    Ok(())
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && !id.contains('\0')
}

impl Responses {
    /// The responses that have these items in their output, or are named themselves; the newest first, of as many bytes
    /// as that.
    pub(crate) async fn with_items(
        &self,
        ctx: &RequestContext,
        items: &[String],
        responses: &[String],
        bytes: usize,
    ) -> Result<Vec<Turn>, DbError> {
        let items: Vec<&str> = items.iter().map(String::as_str).filter(|id| is_id(id)).collect();
        let mut tx = self.db()?.tenant(ctx).await?;
        let tenant = tx.tenant().0;
        let (all, user) = seen(ctx);
        let rows = sqlx::query(
            "WITH found AS MATERIALIZED ( \
                 SELECT i.item_id, max(i.response_id) AS id FROM chat.response_items i \
                 JOIN chat.responses r ON r.tenant_id = i.tenant_id AND r.id = i.response_id \
                 WHERE i.tenant_id = $1 AND i.item_id = ANY ($4) AND ($2 OR r.user_id IS NOT DISTINCT FROM $3) \
                 GROUP BY i.item_id), \
             sized AS ( \
                 SELECT r.id, sum(octet_length(r.input)::bigint + octet_length(r.output)) OVER (ORDER BY r.id DESC) AS bytes \
                 FROM chat.responses r \
                 WHERE r.tenant_id = $1 AND ($2 OR r.user_id IS NOT DISTINCT FROM $3) \
                     AND (r.id = ANY ($5) OR r.id IN (SELECT id FROM found))) \
             SELECT r.id, r.status, r.input, r.output FROM chat.responses r JOIN sized USING (id) \
             WHERE r.tenant_id = $1 AND sized.bytes <= $6 ORDER BY r.id DESC",
        )
        .bind(tenant)
        .bind(all)
        .bind(user)
        .bind(items)
        .bind(responses)
        .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
        .fetch_all(tx.conn())
        .await?;
        tx.commit().await?;
        let turn = |row: &sqlx::postgres::PgRow| -> Result<Turn, DbError> {
            Ok(Turn {
                id: row.try_get("id")?,
                status: row.try_get("status")?,
                input: row.try_get("input")?,
                output: row.try_get("output")?,
            })
        };
        rows.iter().map(turn).collect()
    }
}
