//! Which model and provider a request should go to: aliases, and a default for `auto`.
//!
//! A name that is neither is answered unchanged: whether any provider serves it is the orchestrator's knowledge.

mod app;
mod config;
mod grpc;
mod metrics;
mod start;

use tonic::service::Routes;
use weir_error::Error;
use weir_proto::router::router_server::RouterServer;
use weir_runtime::Tasks;
use weir_telemetry::Metrics;

pub use app::{Decision, MAX_NAME_CHARS};
pub use config::{AliasTarget, Config, ConfigError};
pub use start::SERVICE;

/// What the router is given.
#[derive(Clone)]
pub struct Deps {
    pub metrics: Metrics,
}

/// The router; cheap to clone.
#[derive(Clone)]
pub struct Service {
    app: app::App,
}

/// # Errors
/// `InvalidArgument` whose `param` is the key of the configuration that is wrong: a cycle of aliases, an empty or
/// overlong name.
pub fn build(config: Config, deps: Deps) -> Result<Service, Error> {
    let Deps { metrics } = deps;
    let table = config.into_table().map_err(|e| Error::invalid(e.key(), e.to_string()))?;
    Ok(Service { app: app::App::new(table, metrics::RouterMetrics::new(&metrics)) })
}

impl Service {
    /// Its gRPC.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes::new(RouterServer::new(grpc::Grpc { app: self.app.clone() }))
    }

    /// Nothing runs in the background yet.
    pub fn spawn(&self, _tasks: &Tasks) {}
}
