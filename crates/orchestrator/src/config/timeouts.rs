//! How long providers are waited for: what holds for all of them, and what one has of its own.

use std::{ops::RangeInclusive, time::Duration};

use super::{Config, ConfigError, ProviderConfig, ProviderDialect};

const MOST_CONNECT_MS: u64 = 60_000;
const MOST_S: u64 = 7 * 86_400;

/// Those of one provider; [`weir_llm::upstream::UpstreamConfig`] says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub first_byte: Duration,
    pub idle: Duration,
    pub thinking: Duration,
    pub total: Duration,
}

impl Timeouts {
    /// # Errors
    /// One that is out of its bounds, by its key.
    pub(super) fn of(config: &Config, name: &str, provider: &ProviderConfig) -> Result<Self, ConfigError> {
        let pick = |key: &str, own: Option<u64>, all: u64, bounds: RangeInclusive<u64>| {
            let value = own.unwrap_or(all);
            if bounds.contains(&value) {
                return Ok(value);
            }
            let key = match own {
                Some(_) => format!("orchestrator.providers.{name}.{key}"),
                None => format!("orchestrator.{key}"),
            };
            Err(ConfigError::Timeout { key, most: *bounds.end() })
        };
        let seconds =
            |key: &str, own: Option<u64>, all: u64| pick(key, own, all, 1..=MOST_S).map(Duration::from_secs);
        let connect = pick(
            "connect_timeout_ms",
            provider.connect_timeout_ms,
            config.connect_timeout_ms,
            1..=MOST_CONNECT_MS,
        )?;
        let thinking = seconds("thinking_timeout_s", provider.thinking_timeout_s, config.thinking_timeout_s)?;
        let mut first_byte =
            seconds("first_byte_timeout_s", provider.first_byte_timeout_s, config.first_byte_timeout_s)?;
        // It loads its models while somebody waits for the first word.
        if provider.dialect == ProviderDialect::Ollama && provider.first_byte_timeout_s.is_none() {
            first_byte = first_byte.max(thinking);
        }
        Ok(Self {
            connect: Duration::from_millis(connect),
            first_byte,
            idle: seconds("idle_timeout_s", provider.idle_timeout_s, config.idle_timeout_s)?,
            thinking,
            total: seconds("total_timeout_s", provider.total_timeout_s, config.total_timeout_s)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &Config, provider: &ProviderConfig) -> Result<Timeouts, String> {
        Timeouts::of(config, "p", provider).map_err(|error| error.to_string())
    }

    #[test]
    fn a_provider_has_its_own_or_everybody_s() {
        let s = Duration::from_secs;
        let config = Config::default();
        let usual = of(&config, &ProviderConfig::default()).unwrap();
        assert_eq!((usual.connect, usual.first_byte, usual.idle), (s(5), s(120), s(120)));
        assert_eq!((usual.thinking, usual.total), (s(600), s(14_400)));
        let own = ProviderConfig {
            connect_timeout_ms: Some(9),
            first_byte_timeout_s: Some(1),
            idle_timeout_s: Some(2),
            thinking_timeout_s: Some(3),
            total_timeout_s: Some(4),
            ..ProviderConfig::default()
        };
        let expected = Timeouts {
            connect: Duration::from_millis(9),
            first_byte: s(1),
            idle: s(2),
            thinking: s(3),
            total: s(4),
        };
        assert_eq!(of(&config, &own), Ok(expected));
        let ollama = ProviderConfig { dialect: ProviderDialect::Ollama, ..ProviderConfig::default() };
        assert_eq!(of(&config, &ollama).unwrap().first_byte, s(600));
        let ollama = ProviderConfig { first_byte_timeout_s: Some(7), ..ollama };
        assert_eq!(of(&config, &ollama).unwrap().first_byte, s(7));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let config = Config { idle_timeout_s: 0, ..Config::default() };
        let said = of(&config, &ProviderConfig::default()).unwrap_err();
        assert!(said.starts_with("orchestrator.idle_timeout_s:"), "{said}");
        let own = ProviderConfig { connect_timeout_ms: Some(60_001), ..ProviderConfig::default() };
        let said = of(&Config::default(), &own).unwrap_err();
        assert!(
            said.starts_with("orchestrator.providers.p.connect_timeout_ms:") && said.contains("60000"),
            "{said}"
        );
    }
}
