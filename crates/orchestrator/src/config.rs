//! The orchestrator's configuration.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;
use weir_events::Durability;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Endpoints by name. The name shows in `x-weir-provider` and in `provider/model`.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// `OPENAI_API_KEY`: adds the provider `openai`.
    pub openai_api_key: Option<SecretString>,
    /// `OPENAI_BASE_URL`: for `openai`, instead of OpenAI's own address.
    pub openai_base_url: Option<String>,
    /// `ANTHROPIC_API_KEY`: adds the provider `anthropic`.
    pub anthropic_api_key: Option<SecretString>,
    /// `ANTHROPIC_BASE_URL`: for `anthropic`, instead of Anthropic's own address.
    pub anthropic_base_url: Option<String>,
    /// `LLAMA_API_ENDPOINT`: adds the provider `ollama` at its OpenAI-compatible `/v1`.
    pub llama_api_endpoint: Option<String>,
    /// `LITELLM_URL`: adds the provider `litellm`.
    pub litellm_url: Option<String>,
    pub litellm_master_key: Option<SecretString>,
    /// How long a provider's list of models is used, in seconds.
    pub models_ttl_s: u64,
    /// How long the router may think about an alias, in milliseconds.
    pub decide_timeout_ms: u64,
    /// What `auto` means when the router does not answer in time.
    pub fallback_model: Option<String>,
    /// Longest wait for a connection to a provider, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for a provider's first byte, in seconds.
    pub first_byte_timeout_s: u64,
    /// Longest silence in the middle of an answer, in seconds (`STREAM_TIMEOUT`).
    pub idle_timeout_s: u64,
    /// The spool's folder; one instance owns it.
    pub spool_dir: PathBuf,
    /// When an answer may end: `process`, `disk` or `cluster`.
    pub durability: Durability,
    /// Whether providers are sent the `traceparent` of their attempt: a random id, and nothing of the caller's.
    pub send_traceparent: bool,
    /// A file of prices, in the form of `crates/llm/data/prices.toml`: a model that has rows in it is priced by these.
    pub prices_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            providers: BTreeMap::new(),
            openai_api_key: None,
            openai_base_url: None,
            anthropic_api_key: None,
            anthropic_base_url: None,
            llama_api_endpoint: None,
            litellm_url: None,
            litellm_master_key: None,
            models_ttl_s: 3_600,
            decide_timeout_ms: 20,
            fallback_model: None,
            connect_timeout_ms: 5_000,
            // Models that think long are silent for minutes; the request's own deadline bounds the whole.
            first_byte_timeout_s: 600,
            idle_timeout_s: 600,
            spool_dir: PathBuf::from("spool"),
            durability: Durability::Process,
            send_traceparent: true,
            prices_file: None,
        }
    }
}

/// The dialect a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderDialect {
    /// Chat completions, as OpenAI and many others.
    #[default]
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
}

impl From<ProviderDialect> for weir_llm::Dialect {
    fn from(dialect: ProviderDialect) -> Self {
        match dialect {
            ProviderDialect::OpenAi => Self::OpenAi,
            ProviderDialect::Anthropic => Self::Anthropic,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Up to and including `/v1`.
    pub base_url: String,
    #[serde(default)]
    pub api_key: Option<SecretString>,
    /// `openai` (the default) or `anthropic`.
    #[serde(default)]
    pub dialect: ProviderDialect,
    /// What it serves; empty: ask its `/models`.
    #[serde(default)]
    pub models: Vec<String>,
    /// The `vendor` of the prices that hold for it; else known by its address, else its own name.
    #[serde(default)]
    pub prices: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("orchestrator.providers.{name}.base_url: expected an http or https URL")]
    BaseUrl { name: String },
    #[error("orchestrator.providers.{name}: a name has 1 to 64 of [a-z0-9_-]")]
    Name { name: String },
    #[error("orchestrator.providers.{name}: also named by an environment variable of its own")]
    Twice { name: String },
}

/// A provider as it will be called.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub name: String,
    pub base_url: http::Uri,
    pub api_key: Option<SecretString>,
    pub dialect: ProviderDialect,
    pub models: Vec<String>,
    /// The vendor whose prices hold for it.
    pub prices: String,
}

