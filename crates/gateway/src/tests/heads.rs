//! What requests' headers ask for, and what answers' headers tell SDKs.

use super::*;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn strictness_is_asked_for_in_several_words_and_no_others() {
    let house = house();
    for (word, strict) in
        [("true", true), ("1", true), ("Yes", true), ("ON", true), ("false", false), ("0", false)]
    {
        let response =
            post(CHAT, &chat("sim-1")).key(&house.key).header("x-weir-strict", word).send(&house).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(house.fakes.0.chats.lock().pop().unwrap().strict, strict, "{word}");
    }
    let embeddings = json!({"model": "sim-1", "input": "a"});
    for (path, body) in [(CHAT, chat("sim-1")), ("/v1/embeddings", embeddings)] {
        for word in ["2", "strict", ""] {
            let ask = post(path, &body).key(&house.key).header("x-weir-strict", word);
            let (status, error) = ask.json(&house).await;
            assert_eq!(
                (status, &error["error"]["param"]),
                (StatusCode::BAD_REQUEST, &json!("x-weir-strict"))
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_for_again() {
    let house = house();
    for (path, anthropic, shape) in [
        ("/v1/images/generations", false, "/error/code"),
        ("/v1/conversations", false, "/error/code"),
        ("/v1/messages/batches", true, "/error/type"),
        ("/v1/files", true, "/error/type"),
    ] {
        let ask = post(path, &json!({})).key(&house.key);
        let ask = if anthropic { ask.header("anthropic-version", "2023-06-01") } else { ask };
        let response = ask.send(&house).await;
        assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED, "{path}");
        assert_eq!(header(&response, "x-should-retry"), Some("false"), "{path}");
        let error = body_json(response).await;
        assert!(error.pointer(shape).is_some_and(Value::is_string), "{path}: {error}");
        assert_eq!(error["type"] == "error", anthropic, "{path}: {error}");
    }
    // Google's clients have their own shape, and a method that there isn't is no wrong method.
    let (status, error) = post("/v1beta/models/sim-1:nope", &json!({})).key(&house.key).json(&house).await;
    assert_eq!((status, &error["error"]["status"]), (StatusCode::NOT_FOUND, &json!("NOT_FOUND")));
}

#[tokio::test]
async fn a_refusal_tells_where_the_tenant_stands() {
    let house = house();
    // Nobody's body is read in full for a refusal.
    let nonsense = json!({"model": "sim-1", "messages": [{"role": "user", "content": [7]}]});
    for (path, ask) in [
        ("embeddings", post("/v1/embeddings", &json!({"model": "sim-1", "input": "a"}))),
        ("tokenize", post("/v1/tokenize", &json!({"model": "sim-1", "prompt": "a"}))),
        ("count", post("/v1/messages/count_tokens", &chat("sim-1"))),
        ("nonsense", post("/v1/messages/count_tokens", &nonsense)),
        ("attach", get("/v1/responses/resp_1?stream=true")),
    ] {
        let key = house.fakes.add_key(TenantId::new(), limits(Some(1), None));
        post("/v1/messages/count_tokens", &chat("sim-1")).key(&key).send(&house).await;
        let response = ask.key(&key).send(&house).await;
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert_eq!(header(&response, "x-ratelimit-remaining-requests"), Some("0"), "{path}");
    }
}

async fn compressed(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let accepts = http::HeaderValue::from_str(encoding).unwrap();
    let response = Response::new(Body::from(bytes.to_vec()));
    body_bytes(crate::compress::compressed(Some(&accepts), 1, response).await).await.to_vec()
}

async fn encoded(house: &House, encoding: &str, body: Vec<u8>) -> (StatusCode, Option<String>, Value) {
    let ask = post(CHAT, &json!({})).key(&house.key).header("content-encoding", encoding).body(body);
    let response = ask.send(house).await;
    let takes = header(&response, "accept-encoding").map(str::to_owned);
    (response.status(), takes, body_json(response).await)
}

#[tokio::test]
async fn bodies_may_be_compressed_within_their_bound() {
    let house = house();
    let text = chat("sim-1").to_string();
    for encoding in ["GZIP", "zstd"] {
        let body = compressed(encoding, text.as_bytes()).await;
        assert_ne!(body, text.as_bytes());
        let (status, _, answer) = encoded(&house, encoding, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(house.fakes.0.chats.lock().pop().unwrap().body, text);
    }
    let (status, _, _) = encoded(&house, "identity", text.clone().into_bytes()).await;
    assert_eq!(status, StatusCode::OK);
    for encoding in ["br", "deflate", "gzip, gzip", "x"] {
        let (status, takes, error) = encoded(&house, encoding, text.clone().into_bytes()).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{encoding}");
        assert_eq!(
            (takes.as_deref(), &error["error"]["param"]),
            (Some("gzip, zstd"), &json!("Content-Encoding"))
        );
    }
    for encoding in ["gzip", "zstd"] {
        let (status, _, error) = encoded(&house, encoding, text.clone().into_bytes()).await;
        assert_eq!((status, &error["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("Content-Encoding")));
        assert!(error["error"]["message"].as_str().unwrap().contains(encoding), "{error}");
    }
}

#[tokio::test]
async fn a_small_body_does_not_become_a_large_one() {
    let config = Config { max_body: weir_config::ByteSize::kib(64), ..Config::default() };
    let small = house_with(config, weir_access::Config::default(), None);
    // Nor does one come for ever of which nothing becomes: members of gzip with nothing in them.
    let nothing = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (status, _, error) = encoded(&small, "gzip", nothing.repeat(4 * 1024)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{error}");
    let (status, _, error) = encoded(&small, "gzip", compressed("gzip", &[b' '; 65 * 1024]).await).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{error}");
    // Within the bound of plain bodies, and yet nothing that anybody would write.
    let (status, _, error) =
        encoded(&house(), "gzip", compressed("gzip", &vec![b' '; 9 * 1024 * 1024]).await).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("Content-Encoding"))
    );
}
