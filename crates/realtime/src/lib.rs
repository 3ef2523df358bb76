//! WebSocket sessions: one connection, many streamed chat turns. The protocol is in the crate's README.

mod caller;
mod config;
mod grpc;
mod http;
mod metrics;
mod protocol;
mod registry;
mod session;
mod start;

use std::sync::Arc;

use tonic::service::Routes;
use weir_access::Access;
use weir_error::Error;
use weir_kv::Kv;
use weir_proto::{chat::chat_client::ChatClient, realtime::realtime_server::RealtimeServer};
use weir_rpc::{Identity, Transport};
use weir_runtime::{Shutdown, Tasks};
use weir_telemetry::Metrics;
use weir_types::Clock;

pub use config::Config;
pub use start::SERVICE;

/// What realtime works with.
pub struct Deps {
    pub access: Access,
    /// To the orchestrator.
    pub chat: Transport,
    /// Session records.
    pub kv: Kv,
    /// Knows the gateway, which says whose connections it hands over.
    pub identity: Arc<Identity>,
    /// Sessions run as tasks of these; their shutdown drains them.
    pub tasks: Tasks,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    config: Config,
    access: Access,
    chat: ChatClient<Transport>,
    kv: Kv,
    identity: Arc<Identity>,
    tasks: Tasks,
    shutdown: Shutdown,
    metrics: metrics::RealtimeMetrics,
    clock: Arc<dyn Clock>,
    registry: registry::Registry,
}

/// # Errors
/// `InvalidArgument` whose `param` is the key of the configuration that is wrong.
pub fn build(config: Config, deps: Deps) -> Result<Service, Error> {
    config.check()?;
    let max_answer = config.max_answer.as_usize();
    let shared = Shared {
        registry: registry::Registry::new(config.max_connections),
        config,
        access: deps.access,
        chat: ChatClient::new(deps.chat).max_decoding_message_size(max_answer),
        kv: deps.kv,
        identity: deps.identity,
        shutdown: deps.tasks.shutdown(),
        tasks: deps.tasks,
        metrics: metrics::RealtimeMetrics::new(&deps.metrics),
        clock: deps.clock,
    };
    Ok(Service { shared: Arc::new(shared) })
}

impl Service {
    /// Its gRPC.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes::new(RealtimeServer::new(grpc::Grpc { shared: self.shared.clone() }))
    }

    /// `/ws/chat`, `/v1/chat/ws` and `/api/v1/chat/ws`.
    pub fn http(&self) -> axum::Router {
        http::router(self.shared.clone())
    }

    /// Nothing runs in the background but the sessions themselves.
    pub fn spawn(&self, _tasks: &Tasks) {}
}
