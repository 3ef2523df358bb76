//! Which credentials a provider is called with: those in its settings, or a source that gives them for some time.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;
use weir_llm::auth::{AwsCredentials, ContainerToken};

use super::{ConfigError, ProviderConfig, ProviderDialect, ProviderPlatform, Vendors};

/// Of who assumes a role, in AWS' logs.
const SESSION: &str = "weir";

/// Where credentials come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsFrom {
    /// The first that there is: the provider's own settings, what the vendor's variables name, and, where the vendor's own
    /// address is called, the machine.
    #[default]
    Auto,
    /// Keys, tokens and files in settings and variables.
    Static,
    /// AWS: EKS Pod Identity, ECS.
    Container,
    /// A Kubernetes token for AWS' role (IRSA), or Entra's application.
    WebIdentity,
    /// The metadata of the machine or pod: EC2's role, GKE's and Compute Engine's service account.
    Instance,
}

/// What a provider is shown.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    #[default]
    None,
    /// As the dialect and the platform carry keys.
    Key(SecretString),
    Bearer(SecretString),
    Aws {
        from: AwsFrom,
        region: String,
    },
    Tokens(TokensFrom),
}

#[derive(Debug, Clone)]
pub enum AwsFrom {
    Keys(AwsCredentials),
    Container { uri: String, token: Option<ContainerToken> },
    WebIdentity { role_arn: String, session: String, token_file: PathBuf, url: Option<String> },
    Instance { url: Option<String> },
}

#[derive(Debug, Clone)]
pub enum TokensFrom {
    /// Google's JSON: a service account's key, or an external account.
    Google(SecretString),
    GoogleInstance {
        url: Option<String>,
    },
    Entra {
        tenant_id: String,
        client_id: String,
        token_file: PathBuf,
        authority: Option<String>,
    },
}

struct Finding<'a> {
    name: &'a str,
    provider: &'a ProviderConfig,
    vendors: &'a Vendors,
}

pub(super) fn find(
    name: &str,
    provider: &ProviderConfig,
    vendors: &Vendors,
) -> Result<Credentials, ConfigError> {
    let finding = Finding { name, provider, vendors };
    let fixed = match (&provider.access_token, &provider.api_key) {
        (Some(token), _) => Some(Credentials::Bearer(token.clone())),
        (None, Some(key)) => Some(Credentials::Key(key.clone())),
        (None, None) => None,
    };
    let from = provider.credentials;
    let claude = provider.dialect == ProviderDialect::Anthropic;
    match (fixed, provider.dialect, provider.platform) {
        (Some(Credentials::Key(_)), _, ProviderPlatform::Vertex) if claude => {
            Err(finding.wrong("claude on vertex takes tokens, and no api_key"))
        }
        (Some(fixed), ..) if matches!(from, CredentialsFrom::Auto | CredentialsFrom::Static) => Ok(fixed),
        (Some(_), ..) => {
            Err(finding.wrong("credentials names a source, and there is a key or token besides"))
        }
        (None, ProviderDialect::Bedrock, _) => finding.aws(),
        (None, ProviderDialect::Gemini, _) | (None, _, ProviderPlatform::Vertex) => finding.google(),
        (None, _, ProviderPlatform::Azure) => finding.azure(),
        (None, ..) if matches!(from, CredentialsFrom::Auto | CredentialsFrom::Static) => {
            Ok(Credentials::None)
        }
        (None, ..) => Err(finding.wrong("credentials: this dialect and platform take keys alone")),
    }
}

/// The region that calls are signed for.
pub(super) fn region(provider: &ProviderConfig, vendors: &Vendors) -> Option<String> {
    provider.region.clone().or_else(|| vendors.aws_region.clone())
}

