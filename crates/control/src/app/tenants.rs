//! Tenants: made and listed by the platform's operator; each sees its own.

use weir_error::{Code, Error, require_tenant};
use weir_proto::control::{CreateTenantRequest, GetTenantRequest, ListTenantsRequest, UpdateTenantRequest};
use weir_types::{RequestContext, TenantId};

use super::{App, Page, changes, is_platform, page::Wanted, require_platform, validate};
use crate::store::{NewTenant, Tenant, TenantPatch};

fn not_found() -> Error {
    Error::new(Code::NotFound, "no such tenant")
}

impl App {
    pub(crate) async fn create_tenant(
        &self,
        ctx: &RequestContext,
        request: &CreateTenantRequest,
    ) -> Result<Tenant, Error> {
        require_platform(ctx)?;
        let (requests_per_minute, tokens_per_minute) = validate::rates(request.rate_limits)?;
        let new = NewTenant {
            name: validate::name(&request.name)?,
            tier: validate::tier(&request.tier)?,
            requests_per_minute,
            tokens_per_minute,
            created_at_ms: self.clock.now_ms(),
        };
        let tell = |tenant: &Tenant| {
            changes::of_tenant(ctx, changes::What::TenantCreated, tenant, new.created_at_ms)
        };
        let tenant = self.tenants.insert(&acting_for(ctx, TenantId::new()), &new, tell).await?;
        tracing::info!(business_event = "tenant_created", tenant = %tenant.id, tenant.tier, "tenant created");
        Ok(tenant)
    }

    /// Changes what is named. A request that names nothing changes nothing, and tells nobody.
    pub(crate) async fn update_tenant(
        &self,
        ctx: &RequestContext,
        request: &UpdateTenantRequest,
    ) -> Result<Tenant, Error> {
        require_platform(ctx)?;
        let id: TenantId = request.id.parse().map_err(|_| not_found())?;
        let ctx = acting_for(ctx, id);
        let patch = TenantPatch {
            name: request.name.as_deref().map(validate::name).transpose()?,
            tier: request.tier.as_deref().map(validate::given_tier).transpose()?,
            rates: request.rate_limits.map(|limits| validate::rates(Some(limits))).transpose()?,
            suspended: request.suspended,
        };
        if patch.is_empty() {
            return self.tenants.get(&ctx).await?.ok_or_else(not_found);
        }
        let now_ms = self.clock.now_ms();
        let tell = |tenant: &Tenant| changes::of_tenant(&ctx, changes::What::TenantUpdated, tenant, now_ms);
        let tenant = self.tenants.update(&ctx, &patch, tell).await?.ok_or_else(not_found)?;
        tracing::info!(
            business_event = "tenant_updated",
            tenant = %tenant.id,
            tenant.version,
            tenant.suspended,
            "tenant updated"
        );
        Ok(tenant)
    }

    pub(crate) async fn get_tenant(
        &self,
        ctx: &RequestContext,
        request: &GetTenantRequest,
    ) -> Result<Tenant, Error> {
        let id: TenantId = request.id.parse().map_err(|_| not_found())?;
        if !is_platform(ctx) && require_tenant(ctx)? != id {
            return Err(not_found());
        }
        self.tenants.get(&acting_for(ctx, id)).await?.ok_or_else(not_found)
    }

    pub(crate) async fn list_tenants(
        &self,
        ctx: &RequestContext,
        request: &ListTenantsRequest,
    ) -> Result<Page<Tenant>, Error> {
        require_platform(ctx)?;
        let wanted = Wanted::new(request.limit, &request.after)?;
        let rows = self.tenants.list(ctx, wanted.before, wanted.rows()).await?;
        Ok(wanted.page(rows, |tenant| tenant.id.0))
    }
}

/// The caller, within this tenant. Only after it was seen that they may.
fn acting_for(ctx: &RequestContext, tenant: TenantId) -> RequestContext {
    RequestContext { tenant: Some(tenant), ..ctx.clone() }
}
