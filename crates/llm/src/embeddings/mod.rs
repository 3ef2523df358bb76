//! Texts as vectors, as each vendor takes and gives them. In between a vector is its 32-bit floats, little-endian.

mod bedrock;
mod google;
mod openai;
mod purpose;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::HeaderMap;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{Dialect, canonical::Losses, platform::Platform, usage::ABSURD};

/// A longer vector is no model's.
const MAX_DIMENSIONS: usize = 65_536;

/// What is turned into a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Text(String),
    /// Of `cl100k_base`, as OpenAI's models for embeddings read them.
    Tokens(Vec<u32>),
}

impl Input {
    /// In bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(ids) => ids.len() * 4,
        }
    }
}

/// One call.
#[derive(Debug)]
pub struct Ask<'a> {
    pub model: &'a str,
    /// All of one kind; texts for those who take no tokens.
    pub inputs: &'a [&'a Input],
    pub dimensions: Option<u32>,
    /// Members of the client's body for providers that may know them.
    pub extra: &'a Map<String, Value>,
}

impl Ask<'_> {
    fn texts(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|input| match input {
            Input::Text(text) => text.as_str(),
            Input::Tokens(_) => "",
        })
    }

    /// Names what more is asked, for a model that knows none of it.
    pub fn unknown(&self, losses: &mut Losses) {
        self.only(&[], losses);
    }

    /// What more is asked, but for these.
    fn without(&self, names: &[&str], losses: &mut Losses) -> Map<String, Value> {
        lose(self.extra, names, losses)
    }

    /// These of what more is asked, and extensions (`x_…`), which pass everywhere.
    fn only(&self, names: &[&str], losses: &mut Losses) -> Map<String, Value> {
        let known = |name: &str| names.contains(&name) || name.starts_with("x_");
        let lost: Vec<_> = self.extra.keys().map(String::as_str).filter(|name| !known(name)).collect();
        lose(self.extra, &lost, losses)
    }
}

fn lose(from: &Map<String, Value>, names: &[&str], losses: &mut Losses) -> Map<String, Value> {
    let mut left = from.clone();
    names.iter().filter(|name| left.remove(**name).is_some()).for_each(|name| losses.dropped(name));
    left
}

/// How a call was answered.
#[derive(Debug)]
pub struct Answer<'a> {
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// In the order of the inputs.
    pub vectors: Vec<Bytes>,
    /// `None`: the provider doesn't say.
    pub input_tokens: Option<u64>,
}

impl Embedded {
    fn of(vectors: impl IntoIterator<Item = Wire>, input_tokens: Option<u64>, inputs: usize) -> Option<Self> {
        let vectors: Vec<_> = vectors.into_iter().map(|vector| vector.0).collect();
        (vectors.len() == inputs).then(|| Self::new(vectors, input_tokens))
    }

    /// Numbers that can't be are not believed: they are counted here instead.
    fn new(vectors: Vec<Bytes>, input_tokens: Option<u64>) -> Self {
        Self { vectors, input_tokens: input_tokens.filter(|tokens| *tokens < ABSURD) }
    }
}

/// What one call may have at most. A single input may be larger: whether it is too large, the provider says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub inputs: usize,
    /// Of all inputs.
    pub bytes: usize,
}

impl Bound {
    pub const ONE: Self = Self { inputs: 1, bytes: usize::MAX };

    /// Inputs as so many calls may have them, in their order.
    #[must_use]
    pub fn parts<'a, 'i>(self, inputs: &'a [&'i Input]) -> Vec<&'a [&'i Input]> {
        let (mut parts, mut rest) = (Vec::new(), inputs);
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |input: &&&Input| {
                bytes += input.size();
                bytes <= self.bytes
            };
            let most = rest.iter().take(self.inputs).take_while(fits).count().max(1);
            let (part, left) = rest.split_at(most);
            parts.push(part);
            rest = left;
        }
        parts
    }
}

impl Default for Bound {
    /// None but what clients are bound to.
    fn default() -> Self {
        Self { inputs: usize::MAX, bytes: usize::MAX }
    }
}

