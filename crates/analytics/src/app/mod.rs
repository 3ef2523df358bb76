//! What analytics does, apart from SQL and gRPC.

mod kpis;
mod range;
mod rebuild;

pub(crate) use kpis::Kpis;
pub use rebuild::{RebuildError, RebuildRange, Rebuilt, rebuild};
