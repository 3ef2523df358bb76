//! Anthropic's Messages dialect: <https://platform.claude.com/docs/en/api/messages>.

mod answer;
mod count;
mod error;
mod events;
mod open;
mod request_in;
mod request_out;
mod splice;
mod tap;
mod view;

pub use answer::{count_answer, decode_answer, encode_answer, usage_of_answer};
pub use count::count_prompt;
pub use error::{decode_error, encode_error, end_with_error, error_body, error_frames};
pub use events::{Decoder, Encoder};
pub use open::OpenBlocks;
pub use request_in::decode_request;
pub use request_out::encode_request;
pub use splice::upstream_body;
pub use tap::StreamTap;
pub use view::MessagesView;

/// The event that ends every stream.
pub const MESSAGE_STOP: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
/// What keeps a silent stream open.
pub const PING: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";
/// What is spoken to providers, unless a client says otherwise.
pub const VERSION: &str = "2023-06-01";
