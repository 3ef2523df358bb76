//! Everything that can be wrong with a request, and the shape of the answer.

use super::*;

/// The OpenAI error of a refused chat request.
async fn refused(house: &House, ask: Ask) -> (StatusCode, Value) {
    let response = ask.send(house).await;
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    assert!(header(&response, "x-request-id").is_some());
    let status = response.status();
    let mut body = body_json(response).await;
    let error = body["error"].take();
    let mut keys: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["code", "message", "param", "type"]);
    (status, error)
}

fn ask(house: &House, body: &Value) -> Ask {
    post("/v1/chat/completions", body).key(&house.key)
}

#[tokio::test]
async fn bodies_that_are_wrong() {
    let house = house();
    let (status, error) = refused(&house, ask(&house, &json!({})).body("{\"model\": ")).await;
    assert_eq!((status, &error["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_json")));
    for (change, param) in [
        (json!({ "messages": [{ "role": 7, "content": "x" }] }), "messages[0].role"),
        (json!({ "messages": "hello" }), "messages"),
        (json!({ "stream": "yes" }), "stream"),
        (json!({ "max_tokens": "many" }), "max_tokens"),
        (json!({ "model": 5 }), "model"),
    ] {
        let mut body = chat("sim-1");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, error) = refused(&house, ask(&house, &body)).await;
        assert_eq!((status, &error["param"]), (StatusCode::BAD_REQUEST, &json!(param)), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    assert_eq!(house.fakes.called("complete"), 0);
}

#[tokio::test]
async fn a_model_nobody_serves() {
    let house = house();
    for body in [chat("gpt-9"), streamed("gpt-9")] {
        let (status, error) = refused(&house, ask(&house, &body)).await;
        assert_eq!((status, &error["code"]), (StatusCode::NOT_FOUND, &json!("model_not_found")));
        assert_eq!(error["param"], "model");
    }
}

#[tokio::test]
async fn keys_that_are_missing_unknown_malformed_or_revoked_get_one_answer() {
    let house = house();
    let unknown = assemble(KeyKind::Live, KeyId::new(), &[8; 32]);
    let mut texts = Vec::new();
    for key in [unknown.as_str(), "sk-typo", &house.key[..20]] {
        let response = post("/v1/chat/completions", &chat("sim-1")).key(key).send(&house).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(header(&response, "www-authenticate"), Some("Bearer"));
        texts.push(body_json(response).await);
    }
    assert_eq!(house.fakes.called("resolve_key"), 1);

    let key = house.fakes.add_key(house.tenant, |_| {});
    assert_eq!(
        post("/v1/chat/completions", &chat("sim-1")).key(&key).send(&house).await.status(),
        StatusCode::OK
    );
    let id = weir_types::api_key::parse(&key).unwrap().id;
    let path = format!("/v1/api-keys/{id}");
    let (status, shown) = get(&path).method(Method::DELETE).key(&house.key).json(&house).await;
    assert_eq!((status, &shown["revoked_at_ms"]), (StatusCode::OK, &json!(9)));
    let (status, error) = post("/v1/chat/completions", &chat("sim-1")).key(&key).json(&house).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    texts.push(error);
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
    assert_eq!(texts[0]["error"]["code"], "invalid_api_key");

    let (status, error) = refused(&house, post("/v1/chat/completions", &chat("sim-1"))).await;
    assert_eq!((status, &error["code"]), (StatusCode::UNAUTHORIZED, &json!("invalid_api_key")));
    let ask = post("/v1/chat/completions", &chat("sim-1")).header("x-api-key", &house.key);
    assert_eq!(ask.send(&house).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_key_without_the_scope() {
    let house = house();
    let key = house.fakes.add_key(house.tenant, |grant| grant.scopes = vec![scope::MODELS_READ.to_owned()]);
    let (status, error) = refused(&house, post("/v1/chat/completions", &chat("sim-1")).key(&key)).await;
    assert_eq!((status, &error["code"]), (StatusCode::FORBIDDEN, &json!("permission_denied")));
    assert_eq!(get("/v1/models").key(&key).send(&house).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn bodies_too_large_announced_or_not() {
    let config = Config { max_body: weir_config::ByteSize::kib(1), ..Config::default() };
    let house = house_with(config, weir_access::Config::default(), None);
    let announced = ask(&house, &json!({})).header("content-length", "1025").body(Body::empty());
    let (status, error) = refused(&house, announced).await;
    assert_eq!((status, &error["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("payload_too_large")));

    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = taken.clone();
    let endless = futures_util::stream::repeat_with(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 100]))
    });
    let (status, error) = refused(&house, ask(&house, &json!({})).body(Body::from_stream(endless))).await;
    assert_eq!((status, &error["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("payload_too_large")));
    assert_eq!(taken.load(std::sync::atomic::Ordering::SeqCst), 11, "not read beyond the limit");

    let (status, problem) =
        post("/v1/tenants", &json!({ "name": "x".repeat(2_000) })).key(&house.admin).json(&house).await;
    assert_eq!((status, &problem["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("payload_too_large")));
}

#[tokio::test]
async fn a_wrong_content_type() {
    let house = house();
    for wrong in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        let request = Request::post("/v1/chat/completions").header("content-type", wrong);
        let (status, error) = refused(&house, Ask(request, Body::from("{}")).key(&house.key)).await;
        assert_eq!(
            (status, &error["code"]),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, &json!("unsupported_media_type"))
        );
    }
    for right in ["application/json", "Application/JSON; charset=utf-8"] {
        let request = Request::post("/v1/chat/completions").header("content-type", right);
        let ask = Ask(request, Body::from(chat("sim-1").to_string())).key(&house.key);
        assert_eq!(ask.send(&house).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn over_the_rate_of_requests() {
    let house = house();
    let key = house.fakes.add_key(TenantId::new(), limits(Some(2), None));
    let ask = || post("/v1/chat/completions", &chat("sim-1")).key(&key);
    for _ in 0..2 {
        assert_eq!(ask().send(&house).await.status(), StatusCode::OK);
    }
    let response = ask().send(&house).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = header(&response, "retry-after").unwrap().parse().unwrap();
    let ms: u64 = header(&response, "retry-after-ms").unwrap().parse().unwrap();
    assert!(
        (1..=30).contains(&seconds) && ms <= 30_000 && ms.div_ceil(1_000) == seconds,
        "{seconds} s, {ms} ms"
    );
    assert_eq!(header(&response, "x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(header(&response, "x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(header(&response, "x-should-retry"), None);
    let error = body_json(response).await;
    assert_eq!(error["error"]["code"], "rate_limit_exceeded");
    assert_eq!(house.fakes.called("complete"), 2);
}

#[tokio::test]
async fn over_the_rate_of_tokens() {
    let house = house();
    let key = house.fakes.add_key(TenantId::new(), limits(None, Some(100)));
    let with_max = |max: u64| {
        let mut body = chat("sim-1");
        body["max_tokens"] = max.into();
        post("/v1/chat/completions", &body).key(&key)
    };
    let too_large = with_max(5_000).send(&house).await;
    assert_eq!(too_large.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&too_large, "x-should-retry"), Some("false"));
    assert_eq!(header(&too_large, "retry-after"), None);
    assert!(body_text(too_large).await.contains("too large"));
    // Without a bound of its own, a request fits into any limit.
    assert_eq!(
        post("/v1/chat/completions", &chat("sim-1")).key(&key).send(&house).await.status(),
        StatusCode::OK
    );
    assert_eq!(with_max(60).send(&house).await.status(), StatusCode::OK);
    // 70 are left. A model that does not exist gives its tokens back.
    for _ in 0..5 {
        let status = post("/v1/chat/completions", &chat("gpt-9")).key(&key).send(&house).await.status();
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    assert_eq!(with_max(40).send(&house).await.status(), StatusCode::OK);
    let refused = with_max(60).send(&house).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(header(&refused, "retry-after").is_some());
}

/// A body that never comes, and whether somebody waits for it.
fn awaited() -> (Body, Arc<std::sync::atomic::AtomicBool>) {
    let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = asked.clone();
    let body = futures_util::stream::poll_fn(move |_| {
        seen.store(true, std::sync::atomic::Ordering::SeqCst);
        std::task::Poll::<Option<std::io::Result<Bytes>>>::Pending
    });
    (Body::from_stream(body), asked)
}

#[tokio::test]
async fn a_body_that_comes_slowly_takes_its_tenants_uploads_only() {
    let access = weir_access::Config { max_concurrent_requests: 1, ..weir_access::Config::default() };
    let config = Config { max_uploads_per_tenant: 1, ..Config::default() };
    let house = house_with(config, access, None);
    let (body, asked) = awaited();
    let mut slow = Box::pin(ask(&house, &json!({})).body(body).send(&house));
    while !asked.load(std::sync::atomic::Ordering::SeqCst) {
        assert!(futures_util::poll!(&mut slow).is_pending());
        tokio::task::yield_now().await;
    }
    let other = house.fakes.add_key(TenantId::new(), |_| {});
    let response = post("/v1/chat/completions", &chat("sim-1")).key(&other).send(&house).await;
    assert_eq!(response.status(), StatusCode::OK);
    let response = ask(&house, &chat("sim-1")).send(&house).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&response, "retry-after"), Some("1"));
    drop(slow);
    assert_eq!(ask(&house, &chat("sim-1")).send(&house).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn other_bodies_that_come_slowly_keep_nobody_waiting_either() {
    for path in ["/v1/api-keys", "/v1/messages/count_tokens"] {
        let access = weir_access::Config { max_concurrent_requests: 1, ..weir_access::Config::default() };
        let house = house_with(Config::default(), access, None);
        let (body, asked) = awaited();
        let mut slow = Box::pin(post(path, &json!({})).key(&house.key).body(body).send(&house));
        while !asked.load(std::sync::atomic::Ordering::SeqCst) {
            assert!(futures_util::poll!(&mut slow).is_pending());
            tokio::task::yield_now().await;
        }
        for ask in [get("/v1/models"), get("/v1/api-keys"), post("/v1/chat/completions", &chat("sim-1"))] {
            assert_eq!(ask.key(&house.key).send(&house).await.status(), StatusCode::OK, "{path}");
        }
    }
}

#[tokio::test]
async fn calls_that_are_no_model_calls_have_few_places_for_each_tenant() {
    // Of a model that is not listed, the list is asked for first.
    for (path, call, calls) in [
        ("/v1/analytics/kpis/hourly?model=slow", "hourly_kpis", 1),
        ("/v1/models/sim/slow", "list_models", 2),
    ] {
        let access =
            weir_access::Config { max_concurrent_rest_per_tenant: 1, ..weir_access::Config::default() };
        let house = house_with(Config::default(), access, None);
        let mut slow = Box::pin(get(path).key(&house.key).send(&house));
        while house.fakes.called(call) < calls {
            assert!(futures_util::poll!(&mut slow).is_pending());
            tokio::task::yield_now().await;
        }
        for path in ["/v1/api-keys", "/v1/models"] {
            let refused = get(path).key(&house.key).send(&house).await;
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
            assert_eq!(header(&refused, "retry-after"), Some("1"));
        }
        let model_call = post("/v1/chat/completions", &chat("sim-1")).key(&house.key);
        assert_eq!(model_call.send(&house).await.status(), StatusCode::OK);
        let other = house.fakes.add_key(TenantId::new(), |_| {});
        for (path, key) in [("/v1/api-keys", &other), ("/v1/tenants", &house.admin)] {
            assert_eq!(get(path).key(key).send(&house).await.status(), StatusCode::OK);
        }
        house.fakes.release();
        assert_eq!(slow.await.status(), StatusCode::OK);
        assert_eq!(get("/v1/api-keys").key(&house.key).send(&house).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn every_call_counts_among_its_tenants_requests() {
    let house = house();
    let tenant = json!({ "name": "Acme", "rate_limits": { "requests_per_minute": 2 } });
    let (_, tenant) = post("/v1/tenants", &tenant).key(&house.admin).json(&house).await;
    let id = tenant["id"].as_str().unwrap();
    let key = house.fakes.add_key(id.parse().unwrap(), limits(Some(2), None));
    for (path, left) in [("/v1/api-keys", "1"), ("/v1/models", "0")] {
        let answer = get(path).key(&key).send(&house).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), Some(left));
    }
    for ask in [get("/v1/models"), post("/v1/api-keys", &json!({ "name": "x" }))] {
        let refused = ask.key(&key).send(&house).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(header(&refused, "retry-after").is_some());
        assert_eq!(header(&refused, "x-ratelimit-limit-requests"), Some("2"));
    }
    assert_eq!(house.fakes.called("create_api_key"), 0);
    let platform = get("/v1/api-keys").key(&house.admin).header("x-tenant-id", id);
    let answer = platform.send(&house).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "x-ratelimit-limit-requests"), None);
}

#[tokio::test]
async fn a_key_that_may_not_chat_is_told_before_its_body_came() {
    let house = house();
    let key = house.fakes.add_key(house.tenant, |grant| grant.scopes = vec![scope::MODELS_READ.to_owned()]);
    let ask = post("/v1/chat/completions", &json!({})).body(awaited().0).key(&key);
    let response = tokio::time::timeout(SOON, ask.send(&house)).await.expect("waits for the body");
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn too_much_at_once() {
    let access = weir_access::Config { max_concurrent_requests: 1, ..weir_access::Config::default() };
    let house = house_with(Config::default(), access, None);
    let held = ask(&house, &streamed("hanging")).send(&house).await;
    let response = ask(&house, &chat("sim-1")).send(&house).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&response, "retry-after"), Some("1"));
    assert_eq!(body_json(response).await["error"]["code"], "overloaded");
    drop(held);
    assert_eq!(ask(&house, &chat("sim-1")).send(&house).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_panic_and_nonsense_from_inside_say_nothing() {
    let house = house();
    for model in ["panicking", "headless"] {
        for body in [chat(model), streamed(model)] {
            let (status, error) = refused(&house, ask(&house, &body)).await;
            assert_eq!(
                (status, &error["code"]),
                (StatusCode::INTERNAL_SERVER_ERROR, &json!("internal_error"))
            );
            assert!(!error.to_string().contains("secret"));
        }
    }
}

#[tokio::test]
async fn tenants_named_in_the_header() {
    let house = house();
    let admin = |tenant: Option<&str>| {
        let ask = post("/v1/chat/completions", &chat("sim-1")).key(&house.admin);
        match tenant {
            Some(tenant) => ask.header("x-tenant-id", tenant),
            None => ask,
        }
    };
    let (status, error) = refused(&house, admin(None)).await;
    assert_eq!((status, &error["code"]), (StatusCode::BAD_REQUEST, &json!("tenant_required")));
    let (status, error) = refused(&house, admin(Some("acme"))).await;
    assert_eq!((status, &error["param"]), (StatusCode::BAD_REQUEST, &json!("X-Tenant-ID")));
    let (status, _) = refused(&house, admin(Some(&TenantId::new().to_string()))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let (_, tenant) = post("/v1/tenants", &json!({ "name": "Acme" })).key(&house.admin).json(&house).await;
    let id = tenant["id"].as_str().unwrap();
    assert_eq!(admin(Some(id)).send(&house).await.status(), StatusCode::OK);
    assert_eq!(house.fakes.last_call().1.tenant, id.parse().ok());

    let own = house.tenant.to_string();
    let (mut answers, nobody) = (Vec::new(), TenantId::new().to_string());
    for other in [id, nobody.as_str(), "acme"] {
        answers.push(refused(&house, ask(&house, &chat("sim-1")).header("x-tenant-id", other)).await);
    }
    assert_eq!(answers[0].0, StatusCode::FORBIDDEN);
    assert_eq!(answers[0].1["code"], "tenant_mismatch");
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(
        ask(&house, &chat("sim-1")).header("x-tenant-id", &own).send(&house).await.status(),
        StatusCode::OK
    );
}
