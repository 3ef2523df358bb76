//! Google's tokens without a key: of the machine or the pod itself, and for another identity provider's token.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    AuthError,
    fetch::{GOOGLE_METADATA, Granted, Service, bearer, token_file, utc_ms},
    google::{LIFETIME_S, SCOPE},
    kept::Fresh,
};

/// <https://cloud.google.com/compute/docs/access/authenticate-workloads#applications>; GKE's workload identity answers at the same place.
const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const GOOGLE: HeaderValue = HeaderValue::from_static("Google");

/// The token of the service account that a machine or a pod runs as.
#[derive(Debug)]
pub(super) struct Metadata(Service);

impl Metadata {
    /// The server gives the same token until five minutes before its end: new ones are to be had later than that.
    pub(super) const EARLY_MS: i64 = 225_000;

    pub(super) fn new(url: Option<&str>) -> Result<Self, AuthError> {
        let own = format!("http://{GOOGLE_METADATA}");
        Service::at(url.unwrap_or(&own).trim_end_matches('/')).map(Self)
    }

    pub(super) async fn ask(&self, now_ms: i64) -> Result<Fresh<HeaderValue>, AuthError> {
        let headers = HeaderMap::from_iter([(FLAVOR, GOOGLE)]);
        let (headers, body) = self.0.answer(Method::GET, TOKEN, headers, Bytes::new()).await?;
        // Whoever else answers at that name is not believed.
        if headers.get(FLAVOR) != Some(&GOOGLE) {
            return Err(AuthError::Answer("who answered is not google's metadata server"));
        }
        fresh(&body, now_ms)
    }
}

fn fresh(body: &[u8], now_ms: i64) -> Result<Fresh<HeaderValue>, AuthError> {
    let granted = Granted::read(body)?;
    let lifetime_s = granted.expires_in.unwrap_or(LIFETIME_S).clamp(0, LIFETIME_S * 24);
    Ok(Fresh { value: bearer(granted.access_token.expose_secret())?, until_ms: now_ms + lifetime_s * 1_000 })
}

/// Workload identity federation: a file of type `external_account`, <https://google.aip.dev/auth/4117>.
#[derive(Deserialize)]
struct File {
    audience: String,
    subject_token_type: String,
    token_url: String,
    credential_source: Place,
    #[serde(default)]
    service_account_impersonation_url: Option<String>,
    #[serde(default)]
    service_account_impersonation: Option<Impersonation>,
}

#[derive(Deserialize, Default)]
struct Impersonation {
    #[serde(default)]
    token_lifetime_seconds: Option<u32>,
}

#[derive(Deserialize)]
struct Place {
    #[serde(default)]
    file: Option<PathBuf>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    format: Form,
}

#[derive(Deserialize, Debug, Default)]
struct Form {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    subject_token_field_name: Option<String>,
}

#[derive(Debug)]
enum Subject {
    File(PathBuf),
    Url(Service, HeaderMap),
}

/// Another identity provider's token, for one of Google's.
#[derive(Debug)]
pub(super) struct External {
    audience: String,
    kind: String,
    subject: Subject,
    /// The member of a JSON object that the token is.
    field: Option<String>,
    exchange: Service,
    /// Whose token is asked for in the end, and for how long.
    account: Option<(Service, u32)>,
}

impl External {
    pub(super) fn read(json: &SecretString) -> Result<Self, AuthError> {
        // The error would quote the text.
        let file: File = serde_json::from_str(json.expose_secret())
            .map_err(|_| AuthError::Setup("the external account's file lacks what it needs"))?;
        let place = file.credential_source;
        let subject = match (place.file, place.url) {
            (Some(path), None) => Subject::File(path),
            (None, Some(url)) => Subject::Url(Service::at(&url)?, header_map(&place.headers)?),
            // AWS' signed requests, and programs, which are not run here.
            _ => return Err(AuthError::Setup("an external account's token comes from a file or a url")),
        };
        let field =
            match place.format.kind.as_deref() {
                None | Some("text") => None,
                Some("json") => Some(place.format.subject_token_field_name.ok_or(AuthError::Setup(
                    "the external account's file names no subject_token_field_name",
                ))?),
                Some(_) => return Err(AuthError::Setup("an external account's token is text or json")),
            };
        let lifetime_s =
            file.service_account_impersonation.unwrap_or_default().token_lifetime_seconds.unwrap_or(3_600);
        let account = match file.service_account_impersonation_url {
            Some(url) => Some((Service::at(&url)?, lifetime_s)),
            None => None,
        };
        let exchange = Service::at(&file.token_url)?;
        Ok(Self { audience: file.audience, kind: file.subject_token_type, subject, field, exchange, account })
    }

    pub(super) async fn ask(&self, now_ms: i64) -> Result<Fresh<HeaderValue>, AuthError> {
        let subject = self.subject().await?;
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", self.audience.as_str()),
            ("scope", SCOPE),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", self.kind.as_str()),
            ("subject_token", subject.expose_secret()),
        ];
        let federated = fresh(&self.exchange.form(&fields).await?, now_ms)?;
        let Some((account, lifetime_s)) = &self.account else { return Ok(federated) };
        let headers = HeaderMap::from_iter([
            (header::AUTHORIZATION, federated.value),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        let body = json!({"scope": [SCOPE], "lifetime": format!("{lifetime_s}s")}).to_string();
        impersonated(&account.ask(Method::POST, "", headers, body.into()).await?)
    }

    async fn subject(&self) -> Result<SecretString, AuthError> {
        let found = match &self.subject {
            Subject::File(path) => token_file(path)?,
            Subject::Url(service, headers) => {
                let body = service.ask(Method::GET, "", headers.clone(), Bytes::new()).await?;
                let text = std::str::from_utf8(&body).ok().map(str::trim).filter(|text| !text.is_empty());
                text.ok_or(AuthError::Answer("the external account's url gave no token"))?.into()
            }
        };
        let Some(field) = &self.field else { return Ok(found) };
        let json: Option<Value> = serde_json::from_str(found.expose_secret()).ok();
        let token = json.as_ref().and_then(|json| json.get(field)).and_then(Value::as_str);
        token.map(Into::into).ok_or(AuthError::Answer("the external account's token has not the field named"))
    }
}

fn header_map(named: &BTreeMap<String, String>) -> Result<HeaderMap, AuthError> {
    let mut headers = HeaderMap::new();
    for (name, value) in named {
        let wrong = || AuthError::Setup("the external account's file has a header that is none");
        let name: HeaderName = name.parse().map_err(|_| wrong())?;
        headers.insert(name, super::fetch::secret(value).map_err(|_| wrong())?);
    }
    Ok(headers)
}

/// <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: SecretString,
    expire_time: String,
}

fn impersonated(body: &[u8]) -> Result<Fresh<HeaderValue>, AuthError> {
    let given: Option<Impersonated> = serde_json::from_slice(body).ok();
    let given = given.and_then(|given| Some((utc_ms(&given.expire_time)?, given.access_token)));
    let (until_ms, token) = given.ok_or(AuthError::Answer("the answer is no token"))?;
    Ok(Fresh { value: bearer(token.expose_secret())?, until_ms })
}
