//! The gRPC services: thin, each call is one call of the app.

mod dead_letters;
mod keys;
mod tenants;

use std::sync::Arc;

use weir_proto::control::RateLimits;

use crate::app::App;
pub(crate) use dead_letters::DeadLetters;

pub(crate) struct Tenants(pub(crate) Arc<App>);
pub(crate) struct ApiKeys(pub(crate) Arc<App>);

fn limits(requests_per_minute: Option<u64>, tokens_per_minute: Option<u64>) -> Option<RateLimits> {
    Some(RateLimits { requests_per_minute, tokens_per_minute })
}
