//! From when to when: defaults, rounding, bounds.

use weir_error::Error;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Every hour and model is a row of the answer.
const MAX_DAYS: i64 = 31;
/// The year 10000: beyond it nothing can be meant.
const MAX_MS: i64 = 253_402_300_800_000;

/// Unix milliseconds; `from` is the start of an hour, `to` is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

impl Range {
    /// 0 stands for 24 hours before `to`, and for now.
    pub(crate) fn new(from_ms: i64, to_ms: i64, now_ms: i64) -> Result<Self, Error> {
        for (field, value) in [("from_ms", from_ms), ("to_ms", to_ms)] {
            if !(0..=MAX_MS).contains(&value) {
                return Err(Error::invalid(
                    field,
                    format!("{field} must be Unix milliseconds, or 0 for its default"),
                ));
            }
        }
        let to_ms = if to_ms == 0 { now_ms } else { to_ms };
        let from_ms = if from_ms == 0 { (to_ms - DAY_MS).max(0) } else { from_ms };
        let from_ms = from_ms - from_ms.rem_euclid(HOUR_MS);
        if from_ms > to_ms {
            return Err(Error::invalid("from_ms", "from_ms must not be after to_ms"));
        }
        if to_ms - from_ms > MAX_DAYS * DAY_MS {
            return Err(Error::invalid(
                "from_ms",
                format!("from_ms must be at most {MAX_DAYS} days before to_ms"),
            ));
        }
        Ok(Self { from_ms, to_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_709_210_096_789;

    #[test]
    fn the_default_is_the_last_day() {
        let range = Range::new(0, 0, NOW).unwrap();
        assert_eq!(range, Range { from_ms: 1_709_121_600_000, to_ms: NOW });
        assert_eq!(Range::new(0, DAY_MS / 2, NOW).unwrap().from_ms, 0);
    }

    #[test]
    fn errors_name_the_field() {
        let param = |from, to| Range::new(from, to, NOW).unwrap_err().param().map(str::to_owned);
        assert_eq!(param(-1, 0).as_deref(), Some("from_ms"));
        assert_eq!(param(0, i64::MAX).as_deref(), Some("to_ms"));
        assert_eq!(param(NOW, NOW - 2 * HOUR_MS).as_deref(), Some("from_ms"));
        assert_eq!(param(NOW - 32 * DAY_MS, NOW).as_deref(), Some("from_ms"));
    }
}
