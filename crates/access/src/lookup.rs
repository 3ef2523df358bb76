//! Questions to the control plane: one at a time per key, a bounded number at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{Shared, WeakShared},
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use weir_error::{Code, Error};
use weir_proto::control::{ResolveKeyRequest, api_keys_client::ApiKeysClient};
use weir_rpc::Transport;
use weir_types::{Deadline, RequestContext, RequestId};

use crate::{
    Config, Grant,
    gate::Gate,
    limit::Registry,
    memory::{Memory, Presented},
    metrics::Metrics,
    ticker::{Ticker, ms},
};

/// After a failure, for this long remembered keys are served without asking first.
const DOWN: u64 = ms(5_000);

/// What the control plane says of a key; memory already knows.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Known(Grant),
    Unknown,
    /// Nobody could be asked.
    Unreachable,
}

type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Flight = Shared<Asking>;

pub(crate) struct Lookup {
    service: &'static str,
    control: Transport,
    timeout: Duration,
    max_waiting: usize,
    turns: Semaphore,
    /// Weak: a question nobody waits for any more is dropped.
    flights: Mutex<HashMap<[u8; 32], WeakShared<Asking>>>,
    gate: Gate,
    failed: AtomicU64,
    pub(crate) memory: Memory,
    pub(crate) registry: Registry,
    pub(crate) ticker: Ticker,
    pub(crate) metrics: Metrics,
}

impl Lookup {
    pub(crate) fn new(
        config: &Config,
        service: &'static str,
        control: Transport,
        ticker: Ticker,
        metrics: Metrics,
    ) -> Self {
        Self {
            service,
            control,
            timeout: config.lookup_timeout,
            max_waiting: config.max_waiting_lookups,
            turns: Semaphore::new(config.max_lookups.max(1)),
            flights: Mutex::default(),
            gate: Gate::new(config, ticker.now()),
            failed: AtomicU64::new(0),
            memory: Memory::new(config),
            registry: Registry::new(config.max_tenants, ticker.clone()),
            ticker,
            metrics,
        }
    }

    /// Whether asking failed a moment ago.
    pub(crate) fn is_down(&self, now: u64) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        failed != 0 && now.saturating_sub(failed) < DOWN
    }

    /// Asks about a key nobody knows here. Everyone who presents it meanwhile waits for the same answer.
    ///
    /// # Errors
    /// `RateLimited` or `Overloaded`, before anything is asked.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        key: &Presented,
        request_id: &RequestId,
        address: Option<IpAddr>,
    ) -> Result<Answer, Error> {
        let flight = self.join(key, request_id, |now| self.gate.pass(address, now).map(Some))?;
        Ok(flight.await)
    }

    /// Asks again about a key that was good; no flood can come of that.
    ///
    /// # Errors
    /// `Overloaded` when too many wait already.
    pub(crate) async fn ask_again(
        self: &Arc<Self>,
        key: &Presented,
        request_id: &RequestId,
    ) -> Result<Answer, Error> {
        let flight = self.join(key, request_id, |_| Ok(None))?;
        Ok(flight.await)
    }

    fn join(
        self: &Arc<Self>,
        key: &Presented,
        request_id: &RequestId,
        pass: impl FnOnce(u64) -> Result<Option<crate::gate::Pass>, Error>,
    ) -> Result<Flight, Error> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key.hash).and_then(WeakShared::upgrade) {
            return Ok(flight);
        }
        if flights.len() >= self.max_waiting {
            flights.retain(|_, flight| flight.upgrade().is_some());
            if flights.len() >= self.max_waiting {
                return Err(Error::new(Code::Overloaded, "too many API keys are being checked")
                    .with_retry_after(Duration::from_secs(1)));
            }
        }
        let pass = pass(self.ticker.now())?;
        let (this, key, request_id) = (self.clone(), *key, request_id.clone());
        let flight: Asking = Box::pin(async move {
            let answer = this.fly(&key, request_id).await;
            if let (Some(pass), Answer::Known(_) | Answer::Unreachable) = (pass, &answer) {
                pass.refund();
            }
            this.flights.lock().remove(&key.hash);
            answer
        });
        let flight = flight.shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key.hash, weak);
        }
        Ok(flight)
    }

    /// One question, its answer put into memory.
    async fn fly(&self, key: &Presented, request_id: RequestId) -> Answer {
        let answer = match tokio::time::timeout(self.timeout, self.resolve(key, request_id)).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(Error::unavailable("the control plane did not answer").with_source(elapsed)),
        };
        let now = self.ticker.now();
        match answer {
            Ok(grant) if self.memory.confirm(key, &grant, now) => {
                self.failed.store(0, Ordering::Relaxed);
                self.metrics.resolved.inc();
                Answer::Known(grant)
            }
            Ok(_) => Answer::Unknown,
            Err(error) if error.code() == Code::NotFound => {
                self.failed.store(0, Ordering::Relaxed);
                self.memory.forget(key, now);
                self.metrics.unknown.inc();
                Answer::Unknown
            }
            Err(error) => {
                tracing::warn!(key.id = %key.id, error = error.chain(), "api key not checked");
                self.failed.store(now.max(1), Ordering::Relaxed);
                self.metrics.unavailable.inc();
                Answer::Unreachable
            }
        }
    }

    async fn resolve(&self, key: &Presented, request_id: RequestId) -> Result<Grant, Error> {
        let _turn = self.turns.acquire().await.map_err(Error::internal)?;
        let mut ctx = RequestContext::service(self.service);
        ctx.request_id = request_id;
        ctx.deadline = Some(Deadline::after(self.timeout));
        let message = ResolveKeyRequest { sha256: key.hash.to_vec().into() };
        let answer =
            ApiKeysClient::new(self.control.clone()).resolve_key(weir_rpc::request(&ctx, message)).await?;
        Grant::resolved((key.kind, key.id), answer.get_ref(), &self.registry)
    }
}
