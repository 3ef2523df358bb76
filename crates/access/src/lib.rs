//! Who may call and how much: API keys checked from memory, rate limits and caps on work in progress.
//!
//! Used by the gateway and by realtime; composed into one process they share one [`Access`], so a tenant has one
//! budget there. Limits are per process: with several gateways each admits up to the whole limit.
//!
//! A remembered key is checked again beside the requests it serves, and before a request once that check is
//! overdue, so a revocation counts within `trust_for` even without push. While the control plane is away, keys stay
//! usable for `keep_for`.

mod acting;
mod background;
mod config;
mod gate;
mod grant;
mod limit;
mod lookup;
mod memory;
mod metrics;
#[cfg(test)]
mod tests;
mod ticker;

use std::{net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use weir_error::{Code, Error};
use weir_events::Bus;
use weir_rpc::Transport;
use weir_runtime::{OnFailure, Tasks};
use weir_service::{Name, Site};
use weir_types::{Clock, KeyId, RequestId, TenantId, api_key};

use crate::{
    acting::Acting,
    limit::{Slots, Tenant},
    lookup::{Answer, Lookup},
    memory::{Entry, Presented},
    metrics::Metrics,
    ticker::{Ticker, nanos},
};
pub use crate::{
    config::Config,
    grant::Grant,
    limit::{Limits, Permit, RateState, Slot, Standing, Visit},
};

const REFRESH_QUEUE: usize = 1_024;

/// What [`Access`] works with.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The name that questions to the control plane are asked under.
    pub service: &'static str,
    pub control: Transport,
    /// For pushed revocations, limits and suspensions; without it they are seen within `trust_for`.
    pub bus: Option<Bus>,
    pub clock: Arc<dyn Clock>,
    pub metrics: weir_telemetry::Metrics,
}

