//! Translation from one dialect into another, as a whole.

mod calls;
mod chat;
mod claude;
mod gemini;
mod golden;
mod lenient;
mod openai;
mod provider_streams;
mod providers;
mod requests;
mod responses;
mod roundtrip;
mod state;
mod streams;
