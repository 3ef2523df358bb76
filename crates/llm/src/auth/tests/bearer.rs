//! Google's and Entra's tokens.

use super::*;

#[tokio::test]
async fn google_s_machines_and_pods_have_a_token() {
    let test = async {
        let mut n = 0;
        let (url, mut asked) = fake(move |asked| {
            n += 1;
            assert_eq!(asked.line, "GET /computeMetadata/v1/instance/service-accounts/default/token");
            assert_eq!(asked.header("metadata-flavor"), "Google");
            let token = json!({"access_token": format!("t{n}"), "expires_in": 3599, "token_type": "Bearer"});
            match n {
                1 => (200, "", token.to_string()),
                _ => (200, "metadata-flavor: Google\r\n", token.to_string()),
            }
        })
        .await;
        let clock = ManualClock::at(NOW_MS);
        let auth = tokens(TokenSource::google_instance(Some(&url)), &clock);
        let wrong = token(&auth).await.unwrap_err().to_string();
        assert_eq!(wrong, "who answered is not google's metadata server");
        clock.advance(SPARE_MS);
        assert_eq!(token(&auth).await.unwrap(), "Bearer t2");
        keep(&auth);
        asked.recv().await.unwrap();
        asked.recv().await.unwrap();
        // The server gives the same token until five minutes before its end.
        clock.advance(3_599_000 - Metadata::EARLY_MS - 1);
        assert_eq!(token(&auth).await.unwrap(), "Bearer t2");
        clock.advance(JITTER_MS + 1);
        until(async || token(&auth).await.unwrap() == "Bearer t3").await;
    };
    LocalSet::new().run_until(test).await;
    let source = TokenSource::google_instance(None).unwrap();
    assert!(format!("{source:?}").contains("http://metadata.google.internal"));
    assert_eq!(source.early_ms(), Metadata::EARLY_MS);
}

