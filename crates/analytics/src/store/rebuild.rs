//! Replacing an hour's figures while events go on being counted.

use std::collections::{BTreeSet, HashSet};

use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;
use weir_db::{BatchTx, Db, DbError};
use weir_types::{RequestContext, TenantId};

use super::write::{Figures, add};

/// Counting takes a weaker lock when it adds to this table, its first after the inbox: nothing is counted meanwhile,
/// and what was counted before can be seen. Reading goes on.
const LOCK: &str = "LOCK TABLE analytics.kpi_hourly IN SHARE ROW EXCLUSIVE MODE";

const KPIS: &str = "\
SELECT model, requests, errors, input_tokens, output_tokens, first_token_us_sum, total_us_sum
FROM analytics.kpi_hourly WHERE tenant_id = $1 AND hour = to_timestamp($2 / 1000)";

const LATENCIES: &str = "\
SELECT model, metric, bucket, count
FROM analytics.latency_hourly WHERE tenant_id = $1 AND hour = to_timestamp($2 / 1000)";

const CLEAR: [&str; 2] = [
    "DELETE FROM analytics.kpi_hourly WHERE tenant_id = $1 AND hour = to_timestamp($2 / 1000)",
    "DELETE FROM analytics.latency_hourly WHERE tenant_id = $1 AND hour = to_timestamp($2 / 1000)",
];

/// When the first event was counted that is remembered; Unix milliseconds.
pub(crate) async fn counted_since(db: &Db, ctx: &RequestContext) -> Result<Option<i64>, DbError> {
    let mut tx = db.lookup(ctx).await?;
    let since = sqlx::query_scalar("SELECT (extract(epoch FROM analytics.counted_since()) * 1000)::bigint")
        .fetch_one(tx.conn())
        .await?;
    tx.commit().await?;
    Ok(since)
}

/// From here to the transaction's end no event is counted.
pub(crate) async fn stop_counting(tx: &mut BatchTx) -> Result<(), DbError> {
    sqlx::query(LOCK).execute(tx.conn()).await?;
    Ok(())
}

/// Which of the tenant's events were counted.
pub(crate) async fn counted(
    tx: &mut BatchTx,
    tenant: TenantId,
    events: &[Uuid],
) -> Result<HashSet<Uuid>, DbError> {
    const AT_ONCE: usize = 5_000;
    tx.switch(tenant).await?;
    let mut counted = HashSet::new();
    for ids in events.chunks(AT_ONCE) {
        let sql = "SELECT event_id FROM analytics.inbox WHERE tenant_id = $1 AND event_id = ANY($2)";
        let found = sqlx::query_scalar(sql).bind(tenant.0).bind(ids).fetch_all(tx.conn()).await?;
        counted.extend::<Vec<Uuid>>(found);
    }
    Ok(counted)
}

/// Who has rows in this hour.
pub(crate) async fn tenants(tx: &mut BatchTx, hour_ms: i64) -> Result<BTreeSet<TenantId>, DbError> {
    let sql = "SELECT analytics.tenants_in_hour(to_timestamp($1 / 1000))";
    let found: Vec<Uuid> = sqlx::query_scalar(sql).bind(hour_ms).fetch_all(tx.conn()).await?;
    Ok(found.into_iter().map(TenantId).collect())
}

/// Makes the tenant's rows of this hour what `right` says. Whether they were something else.
pub(crate) async fn mend(
    tx: &mut BatchTx,
    tenant: TenantId,
    hour_ms: i64,
    right: &Figures<String>,
) -> Result<bool, DbError> {
    tx.switch(tenant).await?;
    if stored(tx.conn(), tenant, hour_ms).await? == *right {
        return Ok(false);
    }
    for sql in CLEAR {
        sqlx::query(sql).bind(tenant.0).bind(hour_ms).execute(tx.conn()).await?;
    }
    add(tx.conn(), tenant, right).await?;
    Ok(true)
}

async fn stored(conn: &mut PgConnection, tenant: TenantId, hour_ms: i64) -> Result<Figures<String>, DbError> {
    let mut figures = Figures::default();
    let rows = sqlx::query(KPIS).bind(tenant.0).bind(hour_ms).fetch_all(&mut *conn).await?;
    for row in &rows {
        let (model, sums) = sums(row)?;
        figures.kpis.insert((hour_ms, model), sums);
    }
    let rows = sqlx::query(LATENCIES).bind(tenant.0).bind(hour_ms).fetch_all(conn).await?;
    for row in &rows {
        let metric = match row.try_get("metric")? {
            "first_token" => "first_token",
            // The table allows no third.
            _ => "total",
        };
        let key = ((hour_ms, row.try_get("model")?), metric, row.try_get("bucket")?);
        figures.latencies.insert(key, row.try_get("count")?);
    }
    Ok(figures)
}

fn sums(row: &PgRow) -> Result<(String, [i64; 6]), sqlx::Error> {
    let mut sums = [0; 6];
    for (place, sum) in sums.iter_mut().enumerate() {
        *sum = row.try_get(place + 1)?;
    }
    Ok((row.try_get(0)?, sums))
}
