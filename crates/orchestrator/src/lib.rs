//! The orchestrator: every call to a model. It finds who serves the model, opens an attempt in the spool, makes
//! the call, relays the answer, and closes the attempt with what it cost.

mod app;
mod config;
mod grpc;
mod metrics;
mod service;
mod start;
mod store;
#[cfg(test)]
mod tests;

pub use app::ResponsesConfig;
pub use config::{
    AwsFrom, Config, ConfigError, Credentials, CredentialsFrom, Endpoint, ProviderConfig, ProviderDialect,
    ProviderPlatform, TokensFrom, Vendors,
};
pub use service::{Deps, Service, build};
pub use start::SERVICE;
