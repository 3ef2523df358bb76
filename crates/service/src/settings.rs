//! The sections that are every service's, and the well-known variables.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use http::Uri;
use secrecy::SecretString;
use serde::Deserialize;
use weir_config::{ConfigError, Settings, Sources};

use crate::Name;

/// Sections that belong to no service alone.
const SHARED: [&str; 10] =
    ["access", "database", "identity", "listen", "log", "nats", "peers", "redis", "simulator", "telemetry"];

/// Well-known variables, and the settings they stand for.
pub const ALIASES: &[(&str, &str)] = &[
    ("ANTHROPIC_API_KEY", "orchestrator.anthropic_api_key"),
    ("ANTHROPIC_BASE_URL", "orchestrator.anthropic_base_url"),
    ("AWS_ACCESS_KEY_ID", "orchestrator.vendors.aws_access_key_id"),
    ("AWS_BEARER_TOKEN_BEDROCK", "orchestrator.vendors.aws_bearer_token_bedrock"),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "orchestrator.vendors.aws_container_authorization_token"),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "orchestrator.vendors.aws_container_authorization_token_file"),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "orchestrator.vendors.aws_container_credentials_full_uri"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "orchestrator.vendors.aws_container_credentials_relative_uri"),
    // Of two for the same, the later wins.
    ("AWS_DEFAULT_REGION", "orchestrator.vendors.aws_region"),
    ("AWS_EC2_METADATA_DISABLED", "orchestrator.vendors.aws_ec2_metadata_disabled"),
    ("AWS_REGION", "orchestrator.vendors.aws_region"),
    ("AWS_ROLE_ARN", "orchestrator.vendors.aws_role_arn"),
    ("AWS_ROLE_SESSION_NAME", "orchestrator.vendors.aws_role_session_name"),
    ("AWS_SECRET_ACCESS_KEY", "orchestrator.vendors.aws_secret_access_key"),
    ("AWS_SESSION_TOKEN", "orchestrator.vendors.aws_session_token"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "orchestrator.vendors.aws_web_identity_token_file"),
    ("AZURE_AUTHORITY_HOST", "orchestrator.vendors.azure_authority_host"),
    ("AZURE_CLIENT_ID", "orchestrator.vendors.azure_client_id"),
    ("AZURE_FEDERATED_TOKEN_FILE", "orchestrator.vendors.azure_federated_token_file"),
    ("AZURE_OPENAI_AD_TOKEN", "orchestrator.vendors.azure_openai_ad_token"),
    ("AZURE_OPENAI_API_KEY", "orchestrator.vendors.azure_openai_api_key"),
    ("AZURE_OPENAI_ENDPOINT", "orchestrator.vendors.azure_openai_endpoint"),
    ("AZURE_TENANT_ID", "orchestrator.vendors.azure_tenant_id"),
    ("CORS_ORIGINS", "gateway.cors_origins"),
    ("DATABASE_URL", "database.url"),
    ("GEMINI_API_KEY", "orchestrator.vendors.gemini_api_key"),
    ("GOOGLE_API_KEY", "orchestrator.vendors.gemini_api_key"),
    ("GOOGLE_APPLICATION_CREDENTIALS", "orchestrator.vendors.google_application_credentials"),
    ("GOOGLE_CLOUD_LOCATION", "orchestrator.vendors.google_cloud_location"),
    ("GOOGLE_CLOUD_PROJECT", "orchestrator.vendors.google_cloud_project"),
    ("GOOGLE_GEMINI_BASE_URL", "orchestrator.vendors.gemini_base_url"),
    ("GOOGLE_GENAI_USE_VERTEXAI", "orchestrator.vendors.use_vertexai"),
    ("LITELLM_MASTER_KEY", "orchestrator.litellm_master_key"),
    ("LITELLM_TIMEOUT", "orchestrator.litellm_timeout_s"),
    ("LITELLM_URL", "orchestrator.litellm_url"),
    ("LLAMA_API_ENDPOINT", "orchestrator.llama_api_endpoint"),
    ("LOG_LEVEL", "log.level"),
    ("MAX_CONCURRENT_REQUESTS", "access.max_concurrent_requests"),
    ("MISTRAL_API_KEY", "orchestrator.vendors.mistral_api_key"),
    ("NATS_URL", "nats.url"),
    ("OLLAMA_API_KEY", "orchestrator.vendors.ollama_api_key"),
    ("OLLAMA_HOST", "orchestrator.vendors.ollama_host"),
    ("OPENAI_API_KEY", "orchestrator.openai_api_key"),
    ("OPENAI_API_VERSION", "orchestrator.vendors.azure_openai_api_version"),
    ("OPENAI_BASE_URL", "orchestrator.openai_base_url"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("REDIS_ENABLED", "redis.enabled"),
    ("REDIS_URL", "redis.url"),
    ("STREAM_TIMEOUT", "orchestrator.idle_timeout_s"),
];

/// Section `peers`: where services listen that are not in this process. `http://host:port`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct PeersConfig(BTreeMap<Name, String>);

/// Section `identity`: how services that run apart know each other.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IdentityConfig {
    /// The signing keys of services in this process: seeds of Ed25519 keys, 32 bytes in base64.
    pub(crate) keys: BTreeMap<Name, SecretString>,
    /// The public keys that callers in other processes sign with, in base64. Several for one service, so that its key
    /// can be changed.
    pub(crate) trusted: BTreeMap<Name, Vec<String>>,
}

/// Merges the sources, whose sections all must be ones that some service reads: one file may serve them all.
///
/// # Errors
/// A file that cannot be read, a variable that is not of its form, an unknown section.
pub fn load(sources: &Sources) -> Result<Settings, ConfigError> {
    let settings = Settings::load(sources)?;
    let mut known: Vec<&str> = SHARED.into_iter().chain(Name::ALL.map(Name::as_str)).collect();
    known.sort_unstable();
    settings.only(&known)?;
    Ok(settings)
}

/// Names the key and the source of what a service found wrong with its section.
pub(crate) fn explain(settings: &Settings, service: Name, error: anyhow::Error) -> anyhow::Error {
    let Some(param) = error.downcast_ref::<weir_error::Error>().and_then(weir_error::Error::param) else {
        return error;
    };
    let section = service.as_str();
    let within = param.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')).unwrap_or(param);
    // A key that is named from the top is of another section.
    let key = if settings.origin(param).is_some() { param.to_owned() } else { format!("{section}.{within}") };
    let text = error.to_string();
    let message = [param, within].into_iter().find_map(|key| text.strip_prefix(key)).unwrap_or(&text);
    anyhow!(settings.refuse(&key, message.trim_start_matches(':').trim()))
}

impl PeersConfig {
    /// Where a service of another process is.
    pub(crate) fn uri(&self, settings: &Settings, name: Name) -> Result<Uri, ConfigError> {
        let default = || format!("http://127.0.0.1:{}", name.port());
        let text = self.0.get(&name).cloned().unwrap_or_else(default);
        let uri = text.parse::<Uri>().ok().filter(|uri| {
            uri.scheme_str() == Some("http")
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.path() == "/"
                && uri.query().is_none()
        });
        let bad = "must be of the form http://host:port (encryption between services is the network's)";
        uri.ok_or_else(|| settings.refuse(&format!("peers.{name}"), bad))
    }
}
