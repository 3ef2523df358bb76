//! From when to when, as billing answers.

use weir_error::Error;
use weir_projection::Hours;

const DAY_MS: i64 = 86_400_000;
const MAX_DAYS: i64 = 366;

/// 0 stands for the first of this month (UTC), and for now.
pub(crate) fn range(from_ms: i64, to_ms: i64, now_ms: i64) -> Result<Hours, Error> {
    Hours::new(from_ms, to_ms, now_ms, MAX_DAYS, |_| month_start(now_ms))
}

/// Day of the month after <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
fn month_start(ms: i64) -> i64 {
    let days = ms.div_euclid(DAY_MS);
    let day_of_era = (days + 719_468).rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_before = day_of_year - (153 * month + 2) / 5;
    (days - day_before) * DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const NOW: i64 = 1_709_210_096_789; // 2024-02-29T12:34:56.789Z
    const FEBRUARY: i64 = 1_706_745_600_000;

    #[test]
    fn months_start_where_the_calendar_says() {
        for (ms, start) in [
            (NOW, FEBRUARY),
            (FEBRUARY, FEBRUARY),
            (FEBRUARY - 1, 1_704_067_200_000),      // January 2024
            (1_709_251_200_000, 1_709_251_200_000), // March 2024
            (951_868_799_999, 949_363_200_000),     // 2000-02-29 to February
            (4_102_444_799_999, 4_099_766_400_000), // December 2099
        ] {
            assert_eq!(month_start(ms), start, "{ms}");
        }
    }

    #[test]
    fn defaults_and_rounding() {
        assert_eq!(range(0, 0, NOW).unwrap(), Hours { from_ms: FEBRUARY, to_ms: NOW });
        assert_eq!(range(NOW - 1, NOW, NOW).unwrap().from_ms, 1_709_208_000_000);
        assert_eq!(range(0, 0, FEBRUARY).unwrap(), Hours { from_ms: FEBRUARY, to_ms: FEBRUARY });
    }

    #[test]
    fn errors_name_the_field() {
        let param = |from, to| range(from, to, NOW).unwrap_err().param().map(str::to_owned);
        assert_eq!(param(-1, 0).as_deref(), Some("from_ms"));
        assert_eq!(param(0, -5).as_deref(), Some("to_ms"));
        assert_eq!(param(0, i64::MAX).as_deref(), Some("to_ms"));
        assert_eq!(param(NOW, NOW - 2 * HOUR_MS).as_deref(), Some("from_ms"));
        assert_eq!(param(NOW - 367 * DAY_MS, NOW).as_deref(), Some("from_ms"));
        assert!(range(1_709_208_000_000 - 366 * DAY_MS, 1_709_208_000_000, NOW).is_ok());
    }
}
