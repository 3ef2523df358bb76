//! Providers that the vendors' own environment variables add, each under its vendor's name.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use super::{Config, ProviderConfig, ProviderDialect, ProviderPlatform};

const OLLAMA_PORT: u16 = 11_434;

/// Section `orchestrator.vendors`: what the variables of vendors' own tools say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vendors {
    /// `AZURE_OPENAI_ENDPOINT`: adds the provider `azure`.
    pub azure_openai_endpoint: Option<String>,
    /// `AZURE_OPENAI_API_KEY`
    pub azure_openai_api_key: Option<SecretString>,
    /// `AZURE_OPENAI_AD_TOKEN`: a token of Entra's, instead of a key.
    pub azure_openai_ad_token: Option<SecretString>,
    /// `AZURE_TENANT_ID`, as those that follow for providers on Azure that name none: AKS sets them in pods.
    pub azure_tenant_id: Option<String>,
    /// `AZURE_CLIENT_ID`
    pub azure_client_id: Option<String>,
    /// `AZURE_FEDERATED_TOKEN_FILE`
    pub azure_federated_token_file: Option<PathBuf>,
    /// `AZURE_AUTHORITY_HOST`
    pub azure_authority_host: Option<String>,
    /// `OPENAI_API_VERSION`
    pub azure_openai_api_version: Option<String>,
    /// `GEMINI_API_KEY` or `GOOGLE_API_KEY`: adds the provider `gemini`.
    pub gemini_api_key: Option<SecretString>,
    /// `GOOGLE_GEMINI_BASE_URL`: for `gemini`, instead of Google's own address.
    pub gemini_base_url: Option<String>,
    /// `GOOGLE_GENAI_USE_VERTEXAI`: adds the provider `vertex`.
    pub use_vertexai: bool,
    /// `GOOGLE_CLOUD_PROJECT`: for providers on Vertex that name none.
    pub google_cloud_project: Option<String>,
    /// `GOOGLE_CLOUD_LOCATION`, likewise.
    pub google_cloud_location: Option<String>,
    /// `GOOGLE_APPLICATION_CREDENTIALS`, likewise: the file of a service account's key, or of an
    /// external account.
    pub google_application_credentials: Option<PathBuf>,
    /// `MISTRAL_API_KEY`: adds the provider `mistral`.
    pub mistral_api_key: Option<SecretString>,
    /// `AWS_BEARER_TOKEN_BEDROCK`: adds the provider `bedrock`.
    pub aws_bearer_token_bedrock: Option<SecretString>,
    /// `AWS_REGION` or `AWS_DEFAULT_REGION`: for providers of Bedrock's dialect that name none.
    pub aws_region: Option<String>,
    /// `AWS_ACCESS_KEY_ID`, likewise. Many machines have it, so it adds no provider by itself.
    pub aws_access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`, likewise.
    pub aws_secret_access_key: Option<SecretString>,
    /// `AWS_SESSION_TOKEN`, likewise.
    pub aws_session_token: Option<SecretString>,
    /// `AWS_ROLE_ARN`, likewise, as those that follow: EKS sets them in pods.
    pub aws_role_arn: Option<String>,
    /// `AWS_ROLE_SESSION_NAME`
    pub aws_role_session_name: Option<String>,
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`
    pub aws_web_identity_token_file: Option<PathBuf>,
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`
    pub aws_container_credentials_relative_uri: Option<String>,
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`
    pub aws_container_credentials_full_uri: Option<String>,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`
    pub aws_container_authorization_token_file: Option<PathBuf>,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`
    pub aws_container_authorization_token: Option<SecretString>,
    /// `AWS_EC2_METADATA_DISABLED`: the machine is asked only where a provider says so.
    pub aws_ec2_metadata_disabled: bool,
    /// `OLLAMA_HOST`: adds the provider `ollama`.
    pub ollama_host: Option<String>,
    /// `OLLAMA_API_KEY`
    pub ollama_api_key: Option<SecretString>,
}