impl Config {
    /// All providers: the named ones, and those that an environment variable adds.
    ///
    /// # Errors
    /// When a name or URL is not of its form.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let mut all = self.providers.clone();
        for (name, provider) in self.by_variables() {
            if all.insert(name.to_owned(), provider).is_some() {
                return Err(ConfigError::Twice { name: name.to_owned() });
            }
        }
        all.into_iter().map(|(name, provider)| endpoint(name, provider)).collect()
    }

    fn by_variables(&self) -> Vec<(&'static str, ProviderConfig)> {
        let at = |base_url: String, api_key: &Option<SecretString>| ProviderConfig {
            base_url,
            api_key: api_key.clone(),
            ..ProviderConfig::default()
        };
        let mut found = Vec::new();
        if self.openai_api_key.is_some() || self.openai_base_url.is_some() {
            let url = self.openai_base_url.clone().unwrap_or_else(|| "https://api.openai.com/v1".to_owned());
            found.push(("openai", at(url, &self.openai_api_key)));
        }
        if self.anthropic_api_key.is_some() || self.anthropic_base_url.is_some() {
            let url = self.anthropic_base_url.as_deref().unwrap_or("https://api.anthropic.com");
            let provider = at(with_v1(url), &self.anthropic_api_key);
            found.push(("anthropic", ProviderConfig { dialect: ProviderDialect::Anthropic, ..provider }));
        }
        if let Some(url) = &self.llama_api_endpoint {
            found.push(("ollama", at(with_v1(url), &None)));
        }
        if let Some(url) = &self.litellm_url {
            found.push(("litellm", at(with_v1(url), &self.litellm_master_key)));
        }
        found
    }

    pub(crate) fn models_ttl(&self) -> Duration {
        Duration::from_secs(self.models_ttl_s.clamp(1, 86_400))
    }

    pub(crate) fn decide_timeout(&self) -> Duration {
        Duration::from_millis(self.decide_timeout_ms.clamp(1, 10_000))
    }
}

fn with_v1(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.ends_with("/v1") { url.to_owned() } else { format!("{url}/v1") }
}

fn endpoint(name: String, provider: ProviderConfig) -> Result<Endpoint, ConfigError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
        return Err(ConfigError::Name { name });
    }
    let url: http::Uri = match provider.base_url.trim_end_matches('/').parse() {
        Ok(url) => url,
        Err(_) => return Err(ConfigError::BaseUrl { name }),
    };
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err(ConfigError::BaseUrl { name });
    }
    Ok(Endpoint {
        prices: provider.prices.unwrap_or_else(|| vendor(&url, &name).to_owned()),
        name,
        base_url: url,
        api_key: provider.api_key,
        dialect: provider.dialect,
        models: provider.models,
    })
}

/// Whose prices hold where a provider's address is a vendor's own. Others, clouds too, have prices of their own.
fn vendor<'a>(url: &http::Uri, name: &'a str) -> &'a str {
    match url.host().unwrap_or_default() {
        "api.openai.com" => "openai",
        "api.anthropic.com" => "anthropic",
        "generativelanguage.googleapis.com" => "google",
        "api.mistral.ai" => "mistral",
        host if host.starts_with("bedrock-runtime.") && host.ends_with(".amazonaws.com") => "bedrock",
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_variables_add_providers() {
        let config = Config {
            openai_api_key: Some("sk-x".into()),
            anthropic_api_key: Some("sk-y".into()),
            llama_api_endpoint: Some("http://localhost:11434/".into()),
            ..Config::default()
        };
        let named: Vec<_> =
            config.endpoints().unwrap().into_iter().map(|e| (e.name, e.base_url.to_string())).collect();
        assert_eq!(
            named,
            [
                ("anthropic".to_owned(), "https://api.anthropic.com/v1".to_owned()),
                ("ollama".to_owned(), "http://localhost:11434/v1".to_owned()),
                ("openai".to_owned(), "https://api.openai.com/v1".to_owned()),
            ]
        );
        assert!(!format!("{config:?}").contains("sk-"));
    }

    #[test]
    fn wrong_addresses_and_names_are_named() {
        for (name, url) in [("a b", "http://x/v1"), ("ok", "ftp://x"), ("ok", "not a url"), ("", "http://x")]
        {
            let provider = ProviderConfig { base_url: url.to_owned(), ..ProviderConfig::default() };
            let config = Config { providers: [(name.to_owned(), provider)].into(), ..Config::default() };
            assert!(config.endpoints().is_err(), "{name:?} {url:?}");
        }
    }
}
