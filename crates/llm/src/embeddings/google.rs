//! Google's calls: the Gemini API's, and Vertex AI's two.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Ask, Bound, Embed, Embedded, Wire, purpose};
use crate::{canonical::Losses, lenient, platform::segment};

/// One who leaves it out has long texts cut without a word, by Vertex AI.
const CUT: [&str; 2] = ["autoTruncate", "auto_truncate"];

fn method(model: &str, method: &str) -> Cow<'static, str> {
    format!("/models/{}:{method}", segment(model)).into()
}

/// What a call says besides its texts.
struct Said {
    members: Map<String, Value>,
    task: Option<String>,
    title: Option<Value>,
    cut: Option<Value>,
}

fn said(ask: &Ask<'_>, cuts: bool, losses: &mut Losses) -> Said {
    let mut known = purpose::NAMES.to_vec();
    known.push("title");
    known.extend(CUT.iter().filter(|_| cuts));
    let mut members = ask.only(&known, losses);
    let task = purpose::google(&members, losses);
    let title = members.remove("title");
    let cut = CUT.iter().filter_map(|name| members.remove(*name)).next();
    members.retain(|name, _| !purpose::NAMES.contains(&name.as_str()));
    Said { members, task, title, cut }
}

/// The members of them that are there.
fn some<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Map<String, Value> {
    pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default, rename = "promptTokenCount", deserialize_with = "lenient::read")]
    prompt: Option<u64>,
}

#[derive(Deserialize)]
struct Values {
    values: Wire,
}

/// <https://ai.google.dev/api/embeddings#method:-models.batchembedcontents>
pub(super) struct Gemini;

impl Embed for Gemini {
    fn path(&self, model: &str) -> Cow<'static, str> {
        method(model, "batchEmbedContents")
    }

    fn bound(&self) -> Bound {
        Bound { inputs: 100, ..Bound::default() }
    }

    fn encode(&self, ask: &Ask<'_>, losses: &mut Losses) -> Bytes {
        let Said { mut members, task, title, .. } = said(ask, false, losses);
        let shared = some([
            ("outputDimensionality", ask.dimensions.map(Value::from)),
            ("taskType", task.map(Value::from)),
            ("title", title),
        ]);
        let request = |text: &str| {
            let mut one = shared.clone();
            one.insert("model".to_owned(), format!("models/{}", ask.model).into());
            one.insert("content".to_owned(), json!({ "parts": [{ "text": text }] }));
            Value::Object(one)
        };
        members.insert("requests".to_owned(), ask.texts().map(request).collect());
        Value::Object(members).to_string().into()
    }

    fn decode(&self, answer: &Answer<'_>, inputs: usize) -> Option<Embedded> {
        #[derive(Deserialize)]
        struct Told {
            embeddings: Vec<Values>,
            #[serde(default, rename = "usageMetadata")]
            usage: Option<Usage>,
        }
        let told: Told = serde_json::from_slice(answer.body).ok()?;
        let vectors = told.embeddings.into_iter().map(|one| one.values);
        Embedded::of(vectors, told.usage.and_then(|u| u.prompt), inputs)
    }
}

/// Vertex AI's for text models and the first of Gemini's, which takes one text a call:
/// <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api>.
pub(super) struct Predict {
    pub(super) inputs: usize,
}

impl Embed for Predict {
    fn path(&self, model: &str) -> Cow<'static, str> {
        method(model, "predict")
    }

    fn bound(&self) -> Bound {
        // 20,000 tokens, of which few are shorter.
        Bound { inputs: self.inputs, bytes: 60_000 }
    }

    fn encode(&self, ask: &Ask<'_>, losses: &mut Losses) -> Bytes {
        let Said { mut members, task, title, cut } = said(ask, true, losses);
        let shared = some([("task_type", task.map(Value::from)), ("title", title)]);
        let instance = |text: &str| {
            let mut one = shared.clone();
            one.insert("content".to_owned(), text.into());
            Value::Object(one)
        };
        let parameters = some([
            ("outputDimensionality", ask.dimensions.map(Value::from)),
            ("autoTruncate", cut.or(Some(false.into()))),
        ]);
        members.insert("instances".to_owned(), ask.texts().map(instance).collect());
        members.insert("parameters".to_owned(), parameters.into());
        Value::Object(members).to_string().into()
    }

    fn decode(&self, answer: &Answer<'_>, inputs: usize) -> Option<Embedded> {
        #[derive(Deserialize)]
        struct Told {
            predictions: Vec<Prediction>,
        }
        #[derive(Deserialize)]
        struct Prediction {
            embeddings: Embeddings,
        }
        #[derive(Deserialize)]
        struct Embeddings {
            values: Wire,
            #[serde(default)]
            statistics: Option<Statistics>,
        }
        // Predictions are JSON of any form to Vertex AI, whose numbers may have a point.
        #[derive(Deserialize)]
        struct Statistics {
            token_count: f64,
        }
        let told: Told = serde_json::from_slice(answer.body).ok()?;
        let counts = told.predictions.iter().map(|one| Some(one.embeddings.statistics.as_ref()?.token_count));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of small counts")]
        let tokens = counts.sum::<Option<f64>>().filter(|sum| *sum >= 0.0).map(|sum| sum as u64);
        Embedded::of(told.predictions.into_iter().map(|one| one.embeddings.values), tokens, inputs)
    }
}

/// Vertex AI's for Gemini's models from the second on, as `google-genai` asks them.
pub(super) struct Content;

impl Embed for Content {
    fn path(&self, model: &str) -> Cow<'static, str> {
        method(model, "embedContent")
    }

    fn bound(&self) -> Bound {
        Bound::ONE
    }

    fn encode(&self, ask: &Ask<'_>, losses: &mut Losses) -> Bytes {
        let Said { mut members, task, title, cut } = said(ask, true, losses);
        let config = some([
            ("outputDimensionality", ask.dimensions.map(Value::from)),
            ("taskType", task.map(Value::from)),
            ("title", title),
            ("autoTruncate", cut.or(Some(false.into()))),
        ]);
        let parts: Vec<_> = ask.texts().map(|text| json!({ "text": text })).collect();
        members.insert("content".to_owned(), json!({ "parts": parts }));
        members.insert("embedContentConfig".to_owned(), config.into());
        Value::Object(members).to_string().into()
    }

    fn decode(&self, answer: &Answer<'_>, inputs: usize) -> Option<Embedded> {
        #[derive(Deserialize)]
        struct Told {
            embedding: Values,
            #[serde(default, rename = "usageMetadata")]
            usage: Option<Usage>,
        }
        let told: Told = serde_json::from_slice(answer.body).ok()?;
        Embedded::of([told.embedding.values], told.usage.and_then(|u| u.prompt), inputs)
    }
}
