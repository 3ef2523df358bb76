//! AWS's Signature Version 4: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.
//!
//! Own code, as the vendor's crate comes with twenty others; held to the vendor's test suite below.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::{digest, hmac};
use secrecy::{ExposeSecret as _, SecretString};
use weir_types::Clock;

use super::{AuthError, AwsSource, describe, hex, kept::Kept};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// All but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_IN_PATHS: &AsciiSet = &ENCODED.remove(b'/');

#[derive(Debug, Clone)]
pub struct AwsCredentials {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    /// Of credentials that don't last.
    pub session_token: Option<SecretString>,
}

#[derive(Debug)]
enum Keys {
    Fixed(AwsCredentials),
    Kept(Box<Kept<AwsSource>>),
}

/// Signs calls of one service in one region.
#[derive(Debug)]
pub struct Signer {
    keys: Keys,
    region: String,
    service: &'static str,
    clock: Arc<dyn Clock>,
}

impl Signer {
    /// For Bedrock, whose signatures are of the service `bedrock` wherever it is called.
    #[must_use]
    pub fn bedrock(credentials: AwsCredentials, region: String, clock: Arc<dyn Clock>) -> Self {
        Self { keys: Keys::Fixed(credentials), region, service: "bedrock", clock }
    }

    /// The same, with credentials that end.
    #[must_use]
    pub fn bedrock_by(source: AwsSource, region: String, clock: Arc<dyn Clock>) -> Self {
        let keys = Keys::Kept(Box::new(Kept::new(source, clock.clone())));
        Self { keys, region, service: "bedrock", clock }
    }

    pub(super) fn kept(&self) -> Option<&Kept<AwsSource>> {
        if let Keys::Kept(kept) = &self.keys { Some(kept) } else { None }
    }

    pub(super) async fn sign(&self, request: &mut request::Parts, body: &[u8]) -> Result<(), AuthError> {
        match &self.keys {
            Keys::Fixed(credentials) => self.sign_by(credentials, request, body),
            Keys::Kept(kept) => self.sign_by(&kept.current().await?, request, body),
        }
    }

    fn sign_by(
        &self,
        credentials: &AwsCredentials,
        request: &mut request::Parts,
        body: &[u8],
    ) -> Result<(), AuthError> {
        let at = timestamp(self.clock.now_ms().div_euclid(1_000));
        let authority = request.uri.authority().ok_or(AuthError::Sign)?;
        let default = if request.uri.scheme_str() == Some("http") { 80 } else { 443 };
        let host = match authority.port_u16() {
            Some(port) if port != default => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        let headers = &mut request.headers;
        headers.insert(header::HOST, HeaderValue::from_str(&host)?);
        headers.insert(DATE, HeaderValue::from_str(&at)?);
        if let Some(token) = &credentials.session_token {
            let mut token = HeaderValue::from_str(token.expose_secret())?;
            token.set_sensitive(true);
            headers.insert(TOKEN, token);
        }
        let mut signed = vec!["host", "x-amz-date"];
        signed.extend(headers.contains_key(header::CONTENT_TYPE).then_some("content-type"));
        signed.extend(headers.contains_key(TOKEN).then_some("x-amz-security-token"));
        signed.sort_unstable();
        let (method, path, query) = describe(request);
        let canonical = canonical(method, path, query, &request.headers, &signed, body)?;
        let scope =
            format!("{}/{}/{}/aws4_request", at.get(..8).unwrap_or_default(), self.region, self.service);
        let signature = signature(&credentials.secret_access_key, &at, &scope, &canonical);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            credentials.access_key_id,
            signed.join(";"),
        );
        let mut authorization = HeaderValue::from_str(&authorization)?;
        authorization.set_sensitive(true);
        request.headers.insert(header::AUTHORIZATION, authorization);
        Ok(())
    }
}

/// What a signed call says of itself, for whoever checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub access_key_id: String,
    pub region: String,
    /// `20150830T123600Z`
    pub at: String,
}

impl Claims {
    /// Checks a call as AWS would, by the secret that goes with the access key. `None`: not signed, or wrongly.
    #[must_use]
    pub fn verify(request: &request::Parts, body: &[u8], secret: &SecretString) -> Option<Self> {
        let text = |name: &HeaderName| request.headers.get(name).and_then(|v| v.to_str().ok());
        let rest = text(&header::AUTHORIZATION)?.strip_prefix(ALGORITHM)?.trim_start();
        let field =
            |name: &str| rest.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        let (access_key_id, scope) = field("Credential")?.split_once('/')?;
        let signed: Vec<&str> = field("SignedHeaders")?.split(';').collect();
        if !["host", "x-amz-date"].iter().all(|must| signed.contains(must)) {
            return None;
        }
        let at = text(&DATE)?;
        let (method, path, query) = describe(request);
        let canonical = canonical(method, path, query, &request.headers, &signed, body).ok()?;
        let expected = signature(secret, at, scope, &canonical);
        if expected != field("Signature")? {
            return None;
        }
        let region = scope.split('/').nth(1)?.to_owned();
        Some(Self { access_key_id: access_key_id.to_owned(), region, at: at.to_owned() })
    }
}

