//! What every service process shares. A service says with a [`Service`] how it is built from what a [`Site`] offers;
//! a [`House`] is any number of services in one process. Those in it call each other without a network hop, the
//! others over the network: `weir dev` runs all eight, `weir serve` those it is told, a service's own binary that one.

mod cli;
mod house;
mod identity;
mod name;
mod run;
mod settings;
mod site;
mod sync;
#[cfg(test)]
mod tests;

use std::pin::Pin;

use axum::Router;
use tonic::service::Routes;

pub use cli::{ConfigFile, ServeArgs, block_on, main};
pub use house::{Doors, House};
pub use identity::Keys;
pub use name::{Name, NoSuchService};
pub use run::{serve, sources, start_telemetry};
pub use settings::{ALIASES, load};
pub use site::Site;

/// A service on its way into a process.
pub type Building = Pin<Box<dyn Future<Output = anyhow::Result<Room>> + Send>>;

/// How a service is built. Every service's crate has one, named `SERVICE`.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    pub name: Name,
    build: fn(Site) -> Building,
}

impl Service {
    #[must_use]
    pub const fn new(name: Name, build: fn(Site) -> Building) -> Self {
        Self { name, build }
    }
}

/// What a service has for its port, beside what all have.
#[derive(Default)]
pub struct Room {
    /// For other services.
    pub routes: Option<Routes>,
    /// For everybody: it asks for credentials itself.
    pub http: Router,
}

impl Room {
    /// gRPC alone.
    #[must_use]
    pub fn grpc(routes: Routes) -> Self {
        Self { routes: Some(routes), ..Self::default() }
    }

    /// HTTP alone.
    #[must_use]
    pub fn http(http: Router) -> Self {
        Self { http, ..Self::default() }
    }
}
