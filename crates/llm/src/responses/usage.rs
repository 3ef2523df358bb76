//! Token counts, which are inclusive here.

use serde::{Deserialize, Serialize};

use crate::{Usage, lenient, prices::Tier};

#[derive(Debug, Deserialize)]
pub(super) struct WireUsage {
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    input_tokens_details: Option<InputDetails>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Deserialize, Default)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
    #[serde(default)]
    image_tokens: Option<u64>,
}

#[derive(Debug, Deserialize, Default)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
}

impl WireUsage {
    /// `None` for numbers that can't be: they are counted here instead.
    pub(super) fn believable(self) -> Option<Usage> {
        let input = self.input_tokens_details.unwrap_or_default();
        let output = self.output_tokens_details.unwrap_or_default();
        let usage = Usage {
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_tokens: input.cached_tokens.unwrap_or_default(),
            cache_write_tokens: input.cache_write_tokens.unwrap_or_default(),
            reasoning_tokens: output.reasoning_tokens.unwrap_or_default(),
            input_audio_tokens: input.audio_tokens.unwrap_or_default(),
            input_image_tokens: input.image_tokens.unwrap_or_default(),
            output_audio_tokens: output.audio_tokens.unwrap_or_default(),
            ..Usage::default()
        };
        usage.believable()
    }
}

/// What OpenAI's own tools leave among the output, which are charged by the call.
const CHARGED: [&str; 4] =
    ["web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"];

/// An item of the output.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    #[serde(rename = "type", default)]
    kind: String,
}

impl WireUsage {
    /// Of a response that was given this service.
    pub(super) fn at(self, tier: Option<&str>, output: &[Item]) -> Option<Usage> {
        let charged = output.iter().any(|item| CHARGED.contains(&item.kind.as_str()));
        let tier = if charged { Tier::Other } else { tier.map_or(Tier::Standard, Tier::named) };
        self.believable().map(|usage| Usage { tier, ..usage })
    }
}

/// The provider's own numbers, when a whole answer carries them.
pub(super) fn of_answer(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Used {
        #[serde(default, deserialize_with = "lenient::read")]
        usage: Option<WireUsage>,
        #[serde(default, deserialize_with = "lenient::read")]
        service_tier: Option<String>,
        #[serde(default, deserialize_with = "lenient::list")]
        output: Vec<Item>,
    }
    let used: Used = serde_json::from_slice(body).ok()?;
    used.usage?.at(used.service_tier.as_deref(), &used.output)
}

#[derive(Debug, Serialize)]
pub(super) struct Counts {
    input_tokens: u64,
    input_tokens_details: InputCounts,
    output_tokens: u64,
    output_tokens_details: OutputCounts,
    total_tokens: u64,
}

#[derive(Debug, Serialize)]
struct InputCounts {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Debug, Serialize)]
struct OutputCounts {
    reasoning_tokens: u64,
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            input_tokens_details: InputCounts {
                cached_tokens: usage.cache_read_tokens,
                cache_write_tokens: usage.cache_write_tokens,
            },
            output_tokens: usage.output_tokens,
            output_tokens_details: OutputCounts { reasoning_tokens: usage.reasoning_tokens },
            total_tokens: usage.input_tokens + usage.output_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_with_its_details_or_not_at_all() {
        let body = br#"{"usage":{"input_tokens":10,"output_tokens":5,"total_tokens":15,
            "input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":3}}}"#;
        let expected = Usage {
            input_tokens: 10,
            output_tokens: 5,
            cache_read_tokens: 4,
            reasoning_tokens: 3,
            ..Usage::default()
        };
        assert_eq!(of_answer(body), Some(expected));
        let out = serde_json::to_value(Counts::from(expected)).unwrap();
        assert_eq!(
            (&out["total_tokens"], &out["input_tokens_details"]["cached_tokens"]),
            (&15.into(), &4.into())
        );
        for without in ["{}", r#"{"usage":null}"#, r#"{"usage":{"input_tokens":4294967296}}"#, "x"] {
            assert_eq!(of_answer(without.as_bytes()), None, "{without}");
        }
    }
}
