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

type HourModel<'a> = (i64, &'a str);
/// In the order of the columns.
type Sums = [i64; 6];

/// Both tables. Their rows are written in the order of their keys.
pub(crate) struct Hourly;

#[derive(Default)]
struct Figures<'a> {
    kpis: BTreeMap<HourModel<'a>, Sums>,
    latencies: BTreeMap<(HourModel<'a>, &'static str, i16), i64>,
}

impl Effect<UsageEvent> for Hourly {
    async fn apply(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        fresh: &[&UsageEvent],
    ) -> Result<(), DbError> {
        let mut figures = Figures::default();
        for event in fresh {
            if let UsageEvent::Request { usage, first_token_us, total_us } = event {
                figures.add(usage, *first_token_us, *total_us);
            }
        }
        let Figures { kpis, latencies } = figures;
        let mut query = sqlx::query(ADD_KPIS)
            .bind(tenant.0)
            .bind(kpis.keys().map(|k| k.0).collect::<Vec<_>>())
            .bind(kpis.keys().map(|k| k.1).collect::<Vec<_>>());
        for column in 0..Sums::default().len() {
            query = query.bind(kpis.values().map(|sums| sums[column]).collect::<Vec<_>>());
        }
        query.execute(&mut *conn).await?;
        sqlx::query(ADD_LATENCIES)
            .bind(tenant.0)
            .bind(latencies.keys().map(|k| k.0.0).collect::<Vec<_>>())
            .bind(latencies.keys().map(|k| k.0.1).collect::<Vec<_>>())
            .bind(latencies.keys().map(|k| k.1).collect::<Vec<_>>())
            .bind(latencies.keys().map(|k| k.2).collect::<Vec<_>>())
            .bind(latencies.values().copied().collect::<Vec<_>>())
            .execute(conn)
            .await?;
        Ok(())
    }
}

impl<'a> Figures<'a> {
    fn add(&mut self, usage: &'a Usage, first_token_us: Option<i64>, total_us: Option<i64>) {
        let key = (usage.hour_ms, usage.model.as_str());
        let (first, total) = (first_token_us.unwrap_or(0), total_us.unwrap_or(0));
        let counts = [1, i64::from(usage.is_error()), usage.tokens.input, usage.tokens.output, first, total];
        let sums = self.kpis.entry(key).or_default();
        // No overflow: events are checked to be far too small for that.
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        for (metric, us) in [("first_token", first_token_us), ("total", total_us)] {
            if let Some(us) = us.and_then(|us| u64::try_from(us).ok()) {
                *self.latencies.entry((key, metric, histogram::bucket(us))).or_default() += 1;
            }
        }
    }
}
