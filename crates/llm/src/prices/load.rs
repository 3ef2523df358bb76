//! Reading rows. What a row may not say is refused, not skipped.

use std::{collections::HashMap, sync::Arc};

use serde::Deserialize;

use super::{
    Models, Row, Tier,
    date::day_ms,
    rate::{Rate, Rates, decimal, rate},
};

/// Tiers are multiples with up to three digits after the point.
const TIMES_DIGITS: usize = 3;
/// A hundred times the price is a slip.
const MAX_TIMES: u64 = 100_000;
const MAX_ROWS: usize = 10_000;

/// Why prices can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    #[error("prices: {0}")]
    Form(#[source] toml::de::Error),
    #[error("prices: {row}: {wrong}")]
    Row { row: String, wrong: String },
    #[error("prices: more than {MAX_ROWS} rows")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    price: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    vendor: String,
    models: Vec<String>,
    from: String,
    to: Option<String>,
    usd_per_million: WrittenRates,
    long: Option<Long>,
    #[serde(default)]
    tiers: HashMap<Tier, String>,
    source: String,
    reviewed: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    above: u64,
    usd_per_million: Option<WrittenRates>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRates {
    input: String,
    output: Option<String>,
    cache_read: Option<String>,
    cache_write: Option<String>,
    cache_write_1h: Option<String>,
    input_audio: Option<String>,
    output_audio: Option<String>,
    input_image: Option<String>,
    reasoning: Option<String>,
}

pub(super) fn load(text: &str) -> Result<HashMap<String, Models>, PriceError> {
    let file: File = toml::from_str(text).map_err(PriceError::Form)?;
    if file.price.len() > MAX_ROWS {
        return Err(PriceError::TooMany);
    }
    let mut vendors: HashMap<String, Models> = HashMap::new();
    for written in file.price {
        let first = written.models.first().map(String::as_str).unwrap_or_default();
        let name = format!("{}/{first}@{}", written.vendor, written.from);
        let wrong = |wrong: String| PriceError::Row { row: name.clone(), wrong };
        let row = Arc::new(row(&written, &name).map_err(&wrong)?);
        let models = vendors.entry(written.vendor.clone()).or_default();
        for model in &written.models {
            let rows = models.entry(model.clone()).or_default();
            if rows.iter().any(|r| r.from_ms < row.to_ms && row.from_ms < r.to_ms) {
                return Err(wrong(format!("`{model}` has another row on some of these days")));
            }
            rows.push(row.clone());
        }
    }
    Ok(vendors)
}

fn row(written: &Written, name: &str) -> Result<Row, String> {
    let sound = |text: &str| (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !sound(&written.vendor) || written.models.is_empty() || !written.models.iter().all(|m| sound(m)) {
        return Err("vendor and models are names without spaces".to_owned());
    }
    if !written.source.starts_with("https://") || written.source.len() < 12 {
        return Err("source: where the price is published, an https URL".to_owned());
    }
    let day = |field: &str, text: &str| day_ms(text).ok_or_else(|| format!("{field}: `{text}` is no day"));
    day("reviewed", &written.reviewed)?;
    let from_ms = day("from", &written.from)?;
    let to_ms = written.to.as_deref().map_or(Ok(i64::MAX), |to| day("to", to))?;
    if to_ms <= from_ms {
        return Err("to: not after `from`".to_owned());
    }
    let base = rates(&written.usd_per_million)?;
    let long = match &written.long {
        Some(Long { above: 0, .. }) => return Err("long.above: more than nothing".to_owned()),
        Some(Long { above, usd_per_million }) => {
            let long = usd_per_million.as_ref().map(rates).transpose().map_err(|e| format!("long.{e}"))?;
            if long.is_some_and(|long| long.input < base.input) {
                return Err("long.input: less than the shorter".to_owned());
            }
            Some((*above, long))
        }
        None => None,
    };
    let tiers = written.tiers.iter().map(|(tier, times)| {
        let read = decimal(times, TIMES_DIGITS).filter(|t| (1..=MAX_TIMES).contains(t));
        read.filter(|_| !matches!(tier, Tier::Standard | Tier::Other))
            .map(|times| (*tier, times))
            .ok_or_else(|| format!("tiers: `{times}` is no multiple of the standard tier"))
    });
    Ok(Row { id: name.into(), from_ms, to_ms, rates: base, long, tiers: tiers.collect::<Result<_, _>>()? })
}

fn rates(written: &WrittenRates) -> Result<Rates, String> {
    let read = |field: &str, text: &Option<String>| -> Result<Option<Rate>, String> {
        let wrong = |text: &String| format!("{field}: `{text}` is no price in dollars");
        text.as_ref().map(|text| rate(text).ok_or_else(|| wrong(text))).transpose()
    };
    let rates = Rates {
        input: read("input", &Some(written.input.clone()))?,
        output: read("output", &written.output)?,
        cache_read: read("cache_read", &written.cache_read)?,
        cache_write: read("cache_write", &written.cache_write)?,
        cache_write_1h: read("cache_write_1h", &written.cache_write_1h)?,
        input_audio: read("input_audio", &written.input_audio)?,
        output_audio: read("output_audio", &written.output_audio)?,
        input_image: read("input_image", &written.input_image)?,
        reasoning: read("reasoning", &written.reasoning)?,
    };
    // What is read from a cache costs less than what isn't, everywhere: the reverse is two columns exchanged.
    if rates.cache_read.is_some_and(|read| Some(read) > rates.input) {
        return Err("cache_read: more than input".to_owned());
    }
    if rates.cache_write_1h.is_some_and(|hour| Some(hour) < rates.cache_write) {
        return Err("cache_write_1h: less than cache_write".to_owned());
    }
    Ok(rates)
}
