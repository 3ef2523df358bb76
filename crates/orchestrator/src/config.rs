//! The orchestrator's configuration.

mod credentials;
mod provider;
mod timeouts;
mod vendors;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;
use weir_events::Durability;

use crate::ResponsesConfig;
pub use credentials::{AwsFrom, Credentials, CredentialsFrom, TokensFrom};
pub use provider::{Endpoint, ProviderConfig, ProviderDialect, ProviderPlatform};
pub(crate) use timeouts::Timeouts;
pub use vendors::Vendors;

/// The provider that Weir is itself.
pub(crate) const OWN_PROVIDER: &str = "weir";

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
    /// `LLAMA_API_ENDPOINT`: adds the provider `ollama`, in Ollama's own dialect, or OpenAI's if it ends with `/v1`.
    pub llama_api_endpoint: Option<String>,
    /// `LITELLM_URL`: adds the provider `litellm`.
    pub litellm_url: Option<String>,
    pub litellm_master_key: Option<SecretString>,
    /// `LITELLM_TIMEOUT`: longest wait for its first byte, in seconds.
    pub litellm_timeout_s: Option<u64>,
    /// What other vendors' own variables say.
    pub vendors: Vendors,
    /// How long a provider's list of models is used, in seconds.
    pub models_ttl_s: u64,
    /// How long the router may think about an alias, in milliseconds.
    pub decide_timeout_ms: u64,
    /// What `auto` means when the router does not answer in time.
    pub fallback_model: Option<String>,
    /// Longest wait for a connection to a provider, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for a provider's first byte, in seconds. This and the others may be a provider's own, too.
    pub first_byte_timeout_s: u64,
    /// Longest silence in the middle of an answer, in seconds (`STREAM_TIMEOUT`).
    pub idle_timeout_s: u64,
    /// Instead of these two, where it is longer, for models that think and requests that ask for it; instead of the
    /// first one, for answers in one piece.
    pub thinking_timeout_s: u64,
    /// Longest time that an attempt takes in all, in seconds, its answer's flow included.
    pub total_timeout_s: u64,
    /// The spool's folder; one instance owns it.
    pub spool_dir: PathBuf,
    /// When an answer may end: `process`, `disk` or `cluster`.
    pub durability: Durability,
    /// What is kept of responses, and what runs in the background.
    pub responses: ResponsesConfig,
    /// Whether providers are sent the `traceparent` of their attempt: a random id, and nothing of the caller's.
    pub send_traceparent: bool,
    /// How long models' opaque state (signatures, encrypted reasoning) is kept for clients that drop it, in seconds; 0: it
    /// isn't.
    pub vault_ttl_s: u64,
    /// Most of it that is kept in memory, in bytes.
    pub vault_bytes: u64,
    /// How long a request for embeddings waits for others to share a call with, in milliseconds; 0: it doesn't.
    pub embed_batch_ms: u64,
    /// Weir's own model of embeddings, `weir-hash-1`, which needs no provider.
    pub local_embeddings: bool,
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
            litellm_timeout_s: None,
            vendors: Vendors::default(),
            models_ttl_s: 3_600,
            decide_timeout_ms: 20,
            fallback_model: None,
            connect_timeout_ms: 5_000,
            first_byte_timeout_s: 120,
            idle_timeout_s: 120,
            thinking_timeout_s: 600,
            // More than the longest answers of the slowest models take: 128,000 tokens at 10 a second.
            total_timeout_s: 14_400,
            spool_dir: PathBuf::from("spool"),
            durability: Durability::Process,
            responses: ResponsesConfig::default(),
            send_traceparent: true,
            vault_ttl_s: 86_400,
            vault_bytes: 32 << 20,
            embed_batch_ms: 5,
            local_embeddings: true,
            prices_file: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("orchestrator.providers.{name}.base_url: expected an http or https URL")]
    BaseUrl { name: String },
    #[error("orchestrator.providers.{name}.platform: {says}")]
    Platform { name: String, says: &'static str },
    #[error("orchestrator.providers.{name}: {says}")]
    Credentials { name: String, says: &'static str },
    #[error("orchestrator.providers.{name}: a name has 1 to 64 of [a-z0-9_-]")]
    Name { name: String },
    #[error("{key}: must be between 1 and {most}")]
    Timeout { key: String, most: u64 },
    #[error(
        "orchestrator.providers.{name}: the name of what Weir serves itself; choose another, or set \
         orchestrator.local_embeddings to false"
    )]
    Own { name: String },
    #[error("orchestrator.providers.{name}: also named by an environment variable of its own")]
    Twice { name: String },
}

