//! Read models built from events: hourly figures of requests, errors, tokens and latencies by model.

mod app;
mod config;
mod grpc;
mod histogram;
mod start;
mod store;

use std::sync::Arc;

use tonic::service::Routes;
use weir_db::{Db, Inbox};
use weir_error::Error;
use weir_events::{Bus, usage::REQUEST_KINDS};
use weir_projection::Projection;
use weir_proto::analytics::analytics_server::AnalyticsServer;
use weir_runtime::Tasks;
use weir_types::Clock;

pub use app::{RebuildError, RebuildRange, Rebuilt, rebuild};
pub use config::Config;

pub use start::SERVICE;
pub use weir_events::ANALYTICS_CONSUMER as CONSUMER;

/// What analytics is given.
#[derive(Clone)]
pub struct Deps {
    pub db: Db,
    pub bus: Bus,
    pub clock: Arc<dyn Clock>,
}

/// Analytics; cheap to clone.
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
        let kpis = app::Kpis::new(self.deps.db.clone(), Arc::clone(&self.deps.clock));
        Routes::new(AnalyticsServer::new(grpc::Grpc::new(kpis)))
    }

    /// Starts building the read models, and forgetting old inbox rows.
    pub fn spawn(&self, tasks: &Tasks) {
        let projection = Projection {
            service: "analytics",
            consumer: CONSUMER,
            kinds: REQUEST_KINDS,
            inbox: Inbox::Analytics,
            inbox_days: self.config.inbox_days,
            prune_task: "analytics-prune",
            effect: store::Hourly,
        };
        projection.spawn(&self.deps.db, &self.deps.bus, tasks);
    }
}
