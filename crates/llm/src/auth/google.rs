//! Tokens of Google Cloud for a service account: <https://developers.google.com/identity/protocols/oauth2/service-account>.
//!
//! A token is good for an hour. It is replaced some minutes before its end, by one caller while others use the old one.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use ring::{rand::SystemRandom, signature};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use weir_types::Clock;

use super::AuthError;
use crate::upstream::{Upstream, UpstreamConfig};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// `grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer`, as a form has it.
const GRANT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
const LIFETIME_S: i64 = 3_600;
/// A token is replaced so long before its end.
const EARLY_MS: i64 = 300_000;
/// A token within this time of its end is used no more.
const MARGIN_MS: i64 = 10_000;
/// After a failed attempt to replace a token that is still good.
const RETRY_MS: i64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 * 1024;

/// A service account's key, as Google's console gives it: a JSON file.
#[derive(Debug, Clone, Deserialize)]
pub struct ServiceAccount {
    pub client_email: String,
    pub private_key: SecretString,
    #[serde(default)]
    pub private_key_id: Option<String>,
    #[serde(default)]
    pub token_uri: Option<String>,
    #[serde(default)]
    pub project_id: Option<String>,
}

impl ServiceAccount {
    /// # Errors
    /// It is not such a file's text.
    pub fn read(json: &SecretString) -> Result<Self, AuthError> {
        // The error would quote the text.
        serde_json::from_str(json.expose_secret())
            .map_err(|_| AuthError::Key("expected a service account's JSON key"))
    }
}

#[derive(Debug, Clone, Default)]
struct Held {
    token: Option<(HeaderValue, i64)>,
    /// When to ask again, Unix milliseconds.
    ask_at_ms: i64,
}

/// Gets tokens, and keeps one.
pub struct GoogleTokens {
    account: ServiceAccount,
    key: signature::RsaKeyPair,
    endpoint: Upstream,
    host: String,
    held: std::sync::RwLock<Held>,
    asking: Mutex<()>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for GoogleTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GoogleTokens").field("account", &self.account.client_email).finish_non_exhaustive()
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

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    #[serde(default)]
    expires_in: Option<i64>,
}

#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

