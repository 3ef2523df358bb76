//! Metering: counts what was used, exactly once, and tells callers about it.

mod app;
mod config;
mod grpc;
mod store;

use std::sync::Arc;

use tonic::service::Routes;
use weir_db::Db;
use weir_error::Error;
use weir_events::{Bus, ConsumerConfig, USAGE, consume, usage::USAGE_KINDS};
use weir_proto::billing::usage_server::UsageServer;
use weir_runtime::{OnFailure, Tasks};
use weir_types::Clock;

pub use config::Config;

/// Name of the consumer of usage events on NATS.
pub const CONSUMER: &str = "billing-usage";

/// What billing is given.
#[derive(Clone)]
pub struct Deps {
    pub db: Db,
    pub bus: Bus,
    pub clock: Arc<dyn Clock>,
}

/// Billing; cheap to clone.
#[derive(Clone)]
pub struct Service {
    config: Config,
    deps: Deps,
}

/// # Errors
/// `InvalidArgument` whose `param` is the key of the configuration that is wrong.
pub fn build(config: Config, deps: Deps) -> Result<Service, Error> {
    config.check()?;
    Ok(Service { config, deps })
}

impl Service {
    /// Its gRPC.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let usage = app::Usage::new(self.deps.db.clone(), Arc::clone(&self.deps.clock));
        Routes::new(UsageServer::new(grpc::Grpc::new(usage)))
    }

    /// Starts counting, and forgetting old inbox rows.
    pub fn spawn(&self, tasks: &Tasks) {
        let consumer = ConsumerConfig::new(USAGE, CONSUMER, "weir.usage.>", USAGE_KINDS);
        consume(&self.deps.bus, consumer, app::Meter::new(self.deps.db.clone()), tasks);
        let prune = app::prune(self.deps.db.clone(), self.config.inbox_days, tasks.shutdown());
        tasks.spawn("billing-prune", OnFailure::Log, prune);
    }
}
