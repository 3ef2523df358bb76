//! A provider's settings, checked into an endpoint that can be called.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;
use weir_llm::{Dialect, platform::Platform};

use super::{
    ConfigError, Credentials, CredentialsFrom, Timeouts, Vendors,
    credentials::{find, region},
};

/// The dialect a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderDialect {
    /// Chat completions, as OpenAI and many others.
    #[default]
    OpenAi,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's Messages.
    Anthropic,
    Gemini,
    Mistral,
    /// Ollama's own API.
    Ollama,
    /// Bedrock's Converse.
    Bedrock,
}

impl From<ProviderDialect> for Dialect {
    fn from(dialect: ProviderDialect) -> Self {
        match dialect {
            ProviderDialect::OpenAi => Self::OpenAi,
            ProviderDialect::Responses => Self::Responses,
            ProviderDialect::Anthropic => Self::Anthropic,
            ProviderDialect::Gemini => Self::Gemini,
            ProviderDialect::Mistral => Self::Mistral,
            ProviderDialect::Ollama => Self::Ollama,
            ProviderDialect::Bedrock => Self::Bedrock,
        }
    }
}

/// Who serves the dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderPlatform {
    /// Its vendor, or anything that has its vendor's paths.
    #[default]
    Direct,
    /// Azure OpenAI.
    Azure,
    /// Google's Vertex AI.
    Vertex,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    /// Up to and including the version (`/v1`), but for Azure, which has it in its paths. May be left out where the
    /// dialect and the platform say it.
    pub base_url: String,
    /// As the dialect and the platform carry it: a bearer token, or a header of their own.
    pub api_key: Option<SecretString>,
    /// Instead of a key: a token of Entra's or Google's, as a bearer token.
    pub access_token: Option<SecretString>,
    /// Google's JSON key of a service account; tokens are got and replaced with it.
    pub service_account: Option<SecretString>,
    /// The same in a file.
    pub service_account_file: Option<PathBuf>,
    /// AWS's, for `bedrock`: calls are signed with it.
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<SecretString>,
    /// Of AWS's credentials that don't last.
    pub session_token: Option<SecretString>,
    /// Where credentials come from: `auto`, `static`, `container`, `web_identity` or `instance`.
    pub credentials: CredentialsFrom,
    /// AWS's role for a Kubernetes token (`AWS_ROLE_ARN`).
    pub role_arn: Option<String>,
    /// The file of the token that credentials are given for: read anew each time. Left out: the vendor's variable.
    pub token_file: Option<PathBuf>,
    /// Where credentials are asked for, instead of the address that the vendor's variables or documents name: the
    /// container's endpoint, STS, the machine's metadata, Entra's authority.
    pub credentials_url: Option<String>,
    /// Entra's, for a Kubernetes token (`AZURE_TENANT_ID`, `AZURE_CLIENT_ID`).
    pub tenant_id: Option<String>,
    pub client_id: Option<String>,
    pub dialect: ProviderDialect,
    /// Of the dialect `openai`: it serves Responses, too. OpenAI itself does unless this says otherwise.
    pub responses: Option<bool>,
    pub platform: ProviderPlatform,
    /// Azure's: a date, for paths by deployment; `preview`; left out: the v1 API.
    pub api_version: Option<String>,
    /// Vertex's.
    pub project: Option<String>,
    /// Vertex's: `global` if left out.
    pub location: Option<String>,
    /// AWS's.
    pub region: Option<String>,
    /// What it serves; empty: ask it. Azure, Vertex and Bedrock can't be asked: with none named they serve whatever is
    /// asked for as `provider/model`.
    pub models: Vec<String>,
    /// It serves what is asked for as `provider/model`, whatever that is, and is nobody's fallback. It is not asked what
    /// it serves, and `models` says nothing.
    pub only_named: bool,
    /// The `vendor` of the prices that hold for it; else known by its address, else its own name.
    pub prices: Option<String>,
    /// Ollama's: how many tokens a model's prompt and answer may have together (`num_ctx`). Left out: as Ollama has it, which
    /// is little.
    pub num_ctx: Option<u64>,
    /// These five instead of everybody's.
    pub connect_timeout_ms: Option<u64>,
    pub first_byte_timeout_s: Option<u64>,
    pub idle_timeout_s: Option<u64>,
    pub thinking_timeout_s: Option<u64>,
    pub total_timeout_s: Option<u64>,
}

/// A provider as it will be called.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub name: String,
    pub base_url: http::Uri,
    pub credentials: Credentials,
    pub dialect: ProviderDialect,
    /// It serves Responses besides its dialect.
    pub responses: bool,
    pub platform: Platform,
    pub models: Vec<String>,
    pub only_named: bool,
    /// Tokens of Ollama's window.
    pub num_ctx: Option<u64>,
    /// The vendor whose prices hold for it.
    pub prices: String,
    pub timeouts: Timeouts,
}

impl Endpoint {
    /// Whether it can be asked what it serves.
    #[must_use]
    pub fn lists_models(&self) -> bool {
        self.platform == Platform::Direct && self.dialect != ProviderDialect::Bedrock && !self.only_named
    }
}

