//! SQL.

mod responses;
mod runs;
mod seals;

pub(crate) use responses::{Batch, Kept, Page, Responses};
pub(crate) use runs::{Begin, Left, Mine, Taken, Write, Written, took_too_long};
