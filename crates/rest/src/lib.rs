//! The REST API that `/proto` describes: RPCs with `google.api.http` as HTTP endpoints, requests and answers transcoded
//! by the descriptors, and OpenAPI made of the same ones.
//!
//! [`Api`] holds routes, operations and the JSON shapes of their messages; a [`Binding`] turns a request into a message
//! and calls its service over any [`Transport`](weir_rpc::Transport). Who may call is the caller's business, and the
//! service's.

mod api;
mod build;
mod call;
mod codec;
pub mod compat;
pub mod openapi;
mod options;
mod query;
mod read;
mod shape;
mod template;
#[cfg(test)]
mod tests;
mod value;
mod write;

use std::sync::LazyLock;

pub use api::{Api, Binding, Operation, Route};
pub use call::Answer;

/// A proto says something that cannot be served.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub(crate) String);

static API: LazyLock<Result<Api, BuildError>> = LazyLock::new(|| Api::new(weir_proto::DESCRIPTORS));

/// What this version's `/proto` describes.
///
/// # Errors
/// Names the element of a proto that cannot be served; this crate's tests fail on it first.
pub fn api() -> Result<&'static Api, BuildError> {
    API.as_ref().map_err(Clone::clone)
}
