//! Google's dialect against the others, both ways.

mod others;
mod requests;
mod streams;

use serde_json::Value;

use crate::{Dialect, Target, canonical::Losses};

fn target(model: &str) -> Target<'_> {
    Target { model, max_output: Some(64_000), adaptive_thinking: false, fixed_sampling: false }
}

fn translated(from: Dialect, into: Dialect, body: &Value, model: &str) -> (Value, String) {
    let mut losses = Losses::default();
    let request = from.decode_request(body.to_string().as_bytes(), &mut losses).unwrap();
    let body = into.encode_request(&request, &target(model), &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.header())
}