#[tokio::test]
async fn another_provider_s_token_is_one_of_google_s() {
    let test = async {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, "subject-1");
        let (url, mut asked) = fake(|asked| match asked.line.as_str() {
            "GET /subject?audience=x" if asked.header("x-secret") == "s" => ok(json!({"id": {"no": 1}, "t": "subject-2"})),
            "POST /sts" => ok(json!({"access_token": "federated", "expires_in": 3600,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer"})),
            "POST /impersonate:generateAccessToken" if asked.header("authorization") == "Bearer federated" => {
                ok(json!({"accessToken": "impersonated", "expireTime": hour(1)}))
            }
            _ => (404, "", String::new()),
        })
        .await;
        let account = |source: Value, impersonate: bool| {
            let mut account = json!({"type": "external_account", "audience": "//iam.googleapis.com/pools/p",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": format!("{url}/sts"),
                "credential_source": source});
            if impersonate {
                account["service_account_impersonation_url"] =
                    json!(format!("{url}/impersonate:generateAccessToken"));
                account["service_account_impersonation"] = json!({"token_lifetime_seconds": 1800});
            }
            TokenSource::google(&account.to_string().into())
        };
        let clock = ManualClock::at(NOW_MS);
        let auth = tokens(account(json!({"file": path}), false), &clock);
        assert_eq!(token(&auth).await.unwrap(), "Bearer federated");
        let request = asked.recv().await.unwrap();
        for (name, value) in [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", "//iam.googleapis.com/pools/p"),
            ("scope", SCOPE),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("subject_token", "subject-1"),
        ] {
            assert_eq!(request.field(name), value);
        }
        // Files are rotated.
        file(&folder, "subject-9");
        clock.advance(HOUR_MS);
        token(&auth).await.unwrap();
        assert_eq!(asked.recv().await.unwrap().field("subject_token"), "subject-9");

        let by_url = json!({"url": format!("{url}/subject?audience=x"), "headers": {"X-Secret": "s"},
            "format": {"type": "json", "subject_token_field_name": "t"}});
        let auth = tokens(account(by_url.clone(), true), &ManualClock::at(NOW_MS));
        assert_eq!(token(&auth).await.unwrap(), "Bearer impersonated");
        asked.recv().await.unwrap();
        assert_eq!(asked.recv().await.unwrap().field("subject_token"), "subject-2");
        let body: Value = serde_json::from_str(&asked.recv().await.unwrap().body).unwrap();
        assert_eq!(body, json!({"scope": [SCOPE], "lifetime": "1800s"}));

        let mut unknown = by_url;
        unknown["format"]["subject_token_field_name"] = json!("id");
        let auth = tokens(account(unknown, false), &ManualClock::at(NOW_MS));
        assert!(token(&auth).await.unwrap_err().to_string().contains("has not the field named"));
        for wrong in [
            json!({"environment_id": "aws1", "regional_cred_verification_url": "https://sts.{region}.amazonaws.com"}),
            json!({"executable": {"command": "/bin/true"}}),
            json!({"url": "http://10.0.0.1/token"}),
            json!({"file": "/x", "format": {"type": "json"}}),
        ] {
            assert!(account(wrong.clone(), false).is_err(), "{wrong}");
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_kubernetes_token_is_an_application_at_entra() {
    let test = async {
        let folder = tempfile::tempdir().unwrap();
        let mut n = 0;
        let (url, mut asked) = fake(move |_| {
            n += 1;
            let no = json!({"error": "invalid_client", "error_description": "AADSTS700213: No match.\r\nTrace ID: 1",
                "error_codes": [700213]});
            match n {
                1 => ok(json!({"token_type": "Bearer", "expires_in": 86399, "access_token": "entra"})),
                _ => (401, "", no.to_string()),
            }
        })
        .await;
        let path = file(&folder, "federated");
        let source = TokenSource::entra("tenant/1", "client".to_owned(), path, Some(&format!("{url}/")));
        let clock = ManualClock::at(NOW_MS);
        let auth = tokens(source, &clock);
        assert_eq!(token(&auth).await.unwrap(), "Bearer entra");
        let request = asked.recv().await.unwrap();
        assert_eq!(request.line, "POST /tenant%2F1/oauth2/v2.0/token");
        for (name, value) in [
            ("grant_type", "client_credentials"),
            ("client_id", "client"),
            ("scope", "https://cognitiveservices.azure.com/.default"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", "federated"),
        ] {
            assert_eq!(request.field(name), value);
        }
        clock.advance(24 * HOUR_MS);
        let refused = token(&auth).await.unwrap_err().to_string();
        assert!(refused.contains("answered 401: invalid_client AADSTS700213: No match."), "{refused}");
    };
    LocalSet::new().run_until(test).await;
}

fn account(uri: &str) -> Value {
    json!({"type": "service_account", "client_email": "weir@p.iam.gserviceaccount.com",
        "private_key": KEY, "private_key_id": "k1", "project_id": "p", "token_uri": uri})
}

#[tokio::test]
async fn a_service_account_s_statement_is_signed() {
    let test = async {
        let (url, mut asked) = fake(|_| ok(json!({"access_token": "one", "expires_in": 3600}))).await;
        let uri = format!("{url}/token");
        let json = account(&uri).to_string().into();
        let auth = tokens(TokenSource::google(&json), &ManualClock::at(NOW_MS));
        assert_eq!(token(&auth).await.unwrap(), "Bearer one");
        let request = asked.recv().await.unwrap();
        assert_eq!(request.line, "POST /token");
        assert_eq!(request.field("grant_type"), "urn:ietf:params:oauth:grant-type:jwt-bearer");
        let jwt = request.field("assertion");
        let (text, signed) = jwt.rsplit_once('.').unwrap();
        let grant = Grant::new(ServiceAccount::read(&json).unwrap()).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, grant.public_key());
        public.verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signed).unwrap()).unwrap();
        let part =
            |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
        let (header, claims) = text.split_once('.').unwrap();
        assert_eq!(part(header), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
        let (iat, exp) = (NOW_MS / 1_000, NOW_MS / 1_000 + 3_600);
        let iss = "weir@p.iam.gserviceaccount.com";
        assert_eq!(part(claims), json!({"iss": iss, "scope": SCOPE, "aud": uri, "iat": iat, "exp": exp}));
    };
    LocalSet::new().run_until(test).await;
}

#[test]
fn files_that_are_no_credentials_are_refused_and_not_quoted() {
    let refused = |json: Value| TokenSource::google(&json.to_string().into()).unwrap_err().to_string();
    let mut broken = account("https://x");
    broken["private_key"] = json!(KEY.replace("BEGIN PRIVATE", "BEGIN PUBLIC"));
    let mut plain = account("http://oauth2.example.com/token");
    let texts = [
        refused(json!({})),
        refused(json!({"type": "authorized_user", "refresh_token": "MII"})),
        refused(broken),
        refused(plain.clone()),
    ];
    assert!(texts.iter().all(|text| !text.contains("MII")), "{texts:?}");
    assert!(texts[3].contains("https"), "{texts:?}");
    plain["token_uri"] = json!("https://oauth2.example.com/token");
    let text = plain.to_string().into();
    let account = ServiceAccount::read(&text).unwrap();
    assert!(!format!("{account:?}").contains("MII"));
    assert!(!format!("{:?}", TokenSource::google(&text).unwrap()).contains("MII"));
    assert!(text.expose_secret().contains("MII"));
}
