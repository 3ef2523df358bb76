//! What billing does, apart from SQL and gRPC.

mod meter;
mod prune;
mod range;
mod usage;

pub(crate) use meter::Meter;
pub(crate) use prune::prune;
pub(crate) use range::Range;
pub(crate) use usage::{Usage, Whose};
