//! Asks the services that give credentials. Their addresses are settings or constants, never a request's; redirects are
//! not followed, answers and waits are bounded.

use std::{
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::AuthError;
use crate::{
    prices::day_ms,
    upstream::{Upstream, UpstreamConfig, Wait},
};

const MAX_ANSWER: usize = 64 * 1024;
const MAX_FILE: u64 = 64 * 1024;
const MAX_SAID: usize = 300;
/// No word of a message is longer; tokens are.
const MAX_WORD: usize = 64;
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Where GKE and Compute Engine answer, without TLS.
pub(super) const GOOGLE_METADATA: &str = "metadata.google.internal";
/// EKS's and EC2's, where there is no IPv4.
const AWS_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23), Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)];

/// One service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    upstream: Upstream,
    host: String,
}

impl Service {
    /// # Errors
    /// It is no address that a secret may be sent to: HTTPS, or this machine's own (loopback, link-local).
    pub(super) fn at(url: &str) -> Result<Self, AuthError> {
        let uri: Uri = url.parse().map_err(|_| AuthError::Setup("an address is no URL"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let near = is_near(&host);
        match uri.scheme_str() {
            Some("https") if !host.is_empty() => {}
            Some("http") if near => {}
            _ => {
                return Err(AuthError::Setup(
                    "credentials are asked for by https, or at loopback and link-local addresses",
                ));
            }
        }
        let (connect, answer) = if near { (2, 5) } else { (5, 10) };
        let upstream = Upstream::new(UpstreamConfig {
            base_url: uri,
            connect_timeout: Duration::from_secs(connect),
            first_byte_timeout: Duration::from_secs(answer),
            idle_timeout: Duration::from_secs(answer),
            total_timeout: Duration::from_secs(answer),
            max_answer: MAX_ANSWER,
            ..UpstreamConfig::default()
        })
        .map_err(|e| AuthError::Fetch { host: host.clone(), source: Box::new(e) })?;
        Ok(Self { upstream, host })
    }

    /// A form, by POST.
    pub(super) async fn form(&self, fields: &[(&str, &str)]) -> Result<Bytes, AuthError> {
        let encode = |text| utf8_percent_encode(text, ENCODED);
        let pairs: Vec<_> =
            fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, FORM)]);
        self.ask(Method::POST, "", headers, pairs.join("&").into()).await
    }

    /// What it answers, if that is no refusal.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Bytes, AuthError> {
        self.answer(method, path, headers, body).await.map(|(_, body)| body)
    }

    /// With its headers.
    pub(super) async fn answer(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(HeaderMap, Bytes), AuthError> {
        let fetch = |e| AuthError::Fetch { host: self.host.clone(), source: Box::new(e) };
        let sent = self.upstream.exchange(method, path, headers, body, Wait::default());
        let answer = sent.await.map_err(fetch)?;
        let (status, headers) = (answer.status, answer.headers);
        let body = answer.body.collect().await.map_err(fetch)?;
        if !status.is_success() {
            let (host, status, said) = (self.host.clone(), status.as_u16(), said(&body));
            return Err(AuthError::Refused { host, status, said });
        }
        Ok((headers, body))
    }
}

/// Whether it is this machine, or what answers for the machine it runs on.
fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unicast_link_local() || AWS_V6.contains(&ip),
        Err(_) => host == "localhost" || host == GOOGLE_METADATA,
    }
}

/// The reason in a refusal: OAuth's, Google's, AWS's in JSON and XML. Nothing else is quoted, and nothing long enough to
/// be a secret.
fn said(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(json) => {
            let error = &json["error"];
            let words = [
                error.as_str(),
                json["error_description"].as_str(),
                error["status"].as_str(),
                error["message"].as_str(),
                json["code"].as_str().or(json["Code"].as_str()),
                json["message"].as_str().or(json["Message"].as_str()),
            ];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
        Err(_) => {
            let xml = std::str::from_utf8(body).unwrap_or_default();
            let words = [element(xml, "Code"), element(xml, "Message")];
            words.into_iter().flatten().filter_map(unescaped).collect::<Vec<_>>().join(" ")
        }
    };
    let cut = |word: &str| match word.char_indices().nth(MAX_WORD) {
        Some((at, _)) => format!("{}…", &word[..at]),
        None => word.to_owned(),
    };
    let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).map(cut).collect();
    words.join(" ").chars().take(MAX_SAID).collect::<String>().trim().to_owned()
}

/// The inside of the first element of this name. Answers of AWS have neither attributes nor CDATA where this is asked.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

