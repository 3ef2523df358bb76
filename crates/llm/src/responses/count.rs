//! Tokens of a body, counted here: what OpenAI's cookbook says of chat, which is the same to a model.

use std::borrow::Cow;

use serde::Deserialize;

use super::request_in::decode_request;
use crate::{
    canonical::{Content, Losses, Media, Part, Source, Tool},
    tokens::{count_text, estimate, image},
};

/// A message's frame, and the answer's beginning.
const PER_MESSAGE: u64 = 3;
const PRIMING: u64 = 3;

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    model: Cow<'a, str>,
}

/// What is odd enough not to be read is estimated from its size. Zero for what is no object.
pub(super) fn count_prompt(body: &[u8]) -> u64 {
    if !body.trim_ascii_start().starts_with(b"{") {
        return 0;
    }
    let Ok(request) = decode_request(body, &mut Losses::default()) else { return estimate(body.len()) };
    let model = serde_json::from_slice::<Named<'_>>(body).map(|named| named.model).unwrap_or_default();
    let messages = request.messages.iter().map(|message| PER_MESSAGE + 1 + parts(&message.parts, &model));
    let tools = request.tools.iter().map(|tool| match tool {
        Tool::Function(function) => {
            let schema = function.schema.as_ref().map_or(0, |schema| count_text(schema.get()));
            count_text(&function.name) + function.description.as_deref().map_or(0, count_text) + schema
        }
        Tool::Foreign { value, .. } => count_text(value.get()),
    });
    messages.chain(tools).sum::<u64>() + PRIMING
}

fn parts(parts: &[Part], model: &str) -> u64 {
    let count = |part: &Part| match &part.content {
        Content::Text(text) | Content::Thinking(text) | Content::Refusal(text) => count_text(text),
        Content::Image(media) => picture(media, model),
        Content::ToolUse(call) => count_text(&call.name) + count_text(&call.arguments),
        Content::ToolResult(result) => self::parts(&result.parts, model),
        Content::Foreign { value, .. } => estimate(value.get().len()),
        _ => 0,
    };
    parts.iter().map(count).sum()
}

fn picture(media: &Media, model: &str) -> u64 {
    let size = match &media.source {
        Source::Data { data, .. } => image::size(data),
        Source::Url(url) => image::size(url),
        Source::Id(_) | Source::Text(_) => None,
    };
    image::openai(model, size.unwrap_or(image::UNSEEN), media.detail.as_deref() == Some("low"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_costs_what_it_costs_in_a_message() {
        let count = |body: &str| count_prompt(body.as_bytes());
        let hello = count(r#"{"model":"m","input":"Hello"}"#);
        assert_eq!(hello, PER_MESSAGE + 1 + 1 + PRIMING);
        let item =
            r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"Hello"}]}]}"#;
        assert_eq!(count(item), hello);
        assert!(count(r#"{"model":"m","input":"Hello","instructions":"Be kind."}"#) > hello);
        assert!(count(r#"{"model":"m","input":"Hello","tools":[{"type":"function","name":"f"}]}"#) > hello);
        assert_eq!(count("[]"), 0);
        let odd = format!(r#"{{"model":"m","input":[{{"role":3,"content":"{}"}}]}}"#, "word ".repeat(1_000));
        assert!(count(&odd) >= 1_000);
    }
}
