//! Translation from one dialect into another, as a whole.

mod requests;
mod streams;
