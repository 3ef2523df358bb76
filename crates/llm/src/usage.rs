//! Token counts of one call, the same whoever counted.

use crate::prices::Tier;

/// More tokens than this in one call are not believed.
pub(crate) const ABSURD: u64 = 1 << 32;

/// Inclusive counts: what was read from and written to a prompt cache is part of input, reasoning part of output.
/// OpenAI counts so; Anthropic tells input without its cached parts, and is converted at the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_tokens: u64,
    /// Written to the cache, for however long.
    pub cache_write_tokens: u64,
    /// The part of it that is kept for an hour.
    pub cache_write_1h_tokens: u64,
    pub reasoning_tokens: u64,
    /// Parts of input and output that are not text, where the provider tells.
    pub input_audio_tokens: u64,
    pub input_image_tokens: u64,
    pub output_audio_tokens: u64,
    /// The service that was given, which has its own price.
    pub tier: Tier,
    /// These are sums of several samplings, each of which has its price by its own length.
    pub summed: bool,
}

impl Usage {
    /// With parts that don't exceed their wholes; `None` for numbers that can't be: they are counted here instead.
    #[must_use]
    pub fn believable(self) -> Option<Self> {
        if self.input_tokens >= ABSURD || self.output_tokens >= ABSURD {
            return None;
        }
        let cache_read = self.cache_read_tokens.min(self.input_tokens);
        let cache_write = self.cache_write_tokens.min(self.input_tokens - cache_read);
        Some(Self {
            cache_read_tokens: cache_read,
            cache_write_tokens: cache_write,
            cache_write_1h_tokens: self.cache_write_1h_tokens.min(cache_write),
            reasoning_tokens: self.reasoning_tokens.min(self.output_tokens),
            input_audio_tokens: self.input_audio_tokens.min(self.input_tokens),
            input_image_tokens: self.input_image_tokens.min(self.input_tokens),
            output_audio_tokens: self.output_audio_tokens.min(self.output_tokens),
            ..self
        })
    }

    /// Input that came from no cache and went into none.
    #[must_use]
    pub fn fresh_input_tokens(&self) -> u64 {
        self.input_tokens.saturating_sub(self.cache_read_tokens + self.cache_write_tokens)
    }
}
