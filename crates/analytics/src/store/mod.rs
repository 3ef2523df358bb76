//! SQL.

mod read;
pub(crate) mod rebuild;
mod write;

pub(crate) use read::hourly;
pub(crate) use write::{Figures, Hourly, Share, share};