/// # Errors
/// What is wrong with the settings, by their names.
pub(super) fn endpoint(
    name: String,
    provider: ProviderConfig,
    vendors: &Vendors,
    timeouts: Timeouts,
) -> Result<Endpoint, ConfigError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
        return Err(ConfigError::Name { name });
    }
    let platform = platform(&name, &provider, vendors)?;
    let credentials = find(&name, &provider, vendors)?;
    let given = provider.base_url.trim_end_matches('/');
    let by_default = || default_url(&provider, &platform, vendors);
    let url = if given.is_empty() { by_default() } else { Some(given.to_owned()) };
    let url = url.and_then(|url| url.parse::<http::Uri>().ok());
    let good = |url: &http::Uri| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    };
    let Some(base_url) = url.filter(good) else { return Err(ConfigError::BaseUrl { name }) };
    let prices = provider.prices.unwrap_or_else(|| vendor(&base_url, &name).to_owned());
    let responses = provider.responses.unwrap_or_else(|| base_url.host() == Some("api.openai.com"));
    let (dialect, only_named) = (provider.dialect, provider.only_named);
    let models = if only_named { Vec::new() } else { provider.models };
    let num_ctx = provider.num_ctx.filter(|tokens| *tokens > 0 && dialect == ProviderDialect::Ollama);
    let responses = responses && dialect == ProviderDialect::OpenAi;
    Ok(Endpoint {
        name,
        base_url,
        credentials,
        dialect,
        responses,
        platform,
        models,
        only_named,
        num_ctx,
        prices,
        timeouts,
    })
}

/// Whose prices hold where an address is a vendor's own. Others, clouds too, have prices of their own, under their own
/// name: but for those that bear a vendor's and stand elsewhere, of which nothing is known.
fn vendor<'a>(url: &http::Uri, name: &'a str) -> &'a str {
    match url.host().unwrap_or_default() {
        "api.openai.com" => "openai",
        "api.anthropic.com" => "anthropic",
        "generativelanguage.googleapis.com" => "google",
        "api.mistral.ai" => "mistral",
        host if host.starts_with("bedrock-runtime.") && host.ends_with(".amazonaws.com") => "bedrock",
        _ if matches!(name, "openai" | "anthropic" | "google" | "mistral" | "bedrock") => "",
        _ => name,
    }
}

fn platform(name: &str, provider: &ProviderConfig, vendors: &Vendors) -> Result<Platform, ConfigError> {
    let speaks = |dialects: &[ProviderDialect]| dialects.contains(&provider.dialect);
    let wrong = |says: &'static str| ConfigError::Platform { name: name.to_owned(), says };
    match provider.platform {
        ProviderPlatform::Direct => Ok(Platform::Direct),
        ProviderPlatform::Azure if speaks(&[ProviderDialect::OpenAi, ProviderDialect::Responses]) => {
            Ok(Platform::Azure { api_version: provider.api_version.clone() })
        }
        ProviderPlatform::Azure => Err(wrong("azure serves the dialects openai and responses")),
        ProviderPlatform::Vertex if speaks(&[ProviderDialect::Gemini, ProviderDialect::Anthropic]) => {
            let account = provider.api_key.is_none();
            let project =
                provider.project.clone().or(vendors.google_cloud_project.clone().filter(|_| account));
            if project.is_none() && account {
                return Err(wrong("vertex needs a project, or an api_key"));
            }
            Ok(Platform::Vertex { project, location: location(provider, vendors) })
        }
        ProviderPlatform::Vertex => Err(wrong("vertex serves the dialects gemini and anthropic")),
    }
}

fn location(provider: &ProviderConfig, vendors: &Vendors) -> String {
    let location = provider.location.clone().or_else(|| vendors.google_cloud_location.clone());
    location.unwrap_or_else(|| "global".to_owned())
}

/// Where the vendor itself serves it.
fn default_url(provider: &ProviderConfig, platform: &Platform, vendors: &Vendors) -> Option<String> {
    match (provider.dialect, platform) {
        (_, Platform::Vertex { location, .. }) if location == "global" => {
            Some("https://aiplatform.googleapis.com/v1".to_owned())
        }
        // Several regions at once:
        // https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude#regions
        (_, Platform::Vertex { location, .. }) if matches!(location.as_str(), "us" | "eu") => {
            Some(format!("https://aiplatform.{location}.rep.googleapis.com/v1"))
        }
        (_, Platform::Vertex { location, .. }) => {
            Some(format!("https://{location}-aiplatform.googleapis.com/v1"))
        }
        (ProviderDialect::Bedrock, _) => {
            Some(format!("https://bedrock-runtime.{}.amazonaws.com", region(provider, vendors)?))
        }
        (ProviderDialect::Gemini, _) => Some("https://generativelanguage.googleapis.com/v1beta".to_owned()),
        (ProviderDialect::Mistral, _) => Some("https://api.mistral.ai/v1".to_owned()),
        (ProviderDialect::Anthropic, _) => Some("https://api.anthropic.com/v1".to_owned()),
        (ProviderDialect::Ollama, _) => Some("http://localhost:11434".to_owned()),
        // Too many speak it for one to be meant.
        (ProviderDialect::OpenAi | ProviderDialect::Responses, _) => None,
    }
}
