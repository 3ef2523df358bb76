//! The sources against fakes of who gives credentials: real HTTP on loopback.

mod bearer;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header, request};
use percent_encoding::percent_decode_str;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::{LocalSet, spawn_local, yield_now},
    time::timeout,
};
use weir_types::ManualClock;

use super::{
    Auth, AuthError, AwsClaims, AwsSigner, AwsSource, ContainerToken, TokenSource, Tokens,
    google::{Grant, SCOPE, ServiceAccount},
    google_sources::Metadata,
    kept::{EARLY_MS, JITTER_MS, RETRY_MS, SPARE_MS, Source as _},
};

/// A key of these tests alone.
const KEY: &str = include_str!("test_key.pem");
/// 2023-11-14T22:13:20Z
const NOW_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const ROLE: &str = "arn:aws:iam::123456789012:role/weir";

/// A request as it came.
struct Asked {
    /// `GET /path`
    line: String,
    headers: HeaderMap,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A field of a form.
    fn field(&self, name: &str) -> String {
        let pairs = self.body.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next().unwrap_or_default();
        percent_decode_str(value).decode_utf8().unwrap().into_owned()
    }
}

/// Status, headers, body.
type Given = (u16, &'static str, String);

#[expect(clippy::needless_pass_by_value, reason = "bodies are made where they are given")]
fn ok(body: impl ToString) -> Given {
    (200, "", body.to_string())
}

/// Answers each request as `answer` does; tells what it was asked.
async fn fake(mut answer: impl FnMut(&Asked) -> Given + 'static) -> (String, UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, asked) = unbounded_channel();
    drop(spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some(request) = read(&mut stream).await else { continue };
            let (status, headers, body) = answer(&request);
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
            );
            // Whoever asked may be told enough already.
            drop(stream.write_all(text.as_bytes()).await);
            if tell.send(request).is_err() {
                return;
            }
        }
    }));
    (format!("http://{address}"), asked)
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut got = Vec::new();
    loop {
        let mut piece = [0; 8192];
        let n = stream.read(&mut piece).await.ok().filter(|n| *n > 0)?;
        got.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&got).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.split("\r\n");
        let line = lines.next()?.strip_suffix(" HTTP/1.1")?.to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        let headers: HeaderMap = lines.map(header).collect();
        let length = headers.get(header::CONTENT_LENGTH).map_or(0, |v| v.to_str().unwrap().parse().unwrap());
        if body.len() >= length {
            return Some(Asked { line, headers, body: body.to_owned() });
        }
    }
}

/// What a call to a provider shows.
async fn shown(auth: &Auth) -> Result<request::Parts, AuthError> {
    let url = "http://127.0.0.1:1/model/m/converse";
    let mut parts = Request::post(url).body(()).unwrap().into_parts().0;
    auth.apply(&mut parts, b"{}").await.map(|()| parts)
}

/// The access key of a call that is signed with the secret that goes with it.
async fn key(auth: &Auth) -> Result<String, AuthError> {
    let parts = shown(auth).await?;
    let id = parts.headers[header::AUTHORIZATION].to_str().unwrap().split(['=', '/']).nth(1).unwrap();
    assert_eq!(parts.headers["x-amz-security-token"], format!("session-{id}"));
    let claims = AwsClaims::verify(&parts, b"{}", &format!("secret-{id}").into()).unwrap();
    assert_eq!(claims.region, "eu-central-1");
    Ok(claims.access_key_id)
}

async fn token(auth: &Auth) -> Result<String, AuthError> {
    let parts = shown(auth).await?;
    Ok(parts.headers[header::AUTHORIZATION].to_str().unwrap().to_owned())
}

/// Until it is so; what makes it so runs beside.
async fn until(so: impl AsyncFn() -> bool) {
    let wait = async {
        while !so().await {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), wait).await.unwrap();
}

fn has_failed(auth: &Auth) -> bool {
    let Auth::Aws(signer) = auth else { return false };
    signer.kept().is_some_and(|kept| kept.just_failed().is_some())
}

