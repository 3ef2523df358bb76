//! What calls cost: dated rows of prices, and exact arithmetic over them.
//!
//! Rates are whole nano-dollars per million tokens, counts are whole tokens: a call's cost is summed exactly and rounded
//! once, half up, to the nano-dollar. A model, a class of tokens or a service tier without a price makes the whole cost
//! unknown, which is not the same as nothing.

mod date;
mod load;
mod rate;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

pub(crate) use date::{day_ms, without as undated};
pub use load::PriceError;
pub use rate::usd;

use serde::Deserialize;

use crate::Usage;
use rate::{Rate, Rates};

const BUILT_IN: &str = include_str!("../../data/prices.toml");
/// Nano-dollars a million tokens, times tokens, is this much too fine for a nano-dollar.
const MILLION: u128 = 1_000_000;
/// Multiples of tiers are in thousandths.
const TIMES: u64 = 1_000;

/// The service a call was answered with, as its provider tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    #[default]
    Standard,
    Batch,
    Flex,
    Priority,
    Fast,
    /// The standard one, kept within the United States.
    Us,
    /// One that is not known here, or that was more than tokens, as where the vendor searched the web: nor is its
    /// price known.
    Other,
}

impl Tier {
    /// As OpenAI, Anthropic and Gemini name it in their answers.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "" | "default" | "standard" | "auto" => Self::Standard,
            "batch" => Self::Batch,
            "flex" => Self::Flex,
            "priority" => Self::Priority,
            "fast" => Self::Fast,
            _ => Self::Other,
        }
    }
}

/// A class of tokens with a price of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Input,
    InputAudio,
    InputImage,
    CacheRead,
    /// Kept for five minutes, or for however long the vendor keeps by default.
    CacheWrite,
    CacheWrite1h,
    Output,
    OutputAudio,
    Reasoning,
}

/// Part of a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub class: Class,
    pub tokens: u64,
    pub nano_usd: u64,
}

/// What a call cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// The sum of the lines.
    pub nano_usd: u64,
    /// The row that was used: `vendor/model@first-day`.
    pub row: Arc<str>,
    /// The classes that had tokens.
    pub lines: Vec<Line>,
}

/// A row as it is used.
#[derive(Debug)]
struct Row {
    id: Arc<str>,
    /// Unix milliseconds, the first in it and the first after it.
    from_ms: i64,
    to_ms: i64,
    rates: Rates,
    /// Above so many input tokens, these instead; `None`: nobody knows what those cost.
    long: Option<(u64, Option<Rates>)>,
    /// Multiples of the rates, in thousandths.
    tiers: Vec<(Tier, u64)>,
}

/// Rows by the models' names, for each by its days.
type Models = HashMap<String, Vec<Arc<Row>>>;

/// By who bills. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prices(Arc<HashMap<String, Models>>);

impl Prices {
    /// The rows that come with Weir.
    ///
    /// # Errors
    /// None that a test would not see first.
    pub fn built_in() -> Result<Self, PriceError> {
        Self::with(None)
    }

    /// The rows that come with Weir, and those of an operator's file. A model that has rows there is priced by these
    /// alone.
    ///
    /// # Errors
    /// The file is not of its form, or contradicts itself.
    pub fn with(own: Option<&str>) -> Result<Self, PriceError> {
        let mut vendors = load::load(BUILT_IN)?;
        if let Some(own) = own {
            for (vendor, models) in load::load(own)? {
                vendors.entry(vendor).or_default().extend(models);
            }
        }
        Ok(Self(Arc::new(vendors)))
    }

    /// What a call cost, by who bills it. `None` when any part of it has no known price.
    #[must_use]
    pub fn cost(&self, vendor: &str, model: &str, at_ms: i64, usage: &Usage) -> Option<Cost> {
        let row = self.row(vendor, model, at_ms)?;
        let rates = match &row.long {
            // Which of them was a long one nobody told.
            Some((above, _)) if usage.input_tokens > *above && usage.summed => return None,
            Some((above, long)) if usage.input_tokens > *above => long.as_ref()?,
            _ => &row.rates,
        };
        let times = match usage.tier {
            Tier::Standard => TIMES,
            tier => row.tiers.iter().find(|(t, _)| *t == tier)?.1,
        };
        let mut sum = Sum::default();
        for (class, tokens) in parts(usage, rates)? {
            if tokens > 0 {
                sum.add(class, tokens, rates.of(class)?, times)?;
            }
        }
        Some(Cost { nano_usd: sum.nano_usd, row: row.id.clone(), lines: sum.lines })
    }

    /// Whether anything is known of what this model costs now.
    #[must_use]
    pub fn knows(&self, vendor: &str, model: &str, at_ms: i64) -> bool {
        self.row(vendor, model, at_ms).is_some()
    }

    /// A name by itself, or as a dated snapshot of a name.
    fn row(&self, vendor: &str, model: &str, at_ms: i64) -> Option<&Arc<Row>> {
        let models = self.0.get(vendor)?;
        let rows = models.get(model).or_else(|| models.get(date::without(model)?))?;
        rows.iter().find(|row| (row.from_ms..row.to_ms).contains(&at_ms))
    }
}

/// Every token in exactly one class. `None` when it can't be said which: audio that came from a cache has a price of
/// its own where audio has.
fn parts(usage: &Usage, rates: &Rates) -> Option<[(Class, u64); 9]> {
    let cached = usage.cache_read_tokens.checked_add(usage.cache_write_tokens)?;
    let fresh = usage.input_tokens.checked_sub(cached)?;
    let audio = usage.input_audio_tokens;
    if audio > 0 && cached > 0 {
        return None;
    }
    // Where images have no rate of their own they are input like any other; audio never is.
    let image = if rates.input_image.is_some() { usage.input_image_tokens } else { 0 };
    let text = fresh.checked_sub(audio.checked_add(image)?)?;
    let reasoning = if rates.reasoning.is_some() { usage.reasoning_tokens } else { 0 };
    let spoken = usage.output_audio_tokens;
    let said = usage.output_tokens.checked_sub(reasoning.checked_add(spoken)?)?;
    Some([
        (Class::Input, text),
        (Class::InputAudio, audio),
        (Class::InputImage, image),
        (Class::CacheRead, usage.cache_read_tokens),
        (Class::CacheWrite, usage.cache_write_tokens.checked_sub(usage.cache_write_1h_tokens)?),
        (Class::CacheWrite1h, usage.cache_write_1h_tokens),
        (Class::Output, said),
        (Class::OutputAudio, spoken),
        (Class::Reasoning, reasoning),
    ])
}

/// Adds up exactly; a line is what the rounded sum grew by, so that lines and sum always agree.
#[derive(Default)]
struct Sum {
    /// In thousandths of a nano-dollar a million tokens.
    exact: u128,
    nano_usd: u64,
    lines: Vec<Line>,
}

impl Sum {
    fn add(&mut self, class: Class, tokens: u64, rate: Rate, times: u64) -> Option<()> {
        let part = u128::from(rate.0) * u128::from(tokens);
        self.exact = self.exact.checked_add(part.checked_mul(u128::from(times))?)?;
        let unit = MILLION * u128::from(TIMES);
        let rounded = u64::try_from(self.exact.checked_add(unit / 2)? / unit).ok()?;
        self.lines.push(Line { class, tokens, nano_usd: rounded - self.nano_usd });
        self.nano_usd = rounded;
        Some(())
    }
}
