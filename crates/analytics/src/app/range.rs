//! From when to when, as analytics answers.

use weir_error::Error;
use weir_projection::Hours;

const DAY_MS: i64 = 86_400_000;
/// Every hour and model is a row of the answer.
const MAX_DAYS: i64 = 31;

/// 0 stands for 24 hours before `to`, and for now.
pub(crate) fn range(from_ms: i64, to_ms: i64, now_ms: i64) -> Result<Hours, Error> {
    Hours::new(from_ms, to_ms, now_ms, MAX_DAYS, |to_ms| (to_ms - DAY_MS).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const NOW: i64 = 1_709_210_096_789;

    #[test]
    fn the_default_is_the_last_day() {
        assert_eq!(range(0, 0, NOW).unwrap(), Hours { from_ms: 1_709_121_600_000, to_ms: NOW });
        assert_eq!(range(0, DAY_MS / 2, NOW).unwrap().from_ms, 0);
    }

    #[test]
    fn errors_name_the_field() {
        let param = |from, to| range(from, to, NOW).unwrap_err().param().map(str::to_owned);
        assert_eq!(param(-1, 0).as_deref(), Some("from_ms"));
        assert_eq!(param(0, i64::MAX).as_deref(), Some("to_ms"));
        assert_eq!(param(NOW, NOW - 2 * HOUR_MS).as_deref(), Some("from_ms"));
        assert_eq!(param(NOW - 32 * DAY_MS, NOW).as_deref(), Some("from_ms"));
    }
}
