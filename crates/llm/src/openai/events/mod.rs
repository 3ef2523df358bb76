//! Streams of chunks: read as the steps they mean, and written from such steps.

mod calls;
mod read;
mod write;

pub(super) use calls::made_up;
pub(super) use read::Decoder;
pub(super) use write::Encoder;