/// How a provider is asked.
pub trait Embed: Sync {
    /// Below the provider's base URL.
    fn path(&self, model: &str) -> Cow<'static, str>;

    /// Whether tokens may be sent instead of texts.
    fn takes_tokens(&self) -> bool {
        false
    }

    fn bound(&self) -> Bound {
        Bound::default()
    }

    /// What the provider can't be told is named.
    fn encode(&self, ask: &Ask<'_>, losses: &mut Losses) -> Bytes;

    /// `None` for what is no answer to so many inputs.
    fn decode(&self, answer: &Answer<'_>, inputs: usize) -> Option<Embedded>;
}

/// How this model is asked. `None`: its vendor has no embeddings, or they are not asked for here.
#[must_use]
pub fn of(dialect: Dialect, platform: &Platform, model: &str) -> Option<&'static dyn Embed> {
    match (dialect, platform) {
        (Dialect::Gemini, Platform::Vertex { .. }) if model == "gemini-embedding-001" => {
            Some(&google::Predict { inputs: 1 })
        }
        (Dialect::Gemini, Platform::Vertex { .. }) if model.contains("gemini") => Some(&google::Content),
        (Dialect::Gemini, Platform::Vertex { .. }) => Some(&google::Predict { inputs: 250 }),
        (Dialect::Bedrock, _) if model.contains("amazon.titan-embed-text") => Some(&bedrock::Titan),
        (Dialect::Bedrock, _) if model.contains("cohere.embed") => Some(&bedrock::Cohere),
        (Dialect::OpenAi | Dialect::Responses, _) => Some(&openai::OpenAi),
        (Dialect::Gemini, _) => Some(&google::Gemini),
        (Dialect::Mistral, _) => Some(&openai::Mistral),
        (Dialect::Ollama, _) => Some(&openai::Ollama),
        (Dialect::Anthropic | Dialect::Bedrock, _) => None,
    }
}

/// A vector as it comes: numbers, or Base64 of floats.
struct Wire(Bytes);

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a vector")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                let bytes = STANDARD.decode(text).map_err(E::custom)?;
                let whole = !bytes.is_empty() && bytes.len() % 4 == 0 && bytes.len() / 4 <= MAX_DIMENSIONS;
                if whole { Ok(bytes.into()) } else { Err(E::custom("not so many floats")) }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::with_capacity(numbers.size_hint().unwrap_or(1_536).min(4_096) * 4);
                while let Some(number) = numbers.next_element::<f32>()? {
                    if bytes.len() / 4 >= MAX_DIMENSIONS {
                        return Err(A::Error::custom("too many floats"));
                    }
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
                if bytes.is_empty() { Err(A::Error::custom("an empty vector")) } else { Ok(bytes.into()) }
            }
        }

        from.deserialize_any(Reading).map(Self)
    }
}

/// The floats of a vector.
pub fn floats(vector: &[u8]) -> impl Iterator<Item = f32> + '_ {
    vector.chunks_exact(4).filter_map(|chunk| Some(f32::from_le_bytes(chunk.try_into().ok()?)))
}

/// A vector in Base64.
#[must_use]
pub fn base64(vector: &[u8]) -> String {
    STANDARD.encode(vector)
}

/// A whole by weights: the parts are its nearest fair shares, and add up to it. Without any weight the parts are even.
#[must_use]
pub fn shares(whole: u64, weights: &[u64]) -> Vec<u64> {
    let all: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let even = vec![1; weights.len()];
    let (weights, all) = if all == 0 { (even.as_slice(), weights.len() as u128) } else { (weights, all) };
    // What is rounded up to before a part is what its share grew by: no part is wrong by a whole token.
    let mut before = 0;
    let mut sum = 0u128;
    let part = |weight: &u64| {
        sum += u128::from(*weight);
        let upto = (u128::from(whole) * sum * 2 + all) / (all * 2).max(1);
        let part = upto - before;
        before = upto;
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    weights.iter().map(part).collect()
}
