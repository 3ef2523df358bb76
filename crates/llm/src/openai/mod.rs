//! OpenAI's chat completions dialect: <https://platform.openai.com/docs/api-reference/chat>.

mod answer;
mod error;
mod splice;
mod tap;
mod view;

pub use answer::{Usage, count_answer, usage_chunk, usage_of_answer};
pub use error::{completion_error_frames, error_body};
pub use splice::upstream_body;
pub use tap::{FrameKind, StreamTap};
pub use view::ChatView;

/// The event that ends every stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";
