//! What vendors send, what it means in our counts, and what it costs, to the nano-dollar. The figures are worked out by
//! hand in the comments of the files.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Dialect, Usage,
    prices::{Prices, Tier, day_ms},
};

const FILES: &[(&str, Dialect, &str)] = &[
    ("openai", Dialect::OpenAi, include_str!("golden/openai.json")),
    ("anthropic", Dialect::Anthropic, include_str!("golden/anthropic.json")),
    ("responses", Dialect::Responses, include_str!("golden/responses.json")),
    ("gemini", Dialect::Gemini, include_str!("golden/gemini.json")),
    ("mistral", Dialect::Mistral, include_str!("golden/mistral.json")),
    ("bedrock", Dialect::Bedrock, include_str!("golden/bedrock.json")),
    ("ollama", Dialect::Ollama, include_str!("golden/ollama.json")),
];

#[derive(Deserialize)]
struct File {
    vendor: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    model: String,
    /// The day of the call.
    at: String,
    /// The vendor's whole answer.
    answer: Box<RawValue>,
    usage: Option<Counts>,
    cost_nano_usd: Option<u64>,
}

/// Inclusive.
#[derive(Deserialize)]
struct Counts {
    input: u64,
    output: u64,
    #[serde(default)]
    cache_read: u64,
    #[serde(default)]
    cache_write: u64,
    #[serde(default)]
    cache_write_1h: u64,
    #[serde(default)]
    reasoning: u64,
    #[serde(default)]
    input_audio: u64,
    #[serde(default)]
    output_audio: u64,
    #[serde(default)]
    tier: Tier,
    #[serde(default)]
    summed: bool,
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        Self {
            input_tokens: counts.input,
            output_tokens: counts.output,
            cache_read_tokens: counts.cache_read,
            cache_write_tokens: counts.cache_write,
            cache_write_1h_tokens: counts.cache_write_1h,
            reasoning_tokens: counts.reasoning,
            input_audio_tokens: counts.input_audio,
            output_audio_tokens: counts.output_audio,
            tier: counts.tier,
            summed: counts.summed,
            ..Self::default()
        }
    }
}

#[test]
fn every_vendor_s_usage_is_understood_and_priced() {
    let prices = Prices::built_in().unwrap();
    for (name, dialect, text) in FILES {
        let file: File = serde_json::from_str(text).unwrap();
        assert!(!file.cases.is_empty());
        for case in file.cases {
            let at = format!("{name}: {}", case.name);
            let told = dialect.provider().usage_of_answer(case.answer.get().as_bytes());
            assert_eq!(told, case.usage.map(Usage::from), "{at}");
            let cost = told
                .and_then(|usage| prices.cost(&file.vendor, &case.model, day_ms(&case.at).unwrap(), &usage));
            assert_eq!(cost.map(|cost| cost.nano_usd), case.cost_nano_usd, "{at}");
        }
    }
}
