//! What analytics does, apart from SQL and gRPC.

mod kpis;
mod range;

pub(crate) use kpis::Kpis;
