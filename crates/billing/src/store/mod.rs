//! SQL.

mod counters;
mod report;

pub(crate) use counters::Counters;
pub(crate) use report::report;
