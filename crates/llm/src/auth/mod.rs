//! How Weir shows providers who it is. Secrets are in no `Debug` and no log.

mod aws;
mod google;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, header, request};
use secrecy::{ExposeSecret as _, SecretString};

pub use aws::{AwsCredentials, Claims as AwsClaims, Signer as AwsSigner};
pub use google::{GoogleTokens, ServiceAccount};

/// What a provider is shown.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    #[default]
    None,
    /// The same header with every call.
    Header(HeaderName, HeaderValue),
    /// AWS's signature of the call.
    Aws(Arc<AwsSigner>),
    /// A token that Google gives for an hour.
    Google(Arc<GoogleTokens>),
}

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("the key has bytes that no header may have")]
    Header(#[from] http::header::InvalidHeaderValue),
    #[error("the service account's key can't be used: {0}")]
    Key(&'static str),
    #[error("could not sign")]
    Sign,
    #[error("could not get a token")]
    Fetch(#[source] Box<crate::upstream::UpstreamError>),
    #[error("asked for a token, {host} answered {status}{}", reason(.said))]
    Refused { host: String, status: u16, said: String },
}

fn reason(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

impl Auth {
    /// `Authorization: Bearer …`, as most have it.
    ///
    /// # Errors
    /// The key has bytes that no header may have.
    pub fn bearer(key: &SecretString) -> Result<Self, AuthError> {
        Self::secret(header::AUTHORIZATION, &format!("Bearer {}", key.expose_secret()))
    }

    /// A header of its own: `x-api-key`, `api-key`, `x-goog-api-key`.
    ///
    /// # Errors
    /// As [`Auth::bearer`].
    pub fn header(name: &'static str, key: &SecretString) -> Result<Self, AuthError> {
        Self::secret(HeaderName::from_static(name), key.expose_secret())
    }

    fn secret(name: HeaderName, value: &str) -> Result<Self, AuthError> {
        let mut value = HeaderValue::from_str(value)?;
        value.set_sensitive(true);
        Ok(Self::Header(name, value))
    }

    /// Adds to a request what shows who asks; its address and headers are what will be sent.
    pub(crate) async fn apply(&self, request: &mut request::Parts, body: &[u8]) -> Result<(), AuthError> {
        match self {
            Self::None => {}
            Self::Header(name, value) => {
                request.headers.insert(name, value.clone());
            }
            Self::Aws(signer) => signer.sign(request, body)?,
            Self::Google(tokens) => {
                request.headers.insert(header::AUTHORIZATION, tokens.current().await?);
            }
        }
        Ok(())
    }
}

/// Lowercase.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|n| char::from_digit(n.into(), 16)).collect()
}

/// The method's name, and address and headers: what a signature is about.
fn describe(request: &request::Parts) -> (&Method, &str, &str) {
    (&request.method, request.uri.path(), request.uri.query().unwrap_or_default())
}
