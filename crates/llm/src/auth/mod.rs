//! How Weir shows providers who it is. Secrets are in no `Debug` and no log.

mod aws;
mod aws_sources;
mod entra;
mod fetch;
mod google;
mod google_sources;
mod kept;
#[cfg(test)]
mod tests;
mod tokens;

use std::{path::PathBuf, sync::Arc};

use http::{HeaderName, HeaderValue, Method, header, request};
use secrecy::{ExposeSecret as _, SecretString};

pub use aws::{AwsCredentials, Claims as AwsClaims, Signer as AwsSigner};
pub use aws_sources::{AwsSource, ContainerToken};
pub use tokens::{TokenSource, Tokens};

/// What a provider is shown.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    #[default]
    None,
    /// The same header with every call.
    Header(HeaderName, HeaderValue),
    /// AWS's signature of the call.
    Aws(Arc<AwsSigner>),
    /// A bearer token that a cloud gives for some time.
    Tokens(Arc<Tokens>),
}

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("the key has bytes that no header may have")]
    Header(#[from] http::header::InvalidHeaderValue),
    #[error("{0}")]
    Setup(&'static str),
    #[error("could not sign")]
    Sign,
    #[error("the file {} can't be read", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("asked for credentials, {host} could not be reached, or did not answer")]
    Fetch {
        host: String,
        #[source]
        source: Box<crate::upstream::UpstreamError>,
    },
    #[error("asked for credentials, {host} answered {status}{}", reason(.said))]
    Refused { host: String, status: u16, said: String },
    #[error("{0}")]
    Answer(&'static str),
    #[error(
        "the instance's metadata gave no token in time: to reach containers, the instance needs a hop limit of 2 \
         (HttpPutResponseHopLimit)"
    )]
    Hops,
    #[error("credentials did not come in time")]
    Late,
    /// One failure, told to all who waited.
    #[error(transparent)]
    Failed(Arc<AuthError>),
}

impl AuthError {
    /// What is wrong, for clients: nothing of who asks whom.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Header(_) | Self::Setup(_) | Self::Sign => "they can't be used",
            Self::File { .. } => "the file of their token can't be read",
            Self::Fetch { .. } | Self::Hops => "who gives them could not be reached",
            Self::Late => "who gives them did not answer in time",
            Self::Refused { .. } => "who gives them refused to",
            Self::Answer(_) => "who gives them gave none",
            Self::Failed(error) => error.kind(),
        }
    }
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
            Self::Aws(signer) => signer.sign(request, body).await?,
            Self::Tokens(tokens) => {
                request.headers.insert(header::AUTHORIZATION, tokens.0.current().await?);
            }
        }
        Ok(())
    }

    /// Whether it is to be kept fresh.
    #[must_use]
    pub fn ends(&self) -> bool {
        match self {
            Self::None | Self::Header(..) => false,
            Self::Aws(signer) => signer.kept().is_some(),
            Self::Tokens(_) => true,
        }
    }

    /// Replaces what ends ahead of its end, for as long as it is polled. Of one that doesn't end it is over at once.
    pub async fn keep(&self) {
        match self {
            Self::None | Self::Header(..) => {}
            Self::Aws(signer) => {
                if let Some(kept) = signer.kept() {
                    kept.keep().await;
                }
            }
            Self::Tokens(tokens) => tokens.0.keep().await,
        }
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
