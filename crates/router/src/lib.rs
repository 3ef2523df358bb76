//! Which model and provider a request should go to: aliases, and a default for `auto`.
//!
//! Aliases stand in three layers: a tenant's, the platform's, the settings'. Those of the first two are kept in
//! PostgreSQL and pushed to every router, which decides from memory and goes on without either.
//!
//! A name that is no alias is answered unchanged: whether any provider serves it is the orchestrator's knowledge.

mod aliases;
mod app;
mod catalogue;
mod config;
mod follow;
mod grpc;
mod metrics;
mod start;
mod store;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tonic::service::Routes;
use weir_db::{Db, Outbox};
use weir_error::Error;
use weir_events::{Bucket, Bus};
use weir_outbox::{Refill, Relay};
use weir_proto::router::{aliases_server::AliasesServer, router_server::RouterServer};
use weir_runtime::{OnFailure, Tasks};
use weir_telemetry::Metrics;
use weir_types::Clock;

pub use app::{Decision, MAX_NAME_CHARS};
pub use config::{AliasTarget, Config, ConfigError};
pub use start::SERVICE;

/// How often the bucket of the aliases is looked at that may have lost them.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What the router is given.
#[derive(Clone)]
pub struct Deps {
    /// For aliases of tenants and the platform; it may be away, or not verified yet. Without one there are none to
    /// change.
    pub db: Option<Db>,
    /// For changes of aliases; without it they are seen when the database is read again.
    pub bus: Option<Bus>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
}

/// The router; cheap to clone.
#[derive(Clone)]
pub struct Service {
    app: app::App,
    follower: Arc<follow::Follower>,
    /// With a database and NATS.
    relay: Option<Relay>,
}

/// # Errors
/// `InvalidArgument` whose `param` is the key of the configuration that is wrong: a cycle of aliases, an empty or
/// overlong name.
pub fn build(config: Config, deps: Deps) -> Result<Service, Error> {
    let Deps { db, bus, clock, metrics } = deps;
    config.check().map_err(|e| Error::invalid(e.key(), e.to_string()))?;
    let catalogue = Arc::new(catalogue::Catalogue::new(config));
    let store = db.clone().map(store::Aliases::new);
    let follower = follow::Follower {
        catalogue: catalogue.clone(),
        store: store.clone(),
        bus: bus.clone(),
        lost: Notify::new(),
    };
    let relay = db.zip(bus).zip(store.clone()).map(|(both, store)| {
        let clock = clock.clone();
        let fill = Box::new(move || Box::pin(aliases::push_all(store.clone(), clock.now_ms())) as _);
        let refill = Refill { fill, look_every: LOOK_EVERY };
        Relay::with_refill(Outbox::Routing, "router", &[Bucket::CATALOGUE], both, &metrics, Some(refill))
    });
    let metrics = metrics::RouterMetrics::new(&metrics);
    Ok(Service { app: app::App { catalogue, store, clock, metrics }, follower: Arc::new(follower), relay })
}

impl Service {
    /// `weir.router.v1.Router` and `Aliases`.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes::new(RouterServer::new(grpc::Grpc { app: self.app.clone() }))
            .add_service(AliasesServer::new(grpc::Grpc { app: self.app.clone() }))
    }

    /// Starts following changes of aliases, and telling of those made here.
    pub fn spawn(&self, tasks: &Tasks) {
        let (follower, shutdown) = (self.follower.clone(), tasks.shutdown());
        tasks.spawn("router-catalogue", OnFailure::Shutdown, async move {
            tokio::select! {
                never = follower.run() => match never {},
                () = shutdown.cancelled() => {}
            }
        });
        if let Some(relay) = &self.relay {
            relay.spawn("router-outbox", tasks);
        }
    }

    /// For `/health`: whether changes go out in time.
    ///
    /// # Errors
    /// How many wait, and since when.
    pub fn check(&self) -> Result<(), String> {
        self.relay.as_ref().map_or(Ok(()), Relay::check)
    }
}
