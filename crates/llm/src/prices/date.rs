//! Days as rows write them, and as vendors append them to models' names.

const DAY_MS: i64 = 86_400_000;
/// Nothing was priced by the token before, and no row is meant to hold that long.
const YEARS: std::ops::Range<i64> = 2020..2100;

/// `2026-11-21` as the Unix millisecond it begins with (UTC).
pub(crate) fn day_ms(text: &str) -> Option<i64> {
    let [year, month, day] = <[&str; 3]>::try_from(text.split('-').collect::<Vec<_>>()).ok()?;
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok())?;
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !YEARS.contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    Some(days(year, month, day) * DAY_MS)
}

/// Since 1970: <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The name that a dated snapshot is one of: `gpt-5-2025-08-07`, `claude-haiku-4-5-20251001`, `claude-opus-4@20250514`.
pub(crate) fn without(model: &str) -> Option<&str> {
    let dashed = |name: &str| name.len() == 11 && name.starts_with('-') && day_ms(&name[1..]).is_some();
    let plain = |name: &str| {
        let digits = name.strip_prefix(['-', '@']).filter(|d| d.len() == 8 && d.is_ascii())?;
        day_ms(&format!("{}-{}-{}", &digits[..4], &digits[4..6], &digits[6..]))
    };
    let cut = |length: usize| model.len().checked_sub(length).and_then(|at| model.split_at_checked(at));
    if let Some((name, _)) = cut(11).filter(|(name, date)| !name.is_empty() && dashed(date)) {
        return Some(name);
    }
    cut(9).filter(|(name, date)| !name.is_empty() && plain(date).is_some()).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_the_calendar_s() {
        assert_eq!(day_ms("2026-11-21"), Some(1_795_219_200_000));
        assert_eq!(day_ms("2024-02-29"), Some(1_709_164_800_000));
        for wrong in [
            "2023-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-1-01",
            "2026-01-32",
            "1999-01-01",
            "",
            "2026-01-0x",
        ] {
            assert_eq!(day_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn snapshots_are_known_by_their_dates() {
        assert_eq!(without("gpt-5-2025-08-07"), Some("gpt-5"));
        assert_eq!(without("claude-haiku-4-5-20251001"), Some("claude-haiku-4-5"));
        assert_eq!(without("claude-opus-4@20250514"), Some("claude-opus-4"));
        for none in
            ["gpt-5", "gpt-4-0613", "-2025-08-07", "x-2025-99-07", "llama-12345678", "ééééééééé-éé", ""]
        {
            assert_eq!(without(none), None, "{none}");
        }
    }
}
