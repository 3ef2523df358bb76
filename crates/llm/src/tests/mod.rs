//! Translation from one dialect into another, as a whole.

mod golden;
mod requests;
mod streams;
