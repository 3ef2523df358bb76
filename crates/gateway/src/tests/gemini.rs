//! Google's dialect at the edge: its paths, its keys, its errors, its streams.

use super::*;
use crate::tests::fakes::{ANSWER, GOOGLES};

fn hello() -> Value {
    json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello" }] }], "generationConfig": { "maxOutputTokens": 5 } })
}

#[tokio::test]
async fn the_path_says_whom_and_how() {
    let house = house();
    for (path, model) in [
        ("/v1beta/models/sim-1:generateContent", "sim-1"),
        ("/genai/v1beta/models/sim-1:generateContent", "sim-1"),
        ("/genai/v1/models/sim-1:generateContent", "sim-1"),
        ("/v1/models/sim-1:generateContent", "sim-1"),
        ("/v1beta/models/models%2Fsim-1:generateContent", "sim-1"),
    ] {
        let response = post(path, &hello()).key(&house.key).send(&house).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&response, "x-weir-model"), Some("sim-1"));
        assert_eq!(body_text(response).await, ANSWER);
        let sent = house.fakes.0.chats.lock().pop().unwrap();
        assert_eq!((sent.model.as_str(), sent.stream), (model, false), "{path}");
        assert_eq!(sent.dialect(), weir_proto::chat::Dialect::Gemini);
        assert_eq!(sent.body, hello().to_string());
    }
    let (status, error) =
        post("/v1beta/models/a/b:c:generateContent", &hello()).key(&house.key).json(&house).await;
    assert_eq!((status, &error["error"]["status"]), (StatusCode::NOT_FOUND, &json!("NOT_FOUND")));
    assert_eq!(house.fakes.0.chats.lock().pop().unwrap().model, "a/b:c");
}

#[tokio::test]
async fn streams_are_events_or_an_array() {
    let house = house();
    let path = "/v1beta/models/gem:streamGenerateContent";
    let response = post(&format!("{path}?alt=sse"), &hello()).key(&house.key).send(&house).await;
    assert_eq!(header(&response, "content-type"), Some("text/event-stream"));
    assert_eq!(body_text(response).await, GOOGLES.concat());
    assert!(house.fakes.0.chats.lock().pop().unwrap().stream);
    for query in ["", "?alt=json", "?$alt=json;enum-encoding=int"] {
        let response = post(&format!("{path}{query}"), &hello()).key(&house.key).send(&house).await;
        assert_eq!(header(&response, "content-type"), Some("application/json"));
        assert_eq!(body_json(response).await, json!([{"a": 1}, {"a": 2}, {"a": 3}]));
    }
}

#[tokio::test]
async fn silence_is_filled_with_empty_lines() {
    let config = Config { keep_alive: Duration::from_millis(20), ..Config::default() };
    let house = house_with(config, weir_access::Config::default(), None);
    let ask =
        |query: &str| post(&format!("/v1beta/models/gem-thinking:streamGenerateContent{query}"), &hello());
    let events = ask("?alt=sse").key(&house.key).send(&house).await;
    let array = ask("").key(&house.key).send(&house).await;
    let (mut events, mut array) = (events.into_body(), array.into_body());
    for _ in 0..2 {
        // Google's SDK for Python takes a comment for JSON.
        assert_eq!(next_frame(&mut events).await.as_deref(), Some("\n"));
        assert_eq!(next_frame(&mut array).await.as_deref(), Some("\n"));
    }
    house.fakes.release();
    let (mut said, mut listed) = (String::new(), String::new());
    while let Some(frame) = next_frame(&mut events).await {
        said.push_str(&frame);
    }
    while let Some(frame) = next_frame(&mut array).await {
        listed.push_str(&frame);
    }
    assert_eq!(said.trim_start(), GOOGLES.concat());
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap(), json!([{"a": 1}, {"a": 2}, {"a": 3}]));
}

#[tokio::test]
async fn keys_come_as_google_s_clients_send_them() {
    let house = house();
    let path = "/v1beta/models/sim-1:generateContent";
    let status = |ask: Ask| async { ask.send(&house).await.status() };
    assert_eq!(status(post(path, &hello()).header("x-goog-api-key", &house.key)).await, StatusCode::OK);
    let in_query = format!("{path}?alt=json&key={}", house.key);
    assert_eq!(status(post(&in_query, &hello())).await, StatusCode::OK);
    assert_eq!(status(get(&format!("/v1beta/models?key={}", house.key))).await, StatusCode::OK);
    // Elsewhere a query is no place for a key.
    assert_eq!(status(get(&format!("/v1/models?key={}", house.key))).await, StatusCode::UNAUTHORIZED);
    for ask in [post(path, &hello()), post(&format!("{path}?key=nope"), &hello())] {
        let (status, error) = ask.json(&house).await;
        assert_eq!(
            (status, &error["error"]["status"]),
            (StatusCode::UNAUTHORIZED, &json!("UNAUTHENTICATED"))
        );
        assert_eq!(error["error"]["details"][0]["reason"], "INVALID_API_KEY");
    }
}

