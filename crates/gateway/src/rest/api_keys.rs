//! `/v1/api-keys`, also as `/v1/users/me/api-keys`: the keys of the caller's tenant.

use axum::body::Body;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use weir_error::{Code, Error};
use weir_proto::control::{
    ApiKey, CreateApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest, api_keys_client::ApiKeysClient,
};
use weir_types::KeyId;

use super::{fields, present, query::Query};
use crate::{House, asked::Asked, edge::Answer, reply};

#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    prefix: String,
    scopes: Vec<String>,
    user_id: Option<String>,
    created_at_ms: i64,
    /// `null`: never.
    expires_at_ms: Option<i64>,
    /// `null`: not revoked.
    revoked_at_ms: Option<i64>,
}

#[derive(Serialize)]
struct Created {
    api_key: Shown,
    /// Never shown again.
    secret: String,
}

#[derive(Serialize)]
struct Page {
    data: Vec<Shown>,
    has_more: bool,
    next_cursor: Option<String>,
}

impl From<ApiKey> for Shown {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            scopes: key.scopes,
            user_id: present(key.user_id),
            created_at_ms: key.created_at_ms,
            expires_at_ms: present(key.expires_at_ms),
            revoked_at_ms: present(key.revoked_at_ms),
        }
    }
}

pub(crate) async fn create(house: &House, asked: &Asked, body: Body) -> Answer {
    let grant = house.tenant_grant(asked).await?;
    let mut body = fields(house, asked, &grant, body).await?;
    let message = CreateApiKeyRequest {
        name: body.required_text("name")?,
        scopes: body.texts("scopes")?,
        user_id: body.text("user_id")?,
        expires_at_ms: body.time_ms("expires_at_ms")?.unwrap_or_default(),
    };
    body.finish()?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    let mut client = ApiKeysClient::new(house.control.clone());
    let created = client.create_api_key(weir_rpc::request(&ctx, message)).await?.into_inner();
    let key = created.api_key.unwrap_or_default();
    let location = HeaderValue::from_str(&format!("/v1/api-keys/{}", key.id)).map_err(Error::internal)?;
    let shown = Created { api_key: key.into(), secret: created.secret };
    let mut response = reply::json(StatusCode::CREATED, &shown)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

pub(crate) async fn list(house: &House, asked: &Asked) -> Answer {
    let grant = house.tenant_grant(asked).await?;
    let query = Query::parse(&asked.uri, &["limit", "after"])?;
    let message = ListApiKeysRequest { limit: query.number("limit")?, after: query.text("after").to_owned() };
    let ctx = asked.context(&grant, house.config.call_timeout);
    let mut client = ApiKeysClient::new(house.control.clone());
    let page = client.list_api_keys(weir_rpc::request(&ctx, message)).await?.into_inner();
    let data = page.data.into_iter().map(Shown::from).collect();
    reply::json(
        StatusCode::OK,
        &Page { data, has_more: page.has_more, next_cursor: present(page.next_cursor) },
    )
}

pub(crate) async fn revoke(house: &House, asked: &Asked, id: &str) -> Answer {
    let grant = house.tenant_grant(asked).await?;
    let id: KeyId = id.parse().map_err(|_| Error::new(Code::NotFound, "no such API key"))?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    let mut client = ApiKeysClient::new(house.control.clone());
    let message = RevokeApiKeyRequest { id: id.to_string() };
    let key = client.revoke_api_key(weir_rpc::request(&ctx, message)).await?.into_inner();
    // Here at once; other instances hear of it by push. Only now is it known to be the caller's own.
    house.access.revoked(id);
    reply::json(StatusCode::OK, &Shown::from(key))
}
