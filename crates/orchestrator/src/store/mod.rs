//! SQL.

mod responses;
mod runs;

pub(crate) use responses::{Batch, Kept, Page, Responses};
pub(crate) use runs::{Begin, Mine, Taken, Write, Written};
