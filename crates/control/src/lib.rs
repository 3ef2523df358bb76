//! The control plane: tenants and their API keys. PostgreSQL is the truth; revocations are pushed to gateways.

mod app;
mod config;
mod grpc;
mod metrics;
mod start;
mod store;

use std::sync::Arc;

use tonic::service::Routes;
use weir_db::Db;
use weir_error::Error;
use weir_events::Bus;
use weir_proto::control::{api_keys_server::ApiKeysServer, tenants_server::TenantsServer};
use weir_runtime::{OnFailure, Tasks};
use weir_telemetry::Metrics;
use weir_types::Clock;

use app::{App, Pusher};
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
    pusher: Arc<Pusher>,
    bus: Bus,
}

/// # Errors
/// A setting cannot be used.
pub fn build(config: Config, deps: Deps) -> Result<Service, Error> {
    let admin_key = config.admin_key()?;
    let metrics = metrics::ControlMetrics::new(&deps.metrics);
    let pusher = Arc::new(Pusher::new(metrics.clone()));
    let app = App::new(deps.db, deps.clock, pusher.clone(), admin_key, metrics);
    Ok(Service { app: Arc::new(app), pusher, bus: deps.bus })
}

impl Service {
    /// `weir.control.v1.Tenants` and `ApiKeys`.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes::new(TenantsServer::new(grpc::Tenants(self.app.clone())))
            .add_service(ApiKeysServer::new(grpc::ApiKeys(self.app.clone())))
    }

    /// Starts pushing revocations.
    pub fn spawn(&self, tasks: &Tasks) {
        let (pusher, push) = (self.pusher.clone(), self.bus.key_changes());
        let shutdown = tasks.shutdown();
        tasks.spawn("control-key-push", OnFailure::Shutdown, async move { pusher.run(push, shutdown).await });
    }
}
