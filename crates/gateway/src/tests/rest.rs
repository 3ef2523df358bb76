//! REST endpoints, unknown paths, wrong methods, CORS.

use super::*;

fn problem_code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_tenant_is_created_as_the_manual_shows_it() {
    let house = house();
    let body = json!({
        "name": "Enterprise Client",
        "tier": "premium",
        "rate_limits": { "requests_per_minute": 1000, "tokens_per_minute": 100_000 }
    });
    let response = post("/api/v1/tenants", &body).key(&house.admin).send(&house).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let location = header(&response, "location").unwrap().to_owned();
    let created = body_json(response).await;
    assert_eq!(location, format!("/v1/tenants/{}", created["id"].as_str().unwrap()));
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&created[field], value);
    }
    let (status, found) = get(&location).key(&house.admin).json(&house).await;
    assert_eq!((status, &found), (StatusCode::OK, &created));
    let (status, list) = get("/v1/tenants?limit=5").key(&house.admin).json(&house).await;
    assert_eq!((status, &list["data"][0]), (StatusCode::OK, &created));
    assert_eq!((&list["has_more"], &list["next_cursor"]), (&json!(false), &Value::Null));

    let (status, problem) = post("/v1/tenants", &body).key(&house.key).json(&house).await;
    assert_eq!((status, problem_code(&problem)), (StatusCode::FORBIDDEN, "permission_denied"));
    for unknown in ["/v1/tenants/x", &format!("/v1/tenants/{}", TenantId::new())] {
        assert_eq!(get(unknown).key(&house.admin).send(&house).await.status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn wrong_and_unknown_fields_are_named() {
    let house = house();
    for (body, code, param) in [
        (json!({ "name": "x", "colour": "red" }), "invalid_argument", "/colour"),
        (
            json!({ "name": "x", "rate_limits": { "requests": 1 } }),
            "invalid_argument",
            "/rate_limits/requests",
        ),
        (
            json!({ "name": "x", "rate_limits": { "requests_per_minute": "1" } }),
            "invalid_type",
            "/rate_limits/requests_per_minute",
        ),
        (
            json!({ "name": "x", "rate_limits": { "requests_per_minute": 0 } }),
            "invalid_argument",
            "/rate_limits/requests_per_minute",
        ),
        (json!({ "name": "x", "tier": "gold" }), "invalid_argument", "/tier"),
        (json!({ "tier": "premium" }), "missing_required_parameter", "/name"),
        (json!({ "name": 7 }), "invalid_type", "/name"),
    ] {
        let response = post("/v1/tenants", &body).key(&house.admin).send(&house).await;
        assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
        let id = header(&response, "x-request-id").unwrap().to_owned();
        let problem = body_json(response).await;
        assert_eq!((problem_code(&problem), &problem["param"]), (code, &json!(param)));
        assert_eq!((&problem["status"], &problem["request_id"]), (&json!(400), &json!(id)));
    }
    assert_eq!(house.fakes.called("create_tenant"), 0);
}

#[tokio::test]
async fn keys_are_created_listed_and_revoked_under_both_names() {
    let house = house();
    for path in ["/v1/api-keys", "/v1/users/me/api-keys"] {
        let body = json!({ "name": "ci", "scopes": ["chat:write"], "expires_at_ms": 77 });
        let response = post(path, &body).key(&house.key).send(&house).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        assert!(header(&response, "location").unwrap().starts_with("/v1/api-keys/018f"));
        let created = body_json(response).await;
        assert_eq!(created["secret"], "pk_live_x_secret");
        let key = &created["api_key"];
        assert_eq!((&key["scopes"], &key["expires_at_ms"]), (&json!(["chat:write"]), &json!(77)));
        assert_eq!((&key["user_id"], &key["revoked_at_ms"]), (&Value::Null, &Value::Null));

        let (status, list) = get(&format!("{path}?limit=3&after=abc")).key(&house.key).json(&house).await;
        assert_eq!(
            (status, &list["data"][0]["id"], &list["next_cursor"]),
            (StatusCode::OK, &json!("abc"), &json!("3"))
        );
        let stranger = get(&format!("{path}/{}", KeyId::new())).method(Method::DELETE).key(&house.key);
        assert_eq!(stranger.send(&house).await.status(), StatusCode::NOT_FOUND);
    }
    let (status, problem) = get("/v1/api-keys").key(&house.admin).json(&house).await;
    assert_eq!((status, problem_code(&problem)), (StatusCode::BAD_REQUEST, "tenant_required"));
    // Only absent means the default scopes.
    for (scopes, status) in [(json!([]), 400), (json!(null), 201), (json!(["root"]), 400)] {
        let body = json!({ "name": "ci", "scopes": scopes });
        assert_eq!(post("/v1/api-keys", &body).key(&house.key).send(&house).await.status().as_u16(), status);
    }
    for query in ["limit=0", "limit=101", "limit=1&limit=2", "page=2", "after=%ff"] {
        let (status, problem) = get(&format!("/v1/api-keys?{query}")).key(&house.key).json(&house).await;
        assert_eq!(
            (status, problem_code(&problem)),
            (StatusCode::BAD_REQUEST, "invalid_argument"),
            "{query}"
        );
    }
}

#[tokio::test]
async fn usage_and_kpis_take_both_kinds_of_time_and_answer_in_numbers() {
    let house = house();
    let (status, usage) =
        get("/v1/users/me/usage?from=2023-11-14T22:13:20Z&to=1700003600").key(&house.key).json(&house).await;
    assert_eq!(status, StatusCode::OK);
    let asked = house.fakes.0.usage_asked.lock().take().unwrap();
    assert_eq!((asked.from_ms, asked.to_ms), (1_700_000_000_000, 1_700_003_600_000));
    assert_eq!(usage["totals"]["requests"].as_u64(), Some(9_007_199_254_740_993));
    assert_eq!(usage["by_model"][0]["totals"]["input_tokens"], 3);
    assert_eq!(usage["by_hour"][0]["hour_ms"], 3_600_000);

    let (status, kpis) = get("/v1/analytics/kpis/hourly?model=sim-1").key(&house.key).json(&house).await;
    assert_eq!((status, &kpis["data"][0]["requests"]), (StatusCode::OK, &json!(2)));
    assert_eq!(house.fakes.0.kpis_asked.lock().take().unwrap().model, "sim-1");
    assert_eq!(kpis["data"][0]["first_token"]["p95_us"], 0);

    for (path, param) in [
        ("/v1/users/me/usage?from=noon", "from"),
        ("/v1/users/me/usage?since=1", "since"),
        ("/v1/users/me/usage?from_ms=1", "from_ms"),
    ] {
        let (status, problem) = get(path).key(&house.key).json(&house).await;
        assert_eq!((status, &problem["param"]), (StatusCode::BAD_REQUEST, &json!(param)));
    }
}

#[tokio::test]
async fn decisions_are_the_routers() {
    let house = house();
    let (status, decision) =
        post("/api/v1/router/decide", &json!({ "model": "auto" })).key(&house.key).json(&house).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&decision["model"], &decision["provider"]), (&json!("auto"), &Value::Null));
    assert_eq!(decision["reasons"], json!(["named outright"]));
}

