//! Where AWS's credentials come from when nobody hands out keys. Each answer is good for some hours.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    AuthError, AwsCredentials,
    fetch::{Service, element, secret, token_file, unescaped, utc_ms},
    kept::{Asking, Fresh, Source},
};
use crate::upstream::UpstreamError;

/// ECS' own address: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>.
const CONTAINERS: &str = "http://169.254.170.2";
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>
const INSTANCE: &str = "http://169.254.169.254";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
/// Of the token that IMDSv2 is asked with: it is used at once.
const TTL_S: HeaderValue = HeaderValue::from_static("60");
/// Of credentials whose end nobody tells.
const UNTOLD_MS: i64 = 900_000;
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_Role.html>
const MAX_ROLE: usize = 64;

/// What a container's endpoint is shown.
#[derive(Debug, Clone)]
pub enum ContainerToken {
    /// Read anew each time.
    File(PathBuf),
    Value(SecretString),
}

/// A source of AWS's credentials.
#[derive(Debug)]
pub struct AwsSource(Kind);

#[derive(Debug)]
enum Kind {
    /// EKS Pod Identity, ECS.
    Container { service: Service, token: Option<ContainerToken> },
    /// IRSA.
    WebIdentity { service: Service, role_arn: String, session: String, token_file: PathBuf },
    /// EC2, by IMDSv2. The first version is not asked: any request forged in the machine's name could do that.
    Instance { service: Service },
}

