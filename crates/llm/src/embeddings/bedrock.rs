//! Bedrock's calls: each maker's own body, by `InvokeModel`. Lengths that a model has not are refused there.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Ask, Bound, Embed, Embedded, Wire, purpose};
use crate::{canonical::Losses, lenient, platform::segment};

fn invoke(model: &str) -> Cow<'static, str> {
    format!("/model/{}/invoke", segment(model)).into()
}

/// <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html>: one text a call.
pub(super) struct Titan;

impl Embed for Titan {
    fn path(&self, model: &str) -> Cow<'static, str> {
        invoke(model)
    }

    fn bound(&self) -> Bound {
        Bound::ONE
    }

    fn encode(&self, ask: &Ask<'_>, losses: &mut Losses) -> Bytes {
        let mut members = ask.only(&["normalize"], losses);
        members.insert("inputText".to_owned(), ask.texts().collect::<String>().into());
        if let Some(length) = ask.dimensions {
            members.insert("dimensions".to_owned(), length.into());
        }
        Value::Object(members).to_string().into()
    }

    fn decode(&self, answer: &Answer<'_>, inputs: usize) -> Option<Embedded> {
        #[derive(Deserialize)]
        struct Told {
            embedding: Wire,
            #[serde(default, rename = "inputTextTokenCount", deserialize_with = "lenient::read")]
            tokens: Option<u64>,
        }
        let told: Told = serde_json::from_slice(answer.body).ok()?;
        Embedded::of([told.embedding], told.tokens.or_else(|| counted(answer)), inputs)
    }
}

/// <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html>. Unless told otherwise it refuses what
/// is too long.
pub(super) struct Cohere;

impl Embed for Cohere {
    fn path(&self, model: &str) -> Cow<'static, str> {
        invoke(model)
    }

    fn bound(&self) -> Bound {
        Bound { inputs: 96, ..Bound::default() }
    }

    fn encode(&self, ask: &Ask<'_>, losses: &mut Losses) -> Bytes {
        let mut known = purpose::NAMES.to_vec();
        known.extend(["truncate", "max_tokens"]);
        let mut members = ask.only(&known, losses);
        // It must be told; texts are put into an index more often than one is looked for.
        let purpose = purpose::cohere(&members, losses).unwrap_or_else(|| "search_document".to_owned());
        members.retain(|name, _| !purpose::NAMES.contains(&name.as_str()));
        members.insert("input_type".to_owned(), purpose.into());
        members.insert("texts".to_owned(), ask.texts().map(Value::from).collect());
        if let Some(length) = ask.dimensions {
            members.insert("output_dimension".to_owned(), length.into());
        }
        Value::Object(members).to_string().into()
    }

    fn decode(&self, answer: &Answer<'_>, inputs: usize) -> Option<Embedded> {
        #[derive(Deserialize)]
        struct Told {
            embeddings: Vectors,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Vectors {
            Floats(Vec<Wire>),
            ByType { float: Vec<Wire> },
        }
        let told: Told = serde_json::from_slice(answer.body).ok()?;
        let (Vectors::Floats(vectors) | Vectors::ByType { float: vectors }) = told.embeddings;
        Embedded::of(vectors, counted(answer), inputs)
    }
}

/// Bedrock's count, which stands in no body of Cohere's.
fn counted(answer: &Answer<'_>) -> Option<u64> {
    answer.headers.get("x-amzn-bedrock-input-token-count")?.to_str().ok()?.parse().ok()
}
