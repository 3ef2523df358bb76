//! Documents to knowledge. Nothing is stored yet: the service answers in shape and says so.

mod grpc;
mod start;

use serde::{Deserialize, Serialize};
use tonic::service::Routes;
use weir_error::Error;
use weir_proto::ingestion::ingestion_server::IngestionServer;
use weir_runtime::Tasks;

pub use start::SERVICE;

/// Section `ingestion`; empty so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

/// What ingestion is given: nothing so far.
#[derive(Debug, Clone, Default)]
pub struct Deps {}

/// The service; cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {}

/// # Errors
/// None yet; the signature is the one every service has.
pub fn build(_config: Config, _deps: Deps) -> Result<Service, Error> {
    Ok(Service {})
}

impl Service {
    /// Its gRPC.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes::new(IngestionServer::new(grpc::Grpc))
    }

    /// Nothing runs in the background yet.
    pub fn spawn(&self, _tasks: &Tasks) {}
}
