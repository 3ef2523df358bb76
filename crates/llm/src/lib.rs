//! What Weir knows about language models' wire formats: chat bodies in their dialects, what they mean and how one
//! becomes another, server-sent events, token counts, and the client for one provider.

mod adapt;
pub mod anthropic;
pub mod auth;
pub mod aws_frames;
pub mod bedrock;
pub mod canonical;
mod counting;
mod dialect;
mod edits;
pub mod embeddings;
mod extent;
mod fields;
mod follow;
pub mod framing;
pub mod gemini;
mod ids;
mod kept;
mod lenient;
mod media;
mod members;
pub mod mistral;
pub mod models;
mod names;
pub mod ollama;
pub mod openai;
pub mod platform;
pub mod prices;
mod replay;
pub mod responses;
pub mod schema;
pub mod sse;
mod tap;
#[cfg(test)]
mod tests;
mod thinking;
pub mod tokens;
mod told;
mod translate;
pub mod turn;
pub mod upstream;
mod usage;
mod wire;

pub use adapt::adapted;
pub use dialect::{Dialect, StreamOptions, Target, View};
pub use follow::Follower;
pub use framing::Framing;
pub use names::Names;
pub use tap::{FrameKind, Tap};
pub use told::Told;
pub use translate::{Held, Listener, Translator};
pub use usage::Usage;
pub use wire::{Call, Client, Decode, Encode, Provider};
