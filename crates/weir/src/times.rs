//! Times as people write them.

use anyhow::{Context as _, Result, ensure};
use weir_events::async_nats::datetime;

const HOUR_MS: i64 = 3_600_000;

/// `2026-11-21T14:03:09Z`, of Unix milliseconds.
pub(crate) fn utc(ms: i64) -> String {
    let Ok(time) = datetime::from_nanos(i128::from(ms) * 1_000_000) else { return ms.to_string() };
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The start of an hour: `2026-11-21T14` or `2026-11-21T14:00:00Z`. Gives Unix milliseconds.
///
/// # Errors
/// It is no time, or within an hour.
pub(crate) fn hour(text: &str) -> Result<i64> {
    let full = if text.len() == "2026-11-21T14".len() { format!("{text}:00:00Z") } else { text.to_owned() };
    let time = datetime::parse_rfc3339(&full).ok();
    let time = time.with_context(|| format!("{text} is no time like 2026-11-21T14"))?;
    let ms = time.unix_timestamp() * 1_000;
    ensure!(ms % HOUR_MS == 0 && time.nanosecond() == 0, "{text} is not the start of an hour");
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read_and_times_written() {
        let ms = hour("2023-11-14T22").unwrap();
        assert_eq!((ms, utc(ms).as_str()), (1_699_999_200_000, "2023-11-14T22:00:00Z"));
        assert_eq!(hour("2023-11-14T23:00:00+01:00").unwrap(), ms);
        for bad in ["2023-11-14", "2023-11-14T22:30:00Z", "2023-11-14T22:00:00.5Z", "x", ""] {
            assert!(hour(bad).is_err(), "{bad}");
        }
    }
}
