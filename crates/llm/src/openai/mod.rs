//! OpenAI's chat completions dialect: <https://platform.openai.com/docs/api-reference/chat>.

mod answer;
mod content;
mod error;
mod events;
mod request_in;
mod request_out;
mod splice;
mod tap;
mod view;
mod whole;

pub use crate::Usage;
pub use answer::{count_answer, usage_chunk, usage_of_answer};
pub(crate) use error::error_in_stream;
pub use error::{completion_error_frames, decode_error, encode_error, error_body};
pub use events::{Decoder, Encoder};
pub use request_in::decode_request;
pub use request_out::encode_request;
pub use splice::upstream_body;
pub use tap::{FrameKind, StreamTap};
pub use view::ChatView;
pub use whole::{decode_answer, encode_answer};

/// The event that ends every stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";
