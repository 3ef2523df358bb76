//! Tokens of Google Cloud for a service account: <https://developers.google.com/identity/protocols/oauth2/service-account>.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use ring::{rand::SystemRandom, signature};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    AuthError,
    fetch::{Granted, Service, bearer},
    kept::Fresh,
};

pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
pub(super) const LIFETIME_S: i64 = 3_600;

/// A service account's key, as Google's console gives it: a JSON file.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ServiceAccount {
    client_email: String,
    private_key: SecretString,
    #[serde(default)]
    private_key_id: Option<String>,
    #[serde(default)]
    token_uri: Option<String>,
}

impl ServiceAccount {
    /// # Errors
    /// It is not such a file's text.
    pub(super) fn read(json: &SecretString) -> Result<Self, AuthError> {
        // The error would quote the text.
        serde_json::from_str(json.expose_secret())
            .map_err(|_| AuthError::Setup("expected a service account's JSON key"))
    }
}

/// Asks for tokens with it.
pub(super) struct Grant {
    account: ServiceAccount,
    key: signature::RsaKeyPair,
    service: Service,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("account", &self.account.client_email).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct JwtHeader<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct JwtClaims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl Grant {
    /// # Errors
    /// The key is no RSA key in PKCS#8 PEM, or the address of the tokens none that may be asked.
    pub(super) fn new(account: ServiceAccount) -> Result<Self, AuthError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(account.private_key.expose_secret().as_bytes())
            .map_err(|_| AuthError::Setup("the service account's private key is not PKCS#8 in PEM"))?;
        let key = signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|_| AuthError::Setup("the service account's private key is no RSA key"))?;
        let service = Service::at(account.token_uri.as_deref().unwrap_or(TOKEN_URI))?;
        Ok(Self { account, key, service })
    }

    #[cfg(test)]
    pub(super) fn public_key(&self) -> &[u8] {
        self.key.public().as_ref()
    }

    pub(super) async fn ask(&self, now_ms: i64) -> Result<Fresh<HeaderValue>, AuthError> {
        let assertion = self.assertion(now_ms.div_euclid(1_000))?;
        let body = self.service.form(&[("grant_type", GRANT), ("assertion", &assertion)]).await?;
        let granted = Granted::read(&body)?;
        let lifetime_s = granted.expires_in.unwrap_or(LIFETIME_S).clamp(0, LIFETIME_S);
        let value = bearer(granted.access_token.expose_secret())?;
        Ok(Fresh { value, until_ms: now_ms + lifetime_s * 1_000 })
    }

    /// The signed statement of who asks.
    fn assertion(&self, now_s: i64) -> Result<String, AuthError> {
        let header = JwtHeader { alg: "RS256", typ: "JWT", kid: self.account.private_key_id.as_deref() };
        let claims = JwtClaims {
            iss: &self.account.client_email,
            scope: SCOPE,
            aud: self.account.token_uri.as_deref().unwrap_or(TOKEN_URI),
            iat: now_s,
            exp: now_s + LIFETIME_S,
        };
        let part = |json: serde_json::Result<Vec<u8>>| json.map(|json| URL_SAFE_NO_PAD.encode(json));
        let (Ok(header), Ok(claims)) = (part(serde_json::to_vec(&header)), part(serde_json::to_vec(&claims)))
        else {
            return Err(AuthError::Sign);
        };
        let text = format!("{header}.{claims}");
        let mut signed = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signed)
            .map_err(|_| AuthError::Sign)?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signed)))
    }
}
