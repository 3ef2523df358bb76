//! The rate-limit headers: windows of a minute that are told and not enforced.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use http::{HeaderMap, HeaderValue};

const MINUTE_MS: i64 = 60_000;

#[derive(Debug)]
pub(crate) struct Window {
    limit_requests: u64,
    limit_tokens: u64,
    minute: AtomicI64,
    requests: AtomicU64,
    tokens: AtomicU64,
}

impl Window {
    pub(crate) fn new(limit_requests: u64, limit_tokens: u64) -> Self {
        Self {
            limit_requests,
            limit_tokens,
            minute: AtomicI64::new(0),
            requests: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
        }
    }

    /// Counts a call and says what is left, as Anthropic does where `anthropic` is set.
    pub(crate) fn take(&self, now_ms: i64, tokens: u64, anthropic: bool, headers: &mut HeaderMap) {
        let minute = now_ms.div_euclid(MINUTE_MS);
        if self.minute.swap(minute, Relaxed) != minute {
            self.requests.store(0, Relaxed);
            self.tokens.store(0, Relaxed);
        }
        let requests = self.requests.fetch_add(1, Relaxed) + 1;
        let tokens = self.tokens.fetch_add(tokens, Relaxed) + tokens;
        if anthropic {
            // Times of day would need a calendar, and nobody looks at them.
            headers.insert("anthropic-ratelimit-requests-limit", self.limit_requests.into());
            headers.insert("anthropic-ratelimit-tokens-limit", self.limit_tokens.into());
            let left = self.limit_requests.saturating_sub(requests);
            headers.insert("anthropic-ratelimit-requests-remaining", left.into());
            let left = self.limit_tokens.saturating_sub(tokens);
            headers.insert("anthropic-ratelimit-tokens-remaining", left.into());
            return;
        }
        let reset = reset(MINUTE_MS - now_ms.rem_euclid(MINUTE_MS));
        headers.insert("x-ratelimit-limit-requests", self.limit_requests.into());
        headers.insert("x-ratelimit-limit-tokens", self.limit_tokens.into());
        headers.insert("x-ratelimit-remaining-requests", self.limit_requests.saturating_sub(requests).into());
        headers.insert("x-ratelimit-remaining-tokens", self.limit_tokens.saturating_sub(tokens).into());
        headers.insert("x-ratelimit-reset-requests", reset.clone());
        headers.insert("x-ratelimit-reset-tokens", reset);
    }
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
            window.take(now, tokens, false, &mut headers);
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
}
