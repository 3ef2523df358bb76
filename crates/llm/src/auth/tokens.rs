//! Bearer tokens that a cloud gives for some time.

use std::{path::PathBuf, sync::Arc};

use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use weir_types::Clock;

use super::{
    AuthError,
    entra::Entra,
    google::{Grant, ServiceAccount},
    google_sources::{External, Metadata},
    kept::{Asking, EARLY_MS, Kept, Source},
};

/// A source of tokens.
#[derive(Debug)]
pub struct TokenSource(Kind);

#[derive(Debug)]
enum Kind {
    ServiceAccount(Box<Grant>),
    Metadata(Metadata),
    External(Box<External>),
    Entra(Entra),
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

impl TokenSource {
    /// By the JSON that Google's console gives: a service account's key, or what its tools write for workload identity
    /// federation.
    ///
    /// # Errors
    /// It is neither.
    pub fn google(json: &SecretString) -> Result<Self, AuthError> {
        let file: Option<File> = serde_json::from_str(json.expose_secret()).ok();
        match file.and_then(|file| file.kind).as_deref() {
            Some("external_account") => External::read(json).map(|e| Self(Kind::External(Box::new(e)))),
            Some(kind) if kind != "service_account" => {
                Err(AuthError::Setup("expected a file of type service_account or external_account"))
            }
            _ => Grant::new(ServiceAccount::read(json)?).map(|g| Self(Kind::ServiceAccount(Box::new(g)))),
        }
    }

    /// Of Google's machine or pod, by its metadata server, or one at `url`.
    ///
    /// # Errors
    /// No such address may be asked.
    pub fn google_instance(url: Option<&str>) -> Result<Self, AuthError> {
        Metadata::new(url).map(|metadata| Self(Kind::Metadata(metadata)))
    }

    /// Entra's, for a Kubernetes token.
    ///
    /// # Errors
    /// As [`TokenSource::google_instance`].
    pub fn entra(
        tenant_id: &str,
        client_id: String,
        token_file: PathBuf,
        authority: Option<&str>,
    ) -> Result<Self, AuthError> {
        Entra::new(tenant_id, client_id, token_file, authority).map(|entra| Self(Kind::Entra(entra)))
    }
}

impl Source for TokenSource {
    type Held = HeaderValue;

    fn name(&self) -> &'static str {
        match &self.0 {
            Kind::ServiceAccount(_) => "google service account",
            Kind::Metadata(_) => "google metadata",
            Kind::External(_) => "google external account",
            Kind::Entra(_) => "entra workload identity",
        }
    }

    fn early_ms(&self) -> i64 {
        if matches!(self.0, Kind::Metadata(_)) { Metadata::EARLY_MS } else { EARLY_MS }
    }

    fn ask(&self, now_ms: i64) -> Asking<'_, HeaderValue> {
        match &self.0 {
            Kind::ServiceAccount(grant) => Box::pin(grant.ask(now_ms)),
            Kind::Metadata(metadata) => Box::pin(metadata.ask(now_ms)),
            Kind::External(external) => Box::pin(external.ask(now_ms)),
            Kind::Entra(entra) => Box::pin(entra.ask(now_ms)),
        }
    }
}

/// Gets tokens, and keeps one.
#[derive(Debug)]
pub struct Tokens(pub(super) Kept<TokenSource>);

impl Tokens {
    #[must_use]
    pub fn new(source: TokenSource, clock: Arc<dyn Clock>) -> Self {
        Self(Kept::new(source, clock))
    }
}
