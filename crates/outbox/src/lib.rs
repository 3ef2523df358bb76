//! The relay of outboxes: takes what was written with a change out of PostgreSQL, publishes it, and forgets it once
//! JetStream has it.
//!
//! It may die at any point: a letter goes out again unless the transaction that holds it has forgotten it, always
//! under the same id, and consumers take an id's effect once. Several relays share the work without getting in each
//! other's way; letters of one key stay in order.

mod ear;
mod metrics;
mod pass;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use weir_db::{Db, DbError, Outbox, OutboxState};
use weir_events::{Bucket, Bus};
use weir_runtime::{OnFailure, Shutdown, Tasks, retry::Backoff};
use weir_types::RequestContext;

use ear::Ear;
use metrics::Metrics;
pub use pass::Pass;

/// How often it looks by itself where nobody tells of writes: well within the second that a push may take.
const POLLING: Duration = Duration::from_millis(300);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often what waits is counted.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// For what still waits when the service stops; the rest goes out with another relay, or at the next start.
const LAST_PASSES: Duration = Duration::from_secs(2);
/// Changes older than this mean that something is wrong.
const LATE: Duration = Duration::from_secs(30);

/// Why nothing could be published.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the outbox cannot be read")]
    Database(#[from] DbError),
    #[error("the streams are not there")]
    Streams(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How the buckets are filled that hold more than what changed lately.
pub struct Refill {
    /// Writes everything that they hold into the outbox again.
    pub fill: Box<dyn Fn() -> BoxFuture<'static, Result<(), DbError>> + Send + Sync>,
    /// How often a bucket is looked at that may have become empty under way, beside once a connection.
    pub look_every: Duration,
}

/// One service's relay; cheap to clone.
#[derive(Clone)]
pub struct Relay(Arc<Inner>);

struct Inner {
    outbox: Outbox,
    db: Db,
    bus: Bus,
    ctx: RequestContext,
    /// `ce-source` of events.
    source: String,
    buckets: Vec<Bucket>,
    refill: Option<Refill>,
    metrics: Metrics,
    state: Mutex<OutboxState>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("outbox", &self.0.outbox).finish_non_exhaustive()
    }
}

impl Relay {
    /// Publishes for `service` into streams and these buckets.
    #[must_use]
    pub fn new(
        outbox: Outbox,
        service: &'static str,
        buckets: &[Bucket],
        (db, bus): (Db, Bus),
        metrics: &weir_telemetry::Metrics,
    ) -> Self {
        Self::with_refill(outbox, service, buckets, (db, bus), metrics, None)
    }

    /// As [`new`](Self::new), for buckets that hold more than what changed lately: one that NATS has lost is filled
    /// again.
    #[must_use]
    pub fn with_refill(
        outbox: Outbox,
        service: &'static str,
        buckets: &[Bucket],
        (db, bus): (Db, Bus),
        metrics: &weir_telemetry::Metrics,
        refill: Option<Refill>,
    ) -> Self {
        Self(Arc::new(Inner {
            outbox,
            db,
            bus,
            ctx: RequestContext::service(service),
            source: format!("weir/{service}"),
            buckets: buckets.to_vec(),
            refill,
            metrics: Metrics::new(metrics, outbox),
            state: Mutex::default(),
        }))
    }

    /// Starts publishing, until the tasks are told to stop.
    pub fn spawn(&self, name: &'static str, tasks: &Tasks) {
        let (relay, shutdown) = (self.clone(), tasks.shutdown());
        tasks.spawn(name, OnFailure::Shutdown, async move { relay.run(shutdown).await });
    }

    /// For `/health`: nothing waits for long.
    ///
    /// # Errors
    /// How much does, and since when.
    pub fn check(&self) -> Result<(), String> {
        let state = *self.0.state.lock();
        let age = Duration::from_millis(u64::try_from(state.oldest_ms).unwrap_or(0));
        if age < LATE {
            return Ok(());
        }
        Err(format!("{} changes not published, the oldest {} s ago", state.waiting, age.as_secs()))
    }

    async fn run(&self, shutdown: Shutdown) {
        tokio::select! {
            () = self.publish(&shutdown) => {}
            () = self.count_forever() => {}
        }
        let last = async { while matches!(self.pass().await, Ok(pass) if pass.published > 0) {} };
        if self.0.bus.connected() && timeout(LAST_PASSES, last).await.is_err() {
            tracing::debug!(outbox = self.0.outbox.name(), "changes left for the next relay");
        }
    }

    /// Until told to stop; not in the middle of a pass, whose letters would be held for a moment more.
    async fn publish(&self, shutdown: &Shutdown) {
        let mut link = self.0.bus.link();
        let mut standing = Standing::new(Ear::new(self.0.db.clone(), self.0.outbox));
        while !shutdown.is_cancelled() {
            // While NATS is away nothing is taken. The sender lives as long as the client.
            let epoch = tokio::select! {
                up = link.wait_for(|l| l.up) => match up {
                    Ok(link) => link.epoch,
                    Err(_) => return,
                },
                () = shutdown.cancelled() => return,
            };
            let outcome = self.step(&mut standing, epoch).await.inspect_err(|error| {
                let (outbox, error) = (self.0.outbox.name(), error as &dyn std::error::Error);
                tracing::warn!(outbox, error, "changes wait");
            });
            tokio::select! {
                () = standing.rest(outcome) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn step(&self, standing: &mut Standing, epoch: u64) -> Result<Pass, RelayError> {
        let look_every = self.0.refill.as_ref().map_or(Duration::MAX, |refill| refill.look_every);
        // A server may come back empty.
        if standing.prepared.is_none_or(|(over, at)| over != epoch || at.elapsed() > look_every) {
            self.prepare(standing).await?;
            standing.prepared = Some((epoch, Instant::now()));
        }
        self.pass().await
    }

    async fn prepare(&self, standing: &mut Standing) -> Result<(), RelayError> {
        self.0.bus.ensure_streams().await.map_err(|e| RelayError::Streams(e.into()))?;
        for bucket in &self.0.buckets {
            standing.lost |=
                self.0.bus.push(*bucket).ensure().await.map_err(|e| RelayError::Streams(e.into()))?;
        }
        let Some(refill) = self.0.refill.as_ref().filter(|_| standing.lost) else { return Ok(()) };
        // What it was filled with may wait still: not again on top of that, however often publishing fails.
        if standing.refilled && self.0.outbox.state(&self.0.db, &self.0.ctx).await?.waiting > 0 {
            standing.lost = false;
            return Ok(());
        }
        (refill.fill)().await?;
        (standing.lost, standing.refilled) = (false, true);
        Ok(())
    }

    async fn count_forever(&self) {
        loop {
            // What cannot be counted stands as it was: the database has a check of its own.
            if let Ok(state) = self.0.outbox.state(&self.0.db, &self.0.ctx).await {
                self.0.metrics.rows.set(state.waiting);
                self.0.metrics.lag_seconds.set(state.oldest_ms as f64 / 1_000.0);
                *self.0.state.lock() = state;
            }
            sleep(COUNT_EVERY).await;
        }
    }
}

/// Where a running relay stands.
struct Standing {
    ear: Ear,
    /// The connection over which streams and buckets were found or made, and when.
    prepared: Option<(u64, Instant)>,
    /// A bucket was found empty and is not filled yet. By the next look another relay may have put something in.
    lost: bool,
    /// Buckets were filled again, and nothing was published since.
    refilled: bool,
    /// Something was refused and is tried again soon, of which nobody notifies.
    refused: bool,
    backoff: Backoff,
}

impl Standing {
    fn new(ear: Ear) -> Self {
        let backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        Self { ear, prepared: None, lost: false, refilled: false, refused: false, backoff }
    }

    /// Until it is worth looking again.
    async fn rest(&mut self, outcome: Result<Pass, RelayError>) {
        match outcome {
            Ok(pass) if pass.published > 0 => {
                self.refused = pass.failed > 0;
                self.refilled = false;
                self.backoff.reset();
            }
            Ok(pass) if pass.failed > 0 => {
                self.refused = true;
                self.prepared = None;
                sleep(self.backoff.next()).await;
            }
            Ok(_) if self.refused => sleep(POLLING).await,
            Ok(_) => {
                self.backoff.reset();
                self.ear.written().await;
            }
            Err(_) => sleep(self.backoff.next()).await,
        }
    }
}
