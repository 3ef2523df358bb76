//! The edge: authentication, rate limits, validation, REST in front of the services' gRPC, server-sent events, and
//! the hand-over of WebSockets.
//!
//! `House::serve` is the one path every request takes; `endpoint` is the table of what there is.

mod asked;
mod auth;
mod chat;
mod compress;
mod config;
mod cors;
mod docs;
mod edge;
mod embeddings;
mod endpoint;
mod entry;
mod gemini;
mod inflate;
mod linger;
mod models;
mod reply;
mod responses;
mod rest;
mod start;
#[cfg(test)]
mod tests;
mod tokenize;
mod uploads;
mod websocket;

use std::sync::Arc;

use axum::Router;
use weir_access::Access;
use weir_error::Error;
use weir_rpc::{Identity, Transport};
use weir_runtime::Tasks;
use weir_telemetry::{ActiveStreams, Errors, HttpMetrics, Metrics};
use weir_types::Clock;

pub use crate::config::Config;
use crate::{cors::Cors, linger::Lingering, models::ModelList, uploads::Uploads, websocket::Realtime};
pub use start::SERVICE;

/// What the gateway works with.
#[derive(Clone)]
pub struct Deps {
    /// Keys and limits; shared with realtime where both run in one process.
    pub access: Access,
    pub orchestrator: Transport,
    pub control: Transport,
    pub billing: Transport,
    pub analytics: Transport,
    pub ingestion: Transport,
    pub router: Transport,
    /// Where realtime listens, as `host:port`; `None` when it is not there.
    pub realtime: Option<String>,
    /// Who the gateway is to realtime, which believes it whose connections it hands over.
    pub identity: Arc<Identity>,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
    /// WebSocket tunnels run here, and the reading of bodies that nobody wants.
    pub tasks: Tasks,
}

/// The edge; cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<House>);

/// Everything the endpoints share.
pub(crate) struct House {
    config: Config,
    access: Access,
    orchestrator: Transport,
    control: Transport,
    billing: Transport,
    analytics: Transport,
    ingestion: Transport,
    router: Transport,
    realtime: Realtime,
    models: ModelList,
    cors: Cors,
    http_metrics: HttpMetrics,
    errors: Errors,
    streams: ActiveStreams,
    lingering: Lingering,
    uploads: Uploads,
}

/// # Errors
/// `InvalidArgument` naming the key of the configuration that makes no sense.
pub fn build(config: Config, deps: Deps) -> Result<Service, Error> {
    config.check()?;
    Ok(Service(Arc::new(House {
        realtime: Realtime::new(deps.realtime, deps.identity, config.max_websockets, deps.tasks.clone()),
        models: ModelList::new(config.models_for, deps.clock),
        cors: Cors::new(&config.cors_origins),
        access: deps.access,
        orchestrator: deps.orchestrator,
        control: deps.control,
        billing: deps.billing,
        analytics: deps.analytics,
        ingestion: deps.ingestion,
        router: deps.router,
        http_metrics: deps.metrics.http(),
        errors: deps.metrics.errors(),
        streams: deps.metrics.active_streams(),
        lingering: Lingering::new(deps.tasks),
        uploads: Uploads::new(config.max_uploads_per_tenant, config.upload_memory.as_usize()),
        config,
    })))
}

impl Service {
    /// All of the edge, as the fallback of an otherwise empty router: other routes (`/live`, `/ready` …) may be
    /// merged in.
    pub fn http(&self) -> Router {
        Router::new().fallback_service(edge::Edge(self.0.clone()))
    }

    /// Starts what runs beside requests: the checks of [`Access`].
    pub fn spawn(&self, tasks: &Tasks) {
        self.0.access.spawn(tasks);
    }
}
