//! Translation from one dialect into another, as a whole.

mod golden;
mod providers;
mod requests;
mod streams;
