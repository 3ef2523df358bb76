//! `/v1/tenants`: for platform keys; a tenant may look at itself.

use axum::body::Body;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use weir_error::{Code, Error};
use weir_proto::control::{
    CreateTenantRequest, GetTenantRequest, ListTenantsRequest, RateLimits, Tenant,
    tenants_client::TenantsClient,
};
use weir_types::TenantId;

use super::{fields, present, query::Query};
use crate::{House, asked::Asked, edge::Answer, reply};

#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    tier: String,
    rate_limits: ShownLimits,
    created_at_ms: i64,
}

#[derive(Serialize)]
struct ShownLimits {
    /// `null`: not limited.
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
}

#[derive(Serialize)]
struct Page {
    data: Vec<Shown>,
    has_more: bool,
    next_cursor: Option<String>,
}

impl From<Tenant> for Shown {
    fn from(tenant: Tenant) -> Self {
        let limits = tenant.rate_limits.unwrap_or_default();
        Self {
            id: tenant.id,
            name: tenant.name,
            tier: tenant.tier,
            rate_limits: ShownLimits {
                requests_per_minute: limits.requests_per_minute,
                tokens_per_minute: limits.tokens_per_minute,
            },
            created_at_ms: tenant.created_at_ms,
        }
    }
}

pub(crate) async fn create(house: &House, asked: &Asked, body: Body) -> Answer {
    let grant = house.grant(asked).await?;
    let mut body = fields(house, asked, &grant, body).await?;
    let rate_limits = match body.object("rate_limits")? {
        None => None,
        Some(mut limits) => {
            let rate_limits = RateLimits {
                requests_per_minute: limits.count("requests_per_minute")?,
                tokens_per_minute: limits.count("tokens_per_minute")?,
            };
            limits.finish()?;
            Some(rate_limits)
        }
    };
    let message =
        CreateTenantRequest { name: body.required_text("name")?, tier: body.text("tier")?, rate_limits };
    body.finish()?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    let mut client = TenantsClient::new(house.control.clone());
    let tenant = client.create_tenant(weir_rpc::request(&ctx, message)).await?.into_inner();
    let location = HeaderValue::from_str(&format!("/v1/tenants/{}", tenant.id)).map_err(Error::internal)?;
    let mut response = reply::json(StatusCode::CREATED, &Shown::from(tenant))?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

pub(crate) async fn list(house: &House, asked: &Asked) -> Answer {
    let grant = house.grant(asked).await?;
    let query = Query::parse(&asked.uri, &["limit", "after"])?;
    let message = ListTenantsRequest { limit: query.number("limit")?, after: query.text("after").to_owned() };
    let ctx = asked.context(&grant, house.config.call_timeout);
    let mut client = TenantsClient::new(house.control.clone());
    let page = client.list_tenants(weir_rpc::request(&ctx, message)).await?.into_inner();
    let data = page.data.into_iter().map(Shown::from).collect();
    reply::json(
        StatusCode::OK,
        &Page { data, has_more: page.has_more, next_cursor: present(page.next_cursor) },
    )
}

pub(crate) async fn get(house: &House, asked: &Asked, id: &str) -> Answer {
    let grant = house.grant(asked).await?;
    // What is no id names nothing, which is all a stranger may learn of any other id.
    let id: TenantId = id.parse().map_err(|_| Error::new(Code::NotFound, "no such tenant"))?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    let mut client = TenantsClient::new(house.control.clone());
    let message = GetTenantRequest { id: id.to_string() };
    let tenant = client.get_tenant(weir_rpc::request(&ctx, message)).await?.into_inner();
    reply::json(StatusCode::OK, &Shown::from(tenant))
}
