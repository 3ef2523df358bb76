//! What this process runs in the background. Each run is a row with a lease: whoever has it renews it, and what nobody
//! renews is taken by somebody else, who runs it again if none of its output is known, and ends it if some is.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use uuid::Uuid;
use weir_db::DbError;
use weir_error::{Code, Error};
use weir_proto::chat::CompleteRequest;
use weir_runtime::{OnFailure, Tasks};
use weir_types::RequestContext;

use super::{
    Shared, events,
    job::Job,
    json::{Object, Raw, array},
    object::{self, Shape},
    run::{Run, Stop},
    steady::Steady,
    wanted::Wanted,
};
use crate::store::{Batch, Begin, Kept, Left, Mine, Taken, Write, Written};

/// What has killed so many processes is not tried again.
const MAX_CRASHES: i32 = 5;
const TAKE_ENDED: u32 = 32;
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
const DRAIN_POLL: Duration = Duration::from_millis(20);
const RETRY_AFTER: Duration = Duration::from_secs(1);
const INTERRUPTED: &str = "The response was interrupted: the process that made it ended.";

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Runs {
    shared: Shared,
    /// This process, as leases name it.
    owner: Uuid,
    running: Arc<Mutex<HashMap<Mine, Running>>>,
    permits: Arc<Semaphore>,
    tasks: Arc<OnceLock<Tasks>>,
    draining: Arc<AtomicBool>,
}

struct Running {
    stop: watch::Sender<Option<Stop>>,
    started: watch::Receiver<bool>,
    /// Its row is there.
    kept: bool,
}

/// A place among what runs, until dropped.
struct Place {
    running: Arc<Mutex<HashMap<Mine, Running>>>,
    mine: Mine,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.lock().remove(&self.mine);
    }
}

/// A run before it runs.
struct Ready {
    place: Place,
    stopped: super::run::Stopped,
    started: watch::Sender<bool>,
}

impl Runs {
    pub(super) fn new(shared: Shared) -> Self {
        let most = usize::try_from(shared.config.max_background).unwrap_or(usize::MAX);
        Self {
            permits: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            shared,
            owner: Uuid::now_v7(),
            running: Arc::default(),
            tasks: Arc::default(),
            draining: Arc::default(),
        }
    }

