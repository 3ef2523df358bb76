//! Readiness gates and dependency checks behind `/live`, `/ready` and `/health`.
//!
//! Checks run when asked for, each with a timeout, at most once a second however many ask: `/health` cannot be
//! used to hammer a dependency.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use parking_lot::RwLock;
use serde::Serialize;
use tokio::time::{Instant, timeout};
use weir_types::Clock;

use crate::Shutdown;

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const CACHE: Duration = Duration::from_secs(1);

/// What a failing dependency means for the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Criticality {
    /// The service cannot do its work: `/health` answers 503.
    Required,
    /// It goes on with less: `/health` says degraded, with 200.
    Degraded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Degraded,
    Unhealthy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    Ok,
    Failed,
}

/// One dependency, as last seen.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    pub status: CheckStatus,
    pub required: bool,
    /// How long the check took.
    pub latency_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The answer of `GET /health`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub status: Status,
    pub service: &'static str,
    pub version: &'static str,
    pub uptime_seconds: i64,
    /// Memory held by the process, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    pub draining: bool,
    pub checks: BTreeMap<&'static str, CheckReport>,
}

/// The answer of `GET /ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub draining: bool,
    /// The gates that are not open yet.
    pub waiting: Vec<&'static str>,
}

/// A service's health. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    service: &'static str,
    clock: Arc<dyn Clock>,
    started_ms: i64,
    gates: RwLock<BTreeMap<&'static str, bool>>,
    checks: RwLock<BTreeMap<&'static str, Arc<Check>>>,
    shutdown: RwLock<Option<Shutdown>>,
}

struct Check {
    criticality: Criticality,
    run: Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
    /// Held while the check runs, so that callers at the same time share one run.
    last: tokio::sync::Mutex<Option<(Instant, CheckReport)>>,
}

impl Health {
    #[must_use]
    pub fn new(service: &'static str, clock: Arc<dyn Clock>) -> Self {
        let started_ms = clock.now_ms();
        Self(Arc::new(Inner {
            service,
            clock,
            started_ms,
            gates: RwLock::default(),
            checks: RwLock::default(),
            shutdown: RwLock::default(),
        }))
    }

    /// Sets a readiness gate; `/ready` answers 200 once all gates named so far are open. Name them closed while
    /// starting, before the listener is open.
    pub fn ready(&self, gate: &'static str, open: bool) {
        self.0.gates.write().insert(gate, open);
    }

    /// Adds a dependency check, or replaces the one of that name. It runs with a timeout of 2 s. Its error is
    /// shown to operators: no secrets.
    pub fn check<F, R>(&self, name: &'static str, criticality: Criticality, run: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check = Check {
            criticality,
            run: Box::new(move || Box::pin(run())),
            last: tokio::sync::Mutex::default(),
        };
        self.0.checks.write().insert(name, Arc::new(check));
    }

    /// From this shutdown's start on, `/ready` answers 503.
    pub fn drain_on(&self, shutdown: Shutdown) {
        *self.0.shutdown.write() = Some(shutdown);
    }

    #[must_use]
    pub fn draining(&self) -> bool {
        self.0.shutdown.read().as_ref().is_some_and(Shutdown::is_cancelled)
    }

    /// Touches no dependency.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let waiting: Vec<_> =
            self.0.gates.read().iter().filter(|(_, open)| !**open).map(|(name, _)| *name).collect();
        let draining = self.draining();
        Readiness { ready: waiting.is_empty() && !draining, draining, waiting }
    }

    /// Runs the checks, all at once; results younger than a second are reused.
    pub async fn report(&self) -> Report {
        let checks: Vec<_> =
            self.0.checks.read().iter().map(|(name, check)| (*name, check.clone())).collect();
        let results =
            join_all(checks.iter().map(|(name, check)| async { (*name, check.result().await) })).await;
        let checks: BTreeMap<_, _> = results.into_iter().collect();
        let failed =
            |required| checks.values().any(|c| c.status == CheckStatus::Failed && c.required == required);
        let status = match (failed(true), failed(false)) {
            (true, _) => Status::Unhealthy,
            (false, true) => Status::Degraded,
            (false, false) => Status::Ok,
        };
        Report {
            status,
            service: self.0.service,
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: (self.0.clock.now_ms() - self.0.started_ms) / 1000,
            resident_bytes: crate::system::resident_bytes(),
            draining: self.draining(),
            checks,
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("service", &self.0.service)
            .field("readiness", &self.readiness())
            .finish()
    }
}

impl Check {
    async fn result(&self) -> CheckReport {
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < CACHE
        {
            return report.clone();
        }
        let started = Instant::now();
        let error = match timeout(CHECK_TIMEOUT, (self.run)()).await {
            Ok(result) => result.err(),
            Err(_) => Some(format!("no answer within {} s", CHECK_TIMEOUT.as_secs())),
        };
        let micros = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        let report = CheckReport {
            status: if error.is_some() { CheckStatus::Failed } else { CheckStatus::Ok },
            required: self.criticality == Criticality::Required,
            latency_ms: f64::from(micros) / 1000.0,
            error,
        };
        *last = Some((Instant::now(), report.clone()));
        report
    }
}
