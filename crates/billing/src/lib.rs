//! Metering: counts what was used, exactly once, and tells callers about it.

mod app;
mod config;
mod grpc;
mod start;
mod store;

use std::sync::Arc;

use tonic::service::Routes;
use weir_db::{Db, Inbox};
use weir_error::Error;
use weir_events::{Bus, usage::USAGE_KINDS};
use weir_projection::Projection;
use weir_proto::billing::usage_server::UsageServer;
use weir_runtime::Tasks;
use weir_types::Clock;

pub use config::Config;

pub use start::SERVICE;
pub use weir_events::BILLING_CONSUMER as CONSUMER;

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
    config.inbox_days.check()?;
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
        let projection = Projection {
            service: "billing",
            consumer: CONSUMER,
            kinds: USAGE_KINDS,
            inbox: Inbox::Billing,
            inbox_days: self.config.inbox_days,
            prune_task: "billing-prune",
            effect: store::Counters,
        };
        projection.spawn(&self.deps.db, &self.deps.bus, tasks);
    }
}
