//! What answers used, as Anthropic tells it and as it is told here.

use serde::{Deserialize, Serialize};

use crate::{Usage, lenient, prices::Tier};

/// Input without what came from or went into a cache. A member that can't be read is as good as absent.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct WireUsage {
    #[serde(deserialize_with = "lenient::read")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    cache_creation: Option<CacheCreation>,
    #[serde(deserialize_with = "lenient::read")]
    output_tokens_details: Option<OutputDetails>,
    #[serde(deserialize_with = "lenient::read")]
    service_tier: Option<String>,
    /// `fast` is a service of its own, with its own price.
    #[serde(deserialize_with = "lenient::read")]
    speed: Option<String>,
    /// Where it was inferred, which has its price, too: a workspace may want it of all its requests.
    #[serde(deserialize_with = "lenient::read")]
    inference_geo: Option<String>,
    #[serde(deserialize_with = "lenient::read")]
    server_tool_use: Option<ServerTools>,
    /// All samplings that were done for it, each with its own counts.
    #[serde(deserialize_with = "lenient::read")]
    iterations: Option<Iterations>,
}

/// Charged by the use, beside the tokens.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ServerTools {
    #[serde(deserialize_with = "lenient::read")]
    web_search_requests: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CacheCreation {
    #[serde(deserialize_with = "lenient::read")]
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OutputDetails {
    #[serde(deserialize_with = "lenient::read")]
    thinking_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(transparent)]
struct Iterations {
    #[serde(deserialize_with = "lenient::list")]
    all: Vec<Iteration>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Iteration {
    #[serde(rename = "type", deserialize_with = "lenient::read")]
    kind: Option<String>,
    #[serde(deserialize_with = "lenient::read")]
    model: Option<String>,
    #[serde(deserialize_with = "lenient::read")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::read")]
    cache_creation: Option<CacheCreation>,
}

/// What the counts of the message itself leave out.
#[derive(Debug, Default)]
struct Beside {
    input: u64,
    output: u64,
    cache_write: u64,
    cache_write_1h: u64,
    cache_read: u64,
    /// Another model than the one that was asked took part, or something that nobody here knows.
    others: bool,
    several: bool,
}

impl Beside {
    fn of(iterations: &[Iteration]) -> Self {
        let mut models = iterations.iter().filter_map(|iteration| iteration.model.as_deref());
        let first = models.next();
        let mut beside = Self {
            others: models.any(|model| Some(model) != first),
            several: iterations.len() > 1,
            ..Self::default()
        };
        for iteration in iterations {
            match iteration.kind.as_deref() {
                Some("message") => {}
                // Summed up by the same model, and no part of the message's counts.
                Some("compaction") => beside.add(iteration),
                // An advisor's, which isn't either; its model is its own.
                Some("advisor_message") => {
                    beside.add(iteration);
                    beside.others = true;
                }
                _ => beside.others = true,
            }
        }
        beside
    }

    fn add(&mut self, iteration: &Iteration) {
        let (Some(input), Some(output)) = (iteration.input_tokens, iteration.output_tokens) else {
            self.others = true;
            return;
        };
        let hour = iteration.cache_creation.as_ref().and_then(|c| c.ephemeral_1h_input_tokens);
        for (sum, tokens) in [
            (&mut self.input, input),
            (&mut self.output, output),
            (&mut self.cache_write, iteration.cache_creation_input_tokens.unwrap_or_default()),
            (&mut self.cache_write_1h, hour.unwrap_or_default()),
            (&mut self.cache_read, iteration.cache_read_input_tokens.unwrap_or_default()),
        ] {
            *sum = sum.saturating_add(tokens);
        }
    }
}

/// What was told so far: a stream says some of it at its start and the rest at its end, each time in full.
#[derive(Debug, Default)]
pub(super) struct Counted {
    input: Option<u64>,
    output: Option<u64>,
    cache_write: u64,
    cache_write_1h: u64,
    cache_read: u64,
    thinking: u64,
    searched: bool,
    fast: bool,
    tier: Tier,
    region: Tier,
    beside: Beside,
}

impl Counted {
    pub(super) fn add(&mut self, told: Option<WireUsage>) {
        let Some(told) = told else { return };
        self.input = told.input_tokens.or(self.input);
        self.output = told.output_tokens.or(self.output);
        self.cache_write = told.cache_creation_input_tokens.unwrap_or(self.cache_write);
        self.cache_read = told.cache_read_input_tokens.unwrap_or(self.cache_read);
        let hour = told.cache_creation.and_then(|c| c.ephemeral_1h_input_tokens);
        self.cache_write_1h = hour.unwrap_or(self.cache_write_1h);
        self.thinking = told.output_tokens_details.and_then(|d| d.thinking_tokens).unwrap_or(self.thinking);
        self.searched |= told.server_tool_use.and_then(|tools| tools.web_search_requests) > Some(0);
        self.fast = told.speed.map_or(self.fast, |speed| speed == "fast");
        self.tier = told.service_tier.map_or(self.tier, |tier| Tier::named(&tier));
        self.region = told.inference_geo.map_or(self.region, |place| region(&place));
        if let Some(iterations) = told.iterations {
            self.beside = Beside::of(&iterations.all);
        }
    }

    /// Inclusive, once input was told.
    pub(super) fn usage(&self) -> Option<Usage> {
        let beside = &self.beside;
        let cache_write = self.cache_write.checked_add(beside.cache_write)?;
        let cache_read = self.cache_read.checked_add(beside.cache_read)?;
        let fresh = self.input?.checked_add(beside.input)?;
        let usage = Usage {
            input_tokens: fresh.checked_add(cache_write)?.checked_add(cache_read)?,
            output_tokens: self.output.unwrap_or_default().checked_add(beside.output)?,
            cache_read_tokens: cache_read,
            cache_write_tokens: cache_write,
            cache_write_1h_tokens: self.cache_write_1h.saturating_add(beside.cache_write_1h),
            reasoning_tokens: self.thinking,
            tier: self.tier(),
            summed: beside.several,
            ..Usage::default()
        };
        usage.believable()
    }

    /// One multiple of the price, or none that is known: those of speed and place apply one upon the other.
    fn tier(&self) -> Tier {
        let speed = if self.fast { Tier::Fast } else { self.tier };
        match (speed, self.region) {
            _ if self.searched || self.beside.others => Tier::Other,
            (speed, Tier::Standard) => speed,
            (Tier::Standard, region) => region,
            _ => Tier::Other,
        }
    }
}

impl From<WireUsage> for Counted {
    fn from(told: WireUsage) -> Self {
        let mut counted = Self::default();
        counted.add(Some(told));
        counted
    }
}

/// <https://platform.claude.com/docs/en/manage-claude/data-residency>; models before it say `not_available`.
fn region(place: &str) -> Tier {
    match place {
        "" | "global" | "not_available" => Tier::Standard,
        "us" => Tier::Us,
        _ => Tier::Other,
    }
}

/// Exclusive, for clients.
#[derive(Debug, Serialize)]
pub(super) struct OutUsage {
    pub(super) input_tokens: u64,
    pub(super) cache_creation_input_tokens: u64,
    pub(super) cache_read_input_tokens: u64,
    pub(super) output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<OutDetails>,
}

#[derive(Debug, Serialize)]
struct OutDetails {
    thinking_tokens: u64,
}

impl From<Usage> for OutUsage {
    fn from(usage: Usage) -> Self {
        let thinking_tokens = usage.reasoning_tokens;
        Self {
            input_tokens: usage.fresh_input_tokens(),
            cache_creation_input_tokens: usage.cache_write_tokens,
            cache_read_input_tokens: usage.cache_read_tokens,
            output_tokens: usage.output_tokens,
            output_tokens_details: (thinking_tokens > 0).then_some(OutDetails { thinking_tokens }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Provider as _, anthropic::Messages};

    fn usage_of_answer(body: &[u8]) -> Option<Usage> {
        Messages.usage_of_answer(body)
    }

    #[test]
    fn usage_becomes_inclusive_and_back() {
        let body =
            br#"{"usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,
            "cache_creation":{"ephemeral_5m_input_tokens":1,"ephemeral_1h_input_tokens":2},
            "output_tokens":7,"output_tokens_details":{"thinking_tokens":5}}}"#;
        let usage = usage_of_answer(body).unwrap();
        let expected = Usage {
            input_tokens: 17,
            output_tokens: 7,
            cache_read_tokens: 4,
            cache_write_tokens: 3,
            cache_write_1h_tokens: 2,
            reasoning_tokens: 5,
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        let out = OutUsage::from(usage);
        assert_eq!(
            (out.input_tokens, out.cache_creation_input_tokens, out.cache_read_input_tokens),
            (10, 3, 4)
        );
        for without in [
            "{}",
            r#"{"usage":{}}"#,
            r#"{"usage":{"input_tokens":18446744073709551615,"cache_read_input_tokens":1}}"#,
        ] {
            assert_eq!(usage_of_answer(without.as_bytes()), None, "{without}");
        }
    }

    #[test]
    fn what_has_a_price_of_its_own_is_no_standard_service() {
        let tier = |more: &str| {
            let body = format!(r#"{{"usage":{{"input_tokens":10,"output_tokens":7,{more}}}}}"#);
            usage_of_answer(body.as_bytes()).unwrap().tier
        };
        for (more, expected) in [
            (r#""inference_geo":"global""#, Tier::Standard),
            (r#""inference_geo":"not_available""#, Tier::Standard),
            (r#""inference_geo":"us""#, Tier::Us),
            (r#""inference_geo":"eu""#, Tier::Other),
            (r#""inference_geo":"us","speed":"fast""#, Tier::Other),
            (r#""speed":"fast""#, Tier::Fast),
            (r#""server_tool_use":{"web_search_requests":1}"#, Tier::Other),
            (r#""iterations":[{"type":"message","model":"a"},{"type":"message","model":"b"}]"#, Tier::Other),
            (r#""iterations":[{"type":"invented"}]"#, Tier::Other),
            (r#""iterations":[{"type":"compaction","input_tokens":null,"output_tokens":3}]"#, Tier::Other),
            (
                r#""iterations":[{"type":"message","model":"a"},{"type":"message","model":"a"}]"#,
                Tier::Standard,
            ),
        ] {
            assert_eq!(tier(more), expected, "{more}");
        }
    }
}
