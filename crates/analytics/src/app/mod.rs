//! What analytics does, apart from SQL and gRPC.

mod kpis;
mod projector;
mod prune;
mod range;

pub(crate) use kpis::Kpis;
pub(crate) use projector::Projector;
pub(crate) use prune::prune;
pub(crate) use range::Range;
