//! One way to call a service: a generated client over a [`Transport`] that is either another service's `Routes`
//! in this process or a network channel.
//!
//! The caller's [`RequestContext`](weir_types::RequestContext) travels with each call: typed in one process, as a signed identity token and a
//! few headers over the network. Deadline, panic catching, span and concurrency limit wrap the `Routes` in both
//! modes, so both behave the same.

mod body;
mod context;
mod identity;
mod lost;
mod remote;
mod room;
mod server;
#[cfg(test)]
mod tests;
mod transport;

pub use context::{context, request};
pub use identity::{INTRODUCTION, Identity, IdentityError, PublicKey};
pub use server::{Server, server};
pub use transport::{Slot, Transport};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
