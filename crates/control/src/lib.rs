//! The control plane: tenants and their API keys. PostgreSQL is the truth; changes are pushed to gateways and told to
//! the audit log through an outbox.

mod app;
mod config;
mod grpc;
mod metrics;
mod start;
mod store;

use std::sync::Arc;

use tonic::service::Routes;
use weir_db::{Db, Outbox};
use weir_error::Error;
use weir_events::{Bucket, Bus};
use weir_outbox::Relay;
use weir_proto::control::{
    api_keys_server::ApiKeysServer, dead_letters_server::DeadLettersServer, tenants_server::TenantsServer,
};
use weir_runtime::{OnFailure, Tasks};
use weir_telemetry::Metrics;
use weir_types::Clock;

use app::{App, DeadLetters};
pub use config::Config;
pub use start::SERVICE;

/// What the service works with.
pub struct Deps {
    pub db: Db,
    pub bus: Bus,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
}

/// The running service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    app: Arc<App>,
    relay: Relay,
    dead_letters: Arc<DeadLetters>,
}

/// # Errors
/// A setting cannot be used.
pub fn build(config: Config, deps: Deps) -> Result<Service, Error> {
    let max_keys = config.max_keys_per_tenant;
    let admin_key = config.admin_key()?;
    let metrics = metrics::ControlMetrics::new(&deps.metrics);
    let dead_letters = Arc::new(DeadLetters::new(&deps.bus, deps.clock.clone()));
    let buckets = [Bucket::KEYS, Bucket::TENANTS];
    let relay = Relay::new(Outbox::Control, "control", &buckets, (deps.db.clone(), deps.bus), &deps.metrics);
    let app = App::new(deps.db, deps.clock, (admin_key, max_keys), metrics);
    Ok(Service { app: Arc::new(app), relay, dead_letters })
}

impl Service {
    /// `weir.control.v1.Tenants`, `ApiKeys` and `DeadLetters`.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes::new(TenantsServer::new(grpc::Tenants(self.app.clone())))
            .add_service(ApiKeysServer::new(grpc::ApiKeys(self.app.clone())))
            .add_service(DeadLettersServer::new(grpc::DeadLetters::new(self.dead_letters.clone())))
    }

    /// Starts telling of changes, and counting dead letters.
    pub fn spawn(&self, tasks: &Tasks) {
        self.relay.spawn("control-outbox", tasks);
        let (dead_letters, shutdown) = (self.dead_letters.clone(), tasks.shutdown());
        tasks.spawn("control-dead-letters", OnFailure::Log, async move {
            tokio::select! {
                () = dead_letters.watch_depth() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }

    /// For `/health`: whether changes go out in time.
    ///
    /// # Errors
    /// How many wait, and since when.
    pub fn check(&self) -> Result<(), String> {
        self.relay.check()
    }
}
