//! The rate-limit headers: windows of a minute that are told and not enforced.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use http::{HeaderMap, HeaderName, HeaderValue};

const MINUTE_MS: i64 = 60_000;

#[derive(Debug)]
pub(crate) struct Window {
    limit_requests: u64,
    limit_tokens: u64,
    minute: AtomicI64,
    requests: AtomicU64,
    input: AtomicU64,
    output: AtomicU64,
}

impl Window {
    pub(crate) fn new(limit_requests: u64, limit_tokens: u64) -> Self {
        Self {
            limit_requests,
            limit_tokens,
            minute: AtomicI64::new(0),
            requests: AtomicU64::new(0),
            input: AtomicU64::new(0),
            output: AtomicU64::new(0),
        }
    }

    /// Counts a call of so many tokens of prompt and of answer, and says what is left, as Anthropic does where
    /// `anthropic` is set.
    pub(crate) fn take(&self, now_ms: i64, tokens: (u64, u64), anthropic: bool, headers: &mut HeaderMap) {
        let minute = now_ms.div_euclid(MINUTE_MS);
        if self.minute.swap(minute, Relaxed) != minute {
            for count in [&self.requests, &self.input, &self.output] {
                count.store(0, Relaxed);
            }
        }
        let add = |count: &AtomicU64, more: u64| count.fetch_add(more, Relaxed) + more;
        let requests = self.limit_requests.saturating_sub(add(&self.requests, 1));
        let (input, output) = (add(&self.input, tokens.0), add(&self.output, tokens.1));
        let left = |taken: u64| self.limit_tokens.saturating_sub(taken);
        if anthropic {
            let reset = HeaderValue::try_from(time_of_day((minute + 1) * 60));
            let reset = reset.unwrap_or_else(|_| HeaderValue::from_static("1970-01-01T00:00:00Z"));
            for (of, limit, remaining) in [
                ("requests", self.limit_requests, requests),
                ("tokens", self.limit_tokens, left(input + output)),
                ("input-tokens", self.limit_tokens, left(input)),
                ("output-tokens", self.limit_tokens, left(output)),
            ] {
                let mut tell = |what: &str, value: HeaderValue| {
                    let name = HeaderName::try_from(format!("anthropic-ratelimit-{of}-{what}"));
                    headers.extend(name.ok().map(|name| (name, value)));
                };
                tell("limit", limit.into());
                tell("remaining", remaining.into());
                tell("reset", reset.clone());
            }
            return;
        }
        let reset = reset(MINUTE_MS - now_ms.rem_euclid(MINUTE_MS));
        headers.insert("x-ratelimit-limit-requests", self.limit_requests.into());
        headers.insert("x-ratelimit-limit-tokens", self.limit_tokens.into());
        headers.insert("x-ratelimit-remaining-requests", requests.into());
        headers.insert("x-ratelimit-remaining-tokens", left(input + output).into());
        headers.insert("x-ratelimit-reset-requests", reset.clone());
        headers.insert("x-ratelimit-reset-tokens", reset);
    }
}

/// Unix seconds as RFC 3339 has them. The calendar is Howard Hinnant's `civil_from_days`.
pub(crate) fn time_of_day(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// As OpenAI writes durations: `1m0s`, `59.25s`, `120ms`.
fn reset(ms: i64) -> HeaderValue {
    let text = match ms {
        MINUTE_MS => "1m0s".to_owned(),
        1_000.. => format!("{}.{:03}s", ms / 1_000, ms % 1_000),
        _ => format!("{ms}ms"),
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_falls_and_comes_back_with_the_minute() {
        let window = Window::new(10, 100);
        let at = |now, tokens| {
            let mut headers = HeaderMap::new();
            window.take(now, (tokens, 0), false, &mut headers);
            let get = |name: &str| headers[name].to_str().unwrap().to_owned();
            (
                get("x-ratelimit-remaining-requests"),
                get("x-ratelimit-remaining-tokens"),
                get("x-ratelimit-reset-tokens"),
            )
        };
        assert_eq!(at(60_000, 30), ("9".into(), "70".into(), "1m0s".into()));
        assert_eq!(at(60_750, 80), ("8".into(), "0".into(), "59.250s".into()));
        assert_eq!(at(119_880, 0), ("7".into(), "0".into(), "120ms".into()));
        assert_eq!(at(120_000, 1), ("9".into(), "99".into(), "1m0s".into()));
    }

    #[test]
    fn anthropic_is_told_by_kind_with_times_of_day() {
        let window = Window::new(10, 100);
        let mut headers = HeaderMap::new();
        window.take(1_700_000_000_000, (30, 5), true, &mut headers);
        for (name, value) in [
            ("requests-remaining", "9"),
            ("tokens-remaining", "65"),
            ("input-tokens-remaining", "70"),
            ("output-tokens-remaining", "95"),
            ("output-tokens-limit", "100"),
            ("requests-reset", "2023-11-14T22:14:00Z"),
        ] {
            assert_eq!(headers[format!("anthropic-ratelimit-{name}")], value, "{name}");
        }
        assert_eq!(time_of_day(951_782_400), "2000-02-29T00:00:00Z");
    }
}