/// The canonical request. Paths are encoded once more than they were sent; query members are sorted.
fn canonical(
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    signed: &[&str],
    body: &[u8],
) -> Result<String, AuthError> {
    let encode = |text: &str| {
        let plain = percent_decode_str(text).decode_utf8_lossy().into_owned();
        utf8_percent_encode(&plain, ENCODED).to_string()
    };
    let mut members: Vec<_> = query
        .split('&')
        .filter(|member| !member.is_empty())
        .map(|member| member.split_once('=').unwrap_or((member, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    members.sort_unstable();
    let members: Vec<_> = members.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let path = if path.is_empty() { "/" } else { path };
    let mut text =
        format!("{method}\n{}\n{}\n", utf8_percent_encode(path, ENCODED_IN_PATHS), members.join("&"));
    for name in signed {
        let value = headers.get(*name).and_then(|v| v.to_str().ok()).ok_or(AuthError::Sign)?;
        text.push_str(name);
        text.push(':');
        text.push_str(&value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed.join(";"));
    text.push('\n');
    text.push_str(&hex(digest::digest(&digest::SHA256, body).as_ref()));
    Ok(text)
}

/// By a key derived from the secret, the day, the region and the service, which are the scope.
fn signature(secret: &SecretString, at: &str, scope: &str, canonical: &str) -> String {
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("{ALGORITHM}\n{at}\n{scope}\n{hash}");
    let hmac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let first = format!("AWS4{}", secret.expose_secret());
    let mut key = None::<hmac::Tag>;
    for part in scope.split('/') {
        key = Some(hmac(key.as_ref().map_or(first.as_bytes(), AsRef::as_ref), part));
    }
    hex(hmac(key.as_ref().map_or(first.as_bytes(), AsRef::as_ref), &text).as_ref())
}

/// `20150830T123600Z`, from Unix seconds. Days become dates by Howard Hinnant's `civil_from_days`.
fn timestamp(unix_s: i64) -> String {
    let (days, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use http::Request;
    use weir_types::ManualClock;

    use super::*;

    /// 2015-08-30 12:36:00, when AWS's suite is signed.
    const WHEN_MS: i64 = 1_440_938_160_000;
    const SESSION: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn signer(session: Option<&str>, service: &'static str) -> Signer {
        Signer {
            keys: Keys::Fixed(AwsCredentials {
                access_key_id: "AKIDEXAMPLE".to_owned(),
                secret_access_key: SECRET.into(),
                session_token: session.map(Into::into),
            }),
            region: "us-east-1".to_owned(),
            service,
            clock: Arc::new(ManualClock::at(WHEN_MS)),
        }
    }

    fn parts(method: &str, url: &str, content_type: Option<&str>) -> request::Parts {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(kind) = content_type {
            request = request.header("content-type", kind);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[tokio::test]
    async fn signatures_are_those_of_aws_s_suite() {
        let form = Some("application/x-www-form-urlencoded");
        for (method, target, kind, session, body, expected) in [
            ("GET", "/", None, None, "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "/", None, None, "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "GET",
                "/?Param2=value2&Param1=value1",
                None,
                None,
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "POST",
                "/",
                form,
                None,
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "POST",
                "/",
                None,
                Some(SESSION),
                "",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            let mut parts = parts(method, &format!("https://example.amazonaws.com{target}"), kind);
            signer(session, "service").sign(&mut parts, body.as_bytes()).await.unwrap();
            let authorization = parts.headers[header::AUTHORIZATION].to_str().unwrap();
            assert!(
                authorization.ends_with(&format!("Signature={expected}")),
                "{method} {target}: {authorization}"
            );
            assert!(authorization.contains("AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"));
            let claims = Claims::verify(&parts, body.as_bytes(), &SECRET.into()).unwrap();
            assert_eq!((claims.access_key_id.as_str(), claims.region.as_str()), ("AKIDEXAMPLE", "us-east-1"));
        }
    }

    #[tokio::test]
    async fn what_was_signed_can_t_be_changed() {
        let url = "http://127.0.0.1:8099/model/anthropic.claude-v1%3A0/converse";
        let mut parts = parts("POST", url, Some("application/json"));
        signer(Some(SESSION), "bedrock").sign(&mut parts, b"{}").await.unwrap();
        assert_eq!(parts.headers[header::HOST], "127.0.0.1:8099");
        let secret = SECRET.into();
        assert!(Claims::verify(&parts, b"{}", &secret).is_some());
        assert!(Claims::verify(&parts, b"{ }", &secret).is_none());
        assert!(Claims::verify(&parts, b"{}", &"other".into()).is_none());
        for (name, value) in [("x-amz-security-token", "x"), ("content-type", "x"), ("host", "x")] {
            let mut parts = parts.clone();
            parts.headers.insert(name, HeaderValue::from_static(value));
            assert!(Claims::verify(&parts, b"{}", &secret).is_none(), "{name}");
        }
        let text = format!("{:?} {:?}", signer(Some(SESSION), "bedrock"), parts.headers);
        assert!(!text.contains("wJalr") && !text.contains("AQoD") && !text.contains("Signature="));
    }

    #[test]
    fn times_are_written_as_aws_does() {
        assert_eq!(timestamp(0), "19700101T000000Z");
        assert_eq!(timestamp(951_827_696), "20000229T123456Z");
        assert_eq!(timestamp(4_102_444_799), "20991231T235959Z");
    }
}
