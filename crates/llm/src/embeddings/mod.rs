//! Texts as vectors, as each vendor takes and gives them. In between a vector is its 32-bit floats, little-endian.

mod apis;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::Dialect;

/// A longer vector is no model's.
const MAX_DIMENSIONS: usize = 65_536;

/// What is turned into a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Text(String),
    /// Of `cl100k_base`, as OpenAI's models for embeddings read them.
    Tokens(Vec<u32>),
}

/// One call.
#[derive(Debug)]
pub struct Ask<'a> {
    pub model: &'a str,
    /// All of one kind.
    pub inputs: &'a [&'a Input],
    pub dimensions: Option<u32>,
    /// Members of the client's body for providers that may know them.
    pub extra: &'a Map<String, Value>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// In the order of the inputs.
    pub vectors: Vec<Bytes>,
    /// `None`: the provider doesn't say.
    pub input_tokens: Option<u64>,
}

/// How a provider is asked.
pub trait Embed: Sync {
    /// Below the provider's base URL.
    fn path(&self, model: &str) -> Cow<'static, str>;

    /// Whether tokens may be sent instead of texts.
    fn takes_tokens(&self) -> bool {
        false
    }

    fn encode(&self, ask: &Ask<'_>) -> Bytes;

    /// `None` for what is no answer to so many inputs.
    fn decode(&self, body: &[u8], inputs: usize) -> Option<Embedded>;
}

/// `None`: its vendor has no embeddings, or they are not asked for here.
#[must_use]
pub fn of(dialect: Dialect) -> Option<&'static dyn Embed> {
    match dialect {
        Dialect::OpenAi => Some(&apis::OpenAi),
        Dialect::Responses => Some(&apis::OpenAi),
        Dialect::Gemini => Some(&apis::Gemini),
        Dialect::Mistral => Some(&apis::Mistral),
        Dialect::Ollama => Some(&apis::Ollama),
        Dialect::Anthropic | Dialect::Bedrock => None,
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
