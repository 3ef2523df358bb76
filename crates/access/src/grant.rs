//! What a presented key may do.

use std::sync::Arc;

use weir_error::Error;
use weir_proto::control::KeyGrant;
use weir_types::{KeyId, Principal, RequestContext, RequestId, TenantId, UserId, api_key::KeyKind, scope};

use crate::limit::{Limits, Registry, Tenant, Terms};

/// A checked credential; cheap to clone.
#[derive(Debug, Clone)]
pub struct Grant(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    principal: Principal,
    tenant: Option<TenantId>,
    scopes: Arc<[Arc<str>]>,
    /// Unix milliseconds.
    expires_at_ms: Option<i64>,
    limits: Option<Arc<Tenant>>,
}

impl Grant {
    /// What the control plane says of a key of this kind and id.
    ///
    /// # Errors
    /// `Internal` when the answer contradicts itself or the key.
    pub(crate) fn resolved(
        (kind, id): (KeyKind, KeyId),
        answer: &KeyGrant,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let scopes = answer.scopes.iter().map(|s| Arc::from(s.as_str())).collect();
        let expires_at_ms = (answer.expires_at_ms != 0).then_some(answer.expires_at_ms);
        let (principal, tenant, limits) = match kind {
            KeyKind::Admin if answer.tenant_id.is_empty() => (Principal::Platform, None, None),
            KeyKind::Live if answer.key_id.parse() == Ok(id) => {
                let tenant = answer.tenant_id.parse::<TenantId>().map_err(Error::internal)?;
                let user = match answer.user_id.as_str() {
                    "" => None,
                    user => Some(user.parse::<UserId>().map_err(Error::internal)?),
                };
                // Keys of suspended tenants are not known.
                let terms = Terms {
                    version: answer.tenant_version,
                    limits: answer.rate_limits.into(),
                    suspended: false,
                };
                let limits = registry.tenant(tenant, terms)?;
                (Principal::Key { id, user }, Some(tenant), Some(limits))
            }
            KeyKind::Admin | KeyKind::Live => {
                return Err(Error::internal(std::io::Error::other("a grant that does not fit its key")));
            }
        };
        Ok(Self(Arc::new(Inner { principal, tenant, scopes, expires_at_ms, limits })))
    }

    /// The platform's operator acting for a tenant.
    pub(crate) fn acting(&self, tenant: TenantId, limits: Arc<Tenant>) -> Self {
        let scopes =
            std::iter::once(&scope::PLATFORM_ADMIN).chain(scope::TENANT).map(|s| Arc::from(*s)).collect();
        Self(Arc::new(Inner {
            principal: Principal::Platform,
            tenant: Some(tenant),
            scopes,
            expires_at_ms: self.0.expires_at_ms,
            limits: Some(limits),
        }))
    }

    /// Whether both allow the same; limits aside, which are shared and follow on their own.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        a.principal == b.principal
            && a.tenant == b.tenant
            && a.scopes == b.scopes
            && a.expires_at_ms == b.expires_at_ms
    }

    pub(crate) fn limiter(&self) -> Option<&Arc<Tenant>> {
        self.0.limits.as_ref()
    }

    /// Whether its tenant's keys are refused.
    pub(crate) fn is_suspended(&self) -> bool {
        self.0.limits.as_ref().is_some_and(|tenant| tenant.is_suspended())
    }

    pub(crate) fn is_expired(&self, now_ms: i64) -> bool {
        self.0.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// The tenant acted for; `None` for a platform key by itself.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        self.0.tenant
    }

    #[must_use]
    pub fn is_platform(&self) -> bool {
        self.0.principal == Principal::Platform
    }

    /// The key, unless it is a platform key.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        match &self.0.principal {
            Principal::Key { id, .. } => Some(*id),
            Principal::Platform | Principal::Service(_) => None,
        }
    }

    #[must_use]
    pub fn scopes(&self) -> &Arc<[Arc<str>]> {
        &self.0.scopes
    }

    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|s| &**s == scope)
    }

    /// The tenant's limits as they are now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.0.limits.as_ref().map(|l| l.limits()).unwrap_or_default()
    }

    /// The context for calls on behalf of this credential; trace and deadline are the caller's to add.
    #[must_use]
    pub fn context(&self, request_id: RequestId) -> RequestContext {
        RequestContext {
            principal: self.0.principal.clone(),
            tenant: self.0.tenant,
            scopes: self.0.scopes.clone(),
            request_id,
            trace: None,
            deadline: None,
        }
    }
}
