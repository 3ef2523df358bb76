//! Prices by provider, and counts as prices, events and callers have them.

use std::{collections::HashMap, sync::Arc};

use weir_llm::{
    Usage,
    prices::{Cost, Prices, Tier},
};
use weir_proto::{
    chat,
    events::{ServiceTier, Tokens},
};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pricing {
    prices: Prices,
    /// Provider → whose rows its calls are priced by.
    vendors: Arc<HashMap<String, String>>,
}

impl Pricing {
    pub(crate) fn new(prices: Prices, vendors: HashMap<String, String>) -> Self {
        Self { prices, vendors: Arc::new(vendors) }
    }

    /// What a call cost that was made at `at_ms`; `None` when that is not known.
    pub(crate) fn of(&self, provider: &str, model: &str, at_ms: i64, usage: &Usage) -> Option<Cost> {
        self.prices.cost(self.vendors.get(provider)?, model, at_ms, usage)
    }
}

pub(crate) fn usage_tokens(usage: Usage) -> Tokens {
    Tokens {
        input: usage.input_tokens,
        output: usage.output_tokens,
        cache_read: usage.cache_read_tokens,
        reasoning: usage.reasoning_tokens,
        cache_write: usage.cache_write_tokens,
        cache_write_1h: usage.cache_write_1h_tokens,
        input_audio: usage.input_audio_tokens,
        input_image: usage.input_image_tokens,
        output_audio: usage.output_audio_tokens,
        tier: match usage.tier {
            Tier::Standard => ServiceTier::Unspecified,
            Tier::Batch => ServiceTier::Batch,
            Tier::Flex => ServiceTier::Flex,
            Tier::Priority => ServiceTier::Priority,
            Tier::Fast => ServiceTier::Fast,
            Tier::Us => ServiceTier::Us,
            Tier::Other => ServiceTier::Other,
        }
        .into(),
        summed: usage.summed,
    }
}

pub(crate) fn llm_usage(tokens: Tokens) -> Usage {
    Usage {
        input_tokens: tokens.input,
        output_tokens: tokens.output,
        cache_read_tokens: tokens.cache_read,
        cache_write_tokens: tokens.cache_write,
        cache_write_1h_tokens: tokens.cache_write_1h,
        reasoning_tokens: tokens.reasoning,
        input_audio_tokens: tokens.input_audio,
        input_image_tokens: tokens.input_image,
        output_audio_tokens: tokens.output_audio,
        tier: match tokens.tier() {
            ServiceTier::Unspecified => Tier::Standard,
            ServiceTier::Batch => Tier::Batch,
            ServiceTier::Flex => Tier::Flex,
            ServiceTier::Priority => Tier::Priority,
            ServiceTier::Fast => Tier::Fast,
            ServiceTier::Us => Tier::Us,
            ServiceTier::Other => Tier::Other,
        },
        summed: tokens.summed,
    }
}

/// What two attempts at the same used.
pub(crate) fn both(a: Tokens, b: Tokens) -> Tokens {
    Tokens {
        input: a.input + b.input,
        output: a.output + b.output,
        cache_read: a.cache_read + b.cache_read,
        reasoning: a.reasoning + b.reasoning,
        cache_write: a.cache_write + b.cache_write,
        cache_write_1h: a.cache_write_1h + b.cache_write_1h,
        input_audio: a.input_audio + b.input_audio,
        input_image: a.input_image + b.input_image,
        output_audio: a.output_audio + b.output_audio,
        tier: b.tier,
        summed: a.summed || b.summed || a.input > 0,
    }
}

pub(crate) fn wire_usage(tokens: Tokens) -> chat::Usage {
    chat::Usage {
        input_tokens: tokens.input,
        output_tokens: tokens.output,
        cache_read_tokens: tokens.cache_read,
        reasoning_tokens: tokens.reasoning,
        cache_write_tokens: tokens.cache_write,
        cache_write_1h_tokens: tokens.cache_write_1h,
        input_audio_tokens: tokens.input_audio,
        input_image_tokens: tokens.input_image,
        output_audio_tokens: tokens.output_audio,
    }
}
