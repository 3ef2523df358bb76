//! Responses: made like any chat, and read, ended and forgotten.

use weir_proto::chat::Dialect;

use super::*;

#[tokio::test]
async fn responses_are_made_like_any_chat() {
    let house = house();
    let asked = json!({"model": "sim-1", "input": "Hi", "background": true});
    for path in ["/v1/responses", "/openai/responses", "/openai/v1/responses", "/api/v1/responses"] {
        let response = post(path, &asked).key(&house.key).send(&house).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    let sent = house.fakes.0.chats.lock().last().cloned().unwrap();
    assert_eq!((sent.dialect(), sent.stream), (Dialect::OpenaiResponses, false));
    assert_eq!(serde_json::from_slice::<Value>(&sent.body).unwrap(), asked);
    let (status, error) = post("/v1/responses", &json!({"input": "Hi"})).key(&house.key).json(&house).await;
    assert_eq!((status, &error["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("model")));
}

#[tokio::test]
async fn conversations_are_made_shorter_in_one_piece() {
    let house = house();
    let asked = json!({"model": "sim-1", "input": "Hi", "previous_response_id": "resp_1"});
    for path in ["/v1/responses/compact", "/openai/responses/compact", "/api/v1/responses/compact"] {
        let response = post(path, &asked).key(&house.key).header("x-weir-strict", "true").send(&house).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(header(&response, "x-weir-provider").is_some());
    }
    assert_eq!((house.fakes.called("compact"), house.fakes.called("complete")), (3, 0));
    let sent = house.fakes.0.chats.lock().last().cloned().unwrap();
    assert_eq!((sent.dialect(), sent.stream, sent.strict), (Dialect::OpenaiResponses, false, true));
    assert_eq!(serde_json::from_slice::<Value>(&sent.body).unwrap(), asked);
    for (body, param) in [
        (json!({"input": "Hi"}), "model"),
        (json!({"model": "m"}), "input"),
        (json!({"model": "m", "input": 3}), "input"),
        (json!({"model": "m", "input": "Hi", "stream": true}), "stream"),
        (json!({"model": "m", "input": "Hi", "background": true}), "background"),
    ] {
        let (status, error) = post("/v1/responses/compact", &body).key(&house.key).json(&house).await;
        assert_eq!((status, &error["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(param)), "{body}");
    }
    let unkeyed = post("/v1/responses/compact", &asked).send(&house).await;
    assert_eq!(unkeyed.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(house.fakes.called("compact"), 3);
}

#[tokio::test]
async fn what_is_kept_is_read_by_id() {
    let house = house();
    let said = async |ask: Ask| {
        let (status, body) = ask.key(&house.key).json(&house).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["asked"].as_str().unwrap().to_owned()
    };
    assert_eq!(said(get("/v1/responses/resp_1?include[]=a&include[]=b")).await, r#"("resp_1", ["a", "b"])"#);
    assert_eq!(said(get("/openai/responses/resp_1?stream=false")).await, r#"("resp_1", [])"#);
    assert_eq!(said(get("/v1/responses/resp_1").method(Method::DELETE)).await, r#""resp_1""#);
    assert_eq!(house.fakes.last_call().0, "delete_response");
    assert_eq!(said(post("/v1/responses/resp_1/cancel", &json!({}))).await, r#""resp_1""#);
    assert_eq!(house.fakes.last_call().0, "cancel_response");
    let items = "/v1/responses/resp_1/input_items";
    assert_eq!(said(get(items)).await, r#"("resp_1", 20, "", false)"#);
    let paged = said(get(&format!("{items}?limit=3&order=asc&after=msg_1"))).await;
    assert_eq!(paged, r#"("resp_1", 3, "msg_1", true)"#);
    for (query, param) in [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order")] {
        let (status, error) = get(&format!("{items}?{query}")).key(&house.key).json(&house).await;
        assert_eq!((status, &error["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(param)), "{query}");
    }
    let (status, error) = get("/v1/responses/resp_unknown").key(&house.key).json(&house).await;
    assert_eq!((status, &error["error"]["type"]), (StatusCode::NOT_FOUND, &json!("invalid_request_error")));
    let unkeyed = get("/v1/responses/resp_1").send(&house).await;
    assert_eq!(unkeyed.status(), StatusCode::UNAUTHORIZED);
    let post = post("/v1/responses/resp_1", &json!({})).key(&house.key).send(&house).await;
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_stream_is_attached_to_where_the_client_was() {
    let house = house();
    let path = "/v1/responses/resp_1?stream=true";
    let attached = async |ask: Ask| {
        let response = ask.key(&house.key).send(&house).await;
        assert!(header(&response, "content-type").unwrap().starts_with("text/event-stream"));
        body_text(response).await
    };
    let event = |after: Option<u64>| format!("event: x\ndata: {after:?}\n\n");
    assert_eq!(attached(get(path)).await, event(None));
    assert_eq!(attached(get(&format!("{path}&starting_after=7"))).await, event(Some(7)));
    assert_eq!(attached(get(path).header("last-event-id", "9")).await, event(Some(9)));
    let both = get(&format!("{path}&starting_after=7")).header("last-event-id", "9");
    assert_eq!(attached(both).await, event(Some(7)));
    for path in [&format!("{path}&starting_after=x"), "/v1/responses/resp_1?starting_after=true"] {
        let (status, error) = get(path).key(&house.key).json(&house).await;
        assert_eq!((status, &error["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("starting_after")));
    }
}

#[tokio::test]
async fn a_stream_whose_way_breaks_is_taken_up_again() {
    let house = house();
    // Each attachment tells one event more, and breaks.
    let response = get("/v1/responses/resp_breaking?stream=true").key(&house.key).send(&house).await;
    let text = body_text(response).await;
    let expected: Vec<_> = (0..4).map(|n| format!("event: x\nid: {n}\ndata: {{}}\n\n")).collect();
    assert_eq!(text, expected.concat());
    assert_eq!(house.fakes.called("attach"), 4);

    // The same for whoever begins it, and what can't be begun says so.
    let asked = json!({"model": "breaking", "input": "Hi", "background": true, "stream": true});
    let response = post("/v1/responses", &asked).key(&house.key).send(&house).await;
    assert_eq!(body_text(response).await, expected.concat());
    assert!(!house.fakes.0.chats.lock().last().unwrap().stream);
    let refused = json!({"model": "refusing", "input": "Hi", "background": true, "stream": true});
    let response = post("/v1/responses", &refused).key(&house.key).send(&house).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let unknown = get("/v1/responses/resp_unknown?stream=true").key(&house.key).send(&house).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_way_back_goes_on_between_signs_of_life() {
    let config = Config { keep_alive: Duration::from_millis(1), ..Config::default() };
    let house = house_with(config, weir_access::Config::default(), None);
    let response = get("/v1/responses/resp_breaking?stream=true").key(&house.key).send(&house).await;
    let text = body_text(response).await.replace(": keep-alive\n", "");
    let expected: Vec<_> = (0..4).map(|n| format!("event: x\nid: {n}\ndata: {{}}\n\n")).collect();
    assert_eq!(text, expected.concat());
}

/// The name and the data of the last event.
fn last_of(text: &str) -> (String, Value) {
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let line = |prefix: &str| last.lines().find_map(|l| l.strip_prefix(prefix)).unwrap().to_owned();
    (line("event: "), serde_json::from_str(&line("data: ")).unwrap())
}

#[tokio::test]
async fn who_looks_on_at_what_is_deleted_hears_its_end() {
    let house = house();
    let response = get("/v1/responses/resp_deleted?stream=true").key(&house.key).send(&house).await;
    let (name, data) = last_of(&body_text(response).await);
    assert_eq!((name.as_str(), &data["sequence_number"]), ("response.failed", &json!(5)));
    let response = &data["response"];
    assert_eq!((&response["id"], &response["status"]), (&json!("resp_deleted"), &json!("failed")));
    assert!(response["error"]["message"].as_str().unwrap().contains("not found"), "{response}");
}

#[tokio::test]
async fn a_stream_that_began_without_its_head_has_an_end() {
    let config = Config { keep_alive: Duration::from_millis(1), ..Config::default() };
    for (model, message) in [("thinking-then-refusing", "slow down"), ("thinking-then-failing", "broke off")]
    {
        let house = house_with(config.clone(), weir_access::Config::default(), None);
        let asked = json!({"model": model, "input": "Hi", "stream": true});
        let response = post("/v1/responses", &asked).key(&house.key).send(&house).await;
        assert_eq!(response.status(), StatusCode::OK);
        house.fakes.release();
        let (name, data) = last_of(&body_text(response).await);
        assert_eq!((name.as_str(), &data["response"]["status"]), ("response.failed", &json!("failed")));
        let error = &data["response"]["error"];
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        assert_eq!(error["code"] == "rate_limit_exceeded", model == "thinking-then-refusing", "{error}");
    }
}

#[tokio::test]
async fn a_silent_stream_is_kept_open_between_events() {
    let config = Config { keep_alive: Duration::from_millis(1), ..Config::default() };
    let house = house_with(config, weir_access::Config::default(), None);
    let response = get("/v1/responses/resp_silent?stream=true").key(&house.key).send(&house).await;
    let mut body = response.into_body();
    for _ in 0..3 {
        assert_eq!(next_frame(&mut body).await.unwrap(), ": keep-alive\n");
    }
    house.fakes.release();
    let mut rest = String::new();
    while let Some(piece) = next_frame(&mut body).await {
        rest.push_str(piece.strip_prefix(": keep-alive\n").unwrap_or(&piece));
    }
    assert_eq!(rest, "event: x\ndata: None\n\n");
}

/// By the whole conversation, and once; who looks on to the end pays what was used.
#[tokio::test]
async fn a_background_response_is_charged_where_it_begins() {
    let house = house();
    let charged = async |asks: Vec<Ask>| {
        // 1,700 come in a second.
        let key = house.fakes.add_key(TenantId::new(), limits(None, Some(100_000)));
        for ask in asks {
            let response = ask.key(&key).send(&house).await;
            assert_eq!(response.status(), StatusCode::OK);
            body_text(response).await;
        }
        let last = post("/v1/chat/completions", &chat("sim-1")).key(&key).send(&house).await;
        100_000 - header(&last, "x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap()
    };
    let begun = |stream: bool| {
        let body = json!({"model": "conversing", "input": "Hi", "background": true, "stream": stream});
        post("/v1/responses", &body)
    };
    let plain = charged(vec![begun(false)]).await;
    assert!((20_000..41_000).contains(&plain), "{plain}");
    let streamed = charged(vec![begun(true)]).await;
    assert!(streamed < 1_000, "{streamed}");
    let read = charged(vec![get("/v1/responses/resp_1?stream=true")]).await;
    assert!(read < 1_000, "{read}");
    let both = charged(vec![begun(false), get("/v1/responses/resp_1?stream=true")]).await;
    assert!((20_000..41_000).contains(&both), "{both}");
}
