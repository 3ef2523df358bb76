//! Entra's tokens for a Kubernetes token (AKS workload identity):
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#third-case-access-token-request-with-a-federated-credential>.

use std::path::PathBuf;

use http::HeaderValue;
use secrecy::ExposeSecret as _;

use super::{
    AuthError,
    fetch::{Granted, Service, bearer, token_file},
    kept::Fresh,
};

const AUTHORITY: &str = "https://login.microsoftonline.com";
/// Of Azure OpenAI: <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/managed-identity>.
const SCOPE: &str = "https://cognitiveservices.azure.com/.default";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const LIFETIME_S: i64 = 3_600;

#[derive(Debug)]
pub(super) struct Entra {
    service: Service,
    client_id: String,
    token_file: PathBuf,
}

impl Entra {
    /// `authority` as `AZURE_AUTHORITY_HOST` has it.
    pub(super) fn new(
        tenant_id: &str,
        client_id: String,
        token_file: PathBuf,
        authority: Option<&str>,
    ) -> Result<Self, AuthError> {
        let authority = authority.unwrap_or(AUTHORITY).trim_end_matches('/');
        let tenant = crate::platform::segment(tenant_id);
        let service = Service::at(&format!("{authority}/{tenant}/oauth2/v2.0/token"))?;
        Ok(Self { service, client_id, token_file })
    }

    pub(super) async fn ask(&self, now_ms: i64) -> Result<Fresh<HeaderValue>, AuthError> {
        let assertion = token_file(&self.token_file)?;
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("scope", SCOPE),
            ("client_assertion_type", ASSERTION),
            ("client_assertion", assertion.expose_secret()),
        ];
        let granted = Granted::read(&self.service.form(&fields).await?)?;
        let lifetime_s = granted.expires_in.unwrap_or(LIFETIME_S).clamp(0, LIFETIME_S * 48);
        let value = bearer(granted.access_token.expose_secret())?;
        Ok(Fresh { value, until_ms: now_ms + lifetime_s * 1_000 })
    }
}
