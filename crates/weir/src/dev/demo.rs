//! A tenant and a key to try things with: made at the first start, the same ones at every later one.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use weir_proto::control::{
    CreateApiKeyRequest, CreateTenantRequest, GetTenantRequest, ResolveKeyRequest,
    api_keys_client::ApiKeysClient, tenants_client::TenantsClient,
};
use weir_rpc::{Transport, request};
use weir_types::{Principal, RequestContext, TenantId, scope};

use super::{StateFile, state::Demo};

const NAME: &str = "demo";
const TIER: &str = "enterprise";

/// The demo of the last start when the database still knows it, else a new one.
pub(crate) async fn ensure(control: &Transport, state: &StateFile) -> Result<Demo> {
    if let Some(demo) = state.get().demo
        && known(control, &demo).await?
    {
        return Ok(demo);
    }
    let tenant = CreateTenantRequest { name: NAME.to_owned(), tier: TIER.to_owned(), rate_limits: None };
    let tenant = TenantsClient::new(control.clone()).create_tenant(request(&operator(None), tenant)).await;
    let tenant_id: TenantId = tenant.context("creating the demo tenant")?.into_inner().id.parse()?;
    let key = CreateApiKeyRequest {
        name: NAME.to_owned(),
        scopes: scope::TENANT.iter().map(|&scope| scope.to_owned()).collect(),
        ..CreateApiKeyRequest::default()
    };
    let key =
        ApiKeysClient::new(control.clone()).create_api_key(request(&operator(Some(tenant_id)), key)).await;
    let demo = Demo { tenant_id, api_key: key.context("creating the demo key")?.into_inner().secret };
    state.update(|state| state.demo = Some(demo.clone()))?;
    Ok(demo)
}

/// Whether tenant and key are still there and valid: the database may be another one than last time.
async fn known(control: &Transport, demo: &Demo) -> Result<bool> {
    let tenant = GetTenantRequest { id: demo.tenant_id.to_string() };
    let tenant = TenantsClient::new(control.clone()).get_tenant(request(&operator(None), tenant)).await;
    let key = ResolveKeyRequest { sha256: Sha256::digest(&demo.api_key).to_vec().into() };
    let gateway = RequestContext::service("gateway");
    let grant = ApiKeysClient::new(control.clone()).resolve_key(request(&gateway, key)).await;
    for found in [tenant.map(drop), grant.map(drop)] {
        match found {
            Ok(()) => {}
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(false),
            Err(status) => return Err(status).context("looking up the demo tenant"),
        }
    }
    Ok(true)
}

/// The platform's operator, acting for a tenant.
fn operator(tenant: Option<TenantId>) -> RequestContext {
    let scopes: Vec<Arc<str>> =
        [scope::PLATFORM_ADMIN].iter().chain(scope::TENANT).map(|&scope| Arc::from(scope)).collect();
    RequestContext {
        principal: Principal::Platform,
        tenant,
        scopes: scopes.into(),
        ..RequestContext::service("weir-dev")
    }
}
