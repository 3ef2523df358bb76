//! Adding events to `billing.usage_counters`.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;
use weir_db::{DbError, Effect};
use weir_events::usage::{Usage, UsageEvent};
use weir_proto::events::Outcome;
use weir_types::TenantId;

const COLUMNS: usize = 19;

const ADD: &str = "\
INSERT INTO billing.usage_counters AS c (
    tenant_id, hour, user_id, key_id, model,
    requests, errors, input_tokens, output_tokens, cache_read_tokens, reasoning_tokens,
    attempts, attempts_failed, attempts_cut, attempts_cancelled, attempts_interrupted,
    provider_input_tokens, provider_output_tokens, provider_cache_read_tokens, provider_reasoning_tokens,
    cache_write_tokens, provider_cache_write_tokens, provider_cost_nano_usd, attempts_unpriced)
SELECT $1, to_timestamp(hour_ms / 1000), user_id, key_id, model, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s
FROM unnest($2::bigint[], $3::uuid[], $4::uuid[], $5::text[],
    $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
    $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[],
    $22::bigint[], $23::bigint[], $24::bigint[])
    AS u (hour_ms, user_id, key_id, model, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s)
ON CONFLICT (tenant_id, hour, user_id, key_id, model) DO UPDATE SET
    requests = c.requests + excluded.requests,
    errors = c.errors + excluded.errors,
    input_tokens = c.input_tokens + excluded.input_tokens,
    output_tokens = c.output_tokens + excluded.output_tokens,
    cache_read_tokens = c.cache_read_tokens + excluded.cache_read_tokens,
    reasoning_tokens = c.reasoning_tokens + excluded.reasoning_tokens,
    attempts = c.attempts + excluded.attempts,
    attempts_failed = c.attempts_failed + excluded.attempts_failed,
    attempts_cut = c.attempts_cut + excluded.attempts_cut,
    attempts_cancelled = c.attempts_cancelled + excluded.attempts_cancelled,
    attempts_interrupted = c.attempts_interrupted + excluded.attempts_interrupted,
    provider_input_tokens = c.provider_input_tokens + excluded.provider_input_tokens,
    provider_output_tokens = c.provider_output_tokens + excluded.provider_output_tokens,
    provider_cache_read_tokens = c.provider_cache_read_tokens + excluded.provider_cache_read_tokens,
    provider_reasoning_tokens = c.provider_reasoning_tokens + excluded.provider_reasoning_tokens,
    cache_write_tokens = c.cache_write_tokens + excluded.cache_write_tokens,
    provider_cache_write_tokens = c.provider_cache_write_tokens + excluded.provider_cache_write_tokens,
    provider_cost_nano_usd = c.provider_cost_nano_usd + excluded.provider_cost_nano_usd,
    attempts_unpriced = c.attempts_unpriced + excluded.attempts_unpriced";

/// A row's key but for the tenant. Ordered, so that everyone locks rows in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey<'a> {
    hour_ms: i64,
    user: Uuid,
    key: Uuid,
    model: &'a str,
}

/// In the order of the columns.
type Sums = [i64; COLUMNS];

pub(crate) struct Counters;

impl Effect<UsageEvent> for Counters {
    async fn apply(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        fresh: &[&UsageEvent],
    ) -> Result<(), DbError> {
        let rows = sum_up(fresh);
        let mut query = sqlx::query(ADD)
            .bind(tenant.0)
            .bind(rows.keys().map(|k| k.hour_ms).collect::<Vec<_>>())
            .bind(rows.keys().map(|k| k.user).collect::<Vec<_>>())
            .bind(rows.keys().map(|k| k.key).collect::<Vec<_>>())
            .bind(rows.keys().map(|k| k.model).collect::<Vec<_>>());
        for column in 0..COLUMNS {
            query = query.bind(rows.values().map(|sums| sums[column]).collect::<Vec<_>>());
        }
        query.execute(conn).await?;
        Ok(())
    }
}

fn sum_up<'a>(events: &[&'a UsageEvent]) -> BTreeMap<RowKey<'a>, Sums> {
    let mut rows = BTreeMap::<_, Sums>::new();
    for event in events {
        let (usage, counts) = match event {
            UsageEvent::Request { usage, .. } => (usage, request(usage)),
            UsageEvent::Attempt(usage) => (usage, attempt(usage)),
        };
        let key = RowKey {
            hour_ms: usage.hour_ms,
            user: usage.user.map_or(Uuid::nil(), |u| u.0),
            key: usage.key.0,
            model: &usage.model,
        };
        let sums = rows.entry(key).or_default();
        // No overflow: events are checked to be far too small for that.
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    rows
}

fn request(usage: &Usage) -> Sums {
    let t = usage.tokens;
    let errors = i64::from(usage.is_error());
    let mut sums = [0; COLUMNS];
    sums[..6].copy_from_slice(&[1, errors, t.input, t.output, t.cache_read, t.reasoning]);
    sums[15] = t.cache_write;
    sums
}

fn attempt(usage: &Usage) -> Sums {
    let is = |outcome| i64::from(usage.outcome == outcome);
    let t = usage.tokens;
    [
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        is(Outcome::Failed),
        is(Outcome::Cut),
        is(Outcome::Cancelled),
        is(Outcome::Interrupted),
        t.input,
        t.output,
        t.cache_read,
        t.reasoning,
        0,
        t.cache_write,
        usage.cost_nano_usd.unwrap_or(0),
        i64::from(usage.cost_nano_usd.is_none()),
    ]
}
