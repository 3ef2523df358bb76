//! Reading the hourly figures.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use weir_db::{Db, DbError};
use weir_error::Error;
use weir_projection::Hours;
use weir_proto::analytics::{HourKpis, Latency};
use weir_types::RequestContext;

use crate::histogram;

/// A row's histograms come along as arrays, ordered by bucket.
const HOURLY: &str = "\
SELECT (extract(epoch FROM k.hour) * 1000)::bigint AS hour_ms, k.model, k.requests, k.errors,
    k.input_tokens, k.output_tokens, k.first_token_us_sum, k.total_us_sum,
    coalesce(array_agg(l.bucket ORDER BY l.bucket) FILTER (WHERE l.metric = 'first_token'), '{}') AS first_token_buckets,
    coalesce(array_agg(l.count ORDER BY l.bucket) FILTER (WHERE l.metric = 'first_token'), '{}') AS first_token_counts,
    coalesce(array_agg(l.bucket ORDER BY l.bucket) FILTER (WHERE l.metric = 'total'), '{}') AS total_buckets,
    coalesce(array_agg(l.count ORDER BY l.bucket) FILTER (WHERE l.metric = 'total'), '{}') AS total_counts
FROM analytics.kpi_hourly k
LEFT JOIN analytics.latency_hourly l USING (tenant_id, hour, model)
WHERE k.hour >= to_timestamp($1::double precision / 1000) AND k.hour < to_timestamp($2::double precision / 1000)
    AND ($3::text IS NULL OR k.model = $3)
GROUP BY k.tenant_id, k.hour, k.model
ORDER BY k.hour, k.model
LIMIT $4";

/// The tenant's figures by hour and model, at most one more than `max` rows.
pub(crate) async fn hourly(
    db: &Db,
    ctx: &RequestContext,
    range: Hours,
    model: Option<&str>,
    max: usize,
) -> Result<Vec<HourKpis>, Error> {
    let mut tx = db.tenant(ctx).await?;
    let rows = sqlx::query(HOURLY)
        .bind(range.from_ms)
        .bind(range.to_ms)
        .bind(model)
        .bind(i64::try_from(max).unwrap_or(i64::MAX).saturating_add(1))
        .fetch_all(tx.conn())
        .await
        .map_err(DbError::from)?;
    tx.commit().await?;
    let kpis = rows.iter().map(kpis).collect::<Result<_, _>>();
    Ok(kpis.map_err(DbError::from)?)
}

fn kpis(row: &PgRow) -> Result<HourKpis, sqlx::Error> {
    Ok(HourKpis {
        hour_ms: row.try_get("hour_ms")?,
        model: row.try_get("model")?,
        requests: number(row, "requests")?,
        errors: number(row, "errors")?,
        input_tokens: number(row, "input_tokens")?,
        output_tokens: number(row, "output_tokens")?,
        first_token: latency(row, "first_token_buckets", "first_token_counts", "first_token_us_sum")?,
        total: latency(row, "total_buckets", "total_counts", "total_us_sum")?,
    })
}

/// `None` when nothing was measured.
fn latency(row: &PgRow, buckets: &str, counts: &str, sum: &str) -> Result<Option<Latency>, sqlx::Error> {
    let buckets: Vec<i16> = row.try_get(buckets)?;
    let counts: Vec<i64> = row.try_get(counts)?;
    let counts = counts.into_iter().map(|count| u64::try_from(count).unwrap_or(0));
    let buckets: Vec<_> = buckets.into_iter().zip(counts).collect();
    let count: u64 = buckets.iter().map(|(_, count)| count).sum();
    if count == 0 {
        return Ok(None);
    }
    let percentile = |percent| histogram::percentile(&buckets, percent);
    Ok(Some(Latency {
        count,
        mean_us: number(row, sum)? / count,
        p50_us: percentile(50),
        p95_us: percentile(95),
        p99_us: percentile(99),
    }))
}

fn number(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}
