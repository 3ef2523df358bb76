//! What is a valid value. Every error names its field.

use weir_error::Error;
use weir_proto::control::RateLimits;
use weir_types::{UserId, scope};

const NAME_CHARS: usize = 200;
const MAX_RATE: u64 = 1_000_000_000;
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;
const TIERS: [&str; 4] = ["free", "standard", "premium", "enterprise"];
const DEFAULT_TIER: &str = "standard";

pub(super) fn name(text: &str) -> Result<String, Error> {
    let chars = text.chars().count();
    if chars == 0 || chars > NAME_CHARS || text.trim().is_empty() {
        return Err(Error::invalid("name", format!("name must have 1 to {NAME_CHARS} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid("name", "name must not contain control characters"));
    }
    Ok(text.to_owned())
}

pub(super) fn tier(text: &str) -> Result<&'static str, Error> {
    if text.is_empty() {
        return Ok(DEFAULT_TIER);
    }
    given_tier(text)
}

pub(super) fn given_tier(text: &str) -> Result<&'static str, Error> {
    TIERS
        .into_iter()
        .find(|tier| *tier == text)
        .ok_or_else(|| Error::invalid("tier", format!("tier must be one of {}", TIERS.join(", "))))
}

/// Requests and tokens per minute; `None` is not limited.
pub(super) fn rates(limits: Option<RateLimits>) -> Result<(Option<u64>, Option<u64>), Error> {
    let limits = limits.unwrap_or_default();
    for (param, value) in [
        ("rate_limits.requests_per_minute", limits.requests_per_minute),
        ("rate_limits.tokens_per_minute", limits.tokens_per_minute),
    ] {
        if value.is_some_and(|v| !(1..=MAX_RATE).contains(&v)) {
            return Err(Error::invalid(param, format!("{param} must be between 1 and {MAX_RATE}")));
        }
    }
    Ok((limits.requests_per_minute, limits.tokens_per_minute))
}

/// Sorted, without repetition; the default ones when none are named.
pub(super) fn scopes(named: &[String]) -> Result<Vec<String>, Error> {
    if named.is_empty() {
        return Ok(scope::DEFAULT.iter().map(|&s| s.to_owned()).collect());
    }
    if let Some(at) = named.iter().position(|s| !scope::TENANT.contains(&s.as_str())) {
        let message = format!("scopes[{at}] must be one of {}", scope::TENANT.join(", "));
        return Err(Error::invalid(format!("scopes[{at}]"), message));
    }
    let mut scopes = named.to_vec();
    scopes.sort();
    scopes.dedup();
    Ok(scopes)
}

pub(super) fn user(text: &str) -> Result<Option<UserId>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::invalid("user_id", "user_id must be a UUID"))
}

/// 0 is never.
pub(super) fn expiry(at_ms: i64, now_ms: i64) -> Result<Option<i64>, Error> {
    match at_ms {
        0 => Ok(None),
        at if at > now_ms => Ok(Some(at)),
        _ => Err(Error::invalid("expires_at_ms", "expires_at_ms must be in the future (Unix milliseconds)")),
    }
}

pub(super) fn limit(limit: u32) -> Result<usize, Error> {
    match usize::try_from(limit) {
        Ok(0) => Ok(DEFAULT_LIMIT),
        Ok(limit) if limit <= MAX_LIMIT => Ok(limit),
        _ => Err(Error::invalid("limit", format!("limit must be between 1 and {MAX_LIMIT}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param<T: std::fmt::Debug>(result: Result<T, Error>) -> Option<String> {
        result.err().and_then(|e| e.param().map(str::to_owned))
    }

    #[test]
    fn names_are_counted_in_characters() {
        assert_eq!(name(&"ä".repeat(200)).unwrap().chars().count(), 200);
        for bad in ["", "   ", "a\nb", "a\0b", &"ä".repeat(201)] {
            assert_eq!(param(name(bad)).as_deref(), Some("name"), "{bad:?}");
        }
    }

    #[test]
    fn tiers_and_rates() {
        assert_eq!((tier("").unwrap(), tier("premium").unwrap()), ("standard", "premium"));
        assert_eq!(param(tier("Premium")).as_deref(), Some("tier"));
        let limits = |requests, tokens| {
            rates(Some(RateLimits { requests_per_minute: requests, tokens_per_minute: tokens }))
        };
        assert_eq!(rates(None).unwrap(), (None, None));
        assert_eq!(limits(Some(1_000), Some(100_000)).unwrap(), (Some(1_000), Some(100_000)));
        assert_eq!(param(limits(Some(0), None)).as_deref(), Some("rate_limits.requests_per_minute"));
        assert_eq!(
            param(limits(Some(1), Some(MAX_RATE + 1))).as_deref(),
            Some("rate_limits.tokens_per_minute")
        );
    }

    #[test]
    fn scopes_are_known_ones() {
        let named = |all: &[&str]| scopes(&all.iter().map(|&s| s.to_owned()).collect::<Vec<_>>());
        assert_eq!(named(&[]).unwrap(), scope::DEFAULT);
        assert_eq!(named(&["usage:read", "chat:write", "usage:read"]).unwrap(), ["chat:write", "usage:read"]);
        assert_eq!(param(named(&["chat:write", "platform:admin"])).as_deref(), Some("scopes[1]"));
        assert_eq!(param(named(&[""])).as_deref(), Some("scopes[0]"));
    }

    #[test]
    fn the_rest() {
        assert_eq!(user("").unwrap(), None);
        assert_eq!(param(user("x")).as_deref(), Some("user_id"));
        assert_eq!((expiry(0, 5).unwrap(), expiry(6, 5).unwrap()), (None, Some(6)));
        assert_eq!(param(expiry(5, 5)).as_deref(), Some("expires_at_ms"));
        assert_eq!(param(expiry(-1, 5)).as_deref(), Some("expires_at_ms"));
        assert_eq!((limit(0).unwrap(), limit(100).unwrap()), (20, 100));
        assert_eq!(param(limit(101)).as_deref(), Some("limit"));
    }
}