impl Config {
    pub(super) fn by_variables(&self) -> Vec<(&'static str, ProviderConfig)> {
        let vendors = &self.vendors;
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
        if let Some(url) = &self.litellm_url {
            let litellm = at(with_v1(url), &self.litellm_master_key);
            let first_byte_timeout_s = self.litellm_timeout_s;
            found.push(("litellm", ProviderConfig { first_byte_timeout_s, ..litellm }));
        }
        if let Some(url) = &vendors.azure_openai_endpoint {
            let url = url.trim_end_matches('/');
            let azure = ProviderConfig {
                access_token: vendors.azure_openai_ad_token.clone(),
                platform: ProviderPlatform::Azure,
                api_version: vendors.azure_openai_api_version.clone(),
                // Some write the v1 API's whole address.
                ..at(url.strip_suffix("/openai/v1").unwrap_or(url).to_owned(), &vendors.azure_openai_api_key)
            };
            found.push(("azure", azure));
        }
        if vendors.gemini_api_key.is_some() || vendors.gemini_base_url.is_some() {
            let url = vendors.gemini_base_url.as_deref().map(with_v1beta).unwrap_or_default();
            let gemini = at(url, &vendors.gemini_api_key);
            found.push(("gemini", ProviderConfig { dialect: ProviderDialect::Gemini, ..gemini }));
        }
        if vendors.use_vertexai {
            let (dialect, platform) = (ProviderDialect::Gemini, ProviderPlatform::Vertex);
            found.push(("vertex", ProviderConfig { dialect, platform, ..ProviderConfig::default() }));
        }
        if vendors.mistral_api_key.is_some() {
            let mistral = at(String::new(), &vendors.mistral_api_key);
            found.push(("mistral", ProviderConfig { dialect: ProviderDialect::Mistral, ..mistral }));
        }
        if vendors.aws_bearer_token_bedrock.is_some() {
            let bedrock = at(String::new(), &vendors.aws_bearer_token_bedrock);
            found.push(("bedrock", ProviderConfig { dialect: ProviderDialect::Bedrock, ..bedrock }));
        }
        found.extend(self.ollama().map(|ollama| ("ollama", ollama)));
        found
    }

    /// At an address that ends with `/v1` something else speaks OpenAI's dialect: vLLM, say.
    fn ollama(&self) -> Option<ProviderConfig> {
        let api_key = self.vendors.ollama_api_key.clone();
        let url = match (&self.llama_api_endpoint, &self.vendors.ollama_host) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(host)) => ollama_url(host),
            (None, None) => return None,
        };
        let compatible = url.ends_with("/v1");
        let dialect = if compatible { ProviderDialect::OpenAi } else { ProviderDialect::Ollama };
        Some(ProviderConfig { base_url: url, api_key, dialect, ..ProviderConfig::default() })
    }
}

fn with_v1(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.ends_with("/v1") { url.to_owned() } else { format!("{url}/v1") }
}

fn with_v1beta(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let versioned = url.rsplit('/').next().is_some_and(|end| end == "v1" || end.starts_with("v1beta"));
    if versioned { url.to_owned() } else { format!("{url}/v1beta") }
}

/// `OLLAMA_HOST` may be an address, a host with a port, or a host alone; a server's may say "everywhere".
fn ollama_url(host: &str) -> String {
    let host = host.trim().trim_end_matches('/');
    if host.contains("://") {
        return host.to_owned();
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() && !name.ends_with(':') => (name, port.to_owned()),
        _ => (host, OLLAMA_PORT.to_string()),
    };
    let name = if matches!(name, "" | "0.0.0.0" | "[::]") { "127.0.0.1" } else { name };
    format!("http://{name}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ollama_s_host_is_read_as_ollama_reads_it() {
        for (host, url) in [
            ("127.0.0.1:1234", "http://127.0.0.1:1234"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("box", "http://box:11434"),
            (":9000", "http://127.0.0.1:9000"),
            ("https://ollama.com/", "https://ollama.com"),
            ("[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(ollama_url(host), url, "{host}");
        }
    }
}