    /// Begins one: `request` is what providers get. Gives the object as it stands.
    pub(super) async fn begin(
        &self,
        ctx: &RequestContext,
        wanted: &Wanted,
        request: CompleteRequest,
        shape: Shape,
        created_s: i64,
    ) -> Result<Object, Error> {
        let (Some(tenant), Some(_)) = (ctx.tenant, self.tasks.get()) else {
            return Err(Error::unavailable("nothing runs in the background here yet"));
        };
        if self.draining.load(Ordering::Acquire) {
            return Err(Error::unavailable("this instance is stopping"));
        }
        let busy = |text: &str| Error::new(Code::RateLimited, text).with_retry_after(RETRY_AFTER);
        let permit = self.permits.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| busy("this instance runs as many responses in the background as it can"))?;
        let object = object::queued(&shape, &wanted.body, created_s);
        let batch = opening(&object);
        let kept = Kept {
            id: shape.id.clone(),
            previous: shape.previous.clone(),
            status: "queued".to_owned(),
            background: true,
            input: object::bytes(&wanted.input),
            output: object::bytes(&[]),
            object: object.to_vec(),
        };
        let event_bytes = batch.events.len();
        if kept.input.len() + kept.object.len() + event_bytes > self.shared.config.max_bytes {
            let text = "The request is larger than a response in the background may be.";
            return Err(Error::new(Code::PayloadTooLarge, text).with_param("input"));
        }
        let job = Job { shows_encrypted: shape.shows_encrypted, ..Job::new(ctx, request.clone()) };
        let mine = Mine { tenant, id: shape.id.clone(), run: 0 };
        let ready = self.ready(mine.clone(), permit, false);
        let begun = Begin {
            kept: &kept,
            job: job.encode_to_vec(),
            events: batch,
            owner: self.owner,
            lease: self.shared.config.lease(),
            days: self.shared.config.retention_days,
            most: self.shared.config.max_background_per_tenant,
        };
        if !self.shared.store.begin(ctx, begun).await? {
            return Err(busy("this tenant runs as many responses in the background as it may"));
        }
        if let Some(running) = self.running.lock().get_mut(&mine) {
            running.kept = true;
        }
        let run = Run {
            shared: self.shared.clone(),
            ctx: job.context(tenant, self.timeout()),
            mine,
            shape,
            stopped: ready.stopped,
            started: ready.started,
            next: 2,
            begun: false,
            object: object.clone(),
            items: Vec::new(),
            event_bytes,
        };
        self.launch(run, ready.place, request);
        Ok(object)
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.shared.config.background_timeout_s)
    }

    fn ready(&self, mine: Mine, permit: OwnedSemaphorePermit, kept: bool) -> Ready {
        let (stop, stopped) = watch::channel(None);
        let (started, seen) = watch::channel(false);
        self.running.lock().insert(mine.clone(), Running { stop, started: seen, kept });
        let place = Place { running: self.running.clone(), mine, _permit: permit };
        Ready { place, stopped, started }
    }

    fn launch(&self, run: Run, place: Place, request: CompleteRequest) {
        let Some(tasks) = self.tasks.get() else { return };
        self.shared.metrics.background_begun.inc();
        let hub = self.shared.hub.clone();
        tasks.spawn("orchestrator.responses.run", OnFailure::Log, async move {
            run.drive(request).await;
            drop(place);
            // There is room for another; and should its row still be ours, it is a stray.
            hub.runs_changed_here();
        });
    }

    /// Ends one that is ours before its answer did. Gives what it is now; `None` when it is gone.
    pub(super) async fn end(
        &self,
        ctx: &RequestContext,
        mine: &Mine,
        status: &'static str,
        error: Option<(&str, &str)>,
    ) -> Result<Option<Kept>, DbError> {
        let Some(mut held) = self.shared.store.held(ctx, &mine.id).await? else { return Ok(None) };
        if !held.active || held.run != mine.run {
            return Ok(Some(held.kept));
        }
        let items = self.items(ctx, mine, held.next).await?;
        let mut object = Object::parse(&held.kept.object).unwrap_or_default();
        object::end(&mut object, status, error);
        let mut told = object.clone();
        object::with_output(&mut told, &items);
        let name = events::terminal(status);
        let event = events::numbered(name, events::of_response(name, told.into_raw()), held.next);
        let batch = Batch { first: held.next, last: held.next, events: event.into() };
        held.kept.status = status.to_owned();
        held.kept.object = object.to_vec();
        held.kept.output = object::bytes(&items);
        let write = Write {
            status: Some(status),
            object: Some(held.kept.object.clone()),
            output: Some(held.kept.output.clone()),
            started: true,
            ended: true,
        };
        let written = self.shared.store.write(ctx, mine, &batch, &write).await?;
        self.shared.hub.wrote(mine.tenant, &mine.id).await;
        if written == Written::Lost {
            return self.shared.store.get(ctx, &mine.id).await;
        }
        Ok(Some(held.kept))
    }

    /// The whole items among its events so far, which are read a page at a time.
    async fn items(&self, ctx: &RequestContext, mine: &Mine, next: u64) -> Result<Vec<Raw>, DbError> {
        let (mut items, mut from) = (Vec::new(), 0);
        while from < next {
            let found = self.shared.store.events(ctx, &mine.id, from).await?;
            let batches = found.map(|found| found.batches).unwrap_or_default();
            let Some(last) = batches.last() else { break };
            from = last.last + 1;
            items.extend(batches.iter().flat_map(|batch| events::items(&batch.events)));
        }
        Ok(items)
    }

    /// Cancels one, wherever it runs. Gives what it is now.
    pub(super) async fn cancel(&self, ctx: &RequestContext, id: &str) -> Result<Option<Kept>, DbError> {
        let lease = self.shared.config.lease();
        match self.shared.store.seize(ctx, id, Uuid::now_v7(), lease).await? {
            None => self.shared.store.get(ctx, id).await,
            Some(mine) => {
                let ended = self.end(ctx, &mine, "cancelled", None).await;
                // Whoever ran it need not go on.
                self.shared.hub.runs_changed().await;
                ended
            }
        }
    }

    /// Keeps our leases, takes those that are over, forgets what is old.
    pub(super) fn spawn(&self, tasks: &Tasks) {
        if self.tasks.set(tasks.clone()).is_err() {
            return;
        }
        self.shared.hub.spawn(tasks);
        let (runs, shutdown) = (self.clone(), tasks.shutdown());
        tasks.spawn("orchestrator.responses.leases", OnFailure::Log, async move {
            tokio::select! {
                () = runs.keep_leases() => {}
                () = shutdown.cancelled() => {}
            }
            runs.drain().await;
        });
        let (shared, shutdown) = (self.shared.clone(), tasks.shutdown());
        tasks.spawn("orchestrator.responses.prune", OnFailure::Log, async move {
            tokio::select! {
                () = prune(&shared) => {}
                () = shutdown.cancelled() => {}
            }
        });
    }

    async fn keep_leases(&self) {
        let ctx = RequestContext::service("orchestrator");
        let (mut away, mut steady) = (false, Steady::default());
        loop {
            match self.look(&ctx, &mut steady).await {
                Ok(()) => away = false,
                Err(error) => {
                    if matches!(error, DbError::Unavailable(_)) {
                        steady.failed();
                    }
                    // Said once: the database has a check of its own.
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(error = &error as &dyn std::error::Error, "leases are not kept");
                    }
                }
            }
            tokio::select! {
                () = self.shared.hub.runs() => {}
                () = tokio::time::sleep(self.shared.config.lease() / 3) => {}
            }
        }
    }

    /// Renews, and takes what is free: until it is `steady`, only what was left on purpose.
    pub(super) async fn look(&self, ctx: &RequestContext, steady: &mut Steady) -> Result<(), DbError> {
        self.renew(ctx).await?;
        let (store, lease) = (&self.shared.store, self.shared.config.lease());
        let now = Instant::now();
        steady.renewed(now, lease);
        let only_left = !steady.is_steady(now, lease);
        for taken in store.take(ctx, self.owner, lease, true, only_left, TAKE_ENDED).await? {
            self.interrupt(&taken).await?;
        }
        let free = u32::try_from(self.permits.available_permits()).unwrap_or(u32::MAX);
        if free > 0 {
            for taken in store.take(ctx, self.owner, lease, false, only_left, free).await? {
                self.again(taken).await?;
            }
        }
        Ok(())
    }

    async fn renew(&self, ctx: &RequestContext) -> Result<(), DbError> {
        let known: Vec<Mine> =
            self.running.lock().iter().filter(|(_, r)| r.kept).map(|(mine, _)| mine.clone()).collect();
        let held = self.shared.store.renew(ctx, self.owner, self.shared.config.lease()).await?;
        let mut strays = Vec::new();
        {
            let running = self.running.lock();
            for lost in known.iter().filter(|mine| !held.contains(mine)) {
                if let Some(running) = running.get(lost) {
                    running.stop.send_replace(Some(Stop::Lost));
                }
            }
            strays.extend(held.into_iter().filter(|mine| !running.contains_key(mine)));
        }
        // Ours by name, and nobody runs them: a commit whose outcome was not known, or a task that ended badly.
        for stray in strays {
            let ctx = RequestContext { tenant: Some(stray.tenant), ..ctx.clone() };
            self.shared.store.release(&ctx, &stray, Left::Astray).await?;
        }
        Ok(())
    }

    /// Ends one whose owner is gone.
    async fn interrupt(&self, taken: &Taken) -> Result<(), DbError> {
        let mine = &taken.mine;
        let ctx = RequestContext { tenant: Some(mine.tenant), ..RequestContext::service("orchestrator") };
        if taken.cancelling {
            return self.end(&ctx, mine, "cancelled", None).await.map(drop);
        }
        self.shared.metrics.background_interrupted.inc();
        tracing::warn!(response.id = mine.id, "a background run was interrupted");
        self.end(&ctx, mine, "failed", Some(("server_error", INTERRUPTED))).await.map(drop)
    }

    /// Runs one again from the beginning.
    async fn again(&self, taken: Taken) -> Result<(), DbError> {
        let job = Job::parse(&taken.job).filter(|_| taken.crashes < MAX_CRASHES);
        let Some(mut job) = job else { return self.interrupt(&taken).await };
        let mine = taken.mine;
        let ctx = job.context(mine.tenant, self.timeout());
        let Some(held) = self.shared.store.held(&ctx, &mine.id).await? else { return Ok(()) };
        let (Ok(permit), true) = (self.permits.clone().try_acquire_owned(), held.active) else {
            return self.shared.store.release(&ctx, &mine, Left::ToOthers).await;
        };
        self.shared.metrics.background_taken.inc();
        tracing::info!(response.id = mine.id, run = mine.run, "a background run begins again");
        let request = job.request.take().unwrap_or_default();
        let ready = self.ready(mine.clone(), permit, true);
        let run = Run {
            shared: self.shared.clone(),
            shape: Shape {
                id: mine.id.clone(),
                previous: held.kept.previous,
                store: true,
                background: true,
                shows_encrypted: job.shows_encrypted,
            },
            ctx,
            mine,
            stopped: ready.stopped,
            started: ready.started,
            next: held.next,
            // That event and this status are written together.
            begun: held.kept.status == "in_progress",
            object: Object::parse(&held.kept.object).unwrap_or_default(),
            items: array(&held.kept.output),
            event_bytes: held.event_bytes,
        };
        self.launch(run, ready.place, request);
        Ok(())
    }

    /// Leaves what has no output yet to others at once; what has some may end, if it does so soon.
    async fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        tokio::select! {
            () = self.leave() => {}
            // What may still end is ours meanwhile.
            () = self.renew_only() => {}
        }
    }

    async fn renew_only(&self) {
        let ctx = RequestContext::service("orchestrator");
        loop {
            tokio::time::sleep(self.shared.config.lease() / 3).await;
            if let Err(error) = self.renew(&ctx).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "leases are not kept");
            }
        }
    }

    async fn leave(&self) {
        let until = Instant::now() + Duration::from_secs(self.shared.config.drain_s);
        loop {
            {
                let running = self.running.lock();
                if running.is_empty() {
                    break;
                }
                let late = Instant::now() >= until;
                for run in running.values().filter(|run| late || !*run.started.borrow()) {
                    run.stop.send_if_modified(|stop| stop.replace(stop.unwrap_or(Stop::Leave)).is_none());
                }
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }
}

async fn prune(shared: &Shared) {
    let ctx = RequestContext::service("orchestrator");
    let mut hour = tokio::time::interval(PRUNE_EVERY);
    loop {
        hour.tick().await;
        forgot("responses", shared.store.prune(&ctx).await);
        forgot("events", shared.store.prune_events(&ctx, shared.config.event_retention_s).await);
    }
}

fn forgot(what: &str, gone: Result<u64, DbError>) {
    match gone {
        Ok(0) | Err(DbError::Unavailable(_)) => {}
        Ok(rows) => tracing::info!(rows, what, "what was old is forgotten"),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, what, "what is old is not forgotten");
        }
    }
}

/// The first events of one.
fn opening(object: &Object) -> Batch {
    let names = ["response.created", "response.queued"];
    let events = names.iter().zip(0..).map(|(name, number)| {
        events::numbered(name, events::of_response(name, object.clone().into_raw()), number)
    });
    Batch { first: 0, last: 1, events: events.collect::<Vec<_>>().concat().into() }
}

/// One event of ours for whoever makes none itself.
pub(super) fn failed(shape: &Shape, request: &Object, created_s: i64, error: &str, number: u64) -> Bytes {
    let mut object = object::queued(shape, request, created_s);
    object::end(&mut object, "failed", Some(("server_error", error)));
    let mut data = events::of_response("response.failed", object.into_raw());
    data.set("sequence_number", &number);
    events::written("response.failed", &data)
}
