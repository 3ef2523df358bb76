//! Rates, and dollars as decimals.

use super::Class;

const NANO: u64 = 1_000_000_000;
const NANO_DIGITS: usize = 9;
/// A hundred thousand dollars a million tokens: more is a slip.
const MAX_USD: u64 = 100_000;

/// Nano-dollars a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rate(pub(super) u64);

/// `None`: unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rates {
    pub(super) input: Option<Rate>,
    pub(super) input_audio: Option<Rate>,
    pub(super) input_image: Option<Rate>,
    pub(super) cache_read: Option<Rate>,
    pub(super) cache_write: Option<Rate>,
    pub(super) cache_write_1h: Option<Rate>,
    pub(super) output: Option<Rate>,
    pub(super) output_audio: Option<Rate>,
    /// `None`: reasoning costs what other output costs.
    pub(super) reasoning: Option<Rate>,
}

impl Rates {
    pub(super) fn of(&self, class: Class) -> Option<Rate> {
        match class {
            Class::Input => self.input,
            Class::InputAudio => self.input_audio,
            Class::InputImage => self.input_image,
            Class::CacheRead => self.cache_read,
            Class::CacheWrite => self.cache_write,
            Class::CacheWrite1h => self.cache_write_1h,
            Class::Output => self.output,
            Class::OutputAudio => self.output_audio,
            Class::Reasoning => self.reasoning,
        }
    }
}

/// A decimal number without sign or exponent, times ten to the `digits`; nothing of it is lost.
pub(super) fn decimal(text: &str, digits: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || fraction.len() > digits {
        return None;
    }
    format!("{whole}{fraction:0<digits$}").parse().ok()
}

/// A rate in dollars.
pub(super) fn rate(text: &str) -> Option<Rate> {
    decimal(text, NANO_DIGITS).filter(|n| *n <= MAX_USD * NANO).map(Rate)
}

/// Nano-dollars as a decimal number of dollars, without zeros at its end.
#[must_use]
pub fn usd(nano_usd: u64) -> String {
    let (whole, fraction) = (nano_usd / NANO, nano_usd % NANO);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = format!("{fraction:0NANO_DIGITS$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}
