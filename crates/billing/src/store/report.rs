//! Reading `billing.usage_counters`.

use sqlx::{AssertSqlSafe, Row as _, postgres::PgRow};
use weir_db::{Db, DbError};
use weir_error::Error;
use weir_projection::Hours;
use weir_proto::billing::{HourUsage, ModelUsage, Totals, UsageReport};
use weir_types::RequestContext;

use crate::app::Whose;

/// Once over the rows for all three: the whole, by model, by hour.
fn sql(whose: Whose) -> String {
    let filter = match whose {
        Whose::User(_) => "AND user_id = $3",
        Whose::Key(_) => "AND key_id = $3",
        Whose::Everyone => "",
    };
    format!(
        "SELECT grouping(model) = 0 AS is_model, grouping(hour) = 0 AS is_hour, \
             model, (extract(epoch FROM hour) * 1000)::bigint AS hour_ms, \
             sum(requests)::bigint AS requests, sum(errors)::bigint AS errors, \
             sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens, \
             sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(reasoning_tokens)::bigint AS reasoning_tokens, \
             sum(cache_write_tokens)::bigint AS cache_write_tokens, \
             sum(provider_cost_nano_usd)::bigint AS provider_cost_nano_usd, \
             sum(attempts_unpriced)::bigint AS attempts_unpriced \
         FROM billing.usage_counters \
         WHERE hour >= to_timestamp($1::double precision / 1000) AND hour < to_timestamp($2::double precision / 1000) {filter} \
         GROUP BY GROUPING SETS ((), (model), (hour)) \
         ORDER BY is_model, is_hour, hour_ms, sum(requests) DESC, model"
    )
}

/// What was used in the caller's tenant.
pub(crate) async fn report(
    db: &Db,
    ctx: &RequestContext,
    whose: Whose,
    range: Hours,
) -> Result<UsageReport, Error> {
    let mut tx = db.tenant(ctx).await?;
    let query = sqlx::query(AssertSqlSafe(sql(whose))).bind(range.from_ms).bind(range.to_ms);
    let query = match whose {
        Whose::User(user) => query.bind(user.0),
        Whose::Key(key) => query.bind(key.0),
        Whose::Everyone => query,
    };
    let rows = query.fetch_all(tx.conn()).await.map_err(DbError::from)?;
    tx.commit().await?;
    let mut report = UsageReport { from_ms: range.from_ms, to_ms: range.to_ms, ..UsageReport::default() };
    for row in &rows {
        add(&mut report, row).map_err(DbError::from)?;
    }
    report.totals.get_or_insert_default();
    Ok(report)
}

fn add(report: &mut UsageReport, row: &PgRow) -> Result<(), sqlx::Error> {
    let totals = Some(totals(row)?);
    if row.try_get("is_model")? {
        report.by_model.push(ModelUsage { model: row.try_get("model")?, totals });
    } else if row.try_get("is_hour")? {
        report.by_hour.push(HourUsage { hour_ms: row.try_get("hour_ms")?, totals });
    } else {
        report.totals = totals;
    }
    Ok(())
}

/// Sums over no rows are null.
fn totals(row: &PgRow) -> Result<Totals, sqlx::Error> {
    let sum =
        |column| row.try_get::<Option<i64>, _>(column).map(|n| u64::try_from(n.unwrap_or(0)).unwrap_or(0));
    let unpriced_calls = sum("attempts_unpriced")?;
    let cost = row.try_get::<Option<i64>, _>("provider_cost_nano_usd")?.unwrap_or(0);
    Ok(Totals {
        requests: sum("requests")?,
        errors: sum("errors")?,
        input_tokens: sum("input_tokens")?,
        output_tokens: sum("output_tokens")?,
        cache_read_tokens: sum("cache_read_tokens")?,
        reasoning_tokens: sum("reasoning_tokens")?,
        cache_write_tokens: sum("cache_write_tokens")?,
        // Nothing but calls whose price nobody knows: that is not nothing.
        provider_cost_nano_usd: Some(cost).filter(|cost| *cost != 0 || unpriced_calls == 0),
        unpriced_calls,
    })
}