#[tokio::test]
async fn what_is_not_there_yet_says_so_in_its_dialect() {
    let house = house();
    let asks = |path: &str| post(path, &json!({})).key(&house.key);
    let (status, body) = asks("/v1/moderations").json(&house).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_IMPLEMENTED, &json!("not_implemented")));
    let (status, body) = asks("/v1/messages/batches").json(&house).await;
    assert_eq!((status, &body["type"]), (StatusCode::NOT_IMPLEMENTED, &json!("error")));
    assert_eq!(body["error"]["type"], "api_error");
    for path in ["/v1beta/models/gemini-3:predict", "/genai/v1beta/cachedContents", "/v1beta/files"] {
        let (status, body) = asks(path).json(&house).await;
        assert_eq!(
            (status, &body["error"]["status"]),
            (StatusCode::NOT_IMPLEMENTED, &json!("UNIMPLEMENTED"))
        );
    }
    for path in ["/v1/rerank", "/v1/images/generations", "/v1/audio/speech", "/v1/realtime"] {
        let (status, body) = asks(path).json(&house).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (StatusCode::NOT_IMPLEMENTED, &json!("not_implemented")),
            "{path}"
        );
    }
    for ask in [asks("/v1/ingestion/documents"), get("/v1/ingestion/documents/1").key(&house.key)] {
        let (status, problem) = ask.json(&house).await;
        assert_eq!((status, problem_code(&problem)), (StatusCode::NOT_IMPLEMENTED, "not_implemented"));
    }
    assert_eq!(house.fakes.called("create_document"), 1);
    let keyless = post("/v1/ingestion/documents", &json!({}));
    assert_eq!(keyless.send(&house).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods() {
    let house = house();
    let (status, problem) = get("/v1/nothing").json(&house).await;
    assert_eq!((status, problem_code(&problem)), (StatusCode::NOT_FOUND, "not_found"));
    let response = get("/v1/chat/completions").send(&house).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(header(&response, "allow"), Some("POST"));
    assert_eq!(body_json(response).await["error"]["code"], "method_not_allowed");
    let response = get("/v1/tenants").method(Method::DELETE).send(&house).await;
    assert_eq!(header(&response, "allow"), Some("GET, HEAD, POST"));
    let response = get("/v1/tenants").method(Method::OPTIONS).send(&house).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&response, "allow"), Some("GET, HEAD, POST"));
    let (status, index) = get("/").json(&house).await;
    assert_eq!((status, &index["chat"]), (StatusCode::OK, &json!("/v1/chat/completions")));
}

