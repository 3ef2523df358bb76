//! What Weir knows about language models' wire formats: chat bodies, server-sent events, token counts, and the
//! client for one provider.

pub mod openai;
pub mod sse;
pub mod tokens;
pub mod upstream;