/// Everything that is logged or traced, at the finest.
#[derive(Clone, Default)]
struct Told(Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_key_in_the_query_is_told_to_nobody() {
    let (house, told) = (house(), Told::default());
    let writer = told.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let watched = tracing::subscriber::set_default(subscriber);
    for (path, status) in [
        ("/v1beta/models/sim-1:generateContent", StatusCode::OK),
        ("/v1beta/models/nobody:generateContent", StatusCode::NOT_FOUND),
        ("/v1beta/models/panicking:generateContent", StatusCode::INTERNAL_SERVER_ERROR),
        ("/v1beta/files", StatusCode::NOT_IMPLEMENTED),
        ("/nowhere", StatusCode::NOT_FOUND),
    ] {
        let response = post(&format!("{path}?key={}", house.key), &hello()).send(&house).await;
        assert_eq!(response.status(), status, "{path}");
        let headers = format!("{:?}", response.headers());
        assert!(!headers.contains(&house.key) && !body_text(response).await.contains(&house.key));
    }
    drop(watched);
    let told = String::from_utf8(told.0.lock().clone()).unwrap() + &house.metrics.encode();
    assert!(told.contains("/v1beta/models/{model}:generateContent"), "{told}");
    let secret = house.key.rsplit('_').next().unwrap();
    assert!(!told.contains(secret), "{told}");
}

#[tokio::test]
async fn errors_have_google_s_shape() {
    let house = house();
    let path = "/v1beta/models/sim-1:generateContent";
    for (body, field) in [
        (json!({}), "contents"),
        (
            json!({"contents": [{}], "generationConfig": {"candidateCount": 0}}),
            "generationConfig.candidateCount",
        ),
    ] {
        let (status, error) = post(path, &body).key(&house.key).json(&house).await;
        assert_eq!(
            (status, &error["error"]["status"]),
            (StatusCode::BAD_REQUEST, &json!("INVALID_ARGUMENT"))
        );
        assert_eq!(error["error"]["details"][1]["fieldViolations"][0]["field"], field);
    }
    let response = get(path).key(&house.key).send(&house).await;
    assert_eq!(
        (response.status(), header(&response, "allow")),
        (StatusCode::METHOD_NOT_ALLOWED, Some("POST"))
    );
    assert_eq!(body_json(response).await["error"]["status"], "UNIMPLEMENTED");
    let key = house.fakes.add_key(TenantId::new(), limits(Some(1), None));
    post(path, &hello()).key(&key).send(&house).await;
    let response = post(path, &hello()).key(&key).send(&house).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(header(&response, "retry-after").is_some());
    let error = body_json(response).await;
    assert_eq!(error["error"]["status"], "RESOURCE_EXHAUSTED");
    assert!(error.to_string().contains("retryDelay"));
    // In a stream that has begun, the last event tells.
    let response =
        post("/v1beta/models/cut:streamGenerateContent?alt=sse", &hello()).key(&house.key).send(&house).await;
    let text = body_text(response).await;
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("data: {\"error\":{\"code\":502,"), "{text}");
}

#[tokio::test]
async fn tokens_are_counted_by_model() {
    let house = house();
    let (status, counted) =
        post("/v1beta/models/sim-1:countTokens", &hello()).key(&house.key).json(&house).await;
    assert_eq!((status, &counted), (StatusCode::OK, &json!({"totalTokens": hello().to_string().len()})));
    let response = post("/v1beta/models/sim-1:countTokens", &hello()).key(&house.key).send(&house).await;
    assert_eq!(header(&response, "x-weir-provider"), Some("sim-1"), "whoever counted");
    let whole = json!({"generateContentRequest": {"model": "models/x", "contents": [{}]}});
    let (status, _) = post("/v1beta/models/sim-1:countTokens", &whole).key(&house.key).json(&house).await;
    assert_eq!(status, StatusCode::OK);
    let (status, error) =
        post("/v1beta/models/sim-1:countTokens", &json!({})).key(&house.key).json(&house).await;
    assert_eq!((status, &error["error"]["status"]), (StatusCode::BAD_REQUEST, &json!("INVALID_ARGUMENT")));
}

#[tokio::test]
async fn models_are_listed_page_by_page() {
    let house = house();
    let (status, list) = get("/v1beta/models?pageSize=1").key(&house.key).json(&house).await;
    assert_eq!((status, &list["models"][0]["name"]), (StatusCode::OK, &json!("models/meta/llama:3")));
    let next = list["nextPageToken"].as_str().unwrap();
    let (_, list) = get(&format!("/genai/v1beta/models?pageToken={next}")).key(&house.key).json(&house).await;
    assert_eq!((&list["models"][0]["name"], list.get("nextPageToken")), (&json!("models/sim-1"), None));
    for path in ["/v1beta/models/meta/llama:3", "/genai/v1beta/models/meta%2Fllama:3"] {
        let (status, model) = get(path).key(&house.key).json(&house).await;
        assert_eq!((status, &model["baseModelId"]), (StatusCode::OK, &json!("meta/llama:3")));
    }
    let (status, error) = get("/v1beta/models/nope").key(&house.key).json(&house).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::NOT_FOUND, &json!(404)));
    let (status, _) = get("/v1beta/models?pageSize=x").key(&house.key).json(&house).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