impl Config {
    /// All providers: the named ones, and those that an environment variable adds.
    ///
    /// # Errors
    /// When a name or URL is not of its form.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let mut all = self.providers.clone();
        if self.local_embeddings && all.contains_key(OWN_PROVIDER) {
            return Err(ConfigError::Own { name: OWN_PROVIDER.to_owned() });
        }
        for (name, provider) in self.by_variables() {
            if all.insert(name.to_owned(), provider).is_some() {
                return Err(ConfigError::Twice { name: name.to_owned() });
            }
        }
        let endpoint = |(name, provider): (String, ProviderConfig)| {
            let timeouts = Timeouts::of(self, &name, &provider)?;
            provider::endpoint(name, provider, &self.vendors, timeouts)
        };
        all.into_iter().map(endpoint).collect()
    }

    pub(crate) fn models_ttl(&self) -> Duration {
        Duration::from_secs(self.models_ttl_s.clamp(1, 86_400))
    }

    pub(crate) fn decide_timeout(&self) -> Duration {
        Duration::from_millis(self.decide_timeout_ms.clamp(1, 10_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_variables_add_providers() {
        let vendors = Vendors {
            azure_openai_endpoint: Some("https://r.openai.azure.com/openai/v1/".to_owned()),
            azure_openai_api_key: Some("sk-a".into()),
            gemini_api_key: Some("sk-g".into()),
            mistral_api_key: Some("sk-m".into()),
            use_vertexai: true,
            google_cloud_project: Some("p".to_owned()),
            google_cloud_location: Some("europe-west4".to_owned()),
            aws_bearer_token_bedrock: Some("sk-b".into()),
            aws_region: Some("eu-central-1".to_owned()),
            ..Vendors::default()
        };
        let config = Config {
            openai_api_key: Some("sk-x".into()),
            anthropic_api_key: Some("sk-y".into()),
            llama_api_endpoint: Some("http://localhost:11434/".into()),
            vendors,
            ..Config::default()
        };
        let named: Vec<_> =
            config.endpoints().unwrap().into_iter().map(|e| (e.name, e.base_url.to_string())).collect();
        let expected = [
            ("anthropic", "https://api.anthropic.com/v1"),
            ("azure", "https://r.openai.azure.com/"),
            ("bedrock", "https://bedrock-runtime.eu-central-1.amazonaws.com/"),
            ("gemini", "https://generativelanguage.googleapis.com/v1beta"),
            ("mistral", "https://api.mistral.ai/v1"),
            ("ollama", "http://localhost:11434/"),
            ("openai", "https://api.openai.com/v1"),
            ("vertex", "https://europe-west4-aiplatform.googleapis.com/v1"),
        ];
        assert_eq!(named, expected.map(|(name, url)| (name.to_owned(), url.to_owned())));
        assert!(!format!("{config:?} {:?}", config.endpoints()).contains("sk-"));
        let vllm = Config { llama_api_endpoint: Some("http://gpu:8000/v1".into()), ..Config::default() };
        let vllm = vllm.endpoints().unwrap().remove(0);
        assert_eq!((vllm.dialect, vllm.base_url.path()), (ProviderDialect::OpenAi, "/v1"));
        let native = config.endpoints().unwrap().into_iter().filter(|e| e.responses).map(|e| e.name);
        assert_eq!((native.collect::<Vec<_>>(), vllm.responses), (vec!["openai".to_owned()], false));
        // Machines have these for other reasons.
        let aws = Vendors {
            aws_access_key_id: Some("AKID".to_owned()),
            aws_secret_access_key: Some("sk-s".into()),
            aws_region: Some("us-east-1".to_owned()),
            ..Vendors::default()
        };
        let mut config = Config { vendors: aws, ..Config::default() };
        assert!(config.endpoints().unwrap().is_empty());
        let bedrock = ProviderConfig { dialect: ProviderDialect::Bedrock, ..ProviderConfig::default() };
        config.providers.insert("b".to_owned(), bedrock);
        let endpoint = config.endpoints().unwrap().remove(0);
        assert!(matches!(&endpoint.credentials, Credentials::Aws { region, .. } if region == "us-east-1"));
        assert!(!endpoint.lists_models());
        let alone = ProviderConfig {
            base_url: "http://x/v1".to_owned(),
            models: vec!["m".to_owned()],
            only_named: true,
            ..ProviderConfig::default()
        };
        let config = Config { providers: [("p".to_owned(), alone)].into(), ..Config::default() };
        let alone = config.endpoints().unwrap().remove(0);
        assert!(!alone.lists_models() && alone.models.is_empty());
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let refused = |provider: ProviderConfig| {
            let config = Config { providers: [("p".to_owned(), provider)].into(), ..Config::default() };
            config.endpoints().unwrap_err().to_string()
        };
        let of = |dialect, platform| ProviderConfig {
            dialect,
            platform,
            base_url: "http://x".to_owned(),
            ..ProviderConfig::default()
        };
        assert!(refused(of(ProviderDialect::Gemini, ProviderPlatform::Azure)).contains("azure serves"));
        assert!(refused(of(ProviderDialect::OpenAi, ProviderPlatform::Vertex)).contains("vertex serves"));
        assert!(refused(of(ProviderDialect::Gemini, ProviderPlatform::Vertex)).contains("project"));
        let bedrock = of(ProviderDialect::Bedrock, ProviderPlatform::Direct);
        let half = ProviderConfig { access_key_id: Some("AKID".to_owned()), ..bedrock };
        assert!(refused(half.clone()).contains("go together"));
        let nowhere = ProviderConfig { secret_access_key: Some("s".into()), ..half };
        assert!(refused(nowhere).contains("region"));
        let gone = of(ProviderDialect::Gemini, ProviderPlatform::Direct);
        let gone = ProviderConfig { service_account_file: Some("/nowhere".into()), ..gone };
        assert!(refused(gone).contains("can't be read"));
        assert!(refused(ProviderConfig::default()).contains("base_url"));
    }

    #[test]
    fn the_name_of_what_is_served_here_is_taken() {
        let provider = ProviderConfig { base_url: "http://x/v1".to_owned(), ..ProviderConfig::default() };
        let mut config = Config { providers: [("weir".to_owned(), provider)].into(), ..Config::default() };
        assert!(config.endpoints().unwrap_err().to_string().contains("local_embeddings"));
        config.local_embeddings = false;
        assert_eq!(config.endpoints().unwrap().len(), 1);
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