/// Text of an element. `None` if there is more in it than text.
pub(super) fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<']) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let (name, after) = special.strip_prefix('&')?.split_once(';')?;
        out.push(match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            name => {
                let digits = name.strip_prefix('#')?;
                let code = match digits.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => digits.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// A token in a file, as it is now: who put it there replaces it.
pub(super) fn token_file(path: &Path) -> Result<SecretString, AuthError> {
    let unreadable = |source| AuthError::File { path: path.to_owned(), source };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    let text = read.map(|_| text).map_err(unreadable)?;
    match text.trim() {
        "" => Err(unreadable(std::io::Error::other("it is empty"))),
        token => Ok(token.into()),
    }
}

pub(super) fn bearer(token: &str) -> Result<HeaderValue, AuthError> {
    secret(&format!("Bearer {token}"))
}

pub(super) fn secret(text: &str) -> Result<HeaderValue, AuthError> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A token as OAuth's endpoints give it.
#[derive(Deserialize)]
pub(super) struct Granted {
    pub(super) access_token: SecretString,
    /// Seconds.
    #[serde(default)]
    pub(super) expires_in: Option<i64>,
}

impl Granted {
    pub(super) fn read(body: &[u8]) -> Result<Self, AuthError> {
        // The error would quote the answer.
        serde_json::from_slice(body).map_err(|_| AuthError::Answer("the answer is no token"))
    }
}

/// `2026-11-21T09:30:00Z` or `…:00.123Z`, in Unix milliseconds.
pub(super) fn utc_ms(text: &str) -> Option<i64> {
    let (day, time) = text.split_once('T')?;
    let time = time.strip_suffix('Z')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let [hour, minute, second] = <[&str; 3]>::try_from(time.split(':').collect::<Vec<_>>()).ok()?;
    let number = |part: &str, end: i64| {
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<i64>().ok().filter(|n| digits && *n < end)
    };
    // A leap second is the one after it.
    let (hour, minute, second) = (number(hour, 24)?, number(minute, 60)?, number(second, 61)?);
    Some(day_ms(day)? + ((hour * 60 + minute) * 60 + second) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_to_https_and_to_this_machine_alone() {
        for good in [
            "https://sts.eu-central-1.amazonaws.com",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[::1]:80",
            "http://127.0.0.1:9",
            "http://localhost:1",
            "http://metadata.google.internal/computeMetadata",
        ] {
            assert!(Service::at(good).is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.1/",
            "http://example.com/",
            "ftp://127.0.0.1/",
            "http://[fd00:ec2::24]/",
            "http://127.0.0.1.example.com/",
            "http://metadata.google.internal.example.com/",
            "file:///etc/passwd",
            "/v1",
            "",
        ] {
            assert!(Service::at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        assert_eq!(utc_ms("2026-11-21T00:00:00Z"), Some(1_795_219_200_000));
        assert_eq!(utc_ms("2026-11-21T10:20:30.999Z"), Some(1_795_256_430_000));
        for wrong in ["2026-11-21", "2026-11-21T00:00:00", "2026-11-21T24:00:00Z", "2026-11-21T1:00:00Z", "x"]
        {
            assert_eq!(utc_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn xml_is_text_between_tags_and_nothing_more() {
        let xml = "<A><B>a&amp;b &lt;&#65;&#x42;&gt;</B><C></C></A>";
        assert_eq!(element(xml, "B").and_then(unescaped).as_deref(), Some("a&b <AB>"));
        assert_eq!((element(xml, "C"), element(xml, "D")), (Some(""), None));
        for wrong in ["<x>", "&e;", "&", "&#xD800;", "&#x110000;"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_refusal_s_words_are_told_and_no_token() {
        let token = "x".repeat(400);
        assert_eq!(said(br#"{"error":"invalid_grant","error_description":"No."}"#), "invalid_grant No.");
        assert_eq!(
            said(br#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"No."}}"#),
            "PERMISSION_DENIED No."
        );
        assert_eq!(said(br#"{"code":"AccessDenied","message":"No."}"#), "AccessDenied No.");
        assert_eq!(
            said(b"<E><Error><Code>ExpiredTokenException</Code><Message>Old.</Message></Error></E>"),
            "ExpiredTokenException Old."
        );
        assert_eq!(said(token.as_bytes()), "");
        let echoed = said(format!(r#"{{"error":"bad {token}\u0000"}}"#).as_bytes());
        assert!(echoed.len() < 80 && echoed.starts_with("bad xxx"), "{echoed}");
    }
}
