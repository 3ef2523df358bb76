//! `weir.control.v1.Tenants`.

use tonic::{Request, Response, Status};
use weir_proto::control::{
    CreateTenantRequest, GetTenantRequest, ListTenantsRequest, ListTenantsResponse, Tenant,
    UpdateTenantRequest, tenants_server,
};

use super::{Tenants, limits};
use crate::store;

fn shown(tenant: store::Tenant) -> Tenant {
    Tenant {
        id: tenant.id.to_string(),
        name: tenant.name,
        tier: tenant.tier,
        rate_limits: limits(tenant.requests_per_minute, tenant.tokens_per_minute),
        created_at_ms: tenant.created_at_ms,
        suspended: tenant.suspended,
        version: u64::try_from(tenant.version).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl tenants_server::Tenants for Tenants {
    async fn create_tenant(&self, request: Request<CreateTenantRequest>) -> Result<Response<Tenant>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let tenant = self.0.create_tenant(&ctx, request.get_ref()).await?;
        Ok(Response::new(shown(tenant)))
    }

    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<Tenant>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let tenant = self.0.get_tenant(&ctx, request.get_ref()).await?;
        Ok(Response::new(shown(tenant)))
    }

    async fn update_tenant(&self, request: Request<UpdateTenantRequest>) -> Result<Response<Tenant>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let tenant = self.0.update_tenant(&ctx, request.get_ref()).await?;
        Ok(Response::new(shown(tenant)))
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let page = self.0.list_tenants(&ctx, request.get_ref()).await?;
        Ok(Response::new(ListTenantsResponse {
            data: page.data.into_iter().map(shown).collect(),
            has_more: page.has_more,
            next_cursor: page.next_cursor,
        }))
    }
}
