//! Where a tenant stands, as OpenAI's `x-ratelimit-*` headers say it.

use std::time::Duration;

/// One limit's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// A minute's worth.
    pub limit: u64,
    pub remaining: u64,
    /// Time until all of it is there again.
    pub reset: Duration,
}

impl Standing {
    /// `reset` the way OpenAI writes durations: `12ms`, `7s`, `6m0s`. Rounded up.
    #[must_use]
    pub fn reset_text(&self) -> String {
        let ms = self.reset.as_nanos().div_ceil(1_000_000);
        if ms < 1_000 {
            return format!("{ms}ms");
        }
        let seconds = ms.div_ceil(1_000);
        if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
    }
}

/// Both limits' states; `None` where there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateState {
    pub requests: Option<Standing>,
    pub tokens: Option<Standing>,
}

impl RateState {
    /// Header names (lower case) and values to put on a response.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        const REQUESTS: [&str; 3] =
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
        const TOKENS: [&str; 3] =
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
        [(self.requests, REQUESTS), (self.tokens, TOKENS)].into_iter().flat_map(|(standing, names)| {
            standing
                .map(|s| {
                    [
                        (names[0], s.limit.to_string()),
                        (names[1], s.remaining.to_string()),
                        (names[2], s.reset_text()),
                    ]
                })
                .into_iter()
                .flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_like_openai_does() {
        let text = |ms| Standing { limit: 1, remaining: 0, reset: Duration::from_micros(ms) }.reset_text();
        assert_eq!(text(0), "0ms");
        assert_eq!(text(11_500), "12ms");
        assert_eq!(text(1_000_000), "1s");
        assert_eq!(text(6_200_000), "7s");
        assert_eq!(text(360_000_000), "6m0s");
    }
}
