//! A platform key acting for a tenant: the tenant must exist, and its limits hold.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;
use weir_error::{Code, Error};
use weir_proto::control::{GetTenantRequest, tenants_client::TenantsClient};
use weir_rpc::Transport;
use weir_types::{Deadline, RequestId, TenantId};

use crate::{
    Config, Grant,
    limit::{Registry, Tenant, Terms},
    ticker::{Ticker, nanos},
};

const MAX_TENANTS: usize = 10_000;

pub(crate) struct Acting {
    control: Transport,
    timeout: Duration,
    trust: u64,
    keep: u64,
    known: Cache<TenantId, Arc<Known>>,
    ticker: Ticker,
}

struct Known {
    limits: Arc<Tenant>,
    confirmed: AtomicU64,
}

impl Acting {
    pub(crate) fn new(config: &Config, control: Transport, ticker: Ticker) -> Self {
        Self {
            control,
            timeout: config.lookup_timeout,
            trust: nanos(config.trust_for),
            keep: nanos(config.keep_for),
            known: Cache::new(MAX_TENANTS),
            ticker,
        }
    }

    /// # Errors
    /// `NotFound` when there is no such tenant; `Unavailable` when nobody could say and nobody lately did.
    pub(crate) async fn grant(
        &self,
        platform: &Grant,
        tenant: TenantId,
        request_id: &RequestId,
        registry: &Registry,
    ) -> Result<Grant, Error> {
        let known = self.known.get(&tenant);
        let age =
            known.as_ref().map(|k| self.ticker.now().saturating_sub(k.confirmed.load(Ordering::Relaxed)));
        if let (Some(known), Some(age)) = (&known, age)
            && age < self.trust
        {
            return Ok(platform.acting(tenant, known.limits.clone()));
        }
        match self.ask(platform, tenant, request_id).await {
            Ok(terms) => {
                let limits = registry.tenant(tenant, terms)?;
                let confirmed = AtomicU64::new(self.ticker.now());
                self.known.insert(tenant, Arc::new(Known { limits: limits.clone(), confirmed }));
                Ok(platform.acting(tenant, limits))
            }
            Err(error) if error.code() == Code::NotFound => {
                self.known.remove(&tenant);
                Err(Error::new(Code::NotFound, "no such tenant").with_param("X-Tenant-ID"))
            }
            Err(error) => {
                tracing::warn!(tenant.id = %tenant, error = error.chain(), "tenant not checked");
                match known {
                    Some(known) if age.is_some_and(|age| age < self.keep) => {
                        Ok(platform.acting(tenant, known.limits.clone()))
                    }
                    _ => Err(Error::unavailable("tenants cannot be checked right now")),
                }
            }
        }
    }

    async fn ask(&self, platform: &Grant, tenant: TenantId, request_id: &RequestId) -> Result<Terms, Error> {
        let mut ctx = platform.context(request_id.clone());
        ctx.deadline = Some(Deadline::after(self.timeout));
        let message = GetTenantRequest { id: tenant.to_string() };
        let call = async {
            let mut client = TenantsClient::new(self.control.clone());
            client.get_tenant(weir_rpc::request(&ctx, message)).await
        };
        let answer = tokio::time::timeout(self.timeout, call)
            .await
            .map_err(|e| Error::unavailable("the control plane did not answer").with_source(e))??;
        let tenant = answer.into_inner();
        Ok(Terms { version: tenant.version, limits: tenant.rate_limits.into(), suspended: tenant.suspended })
    }
}
