//! `GET /v1/analytics/kpis/hourly`: the tenant's hours, oldest first.

use http::StatusCode;
use serde::Serialize;
use weir_proto::analytics::{HourlyKpisRequest, Latency, analytics_client::AnalyticsClient};

use super::query::Query;
use crate::{House, asked::Asked, edge::Answer, reply};

#[derive(Serialize)]
struct Hours {
    data: Vec<Hour>,
}

#[derive(Serialize)]
struct Hour {
    hour_ms: i64,
    model: String,
    requests: u64,
    errors: u64,
    input_tokens: u64,
    output_tokens: u64,
    first_token: Micros,
    total: Micros,
}

/// Microseconds.
#[derive(Serialize)]
struct Micros {
    count: u64,
    mean_us: u64,
    p50_us: u64,
    p95_us: u64,
    p99_us: u64,
}

impl From<Option<Latency>> for Micros {
    fn from(latency: Option<Latency>) -> Self {
        let l = latency.unwrap_or_default();
        Self { count: l.count, mean_us: l.mean_us, p50_us: l.p50_us, p95_us: l.p95_us, p99_us: l.p99_us }
    }
}

pub(crate) async fn hourly(house: &House, asked: &Asked) -> Answer {
    let grant = house.tenant_grant(asked).await?;
    let query = Query::parse(&asked.uri, &["from", "to", "model"])?;
    let message = HourlyKpisRequest {
        from_ms: query.time_ms("from")?,
        to_ms: query.time_ms("to")?,
        model: query.text("model").to_owned(),
    };
    let ctx = asked.context(&grant, house.config.call_timeout);
    let mut client = AnalyticsClient::new(house.analytics.clone());
    let answer = client.hourly_kpis(weir_rpc::request(&ctx, message)).await?.into_inner();
    let data = answer.data.into_iter().map(|hour| Hour {
        hour_ms: hour.hour_ms,
        model: hour.model,
        requests: hour.requests,
        errors: hour.errors,
        input_tokens: hour.input_tokens,
        output_tokens: hour.output_tokens,
        first_token: hour.first_token.into(),
        total: hour.total.into(),
    });
    reply::json(StatusCode::OK, &Hours { data: data.collect() })
}