fn aws(source: Result<AwsSource, AuthError>, clock: &ManualClock) -> Auth {
    let signer = AwsSigner::bedrock_by(source.unwrap(), "eu-central-1".to_owned(), Arc::new(clock.clone()));
    Auth::Aws(Arc::new(signer))
}

fn tokens(source: Result<TokenSource, AuthError>, clock: &ManualClock) -> Auth {
    Auth::Tokens(Arc::new(Tokens::new(source.unwrap(), Arc::new(clock.clone()))))
}

fn keep(auth: &Auth) {
    let auth = auth.clone();
    drop(spawn_local(async move { auth.keep().await }));
}

/// `n` hours after the clock's beginning.
fn hour(n: i64) -> String {
    format!("2023-11-{}T{:02}:13:20Z", 14 + (22 + n) / 24, (22 + n) % 24)
}

fn keys(id: &str, until: &str) -> Value {
    json!({"AccessKeyId": id, "SecretAccessKey": format!("secret-{id}"), "Token": format!("session-{id}"),
        "Expiration": until})
}

fn file(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("token");
    fs::write(&path, text).unwrap();
    path
}

fn reasons(error: &AuthError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[tokio::test]
async fn containers_credentials_are_replaced_while_the_old_ones_still_hold() {
    let test = async {
        let (folder, mut n) = (tempfile::tempdir().unwrap(), 0);
        let (url, mut asked) = fake(move |_| {
            n += 1;
            match n {
                1 => ok(keys("AKID1", &hour(1))),
                2 => (503, "", "down".to_owned()),
                _ => ok(keys("AKID2", &hour(2))),
            }
        })
        .await;
        let path = file(&folder, "first\n");
        let clock = ManualClock::at(NOW_MS);
        let token = Some(ContainerToken::File(path.clone()));
        let auth = aws(AwsSource::container(&format!("{url}/v1/credentials"), token), &clock);
        assert!(auth.ends());
        // One asks for all who come.
        let (a, b) = tokio::join!(key(&auth), key(&auth));
        assert_eq!((a.unwrap().as_str(), b.unwrap().as_str()), ("AKID1", "AKID1"));
        let first = asked.recv().await.unwrap();
        assert_eq!((first.line.as_str(), first.header("authorization")), ("GET /v1/credentials", "first"));
        assert!(asked.try_recv().is_err());
        keep(&auth);
        clock.advance(HOUR_MS - EARLY_MS - 1);
        assert_eq!(key(&auth).await.unwrap(), "AKID1");
        // Due, whatever the jitter; the endpoint is down, and the old ones hold.
        clock.advance(JITTER_MS + 1);
        assert_eq!(key(&auth).await.unwrap(), "AKID1");
        asked.recv().await.unwrap();
        until(async || has_failed(&auth)).await;
        assert_eq!(key(&auth).await.unwrap(), "AKID1");
        assert!(asked.try_recv().is_err(), "not asked again at once");
        // The token was replaced meanwhile.
        file(&folder, "second");
        clock.advance(RETRY_MS);
        until(async || key(&auth).await.unwrap() == "AKID2").await;
        assert_eq!(asked.recv().await.unwrap().header("authorization"), "second");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn the_task_has_credentials_ready_before_anybody_asks() {
    let test = async {
        let (url, mut asked) = fake(|_| ok(keys("AKID1", &hour(1)))).await;
        let auth = aws(AwsSource::container(&url, None), &ManualClock::at(NOW_MS));
        keep(&auth);
        asked.recv().await.unwrap();
        assert_eq!(key(&auth).await.unwrap(), "AKID1");
        assert!(asked.try_recv().is_err());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_never_worked_is_told_to_all_and_asked_for_again_later() {
    let test = async {
        let (url, mut asked) =
            fake(|_| (400, "", json!({"code": "AccessDenied", "message": "No."}).to_string())).await;
        let clock = ManualClock::at(NOW_MS);
        let auth = aws(AwsSource::container(&url, None), &clock);
        let (a, b) = tokio::join!(key(&auth), key(&auth));
        for error in [a.unwrap_err(), b.unwrap_err(), key(&auth).await.unwrap_err()] {
            let text = reasons(&error);
            assert!(text.contains("127.0.0.1 answered 400: AccessDenied No."), "{text}");
            assert_eq!(error.kind(), "who gives them refused to");
        }
        asked.recv().await.unwrap();
        assert!(asked.try_recv().is_err(), "asked once for three");
        clock.advance(SPARE_MS);
        key(&auth).await.unwrap_err();
        asked.recv().await.unwrap();
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn credentials_that_ended_are_not_used_and_nothing_secret_is_told() {
    let test = async {
        let mut n = 0;
        let (url, _asked) = fake(move |_| {
            n += 1;
            match n {
                1 => ok(keys("AKID1", &hour(1))),
                2 => ok(keys("AKID2", &hour(1))),
                3 => ok(json!({"AccessKeyId": "AKID3", "SecretAccessKey": "sec ret\n"})),
                4 => (302, "location: http://127.0.0.1:1/\r\n", String::new()),
                5 => ok("x".repeat(100_000)),
                _ => ok(r#"{"AccessKeyId":"AKID4","SecretAccessKey":5}"#),
            }
        })
        .await;
        let clock = ManualClock::at(NOW_MS);
        let auth = aws(AwsSource::container(&url, None), &clock);
        assert_eq!(key(&auth).await.unwrap(), "AKID1");
        clock.advance(HOUR_MS);
        let ended = key(&auth).await.unwrap_err().to_string();
        assert!(ended.contains("ended already"), "{ended}");
        clock.advance(SPARE_MS);
        // Without an end they are used for a while.
        shown(&auth).await.unwrap();
        clock.advance(HOUR_MS);
        let redirected = key(&auth).await.unwrap_err().to_string();
        assert!(redirected.ends_with("answered 302"), "{redirected}");
        clock.advance(SPARE_MS);
        let long = reasons(&key(&auth).await.unwrap_err());
        assert!(long.contains("longer than 65536 bytes"), "{long}");
        clock.advance(SPARE_MS);
        let wrong = reasons(&key(&auth).await.unwrap_err());
        assert_eq!(wrong, "the answer is no credentials");
        assert!(!format!("{auth:?}").contains("secret-"));
    };
    LocalSet::new().run_until(test).await;
}

fn sts(id: &str) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
         <AssumeRoleWithWebIdentityResult>\n    <SubjectFromWebIdentityToken>system:serviceaccount:weir:weir\
         </SubjectFromWebIdentityToken>\n    <Audience>sts.amazonaws.com</Audience>\n    <AssumedRoleUser>\n      \
         <Arn>{ROLE}</Arn>\n    </AssumedRoleUser>\n    <Credentials>\n      <SessionToken>session-{id}\
         </SessionToken>\n      <SecretAccessKey>secret-{id}</SecretAccessKey>\n      <Expiration>{}</Expiration>\n      \
         <AccessKeyId>{id}</AccessKeyId>\n    </Credentials>\n  </AssumeRoleWithWebIdentityResult>\n\
         </AssumeRoleWithWebIdentityResponse>",
        hour(1)
    )
}

#[tokio::test]
async fn a_kubernetes_token_is_a_role_at_sts() {
    let test = async {
        let folder = tempfile::tempdir().unwrap();
        let jwt = "eyJhbGciOiJSUzI1NiJ9.".repeat(20);
        let mut n = 0;
        let (url, mut asked) = fake(move |_| {
            n += 1;
            match n {
                1 => ok(sts("AKID1")),
                2 => ok(sts("AKID&x;")),
                _ => (
                    400,
                    "",
                    "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>Token \
                     expired</Message></Error></ErrorResponse>"
                        .to_owned(),
                ),
            }
        })
        .await;
        let path = file(&folder, &jwt);
        let source = |path: PathBuf| {
            AwsSource::web_identity(ROLE.to_owned(), "weir".to_owned(), path, "eu-central-1", Some(&url))
        };
        let clock = ManualClock::at(NOW_MS);
        let auth = aws(source(path.clone()), &clock);
        assert_eq!(key(&auth).await.unwrap(), "AKID1");
        let request = asked.recv().await.unwrap();
        assert_eq!(request.line, "POST /");
        assert_eq!(request.header("content-type"), "application/x-www-form-urlencoded");
        for (name, value) in [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", ROLE),
            ("RoleSessionName", "weir"),
            ("WebIdentityToken", &jwt),
        ] {
            assert_eq!(request.field(name), value);
        }
        clock.advance(HOUR_MS);
        assert_eq!(key(&auth).await.unwrap_err().to_string(), "the answer is no credentials");
        clock.advance(SPARE_MS);
        let refused = reasons(&key(&auth).await.unwrap_err());
        assert!(refused.contains("answered 400: ExpiredTokenException Token expired"), "{refused}");
        fs::remove_file(&path).unwrap();
        clock.advance(SPARE_MS);
        let gone = key(&auth).await.unwrap_err();
        assert!(reasons(&gone).contains("token can't be read: No such file"), "{}", reasons(&gone));
        assert_eq!(gone.kind(), "the file of their token can't be read");
        assert!(!refused.contains("eyJ"));
    };
    LocalSet::new().run_until(test).await;
    let regional = |region: &str| {
        let source = AwsSource::web_identity(ROLE.to_owned(), "weir".to_owned(), "/x".into(), region, None);
        format!("{:?}", source.unwrap())
    };
    assert!(regional("eu-central-1").contains("https://sts.eu-central-1.amazonaws.com"));
    assert!(regional("cn-north-1").contains("https://sts.cn-north-1.amazonaws.com.cn"));
}

#[tokio::test]
async fn an_instance_s_role_is_asked_for_by_the_second_version_alone() {
    let test = async {
        let (url, mut asked) = fake(|asked| {
            let by_token = asked.header("x-aws-ec2-metadata-token") == "imds";
            match asked.line.as_str() {
                "PUT /latest/api/token" if asked.header("x-aws-ec2-metadata-token-ttl-seconds") == "60" => {
                    ok("imds")
                }
                "GET /latest/meta-data/iam/security-credentials/" if by_token => ok("weir-role\n"),
                "GET /latest/meta-data/iam/security-credentials/weir-role" if by_token => {
                    let mut keys = keys("AKID1", &hour(6));
                    keys["Code"] = json!("Success");
                    ok(keys)
                }
                _ => (401, "", String::new()),
            }
        })
        .await;
        let clock = ManualClock::at(NOW_MS);
        assert_eq!(key(&aws(AwsSource::instance(Some(&url)), &clock)).await.unwrap(), "AKID1");
        for _ in 0..3 {
            asked.recv().await.unwrap();
        }
        assert!(asked.try_recv().is_err());
        for (answers, told, times) in [
            (vec![(403, "")], "answered 403", 1),
            (vec![(200, "imds"), (404, "")], "the instance has no role", 2),
            (vec![(200, "imds"), (200, "../../user-data")], "the instance's metadata names no role", 2),
            (
                vec![(200, "imds"), (200, "r"), (200, r#"{"Code":"AssumeRoleUnauthorizedAccess"}"#)],
                "the instance's metadata says that its role can't be assumed",
                3,
            ),
        ] {
            let mut answers = answers.into_iter();
            let (url, mut asked) = fake(move |_| {
                let (status, body) = answers.next().unwrap();
                (status, "", body.to_owned())
            })
            .await;
            let error = key(&aws(AwsSource::instance(Some(&url)), &clock)).await.unwrap_err().to_string();
            assert!(error.ends_with(told), "{error}");
            for _ in 0..times {
                asked.recv().await.unwrap();
            }
            assert!(asked.try_recv().is_err(), "the first version was asked");
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_comes_not_back_is_a_hop_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let auth = aws(AwsSource::instance(Some(&url)), &ManualClock::at(NOW_MS));
    let error = key(&auth).await.unwrap_err();
    assert!(error.to_string().contains("hop limit of 2"), "{}", reasons(&error));
}
