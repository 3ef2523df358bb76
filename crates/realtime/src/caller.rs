//! Who a session speaks for: the presented key, looked at again with every turn, so that a revoked one ends it.

use std::{net::IpAddr, sync::Arc};

use weir_access::Grant;
use weir_error::{Code, Error};
use weir_types::{RequestId, TenantId};

use crate::Shared;

/// What a client presented. Not `Debug`: it is a secret.
#[derive(Clone)]
pub(crate) struct Credential(Arc<Presented>);

struct Presented {
    key: String,
    /// For keys that belong to no tenant.
    tenant: Option<String>,
    /// Where it came from: unknown keys are counted by address.
    address: Option<IpAddr>,
}

impl Credential {
    pub(crate) fn new(key: String, tenant: Option<String>, address: Option<IpAddr>) -> Self {
        Self(Arc::new(Presented { key, tenant, address }))
    }
}

/// An authenticated client; cheap to clone.
#[derive(Clone)]
pub(crate) struct Caller {
    credential: Credential,
    grant: Grant,
    tenant: TenantId,
}

impl Caller {
    /// # Errors
    /// Those of [`weir_access::Access::authenticate`] and `acting_for`; `TenantRequired` for a platform key that
    /// names none.
    pub(crate) async fn authenticate(
        shared: &Shared,
        credential: Credential,
        request_id: &RequestId,
    ) -> Result<Self, Error> {
        let presented = &credential.0;
        let mut grant =
            shared.access.authenticate_from(request_id, &presented.key, presented.address).await?;
        if let Some(named) = &presented.tenant {
            let tenant = named.parse().map_err(|_| unreadable(&grant))?;
            grant = shared.access.acting_for(&grant, tenant, request_id).await?;
        }
        let tenant = weir_error::require_tenant(&grant.context(request_id.clone()))?;
        Ok(Self { credential, grant, tenant })
    }

    /// The same credential, looked at again.
    ///
    /// # Errors
    /// As [`Caller::authenticate`].
    pub(crate) async fn renewed(&self, shared: &Shared, request_id: &RequestId) -> Result<Self, Error> {
        Self::authenticate(shared, self.credential.clone(), request_id).await
    }

    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    pub(crate) fn tenant(&self) -> TenantId {
        self.tenant
    }
}

/// Of a text that is no id, too, a tenant's key learns nothing but that it is not its own tenant.
fn unreadable(grant: &Grant) -> Error {
    if grant.is_platform() {
        return Error::invalid("X-Tenant-ID", "not a tenant id: expected a UUID");
    }
    Error::new(Code::TenantMismatch, "this credential may not act for that tenant").with_param("X-Tenant-ID")
}
