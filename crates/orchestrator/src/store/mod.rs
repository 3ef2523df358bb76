//! SQL.

mod items;
mod responses;
mod runs;
mod seals;

pub(crate) use responses::{Batch, Kept, Page, Responses, Turn};
pub(crate) use runs::{Begin, Left, Mine, Taken, Write, Written, took_too_long};
