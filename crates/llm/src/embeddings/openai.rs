//! OpenAI's call, and those that came of it: Mistral's and Ollama's.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Answer, Ask, Embed, Embedded, Input, Wire, purpose};
use crate::{canonical::Losses, lenient};

fn body(mut members: Map<String, Value>, ask: &Ask<'_>) -> Map<String, Value> {
    let input = |input: &&Input| match input {
        Input::Text(text) => Value::from(text.as_str()),
        Input::Tokens(ids) => ids.as_slice().into(),
    };
    members.insert("model".to_owned(), ask.model.into());
    members.insert("input".to_owned(), ask.inputs.iter().map(input).collect());
    members
}

fn written(members: Map<String, Value>) -> Bytes {
    Value::Object(members).to_string().into()
}

fn decode(body: &[u8], inputs: usize) -> Option<Embedded> {
    #[derive(Deserialize)]
    struct Answer {
        data: Vec<One>,
        #[serde(default, deserialize_with = "lenient::read")]
        usage: Option<Usage>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        index: Option<usize>,
        embedding: Wire,
    }
    #[derive(Deserialize)]
    struct Usage {
        prompt_tokens: u64,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    if answer.data.len() != inputs {
        return None;
    }
    let mut vectors = vec![Bytes::new(); inputs];
    for (at, one) in answer.data.into_iter().enumerate() {
        *vectors.get_mut(one.index.unwrap_or(at))? = one.embedding.0;
    }
    let complete = vectors.iter().all(|vector| !vector.is_empty());
    complete.then(|| Embedded::new(vectors, answer.usage.map(|u| u.prompt_tokens)))
}

/// OpenAI's, and everyone's who does the same: <https://developers.openai.com/api/reference/resources/embeddings>. What
/// nobody knows here may be known there.
pub(super) struct OpenAi;

impl Embed for OpenAi {
    fn path(&self, _model: &str) -> Cow<'static, str> {
        "/embeddings".into()
    }

    fn takes_tokens(&self) -> bool {
        true
    }

    fn encode(&self, ask: &Ask<'_>, losses: &mut Losses) -> Bytes {
        let mut members = body(ask.without(&purpose::GOOGLES, losses), ask);
        members.insert("encoding_format".to_owned(), "base64".into());
        if let Some(length) = ask.dimensions {
            members.insert("dimensions".to_owned(), length.into());
        }
        written(members)
    }

    fn decode(&self, answer: &Answer<'_>, inputs: usize) -> Option<Embedded> {
        decode(answer.body, inputs)
    }
}

/// <https://docs.mistral.ai/api/endpoint/embeddings>: it refuses members that it does not know.
pub(super) struct Mistral;

impl Embed for Mistral {
    fn path(&self, _model: &str) -> Cow<'static, str> {
        "/embeddings".into()
    }

    fn encode(&self, ask: &Ask<'_>, losses: &mut Losses) -> Bytes {
        let mut members = body(ask.only(&["metadata"], losses), ask);
        members.insert("encoding_format".to_owned(), "float".into());
        if let Some(length) = ask.dimensions {
            members.insert("output_dimension".to_owned(), length.into());
        }
        written(members)
    }

    fn decode(&self, answer: &Answer<'_>, inputs: usize) -> Option<Embedded> {
        decode(answer.body, inputs)
    }
}

/// <https://docs.ollama.com/api/embed>
pub(super) struct Ollama;

impl Embed for Ollama {
    fn path(&self, _model: &str) -> Cow<'static, str> {
        "/api/embed".into()
    }

    fn encode(&self, ask: &Ask<'_>, losses: &mut Losses) -> Bytes {
        let mut members = body(ask.only(&["truncate", "options", "keep_alive"], losses), ask);
        // Silently embedding a part would look like an answer.
        members.entry("truncate").or_insert(false.into());
        if let Some(length) = ask.dimensions {
            members.insert("dimensions".to_owned(), length.into());
        }
        written(members)
    }

    fn decode(&self, answer: &Answer<'_>, inputs: usize) -> Option<Embedded> {
        #[derive(Deserialize)]
        struct Told {
            embeddings: Vec<Wire>,
            #[serde(default, deserialize_with = "lenient::read")]
            prompt_eval_count: Option<u64>,
        }
        let told: Told = serde_json::from_slice(answer.body).ok()?;
        Embedded::of(told.embeddings, told.prompt_eval_count, inputs)
    }
}
