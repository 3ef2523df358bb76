//! Translation from one dialect into another, as a whole.

mod gemini;
mod golden;
mod providers;
mod requests;
mod responses;
mod streams;