impl GoogleTokens {
    /// # Errors
    /// The key is no RSA key in PKCS#8 PEM, or the address of the tokens no URL.
    pub fn new(account: ServiceAccount, clock: Arc<dyn Clock>) -> Result<Self, AuthError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(account.private_key.expose_secret().as_bytes())
            .map_err(|_| AuthError::Key("its private key is not PKCS#8 in PEM"))?;
        let key = signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|_| AuthError::Key("its private key is no RSA key"))?;
        let uri: http::Uri = account
            .token_uri
            .as_deref()
            .unwrap_or(TOKEN_URI)
            .parse()
            .map_err(|_| AuthError::Key("its token_uri is no URL"))?;
        let host = uri.host().unwrap_or_default().to_owned();
        let endpoint = Upstream::new(UpstreamConfig {
            base_url: uri,
            first_byte_timeout: PATIENCE,
            idle_timeout: PATIENCE,
            max_answer: MAX_ANSWER,
            ..UpstreamConfig::default()
        })
        .map_err(|e| AuthError::Fetch(Box::new(e)))?;
        Ok(Self {
            account,
            key,
            endpoint,
            host,
            held: std::sync::RwLock::default(),
            asking: Mutex::default(),
            clock,
        })
    }

    /// `Bearer …`
    ///
    /// # Errors
    /// There is no good token, and none to be had.
    pub(super) async fn current(&self) -> Result<HeaderValue, AuthError> {
        let (good, due) = self.look();
        match (good, due) {
            (Some(token), false) => Ok(token),
            // Somebody asks already, if the lock is taken.
            (Some(token), true) => match self.asking.try_lock() {
                Ok(_asking) => Ok(self.ask().await.unwrap_or_else(|error| {
                    tracing::warn!(error = %error, "could not replace a token of google's, the old one is still good");
                    self.postpone();
                    token
                })),
                Err(_) => Ok(token),
            },
            (None, _) => {
                let _asking = self.asking.lock().await;
                match self.look() {
                    (Some(token), _) => Ok(token),
                    (None, _) => self.ask().await,
                }
            }
        }
    }

    /// The token, if it is good, and whether it should be replaced.
    fn look(&self) -> (Option<HeaderValue>, bool) {
        let now = self.clock.now_ms();
        let held = self.held.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let good = held.token.as_ref().filter(|(_, until)| now + MARGIN_MS < *until);
        (good.map(|(token, _)| token.clone()), now >= held.ask_at_ms)
    }

    fn postpone(&self) {
        let mut held = self.held.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.ask_at_ms = self.clock.now_ms() + RETRY_MS;
    }

    async fn ask(&self) -> Result<HeaderValue, AuthError> {
        let now_ms = self.clock.now_ms();
        let form = format!("{GRANT}{}", self.assertion(now_ms.div_euclid(1_000))?);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let fetch = |e| AuthError::Fetch(Box::new(e));
        // Boxed, since the client asks us who it is.
        let sent = Box::pin(self.endpoint.send("", headers, Bytes::from(form), None));
        let answer = sent.await.map_err(fetch)?;
        let status = answer.status;
        let body = answer.body.collect().await.map_err(fetch)?;
        if !status.is_success() {
            let said: Refusal = serde_json::from_slice(&body).unwrap_or_default();
            let said = [said.error, said.error_description].join(" ").trim().to_owned();
            return Err(AuthError::Refused { host: self.host.clone(), status: status.as_u16(), said });
        }
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| AuthError::Refused {
            host: self.host.clone(),
            status: status.as_u16(),
            said: "no token in it".to_owned(),
        })?;
        let mut token = HeaderValue::from_str(&format!("Bearer {}", granted.access_token.expose_secret()))?;
        token.set_sensitive(true);
        let until = now_ms + granted.expires_in.unwrap_or(LIFETIME_S).clamp(0, 86_400) * 1_000;
        let mut held = self.held.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *held = Held { token: Some((token.clone(), until)), ask_at_ms: until - EARLY_MS };
        Ok(token)
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

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::mpsc,
    };
    use weir_types::ManualClock;

    use super::*;

    /// A key of this test alone.
    const KEY: &str = include_str!("test_key.pem");
    const NOW_MS: i64 = 1_700_000_000_000;

    fn account(uri: &str) -> SecretString {
        let account = serde_json::json!({"type": "service_account", "client_email": "weir@p.iam.gserviceaccount.com",
            "private_key": KEY, "private_key_id": "k1", "project_id": "p", "token_uri": uri});
        account.to_string().into()
    }

    /// Answers each connection with the next of these; tells what it was asked.
    async fn server(answers: Vec<(u16, &'static str)>) -> (String, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = mpsc::unbounded_channel();
        drop(tokio::task::spawn_local(async move {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut got = Vec::new();
                // The form is short: it comes with the head, or right after it.
                while !String::from_utf8_lossy(&got).contains("assertion=") {
                    let mut piece = [0; 8192];
                    let n = stream.read(&mut piece).await.unwrap();
                    got.extend_from_slice(&piece[..n]);
                }
                tell.send(String::from_utf8(got).unwrap()).unwrap();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }));
        (format!("http://{address}/token"), asked)
    }

    fn assertion(request: &str, tokens: &GoogleTokens) -> Value {
        let (_, jwt) = request.split_once("assertion=").unwrap();
        let (text, signed) = jwt.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, tokens.key.public().as_ref());
        public.verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signed).unwrap()).unwrap();
        let part =
            |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
        let (header, claims) = text.split_once('.').unwrap();
        assert_eq!(part(header), serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
        part(claims)
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once_and_replaced_before_its_end() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let one = r#"{"access_token":"one","expires_in":3600,"token_type":"Bearer"}"#;
                let two = r#"{"access_token":"two","expires_in":3600}"#;
                let (uri, mut asked) = server(vec![(200, one), (503, "{}"), (200, two)]).await;
                let clock = ManualClock::at(NOW_MS);
                let account = ServiceAccount::read(&account(&uri)).unwrap();
                let tokens = GoogleTokens::new(account, Arc::new(clock.clone())).unwrap();
                let (a, b) = tokio::join!(tokens.current(), tokens.current());
                assert_eq!(
                    (a.unwrap(), b.unwrap()),
                    ("Bearer one".parse().unwrap(), "Bearer one".parse().unwrap())
                );
                let request = asked.recv().await.unwrap();
                assert!(request.starts_with("POST /token HTTP/1.1\r\n"), "{request}");
                let claims = assertion(&request, &tokens);
                assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), LIFETIME_S);
                assert_eq!(
                    (claims["aud"].as_str(), claims["scope"].as_str()),
                    (Some(uri.as_str()), Some(SCOPE))
                );
                assert_eq!(claims["iat"], NOW_MS / 1_000);
                // Good, but near its end: a failure to replace it hurts nobody.
                clock.advance(3_600_000 - EARLY_MS);
                assert_eq!(tokens.current().await.unwrap(), "Bearer one");
                asked.recv().await.unwrap();
                assert_eq!(tokens.current().await.unwrap(), "Bearer one");
                assert!(asked.try_recv().is_err(), "not asked again at once");
                clock.advance(RETRY_MS);
                assert_eq!(tokens.current().await.unwrap(), "Bearer two");
            })
            .await;
    }

    #[tokio::test]
    async fn a_refusal_is_told_and_no_secret_shows() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let no = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
                let (uri, _asked) = server(vec![(400, no)]).await;
                let account = ServiceAccount::read(&account(&uri)).unwrap();
                assert!(!format!("{account:?}").contains("MII"));
                let tokens = GoogleTokens::new(account, Arc::new(ManualClock::at(NOW_MS))).unwrap();
                let error = tokens.current().await.unwrap_err().to_string();
                assert!(error.contains("400: invalid_grant Invalid JWT Signature."), "{error}");
                assert!(!format!("{tokens:?}").contains("MII"));
            })
            .await;
        assert!(ServiceAccount::read(&"{}".into()).is_err());
        let broken = account("https://x").expose_secret().replace("BEGIN PRIVATE", "BEGIN PUBLIC");
        let broken = ServiceAccount::read(&broken.into()).unwrap();
        assert!(GoogleTokens::new(broken, Arc::new(ManualClock::default())).is_err());
    }
}
