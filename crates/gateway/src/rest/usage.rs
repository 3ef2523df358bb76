//! `GET /v1/users/me/usage`: what billing counted for the calling user, or for the key when it acts for none.

use http::StatusCode;
use serde::Serialize;
use weir_proto::billing::{GetMyUsageRequest, Totals, usage_client::UsageClient};

use super::query::Query;
use crate::{House, asked::Asked, edge::Answer, reply};

#[derive(Serialize)]
struct Report {
    from_ms: i64,
    to_ms: i64,
    totals: Counts,
    by_model: Vec<OfModel>,
    by_hour: Vec<OfHour>,
}

/// Inclusive: cached is part of input, reasoning part of output.
#[derive(Serialize)]
struct Counts {
    requests: u64,
    errors: u64,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_tokens: u64,
    reasoning_tokens: u64,
}

#[derive(Serialize)]
struct OfModel {
    model: String,
    totals: Counts,
}

#[derive(Serialize)]
struct OfHour {
    hour_ms: i64,
    totals: Counts,
}

impl From<Option<Totals>> for Counts {
    fn from(totals: Option<Totals>) -> Self {
        let totals = totals.unwrap_or_default();
        Self {
            requests: totals.requests,
            errors: totals.errors,
            input_tokens: totals.input_tokens,
            output_tokens: totals.output_tokens,
            cache_read_tokens: totals.cache_read_tokens,
            reasoning_tokens: totals.reasoning_tokens,
        }
    }
}

pub(crate) async fn mine(house: &House, asked: &Asked) -> Answer {
    let grant = house.tenant_grant(asked).await?;
    let query = Query::parse(&asked.uri, &["from", "to"])?;
    let message = GetMyUsageRequest { from_ms: query.time_ms("from")?, to_ms: query.time_ms("to")? };
    let ctx = asked.context(&grant, house.config.call_timeout);
    let mut client = UsageClient::new(house.billing.clone());
    let report = client.get_my_usage(weir_rpc::request(&ctx, message)).await?.into_inner();
    let by_model = report.by_model.into_iter().map(|m| OfModel { model: m.model, totals: m.totals.into() });
    let by_hour = report.by_hour.into_iter().map(|h| OfHour { hour_ms: h.hour_ms, totals: h.totals.into() });
    reply::json(
        StatusCode::OK,
        &Report {
            from_ms: report.from_ms,
            to_ms: report.to_ms,
            totals: report.totals.into(),
            by_model: by_model.collect(),
            by_hour: by_hour.collect(),
        },
    )
}
