//! `POST …/models/{model}:generateContent`, `:streamGenerateContent` and `:countTokens`.

use axum::body::Body;
use http::{HeaderValue, header};
use serde::Serialize;
use weir_llm::Dialect;

use super::{listed::Listed, query};
use crate::{House, asked::Asked, chat, edge::Answer, models::percent_decoded, reply};

/// A model as a path names it, where it may be encoded.
pub(super) fn named(id: &str) -> String {
    String::from_utf8_lossy(&percent_decoded(id)).into_owned()
}

pub(crate) async fn generate(house: &House, asked: &Asked, body: Body, id: &str, stream: bool) -> Answer {
    let response = chat::complete_named(house, asked, body, Dialect::Gemini, &named(id), stream).await?;
    let events = response.headers().get(header::CONTENT_TYPE).is_some_and(is_event_stream);
    if !events || query(asked, "alt").is_some_and(|alt| alt == "sse") {
        return Ok(response);
    }
    let mut response = response.map(|events| Body::new(Listed::over(events)));
    response.headers_mut().insert(header::CONTENT_TYPE, reply::JSON);
    Ok(response)
}

fn is_event_stream(kind: &HeaderValue) -> bool {
    kind.as_bytes().starts_with(b"text/event-stream")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counted {
    total_tokens: u64,
}

pub(crate) async fn count_tokens(house: &House, asked: &Asked, body: Body, id: &str) -> Answer {
    let shown = |total_tokens| Counted { total_tokens };
    chat::count(house, asked, body, Dialect::Gemini, Some(named(id)), shown).await
}