/// Keys and limits of one process; cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    lookup: Arc<Lookup>,
    acting: Acting,
    slots: Slots,
    bus: Option<Bus>,
    clock: Arc<dyn Clock>,
    refresh: mpsc::Sender<Presented>,
    /// Until [`Access::spawn`] takes it.
    refresh_queue: Mutex<Option<mpsc::Receiver<Presented>>>,
    config: Config,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Access {
    /// The one of a process: the first service that asks makes it, the others share it.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub async fn of(site: &Site) -> anyhow::Result<Self> {
        let build = async {
            let deps = Deps {
                service: site.name().as_str(),
                control: site.peer(Name::Control)?,
                bus: Some(site.bus().await?),
                clock: site.clock(),
                metrics: site.metrics(),
            };
            let access = Self::build(site.section("access")?, deps);
            access.spawn(site.tasks());
            Ok(access)
        };
        site.once(build).await
    }

    #[must_use]
    pub fn build(config: Config, deps: Deps) -> Self {
        Self::with_ticker(config, deps, Ticker::system())
    }

    fn with_ticker(config: Config, deps: Deps, ticker: Ticker) -> Self {
        let metrics = Metrics::new(&deps.metrics);
        let (refresh, queue) = mpsc::channel(REFRESH_QUEUE);
        Self(Arc::new(Inner {
            acting: Acting::new(&config, deps.control.clone(), ticker.clone()),
            lookup: Arc::new(Lookup::new(&config, deps.service, deps.control, ticker, metrics)),
            slots: Slots::new(config.max_concurrent_requests),
            bus: deps.bus,
            clock: deps.clock,
            refresh,
            refresh_queue: Mutex::new(Some(queue)),
            config,
        }))
    }

    /// Starts checking remembered keys again and following what is pushed. Once per `Access`; later calls do nothing.
    pub fn spawn(&self, tasks: &Tasks) {
        let Some(queue) = self.0.refresh_queue.lock().take() else { return };
        let (lookup, shutdown) = (self.0.lookup.clone(), tasks.shutdown());
        tasks.spawn("access-refresh", OnFailure::Shutdown, async move {
            tokio::select! {
                () = background::refresh(lookup, queue) => {}
                () = shutdown.cancelled() => {}
            }
        });
        let Some(bus) = self.0.bus.clone() else { return };
        let (lookup, shutdown, trust) =
            (self.0.lookup.clone(), tasks.shutdown(), nanos(self.0.config.trust_for));
        tasks.spawn("access-pushes", OnFailure::Shutdown, async move {
            tokio::select! {
                never = background::follow_keys(&lookup, &bus, trust) => match never {},
                never = background::follow_tenants(&lookup, &bus) => match never {},
                () = shutdown.cancelled() => {}
            }
        });
    }

    /// What a presented key may do.
    ///
    /// # Errors
    /// `InvalidApiKey` for any key that may not be used, whatever the reason; `Unavailable` when nobody can say;
    /// `Overloaded` while too many keys are being checked.
    pub async fn authenticate(&self, request_id: &RequestId, presented: &str) -> Result<Grant, Error> {
        self.authenticate_from(request_id, presented, None).await
    }

    /// As [`authenticate`](Self::authenticate), bounding the unknown keys that one address may try.
    ///
    /// # Errors
    /// Also `RateLimited` once the address tried too many.
    pub async fn authenticate_from(
        &self,
        request_id: &RequestId,
        presented: &str,
        address: Option<IpAddr>,
    ) -> Result<Grant, Error> {
        let lookup = &self.0.lookup;
        let Some(form) = api_key::parse(presented) else {
            lookup.metrics.malformed.inc();
            return Err(invalid_key());
        };
        let key = Presented::new(form, presented);
        let now = lookup.ticker.now();
        let config = &self.0.config;
        if let Some(entry) = lookup.memory.get(&key) {
            let age = entry.age(now);
            if age < nanos(config.trust_for) || (lookup.is_down(now) && age < nanos(config.keep_for)) {
                let due = age >= nanos(config.refresh_after) || lookup.memory.is_doubted(&entry);
                if due && entry.claim_refresh(now) {
                    self.queue_refresh(key);
                }
                lookup.metrics.remembered.inc();
                lookup.metrics.hits.inc();
                return self.usable(entry.grant.clone());
            }
            lookup.metrics.misses.inc();
            return Box::pin(self.recheck(&key, &entry, now, request_id)).await;
        }
        if lookup.memory.is_known_bad(&key, now) {
            lookup.metrics.unknown.inc();
            lookup.metrics.hits.inc();
            return Err(invalid_key());
        }
        lookup.metrics.misses.inc();
        let asked = Box::pin(lookup.ask(&key, request_id, address)).await;
        let answer = asked.inspect_err(|_| {
            lookup.metrics.flooded.inc();
        })?;
        match answer {
            Answer::Known(grant) => self.usable(grant),
            Answer::Unknown => Err(invalid_key()),
            Answer::Unreachable => Err(unavailable()),
        }
    }

    /// A remembered key whose check is overdue: asks first, and serves from memory when nobody answers.
    async fn recheck(
        &self,
        key: &Presented,
        entry: &Entry,
        now: u64,
        request_id: &RequestId,
    ) -> Result<Grant, Error> {
        let age = entry.age(now);
        let asked =
            tokio::time::timeout(self.0.config.recheck_wait, self.0.lookup.ask_again(key, request_id)).await;
        // The question ends with its last asker: without one in the background, a control plane that is merely slow
        // would never be heard, and a revoked key would be served for as long as it is kept.
        if asked.is_err() && entry.claim_refresh(now) {
            self.queue_refresh(*key);
        }
        match asked {
            Ok(Ok(Answer::Known(grant))) => self.usable(grant),
            Ok(Ok(Answer::Unknown)) => Err(invalid_key()),
            Ok(Ok(Answer::Unreachable) | Err(_)) | Err(_) if age < nanos(self.0.config.keep_for) => {
                self.0.lookup.metrics.remembered.inc();
                self.usable(entry.grant.clone())
            }
            _ => Err(unavailable()),
        }
    }

    fn queue_refresh(&self, key: Presented) {
        if self.0.refresh.try_send(key).is_err() {
            self.0.lookup.metrics.refresh_dropped.inc();
        }
    }

    fn usable(&self, grant: Grant) -> Result<Grant, Error> {
        if grant.is_expired(self.0.clock.now_ms()) {
            self.0.lookup.metrics.expired.inc();
            return Err(invalid_key());
        }
        if grant.is_suspended() {
            self.0.lookup.metrics.suspended.inc();
            return Err(invalid_key());
        }
        Ok(grant)
    }

    /// The key was revoked: it counts here at once, before the push arrives.
    pub fn revoked(&self, key: KeyId) {
        self.0.lookup.memory.revoke(key);
    }

    /// A platform key's grant, narrowed to one tenant and under its limits.
    ///
    /// # Errors
    /// `TenantMismatch` for any other credential naming a tenant that is not its own, whether or not that exists;
    /// `NotFound` when a platform key names a tenant that does not exist; `Unavailable`.
    pub async fn acting_for(
        &self,
        grant: &Grant,
        tenant: TenantId,
        request_id: &RequestId,
    ) -> Result<Grant, Error> {
        if grant.tenant() == Some(tenant) {
            return Ok(grant.clone());
        }
        if !grant.is_platform() {
            return Err(tenant_mismatch());
        }
        Box::pin(self.0.acting.grant(grant, tenant, request_id, &self.0.lookup.registry)).await
    }

    /// A place among the requests this process works on, until dropped.
    ///
    /// # Errors
    /// `Overloaded` when all are taken.
    pub fn enter(&self) -> Result<Slot, Error> {
        self.0.slots.take().ok_or_else(|| {
            self.0.lookup.metrics.over_process.inc();
            Error::new(Code::Overloaded, "this instance is working on as many requests as it can")
                .with_retry_after(Duration::from_secs(1))
        })
    }

    /// Admits one model call that may use about `estimated_tokens`.
    ///
    /// # Errors
    /// `RateLimited`, with the time after which it would have been admitted; without one when it is larger than a
    /// whole minute's worth, so that waiting never helps (OpenAI answers 429 "Request too large" then, and so do we;
    /// the gateway adds `x-should-retry: false`). `TenantRequired` for a grant without a tenant.
    pub fn admit(&self, grant: &Grant, estimated_tokens: u64) -> Result<Permit, Error> {
        let tenant = grant.limiter().ok_or_else(tenant_required)?;
        let ticker = &self.0.lookup.ticker;
        match tenant.enter(estimated_tokens, self.0.config.max_concurrent_per_tenant, ticker.now()) {
            Ok(charged) => {
                let pace = self.0.config.stream_tokens_per_second_per_tenant;
                Ok(Permit::new(tenant.clone(), ticker.clone(), charged, pace))
            }
            Err(refusal) => Err(self.refused(refusal)),
        }
    }

    /// Admits one call that is no model call. A platform key is under no tenant's limits, whomever it acts for.
    ///
    /// # Errors
    /// `RateLimited`, with the time after which it may be tried again; `TenantRequired` for a grant without a tenant
    /// that is no platform key.
    pub fn admit_rest(&self, grant: &Grant) -> Result<Option<Visit>, Error> {
        if grant.is_platform() {
            return Ok(None);
        }
        let tenant = grant.limiter().ok_or_else(tenant_required)?;
        let now = self.0.lookup.ticker.now();
        match tenant.enter_rest(self.0.config.max_concurrent_rest_per_tenant, now) {
            Ok(()) => Ok(Some(Visit::new(tenant.clone()))),
            Err(refusal) => Err(self.refused(refusal)),
        }
    }

    /// Where the grant's tenant stands, for the headers of an answer.
    #[must_use]
    pub fn rate(&self, grant: &Grant) -> RateState {
        let state = |tenant: &Arc<Tenant>| tenant.state(self.0.lookup.ticker.now());
        grant.limiter().map(state).unwrap_or_default()
    }

    fn refused(&self, refusal: limit::Refusal) -> Error {
        let metrics = &self.0.lookup.metrics;
        match refusal {
            limit::Refusal::Concurrency { .. } => metrics.over_tenant.inc(),
            limit::Refusal::Requests { .. } => metrics.over_requests.inc(),
            limit::Refusal::Tokens { .. } => metrics.over_tokens.inc(),
        };
        refusal.into()
    }
}

fn invalid_key() -> Error {
    // Which of these, only whoever owns the key may learn: from the operator.
    let text = "the API key is not valid: it is unknown, revoked or expired, or its tenant is suspended";
    Error::new(Code::InvalidApiKey, text)
}

fn unavailable() -> Error {
    Error::unavailable("API keys cannot be checked right now")
}

fn tenant_mismatch() -> Error {
    Error::new(Code::TenantMismatch, "this credential may not act for that tenant").with_param("X-Tenant-ID")
}

fn tenant_required() -> Error {
    Error::new(Code::TenantRequired, "this credential belongs to no tenant: name one in X-Tenant-ID")
        .with_param("X-Tenant-ID")
}
