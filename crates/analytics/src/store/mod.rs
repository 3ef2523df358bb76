//! SQL.

mod read;
mod write;

pub(crate) use read::hourly;
pub(crate) use write::Hourly;