#[tokio::test]
async fn only_named_origins_may_read_answers() {
    let config = Config { cors_origins: vec!["http://localhost:3000".to_owned()], ..Config::default() };
    let named = house_with(config, weir_access::Config::default(), None);
    let preflight = |origin: &str| {
        get("/v1/chat/completions")
            .method(Method::OPTIONS)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,x-stainless-os")
    };
    let response = preflight("http://localhost:3000").send(&named).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&response, "access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(header(&response, "access-control-allow-headers"), Some("authorization,x-stainless-os"));
    assert_eq!(header(&response, "access-control-allow-credentials"), None);
    assert_eq!(header(&response, "vary"), Some("origin"));
    let stranger = preflight("http://evil.example").send(&named).await;
    assert_eq!(header(&stranger, "access-control-allow-origin"), None);
    assert_eq!(header(&stranger, "vary"), Some("origin"));
    let response =
        get("/v1/models").key(&named.key).header("origin", "http://localhost:3000").send(&named).await;
    assert_eq!(header(&response, "access-control-allow-origin"), Some("http://localhost:3000"));
    let exposed = header(&response, "access-control-expose-headers").unwrap();
    assert!(exposed.contains("x-request-id") && exposed.contains("x-weir-cost-usd"), "{exposed}");

    let none = house();
    let response = preflight("http://localhost:3000").send(&none).await;
    assert_eq!(header(&response, "access-control-allow-origin"), None);
    let config = Config { cors_origins: vec!["*".to_owned()], ..Config::default() };
    let any = house_with(config, weir_access::Config::default(), None);
    let response = preflight("http://else.example").send(&any).await;
    assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));
    assert_eq!(header(&response, "access-control-allow-credentials"), None);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    for config in [
        Config { keep_alive: Duration::ZERO, ..Config::default() },
        Config { cors_origins: vec!["localhost:3000".to_owned()], ..Config::default() },
        Config { cors_origins: vec!["http://localhost:3000/".to_owned()], ..Config::default() },
    ] {
        assert!(config.check().is_err(), "{config:?}");
    }
}
