//! `weir.control.v1.ApiKeys`.

use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};
use weir_proto::control::{
    ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, GetApiKeyRequest, KeyGrant, ListApiKeysRequest,
    ListApiKeysResponse, ResolveKeyRequest, RevokeApiKeyRequest, api_keys_server,
};
use weir_types::{
    UserId,
    api_key::{KeyKind, public_part},
    scope,
};

use super::{ApiKeys, limits};
use crate::{app::Resolved, store};

fn shown(key: store::ApiKey) -> ApiKey {
    ApiKey {
        id: key.id.to_string(),
        name: key.name,
        prefix: public_part(KeyKind::Live, key.id),
        scopes: key.scopes,
        user_id: text(key.user),
        created_at_ms: key.created_at_ms,
        expires_at_ms: key.expires_at_ms.unwrap_or_default(),
        revoked_at_ms: key.revoked_at_ms.unwrap_or_default(),
    }
}

fn granted(resolved: Resolved) -> KeyGrant {
    match resolved {
        Resolved::Key(grant) => KeyGrant {
            key_id: grant.key.to_string(),
            tenant_id: grant.tenant.to_string(),
            user_id: text(grant.user),
            scopes: grant.scopes,
            rate_limits: limits(grant.requests_per_minute, grant.tokens_per_minute),
            expires_at_ms: grant.expires_at_ms.unwrap_or_default(),
            tenant_version: u64::try_from(grant.tenant_version).unwrap_or_default(),
        },
        Resolved::Platform(id) => KeyGrant {
            key_id: id.to_string(),
            scopes: std::iter::once(&scope::PLATFORM_ADMIN)
                .chain(scope::TENANT)
                .map(|&s| s.to_owned())
                .collect(),
            rate_limits: limits(None, None),
            ..KeyGrant::default()
        },
    }
}

fn text(user: Option<UserId>) -> String {
    user.map(|u| u.to_string()).unwrap_or_default()
}

#[tonic::async_trait]
impl api_keys_server::ApiKeys for ApiKeys {
    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let created = self.0.create_key(&ctx, request.get_ref()).await?;
        Ok(Response::new(CreateApiKeyResponse {
            api_key: Some(shown(created.key)),
            secret: created.secret.expose_secret().to_owned(),
        }))
    }

    async fn get_api_key(&self, request: Request<GetApiKeyRequest>) -> Result<Response<ApiKey>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let key = self.0.get_key(&ctx, request.get_ref()).await?;
        Ok(Response::new(shown(key)))
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let page = self.0.list_keys(&ctx, request.get_ref()).await?;
        Ok(Response::new(ListApiKeysResponse {
            data: page.data.into_iter().map(shown).collect(),
            has_more: page.has_more,
            next_cursor: page.next_cursor,
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<ApiKey>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let key = self.0.revoke_key(&ctx, request.get_ref()).await?;
        Ok(Response::new(shown(key)))
    }

    async fn resolve_key(&self, request: Request<ResolveKeyRequest>) -> Result<Response<KeyGrant>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let resolved = self.0.resolve(&ctx, request.get_ref()).await?;
        Ok(Response::new(granted(resolved)))
    }
}
