//! The vendors' calls.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Ask, Embed, Embedded, Input, Wire};
use crate::platform::segment;

fn body(members: Map<String, Value>) -> Bytes {
    Value::Object(members).to_string().into()
}

fn input(input: &Input) -> Value {
    match input {
        Input::Text(text) => text.as_str().into(),
        Input::Tokens(ids) => ids.as_slice().into(),
    }
}

/// What Google alone has, as its clients name it.
const GOOGLES: [&str; 2] = ["taskType", "title"];

/// OpenAI's, and everyone's who does the same: <https://developers.openai.com/api/reference/resources/embeddings>.
fn openai_body(ask: &Ask<'_>, format: &str, dimensions: &str) -> Bytes {
    let mut members = ask.extra.clone();
    GOOGLES.iter().for_each(|name| drop(members.remove(*name)));
    members.insert("model".to_owned(), ask.model.into());
    members.insert("input".to_owned(), ask.inputs.iter().map(|i| input(i)).collect());
    members.insert("encoding_format".to_owned(), format.into());
    if let Some(length) = ask.dimensions {
        members.insert(dimensions.to_owned(), length.into());
    }
    body(members)
}

fn openai_answer(body: &[u8], inputs: usize) -> Option<Embedded> {
    #[derive(Deserialize)]
    struct Answer {
        data: Vec<One>,
        #[serde(default)]
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
    complete.then(|| Embedded { vectors, input_tokens: answer.usage.map(|u| u.prompt_tokens) })
}

pub(super) struct OpenAi;

impl Embed for OpenAi {
    fn path(&self, _model: &str) -> Cow<'static, str> {
        "/embeddings".into()
    }

    fn takes_tokens(&self) -> bool {
        true
    }

    fn encode(&self, ask: &Ask<'_>) -> Bytes {
        openai_body(ask, "base64", "dimensions")
    }

    fn decode(&self, body: &[u8], inputs: usize) -> Option<Embedded> {
        openai_answer(body, inputs)
    }
}

/// <https://docs.mistral.ai/api/endpoint/embeddings>
pub(super) struct Mistral;

impl Embed for Mistral {
    fn path(&self, _model: &str) -> Cow<'static, str> {
        "/embeddings".into()
    }

    fn encode(&self, ask: &Ask<'_>) -> Bytes {
        openai_body(ask, "float", "output_dimension")
    }

    fn decode(&self, body: &[u8], inputs: usize) -> Option<Embedded> {
        openai_answer(body, inputs)
    }
}

/// <https://docs.ollama.com/api/embed>
pub(super) struct Ollama;

impl Embed for Ollama {
    fn path(&self, _model: &str) -> Cow<'static, str> {
        "/api/embed".into()
    }

    fn encode(&self, ask: &Ask<'_>) -> Bytes {
        let mut members = ask.extra.clone();
        members.remove("user");
        GOOGLES.iter().for_each(|name| drop(members.remove(*name)));
        members.insert("model".to_owned(), ask.model.into());
        members.insert("input".to_owned(), ask.inputs.iter().map(|i| input(i)).collect());
        // Silently embedding a part would look like an answer.
        members.insert("truncate".to_owned(), false.into());
        if let Some(length) = ask.dimensions {
            members.insert("dimensions".to_owned(), length.into());
        }
        body(members)
    }

    fn decode(&self, body: &[u8], inputs: usize) -> Option<Embedded> {
        #[derive(Deserialize)]
        struct Answer {
            embeddings: Vec<Wire>,
            #[serde(default)]
            prompt_eval_count: Option<u64>,
        }
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let vectors: Vec<_> = answer.embeddings.into_iter().map(|vector| vector.0).collect();
        (vectors.len() == inputs).then_some(Embedded { vectors, input_tokens: answer.prompt_eval_count })
    }
}

/// <https://ai.google.dev/api/embeddings#method:-models.batchembedcontents>
pub(super) struct Gemini;

impl Embed for Gemini {
    fn path(&self, model: &str) -> Cow<'static, str> {
        format!("/models/{}:batchEmbedContents", segment(model)).into()
    }

    fn encode(&self, ask: &Ask<'_>) -> Bytes {
        let request = |input: &&Input| {
            let text = match input {
                Input::Text(text) => text.as_str(),
                Input::Tokens(_) => "",
            };
            let mut one = json!({
                "model": format!("models/{}", ask.model),
                "content": { "parts": [{ "text": text }] },
            });
            if let Some(length) = ask.dimensions {
                one["outputDimensionality"] = length.into();
            }
            for name in GOOGLES {
                if let Some(value) = ask.extra.get(name) {
                    one[name] = value.clone();
                }
            }
            one
        };
        json!({ "requests": ask.inputs.iter().map(request).collect::<Vec<_>>() }).to_string().into()
    }

    fn decode(&self, body: &[u8], inputs: usize) -> Option<Embedded> {
        #[derive(Deserialize)]
        struct Answer {
            embeddings: Vec<One>,
            #[serde(default, rename = "usageMetadata")]
            usage: Option<Usage>,
        }
        #[derive(Deserialize)]
        struct One {
            values: Wire,
        }
        #[derive(Deserialize)]
        struct Usage {
            #[serde(default, rename = "promptTokenCount")]
            prompt: Option<u64>,
        }
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let vectors: Vec<_> = answer.embeddings.into_iter().map(|one| one.values.0).collect();
        (vectors.len() == inputs)
            .then(|| Embedded { vectors, input_tokens: answer.usage.and_then(|u| u.prompt) })
    }
}
