//! What Weir knows about language models' wire formats: chat bodies in their dialects, what they mean and how one
//! becomes another, server-sent events, token counts, and the client for one provider.

pub mod anthropic;
pub mod canonical;
mod dialect;
mod ids;
mod kept;
mod members;
pub mod openai;
pub mod sse;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod upstream;
mod usage;

pub use dialect::{Dialect, Tap, Target, Translator, View};
pub use usage::Usage;