impl Finding<'_> {
    fn wrong(&self, says: &'static str) -> ConfigError {
        ConfigError::Credentials { name: self.name.to_owned(), says }
    }

    /// The vendor's own address is called, for which no credentials at all are of no use.
    fn at_home(&self) -> bool {
        self.provider.base_url.is_empty()
    }

    fn aws(&self) -> Result<Credentials, ConfigError> {
        let (provider, vendors) = (self.provider, self.vendors);
        let own = || self.keys(&provider.access_key_id, &provider.secret_access_key, &provider.session_token);
        let everybodys = || {
            let (id, secret) = (&vendors.aws_access_key_id, &vendors.aws_secret_access_key);
            self.keys(id, secret, &vendors.aws_session_token)
        };
        let instance = || AwsFrom::Instance { url: provider.credentials_url.clone() };
        let lacks = |says| move || self.wrong(says);
        let from = match provider.credentials {
            CredentialsFrom::Static => {
                let found = own()?.map_or_else(everybodys, |keys| Ok(Some(keys)))?;
                Some(
                    found.ok_or_else(lacks(
                        "credentials = static needs access_key_id and secret_access_key",
                    ))?,
                )
            }
            CredentialsFrom::Container => {
                Some(self.container().ok_or_else(lacks("credentials = container needs credentials_url"))?)
            }
            CredentialsFrom::WebIdentity => Some(
                self.role().ok_or_else(lacks("credentials = web_identity needs role_arn and token_file"))?,
            ),
            CredentialsFrom::Instance => Some(instance()),
            CredentialsFrom::Auto => {
                let first = match own()? {
                    Some(keys) => Some(keys),
                    None if provider.role_arn.is_some() => {
                        Some(self.role().ok_or_else(lacks("role_arn needs token_file"))?)
                    }
                    None if provider.credentials_url.is_some() => self.container(),
                    None => everybodys()?,
                };
                let machine = self.at_home() && !vendors.aws_ec2_metadata_disabled;
                let last = || machine.then(instance);
                first.or_else(|| self.role()).or_else(|| self.container()).or_else(last)
            }
        };
        let Some(from) = from else { return Ok(Credentials::None) };
        let region = region(provider, vendors);
        let region = region.ok_or_else(|| self.wrong("calls to AWS are signed for a region: name it"))?;
        Ok(Credentials::Aws { from, region })
    }

    fn keys(
        &self,
        id: &Option<String>,
        secret: &Option<SecretString>,
        token: &Option<SecretString>,
    ) -> Result<Option<AwsFrom>, ConfigError> {
        match (id, secret) {
            (Some(id), Some(secret)) => Ok(Some(AwsFrom::Keys(AwsCredentials {
                access_key_id: id.clone(),
                secret_access_key: secret.clone(),
                session_token: token.clone(),
            }))),
            (None, None) => Ok(None),
            _ => Err(self.wrong("access_key_id and secret_access_key go together")),
        }
    }

    fn container(&self) -> Option<AwsFrom> {
        let (provider, vendors) = (self.provider, self.vendors);
        let uri = provider.credentials_url.as_ref();
        let uri = uri.or(vendors.aws_container_credentials_relative_uri.as_ref());
        let uri = uri.or(vendors.aws_container_credentials_full_uri.as_ref())?.clone();
        let file = provider.token_file.as_ref().or(vendors.aws_container_authorization_token_file.as_ref());
        let token = match file {
            Some(file) => Some(ContainerToken::File(file.clone())),
            None => vendors.aws_container_authorization_token.clone().map(ContainerToken::Value),
        };
        Some(AwsFrom::Container { uri, token })
    }

    fn role(&self) -> Option<AwsFrom> {
        let (provider, vendors) = (self.provider, self.vendors);
        let role_arn = provider.role_arn.as_ref().or(vendors.aws_role_arn.as_ref())?.clone();
        let file = provider.token_file.as_ref().or(vendors.aws_web_identity_token_file.as_ref())?;
        let session = vendors.aws_role_session_name.clone().unwrap_or_else(|| SESSION.to_owned());
        let url = provider.credentials_url.clone();
        Some(AwsFrom::WebIdentity { role_arn, session, token_file: file.clone(), url })
    }

    fn google(&self) -> Result<Credentials, ConfigError> {
        let (provider, vendors) = (self.provider, self.vendors);
        let vertex = provider.platform == ProviderPlatform::Vertex;
        let shared = vendors.google_application_credentials.as_ref().filter(|_| vertex);
        let file = provider.service_account_file.as_ref().or(shared);
        let instance = || {
            let url = provider.credentials_url.clone();
            Ok(Credentials::Tokens(TokensFrom::GoogleInstance { url }))
        };
        match (provider.credentials, &provider.service_account, file) {
            (CredentialsFrom::Instance, ..) => instance(),
            (CredentialsFrom::Auto | CredentialsFrom::Static, Some(key), _) => {
                Ok(Credentials::Tokens(TokensFrom::Google(key.clone())))
            }
            (CredentialsFrom::Auto | CredentialsFrom::Static, None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|_| self.wrong("the service account's file can't be read"))?;
                Ok(Credentials::Tokens(TokensFrom::Google(text.into())))
            }
            (CredentialsFrom::Auto, None, None) if vertex && self.at_home() => instance(),
            (CredentialsFrom::Auto, None, None) => Ok(Credentials::None),
            (CredentialsFrom::Static, None, None) => {
                Err(self.wrong("credentials = static needs a service_account, its file, or an access_token"))
            }
            (CredentialsFrom::Container | CredentialsFrom::WebIdentity, ..) => {
                Err(self.wrong("credentials: google's are auto, static or instance"))
            }
        }
    }

    fn azure(&self) -> Result<Credentials, ConfigError> {
        let (provider, vendors) = (self.provider, self.vendors);
        let known = || {
            let file = provider.token_file.as_ref().or(vendors.azure_federated_token_file.as_ref())?;
            let authority = provider.credentials_url.as_ref().or(vendors.azure_authority_host.as_ref());
            Some(Credentials::Tokens(TokensFrom::Entra {
                tenant_id: provider.tenant_id.as_ref().or(vendors.azure_tenant_id.as_ref())?.clone(),
                client_id: provider.client_id.as_ref().or(vendors.azure_client_id.as_ref())?.clone(),
                token_file: file.clone(),
                authority: authority.cloned(),
            }))
        };
        match provider.credentials {
            CredentialsFrom::Auto => Ok(known().unwrap_or_default()),
            CredentialsFrom::WebIdentity => known().ok_or_else(|| {
                self.wrong("credentials = web_identity needs tenant_id, client_id and token_file")
            }),
            CredentialsFrom::Static => {
                Err(self.wrong("credentials = static needs an api_key or an access_token"))
            }
            CredentialsFrom::Container | CredentialsFrom::Instance => {
                Err(self.wrong("credentials: azure's are auto, static or web_identity"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(dialect: ProviderDialect, platform: ProviderPlatform) -> ProviderConfig {
        ProviderConfig { dialect, platform, ..ProviderConfig::default() }
    }

    fn bedrock() -> ProviderConfig {
        let region = Some("eu-central-1".to_owned());
        ProviderConfig { region, ..provider(ProviderDialect::Bedrock, ProviderPlatform::Direct) }
    }

    /// What they are, in a word.
    fn found(provider: &ProviderConfig, vendors: &Vendors) -> String {
        let text = match find("p", provider, vendors) {
            Ok(Credentials::None) => "none",
            Ok(Credentials::Key(_)) => "key",
            Ok(Credentials::Bearer(_)) => "bearer",
            Ok(Credentials::Aws { from, .. }) => match from {
                AwsFrom::Keys(_) => "keys",
                AwsFrom::Container { uri, token } => {
                    return format!("container {uri} {}", token.is_some());
                }
                AwsFrom::WebIdentity { role_arn, token_file, .. } => {
                    return format!("role {role_arn} {}", token_file.display());
                }
                AwsFrom::Instance { .. } => "instance",
            },
            Ok(Credentials::Tokens(from)) => match from {
                TokensFrom::Google(_) => "google",
                TokensFrom::GoogleInstance { .. } => "google instance",
                TokensFrom::Entra { .. } => "entra",
            },
            Err(error) => return error.to_string(),
        };
        text.to_owned()
    }

    #[test]
    fn aws_s_come_from_the_first_place_there_is() {
        let text = |text: &str| Some(text.to_owned());
        let mut vendors = Vendors::default();
        let elsewhere = ProviderConfig { base_url: "http://x".to_owned(), ..bedrock() };
        assert_eq!(
            (found(&bedrock(), &vendors), found(&elsewhere, &vendors)),
            ("instance".into(), "none".into())
        );
        vendors.aws_ec2_metadata_disabled = true;
        assert_eq!(found(&bedrock(), &vendors), "none");
        vendors.aws_container_credentials_full_uri = text("http://169.254.170.23/v1/credentials");
        vendors.aws_container_authorization_token_file = Some("/eks".into());
        assert_eq!(found(&bedrock(), &vendors), "container http://169.254.170.23/v1/credentials true");
        vendors.aws_container_credentials_relative_uri = text("/v2/x");
        assert_eq!(found(&bedrock(), &vendors), "container /v2/x true");
        // A role without its token's file is none.
        vendors.aws_role_arn = text("arn:aws:iam::1:role/r");
        assert_eq!(found(&bedrock(), &vendors), "container /v2/x true");
        vendors.aws_web_identity_token_file = Some("/irsa".into());
        assert_eq!(found(&elsewhere, &vendors), "role arn:aws:iam::1:role/r /irsa");
        vendors.aws_access_key_id = text("AKID");
        vendors.aws_secret_access_key = Some("s".into());
        assert_eq!(found(&bedrock(), &vendors), "keys");
        // Its own settings come before everybody's.
        let own = ProviderConfig { role_arn: text("arn:aws:iam::2:role/own"), ..bedrock() };
        assert_eq!(found(&own, &vendors), "role arn:aws:iam::2:role/own /irsa");
        let own = ProviderConfig { credentials_url: text("http://127.0.0.1:1/c"), ..bedrock() };
        assert_eq!(found(&own, &vendors), "container http://127.0.0.1:1/c true");
        let own = ProviderConfig { api_key: Some("k".into()), ..bedrock() };
        assert_eq!(found(&own, &vendors), "key");
        for (credentials, expected) in [
            (CredentialsFrom::Static, "keys"),
            (CredentialsFrom::Container, "container /v2/x true"),
            (CredentialsFrom::WebIdentity, "role arn:aws:iam::1:role/r /irsa"),
            (CredentialsFrom::Instance, "instance"),
        ] {
            assert_eq!(found(&ProviderConfig { credentials, ..bedrock() }, &vendors), expected);
        }
        let region = ProviderConfig { region: None, ..bedrock() };
        assert!(found(&region, &vendors).contains("region"));
    }

    #[test]
    fn google_s_and_entra_s_likewise() {
        let (gemini, claude) = (
            provider(ProviderDialect::Gemini, ProviderPlatform::Vertex),
            provider(ProviderDialect::Anthropic, ProviderPlatform::Vertex),
        );
        let mut vendors = Vendors::default();
        for vertex in [&gemini, &claude] {
            assert_eq!(found(vertex, &vendors), "google instance");
            let elsewhere = ProviderConfig { base_url: "http://x".to_owned(), ..vertex.clone() };
            assert_eq!(found(&elsewhere, &vendors), "none");
            let own = ProviderConfig { service_account: Some("{}".into()), ..vertex.clone() };
            assert_eq!(found(&own, &vendors), "google");
        }
        let gemini_api = provider(ProviderDialect::Gemini, ProviderPlatform::Direct);
        assert_eq!(found(&gemini_api, &vendors), "none");
        let azure = provider(ProviderDialect::OpenAi, ProviderPlatform::Azure);
        assert_eq!(found(&azure, &vendors), "none");
        vendors.azure_tenant_id = Some("t".to_owned());
        vendors.azure_federated_token_file = Some("/aks".into());
        assert_eq!(found(&azure, &vendors), "none");
        let own = ProviderConfig { client_id: Some("c".to_owned()), ..azure.clone() };
        assert_eq!(found(&own, &vendors), "entra");
        vendors.azure_client_id = Some("c".to_owned());
        assert_eq!(found(&azure, &vendors), "entra");
        let keyed = ProviderConfig { api_key: Some("k".into()), ..azure };
        assert_eq!(found(&keyed, &vendors), "key");
    }

    #[test]
    fn what_a_source_lacks_is_named() {
        let vendors = Vendors::default();
        let openai = provider(ProviderDialect::OpenAi, ProviderPlatform::Direct);
        let azure = provider(ProviderDialect::OpenAi, ProviderPlatform::Azure);
        let vertex = provider(ProviderDialect::Gemini, ProviderPlatform::Vertex);
        for (provider, credentials, lacks) in [
            (bedrock(), CredentialsFrom::Static, "access_key_id"),
            (bedrock(), CredentialsFrom::Container, "credentials_url"),
            (bedrock(), CredentialsFrom::WebIdentity, "token_file"),
            (azure.clone(), CredentialsFrom::WebIdentity, "tenant_id"),
            (azure, CredentialsFrom::Instance, "web_identity"),
            (vertex, CredentialsFrom::WebIdentity, "instance"),
            (openai.clone(), CredentialsFrom::Instance, "keys alone"),
        ] {
            let text = found(&ProviderConfig { credentials, ..provider }, &vendors);
            assert!(text.contains(lacks) && text.starts_with("orchestrator.providers.p: "), "{text}");
        }
        let both =
            ProviderConfig { api_key: Some("k".into()), credentials: CredentialsFrom::Instance, ..bedrock() };
        assert!(found(&both, &vendors).contains("besides"));
        let keyed = provider(ProviderDialect::Anthropic, ProviderPlatform::Vertex);
        let keyed = ProviderConfig { api_key: Some("k".into()), ..keyed };
        assert!(found(&keyed, &vendors).contains("no api_key"));
        assert_eq!(found(&openai, &vendors), "none");
    }
}
