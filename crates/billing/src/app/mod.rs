//! What billing does, apart from SQL and gRPC.

mod range;
mod usage;

pub(crate) use usage::{Usage, Whose};
