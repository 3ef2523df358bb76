//! Adding events to `analytics.kpi_hourly` and `analytics.latency_hourly`.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use weir_db::{DbError, Effect};
use weir_events::usage::{Usage, UsageEvent};
use weir_types::TenantId;

use crate::histogram;

const ADD_KPIS: &str = "\
INSERT INTO analytics.kpi_hourly AS k (
    tenant_id, hour, model, requests, errors, input_tokens, output_tokens, first_token_us_sum, total_us_sum)
SELECT $1, to_timestamp(hour_ms / 1000), model, a, b, c, d, e, f
FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
    AS u (hour_ms, model, a, b, c, d, e, f)
ON CONFLICT (tenant_id, hour, model) DO UPDATE SET
    requests = k.requests + excluded.requests,
    errors = k.errors + excluded.errors,
    input_tokens = k.input_tokens + excluded.input_tokens,
    output_tokens = k.output_tokens + excluded.output_tokens,
    first_token_us_sum = k.first_token_us_sum + excluded.first_token_us_sum,
    total_us_sum = k.total_us_sum + excluded.total_us_sum";

const ADD_LATENCIES: &str = "\
INSERT INTO analytics.latency_hourly AS l (tenant_id, hour, model, metric, bucket, count)
SELECT $1, to_timestamp(hour_ms / 1000), model, metric, bucket, n
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::smallint[], $6::bigint[]) AS u (hour_ms, model, metric, bucket, n)
ON CONFLICT (tenant_id, hour, model, metric, bucket) DO UPDATE SET count = l.count + excluded.count";

/// In the order of the columns.
type Sums = [i64; 6];
/// Start of an hour in Unix milliseconds, and a model.
type HourModel<M> = (i64, M);

/// What one request adds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    sums: Sums,
    /// Buckets of its latencies.
    first_token: Option<i16>,
    total: Option<i16>,
}

/// Both tables' rows, of one tenant. `M` is a model's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figures<M: Ord> {
    pub(super) kpis: BTreeMap<HourModel<M>, Sums>,
    pub(super) latencies: BTreeMap<(HourModel<M>, &'static str, i16), i64>,
}

/// Adds events to both tables.
pub(crate) struct Hourly;

impl Effect<UsageEvent> for Hourly {
    async fn apply(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        fresh: &[&UsageEvent],
    ) -> Result<(), DbError> {
        let mut figures = Figures::default();
        for event in fresh {
            if let Some((usage, share)) = share(event) {
                figures.add(usage.hour_ms, usage.model.as_str(), share);
            }
        }
        add(conn, tenant, &figures).await
    }
}

/// What an event adds to the figures of its hour and model; `None`: nothing.
pub(crate) fn share(event: &UsageEvent) -> Option<(&Usage, Share)> {
    let UsageEvent::Request { usage, first_token_us, total_us } = event else { return None };
    let bucket = |us: Option<i64>| us.and_then(|us| u64::try_from(us).ok()).map(histogram::bucket);
    let sums = [
        1,
        i64::from(usage.is_error()),
        usage.tokens.input,
        usage.tokens.output,
        first_token_us.unwrap_or(0),
        total_us.unwrap_or(0),
    ];
    Some((usage, Share { sums, first_token: bucket(*first_token_us), total: bucket(*total_us) }))
}

impl<M: Ord> Default for Figures<M> {
    fn default() -> Self {
        Self { kpis: BTreeMap::new(), latencies: BTreeMap::new() }
    }
}

impl<M: Ord + Clone> Figures<M> {
    pub(crate) fn add(&mut self, hour_ms: i64, model: M, share: Share) {
        for (metric, bucket) in [("first_token", share.first_token), ("total", share.total)] {
            if let Some(bucket) = bucket {
                *self.latencies.entry(((hour_ms, model.clone()), metric, bucket)).or_default() += 1;
            }
        }
        let sums = self.kpis.entry((hour_ms, model)).or_default();
        // No overflow: events are checked to be far too small for that.
        sums.iter_mut().zip(share.sums).for_each(|(sum, more)| *sum += more);
    }

    /// Rows of the table of sums.
    pub(crate) fn rows(&self) -> usize {
        self.kpis.len()
    }
}

/// Adds the figures to the tenant's rows, in the order of their keys.
pub(super) async fn add<M: Ord + AsRef<str>>(
    conn: &mut PgConnection,
    tenant: TenantId,
    figures: &Figures<M>,
) -> Result<(), DbError> {
    let Figures { kpis, latencies } = figures;
    let mut query = sqlx::query(ADD_KPIS)
        .bind(tenant.0)
        .bind(kpis.keys().map(|k| k.0).collect::<Vec<_>>())
        .bind(kpis.keys().map(|k| k.1.as_ref()).collect::<Vec<&str>>());
    for column in 0..Sums::default().len() {
        query = query.bind(kpis.values().map(|sums| sums[column]).collect::<Vec<_>>());
    }
    query.execute(&mut *conn).await?;
    sqlx::query(ADD_LATENCIES)
        .bind(tenant.0)
        .bind(latencies.keys().map(|k| k.0.0).collect::<Vec<_>>())
        .bind(latencies.keys().map(|k| k.0.1.as_ref()).collect::<Vec<&str>>())
        .bind(latencies.keys().map(|k| k.1).collect::<Vec<_>>())
        .bind(latencies.keys().map(|k| k.2).collect::<Vec<_>>())
        .bind(latencies.values().copied().collect::<Vec<_>>())
        .execute(conn)
        .await?;
    Ok(())
}