impl AwsSource {
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`, or `…_RELATIVE_URI` with its leading slash.
    ///
    /// # Errors
    /// No such address may be asked.
    pub fn container(uri: &str, token: Option<ContainerToken>) -> Result<Self, AuthError> {
        let relative = uri.starts_with('/').then(|| format!("{CONTAINERS}{uri}"));
        let service = Service::at(relative.as_deref().unwrap_or(uri))?;
        Ok(Self(Kind::Container { service, token }))
    }

    /// A Kubernetes token for a role, at STS in `region`, or at `url`.
    ///
    /// # Errors
    /// As [`AwsSource::container`].
    pub fn web_identity(
        role_arn: String,
        session: String,
        token_file: PathBuf,
        region: &str,
        url: Option<&str>,
    ) -> Result<Self, AuthError> {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let regional = format!("https://sts.{region}.{domain}/");
        let service = Service::at(url.unwrap_or(&regional))?;
        Ok(Self(Kind::WebIdentity { service, role_arn, session, token_file }))
    }

    /// The machine's own role.
    ///
    /// # Errors
    /// As [`AwsSource::container`].
    pub fn instance(url: Option<&str>) -> Result<Self, AuthError> {
        Ok(Self(Kind::Instance { service: Service::at(url.unwrap_or(INSTANCE))? }))
    }
}

impl Source for AwsSource {
    type Held = AwsCredentials;

    fn name(&self) -> &'static str {
        match &self.0 {
            Kind::Container { .. } => "aws container",
            Kind::WebIdentity { .. } => "aws web identity",
            Kind::Instance { .. } => "aws instance",
        }
    }

    fn ask(&self, now_ms: i64) -> Asking<'_, AwsCredentials> {
        Box::pin(async move {
            match &self.0 {
                Kind::Container { service, token } => of_container(service, token.as_ref(), now_ms).await,
                Kind::WebIdentity { service, role_arn, session, token_file: path } => {
                    let token = token_file(path)?;
                    let fields = [
                        ("Action", "AssumeRoleWithWebIdentity"),
                        ("Version", "2011-06-15"),
                        ("RoleArn", role_arn),
                        ("RoleSessionName", session),
                        ("WebIdentityToken", token.expose_secret()),
                    ];
                    assumed(&service.form(&fields).await?)
                }
                Kind::Instance { service } => of_instance(service, now_ms).await,
            }
        })
    }
}

async fn of_container(
    service: &Service,
    token: Option<&ContainerToken>,
    now_ms: i64,
) -> Result<Fresh<AwsCredentials>, AuthError> {
    let mut headers = HeaderMap::new();
    let token = match token {
        Some(ContainerToken::File(path)) => Some(token_file(path)?),
        Some(ContainerToken::Value(token)) => Some(token.clone()),
        None => None,
    };
    if let Some(token) = token {
        headers.insert(header::AUTHORIZATION, secret(token.expose_secret())?);
    }
    given(&service.ask(Method::GET, "", headers, Bytes::new()).await?, now_ms)
}

async fn of_instance(service: &Service, now_ms: i64) -> Result<Fresh<AwsCredentials>, AuthError> {
    let ttl = HeaderMap::from_iter([(TTL, TTL_S)]);
    let token =
        service.ask(Method::PUT, "/latest/api/token", ttl, Bytes::new()).await.map_err(|e| match e {
            // The answer to this request alone is dropped on its way to a container that is a hop too far:
            // https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-existing-instances.html
            AuthError::Fetch { source, .. } if matches!(*source, UpstreamError::FirstByteTimeout) => {
                AuthError::Hops
            }
            e => e,
        })?;
    let token = secret(text(&token, "the instance's metadata gave no token")?)?;
    let get = |path: String| {
        let headers = HeaderMap::from_iter([(TOKEN, token.clone())]);
        async move { service.ask(Method::GET, &path, headers, Bytes::new()).await }
    };
    let roles = get(ROLES.to_owned()).await.map_err(|e| match e {
        AuthError::Refused { status: 404, .. } => AuthError::Answer("the instance has no role"),
        e => e,
    })?;
    let role = text(&roles, "the instance has no role")?.lines().next().unwrap_or_default().trim();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
    if !(1..=MAX_ROLE).contains(&role.len()) || !role.bytes().all(plain) {
        return Err(AuthError::Answer("the instance's metadata names no role"));
    }
    given(&get(format!("{ROLES}{role}")).await?, now_ms)
}

fn text<'a>(body: &'a [u8], wrong: &'static str) -> Result<&'a str, AuthError> {
    let text = std::str::from_utf8(body).ok().map(str::trim);
    text.filter(|text| !text.is_empty()).ok_or(AuthError::Answer(wrong))
}

/// A container's and an instance's.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: SecretString,
    #[serde(default)]
    token: Option<SecretString>,
    #[serde(default)]
    expiration: Option<String>,
}

/// An instance's says, with status 200, whether it is any.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    #[serde(default)]
    code: Option<String>,
}

fn given(body: &[u8], now_ms: i64) -> Result<Fresh<AwsCredentials>, AuthError> {
    let outcome: Option<Outcome> = serde_json::from_slice(body).ok();
    if outcome.and_then(|o| o.code).is_some_and(|code| code != "Success") {
        return Err(AuthError::Answer("the instance's metadata says that its role can't be assumed"));
    }
    // The error would quote the answer.
    let given: Given =
        serde_json::from_slice(body).map_err(|_| AuthError::Answer("the answer is no credentials"))?;
    let until_ms = match &given.expiration {
        Some(text) => utc_ms(text).ok_or(AuthError::Answer("the answer has no end that can be read"))?,
        None => now_ms + UNTOLD_MS,
    };
    let value = AwsCredentials {
        access_key_id: given.access_key_id,
        secret_access_key: given.secret_access_key,
        session_token: given.token,
    };
    Ok(Fresh { value, until_ms })
}

/// STS': <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>.
fn assumed(body: &[u8]) -> Result<Fresh<AwsCredentials>, AuthError> {
    let found = || {
        let result = element(std::str::from_utf8(body).ok()?, "AssumeRoleWithWebIdentityResult")?;
        let credentials = element(result, "Credentials")?;
        let member =
            |name: &str| unescaped(element(credentials, name)?.trim()).filter(|text| !text.is_empty());
        let value = AwsCredentials {
            access_key_id: member("AccessKeyId")?,
            secret_access_key: member("SecretAccessKey")?.into(),
            session_token: Some(member("SessionToken")?.into()),
        };
        Some(Fresh { value, until_ms: utc_ms(&member("Expiration")?)? })
    };
    found().ok_or(AuthError::Answer("the answer is no credentials"))
}
