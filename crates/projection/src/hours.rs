//! From when to when: defaults, rounding, bounds.

use weir_error::Error;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The year 10000: beyond it nothing can be meant.
const MAX_MS: i64 = 253_402_300_800_000;

/// Unix milliseconds; `from_ms` is the start of an hour, `to_ms` is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    pub from_ms: i64,
    pub to_ms: i64,
}

impl Hours {
    /// What a caller asked for. 0 stands for `default_from` of `to_ms`, and for now.
    ///
    /// # Errors
    /// `InvalidArgument` naming `from_ms` or `to_ms`.
    pub fn new(
        from_ms: i64,
        to_ms: i64,
        now_ms: i64,
        max_days: i64,
        default_from: impl FnOnce(i64) -> i64,
    ) -> Result<Self, Error> {
        for (field, value) in [("from_ms", from_ms), ("to_ms", to_ms)] {
            if !(0..=MAX_MS).contains(&value) {
                return Err(Error::invalid(
                    field,
                    format!("{field} must be Unix milliseconds, or 0 for its default"),
                ));
            }
        }
        let to_ms = if to_ms == 0 { now_ms } else { to_ms };
        let from_ms = if from_ms == 0 { default_from(to_ms) } else { from_ms };
        let from_ms = from_ms - from_ms.rem_euclid(HOUR_MS);
        if from_ms > to_ms {
            return Err(Error::invalid("from_ms", "from_ms must not be after to_ms"));
        }
        if to_ms - from_ms > max_days * DAY_MS {
            return Err(Error::invalid(
                "from_ms",
                format!("from_ms must be at most {max_days} days before to_ms"),
            ));
        }
        Ok(Self { from_ms, to_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_709_210_096_789;
    const THIS_HOUR: i64 = 1_709_208_000_000;

    fn asked(from_ms: i64, to_ms: i64) -> Result<Hours, Error> {
        Hours::new(from_ms, to_ms, NOW, 7, |to_ms| to_ms - DAY_MS)
    }

    #[test]
    fn defaults_and_rounding() {
        assert_eq!(asked(0, 0).unwrap(), Hours { from_ms: THIS_HOUR - DAY_MS, to_ms: NOW });
        assert_eq!(asked(NOW - 1, NOW).unwrap().from_ms, THIS_HOUR);
        assert_eq!(asked(0, THIS_HOUR).unwrap().from_ms, THIS_HOUR - DAY_MS);
        assert!(asked(THIS_HOUR - 7 * DAY_MS, THIS_HOUR).is_ok());
    }

    #[test]
    fn errors_name_the_field() {
        let param = |from, to| asked(from, to).unwrap_err().param().map(str::to_owned);
        assert_eq!(param(-1, 0).as_deref(), Some("from_ms"));
        assert_eq!(param(0, -5).as_deref(), Some("to_ms"));
        assert_eq!(param(0, i64::MAX).as_deref(), Some("to_ms"));
        assert_eq!(param(NOW, NOW - 2 * HOUR_MS).as_deref(), Some("from_ms"));
        assert_eq!(param(THIS_HOUR - 7 * DAY_MS - 1, THIS_HOUR).as_deref(), Some("from_ms"));
    }
}
