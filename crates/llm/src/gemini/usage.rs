//! What an answer used: Google counts thoughts beside the output, and what its own tools read beside the prompt.

use serde::{Deserialize, Serialize};

use crate::{Usage, lenient, prices::Tier};

/// Input with what came from a cache, and beside it what tools of Google's own read; output without thoughts.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireUsage {
    #[serde(deserialize_with = "lenient::read")]
    prompt_token_count: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    candidates_token_count: u64,
    #[serde(deserialize_with = "lenient::read")]
    thoughts_token_count: u64,
    #[serde(deserialize_with = "lenient::read")]
    tool_use_prompt_token_count: u64,
    #[serde(deserialize_with = "lenient::read")]
    cached_content_token_count: u64,
    #[serde(deserialize_with = "lenient::list")]
    prompt_tokens_details: Vec<OfModality>,
    #[serde(deserialize_with = "lenient::list")]
    tool_use_prompt_tokens_details: Vec<OfModality>,
    #[serde(deserialize_with = "lenient::list")]
    candidates_tokens_details: Vec<OfModality>,
    #[serde(deserialize_with = "lenient::read")]
    service_tier: Option<String>,
    #[serde(deserialize_with = "lenient::read")]
    traffic_type: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct OfModality {
    #[serde(deserialize_with = "lenient::read")]
    modality: String,
    #[serde(deserialize_with = "lenient::read")]
    token_count: u64,
}

fn of(modality: &str, details: &[OfModality]) -> u64 {
    details.iter().filter(|d| d.modality == modality).fold(0, |sum, d| sum.saturating_add(d.token_count))
}

impl WireUsage {
    /// Inclusive; `None` for numbers that can't be.
    pub(super) fn believable(&self) -> Option<Usage> {
        let input = |modality| {
            of(modality, &self.prompt_tokens_details)
                .saturating_add(of(modality, &self.tool_use_prompt_tokens_details))
        };
        let usage = Usage {
            input_tokens: self.prompt_token_count?.checked_add(self.tool_use_prompt_token_count)?,
            output_tokens: self.candidates_token_count.checked_add(self.thoughts_token_count)?,
            cache_read_tokens: self.cached_content_token_count,
            reasoning_tokens: self.thoughts_token_count,
            input_audio_tokens: input("AUDIO"),
            input_image_tokens: input("IMAGE"),
            output_audio_tokens: of("AUDIO", &self.candidates_tokens_details),
            tier: self.tier(),
            ..Usage::default()
        };
        usage.believable()
    }

    /// Whoever was charged otherwise than by the list (off the peak, bought ahead) has a price that is not known here.
    fn tier(&self) -> Tier {
        let told = self.service_tier.as_deref().map(str::to_ascii_lowercase);
        if let Some(tier) =
            told.filter(|tier| !matches!(tier.as_str(), "" | "unspecified" | "service_tier_unspecified"))
        {
            return Tier::named(&tier);
        }
        match self.traffic_type.as_deref() {
            None | Some("" | "TRAFFIC_TYPE_UNSPECIFIED" | "ON_DEMAND") => Tier::Standard,
            Some("ON_DEMAND_FLEX") => Tier::Flex,
            Some("ON_DEMAND_PRIORITY") => Tier::Priority,
            Some(_) => Tier::Other,
        }
    }
}

/// For clients.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutUsage {
    prompt_token_count: u64,
    candidates_token_count: u64,
    total_token_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    cached_content_token_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    thoughts_token_count: u64,
    prompt_tokens_details: Vec<OutModality>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutModality {
    modality: &'static str,
    token_count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl From<Usage> for OutUsage {
    fn from(usage: Usage) -> Self {
        let others = usage.input_audio_tokens.saturating_add(usage.input_image_tokens);
        let details = [
            ("TEXT", usage.input_tokens.saturating_sub(others)),
            ("AUDIO", usage.input_audio_tokens),
            ("IMAGE", usage.input_image_tokens),
        ];
        let details = details.into_iter().filter(|(_, count)| *count > 0);
        Self {
            prompt_token_count: usage.input_tokens,
            candidates_token_count: usage.output_tokens.saturating_sub(usage.reasoning_tokens),
            total_token_count: usage.input_tokens.saturating_add(usage.output_tokens),
            cached_content_token_count: usage.cache_read_tokens,
            thoughts_token_count: usage.reasoning_tokens,
            prompt_tokens_details: details
                .map(|(modality, token_count)| OutModality { modality, token_count })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_becomes_inclusive_and_back() {
        let body = br#"{"candidates":[],"usageMetadata":{"promptTokenCount":20,"candidatesTokenCount":7,
            "thoughtsTokenCount":5,"toolUsePromptTokenCount":3,"cachedContentTokenCount":4,"totalTokenCount":35,
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":12},{"modality":"AUDIO","tokenCount":6},
            {"modality":"IMAGE","tokenCount":2}],"candidatesTokensDetails":[{"modality":"TEXT","tokenCount":7}]}}"#;
        let usage = super::super::answer::usage_of_answer(body).unwrap();
        let expected = Usage {
            input_tokens: 23,
            output_tokens: 12,
            cache_read_tokens: 4,
            reasoning_tokens: 5,
            input_audio_tokens: 6,
            input_image_tokens: 2,
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        let out = serde_json::to_value(OutUsage::from(usage)).unwrap();
        assert_eq!(
            out,
            serde_json::json!({"promptTokenCount": 23, "candidatesTokenCount": 7, "thoughtsTokenCount": 5,
                "cachedContentTokenCount": 4, "totalTokenCount": 35, "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 15}, {"modality": "AUDIO", "tokenCount": 6},
                    {"modality": "IMAGE", "tokenCount": 2}]})
        );
        let absurd =
            r#"{"usageMetadata":{"promptTokenCount":18446744073709551615,"toolUsePromptTokenCount":1}}"#;
        for without in ["{}", r#"{"usageMetadata":{}}"#, absurd] {
            assert_eq!(super::super::answer::usage_of_answer(without.as_bytes()), None, "{without}");
        }
    }

    #[test]
    fn what_was_charged_otherwise_than_by_the_list_has_no_known_price() {
        for (told, tier) in [
            (r#""serviceTier":"unspecified""#, Tier::Standard),
            (r#""serviceTier":"UNSPECIFIED","trafficType":"ON_DEMAND_FLEX""#, Tier::Flex),
            (r#""serviceTier":"standard""#, Tier::Standard),
            (r#""serviceTier":"priority""#, Tier::Priority),
            (r#""serviceTier":"gold""#, Tier::Other),
            (r#""trafficType":"ON_DEMAND""#, Tier::Standard),
            (r#""trafficType":"TRAFFIC_TYPE_UNSPECIFIED""#, Tier::Standard),
            (r#""trafficType":"ON_DEMAND_PRIORITY""#, Tier::Priority),
            (r#""trafficType":"ON_DEMAND_OFFPEAK""#, Tier::Other),
            (r#""trafficType":"PROVISIONED_THROUGHPUT""#, Tier::Other),
            (r#""trafficType":null,"serviceTier":null"#, Tier::Standard),
        ] {
            let usage: WireUsage =
                serde_json::from_str(&format!(r#"{{"promptTokenCount":1,{told}}}"#)).unwrap();
            assert_eq!(usage.believable().unwrap().tier, tier, "{told}");
        }
    }
}
