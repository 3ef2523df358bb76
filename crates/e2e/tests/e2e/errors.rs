//! Every way to be refused, in OpenAI's shape: status, `code`, `param`.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use weir_e2e::{
    http::{Answer, Http},
    stand::Stand,
};

const CHAT: &str = "/v1/chat/completions";

fn assert_error(answer: &Answer, status: u16, code: &str, param: Option<&str>) {
    assert_eq!(answer.status, status, "{answer:?}");
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{answer:?}");
    assert!(error["type"].is_string(), "{answer:?}");
    assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{answer:?}");
    assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
}

async fn client() -> Http {
    let stand = Stand::shared();
    stand.gateway().with_key(&stand.tenant().await.unwrap().key)
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]});
    body[field] = value;
    body
}

#[tokio::test]
async fn wrong_bodies_name_their_field() {
    let client = client().await;
    for (body, code, param) in [
        (with("messages", json!("x")), "invalid_type", "messages"),
        (with("messages", json!([{"role": "wizard", "content": "x"}])), "invalid_value", "messages[0].role"),
        (with("model", json!(7)), "invalid_type", "model"),
        (with("temperature", json!(9)), "invalid_value", "temperature"),
        (with("stream", json!("yes")), "invalid_type", "stream"),
        (with("stream_options", json!({"include_usage": true})), "invalid_value", "stream_options"),
        (with("model", Value::Null), "missing_required_parameter", "model"),
        (with("messages", Value::Null), "missing_required_parameter", "messages"),
    ] {
        let answer = client.post(CHAT, &body).await.unwrap();
        assert_error(&answer, 400, code, Some(param));
    }
}

#[tokio::test]
async fn what_is_not_json_is_refused() {
    let answer =
        client().await.send(Method::POST, CHAT, Some(Bytes::from_static(b"{\"model\":"))).await.unwrap();
    assert_error(&answer, 400, "invalid_json", None);
}

#[tokio::test]
async fn an_unknown_model_is_not_found_streamed_or_not() {
    let client = client().await;
    for stream in [false, true] {
        let mut body = with("model", json!("no-such-model"));
        body["stream"] = json!(stream);
        let answer = client.post(CHAT, &body).await.unwrap();
        assert_error(&answer, 404, "model_not_found", Some("model"));
    }
}

#[tokio::test]
async fn a_missing_or_made_up_key_is_refused() {
    let gateway = Stand::shared().gateway();
    let unknown =
        weir_types::api_key::assemble(weir_types::api_key::KeyKind::Live, weir_types::KeyId::new(), &[9; 32]);
    for client in [gateway.clone(), gateway.with_key("nonsense"), gateway.with_key(&unknown)] {
        let answer = client.post(CHAT, &with("n", json!(1))).await.unwrap();
        assert_error(&answer, 401, "invalid_api_key", None);
    }
}

#[tokio::test]
async fn the_wrong_content_type_is_refused() {
    let client = client().await.with_header("content-type", "text/plain");
    let answer = client.post(CHAT, &with("n", json!(1))).await.unwrap();
    assert_eq!(answer.status, 415, "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], "unsupported_media_type");
}

/// By its head, before anything of it is read.
#[tokio::test]
async fn a_body_too_large_is_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stand = Stand::shared();
    let key = stand.tenant().await.unwrap().key;
    let mut stream = tokio::net::TcpStream::connect(stand.addresses.gateway).await.unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        11 << 20
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 413 "), "{answer}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "payload_too_large");
}

/// As SDKs do: the whole body is written before the answer is read.
#[tokio::test]
async fn a_client_that_sends_on_still_reads_why_it_was_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stand = Stand::shared();
    let key = stand.tenant().await.unwrap().key;
    for (key, mebibytes, status) in [(key.as_str(), 11, "413"), ("pk_live_wrong", 9, "401")] {
        let mut stream = tokio::net::TcpStream::connect(stand.addresses.gateway).await.unwrap();
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            mebibytes << 20
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; mebibytes << 20]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

/// The body comes in a packet of its own, as over every network; the connection is the client's to use again.
#[tokio::test]
async fn a_connection_is_used_again_after_a_refusal() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stand = Stand::shared();
    let mut stream = tokio::net::TcpStream::connect(stand.addresses.gateway).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for turn in 0..5 {
        let body = r#"{"model":"gpt-4o-mini","messages":[]}"#;
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer pk_live_wrong\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with("HTTP/1.1 401 "), "turn {turn}: {answer:?}");
        stream.write_all(body.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_provider_s_refusal_reaches_the_client() {
    let client = client().await;
    for (status, stream) in [(500, false), (429, false), (503, true), (400, true)] {
        let mut body = with("x_sim", json!({"status": status, "retry_after": 3}));
        body["stream"] = json!(stream);
        let answer = client.post(CHAT, &body).await.unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.json()["error"]["message"].is_string(), "{answer:?}");
        if status == 429 {
            assert_eq!(answer.header("retry-after"), "3");
        }
    }
    let answer = client.post(CHAT, &with("x_sim", json!({"refuse": true}))).await.unwrap();
    assert_error(&answer, 502, "upstream_failed", None);
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so() {
    let mut body = with("x_sim", json!({"tokens": 50, "cut_after": 5}));
    body["stream"] = json!(true);
    let events = client().await.stream(CHAT, &body).await.unwrap().all().await.unwrap();
    let told =
        events.iter().filter_map(|e| serde_json::from_str::<Value>(e).ok()).find(|e| e["error"].is_object());
    assert_eq!(told.expect("no error in the stream")["error"]["code"], "upstream_failed");
    assert_eq!(weir_llm::tokens::count_text(&weir_e2e::http::text_of(&events)), 5);
}

#[tokio::test]
async fn rates_are_limited_by_tenant_and_told_in_headers() {
    let stand = Stand::shared();
    let tenant = stand.tenant_with(&json!({"requests_per_minute": 2})).await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    let body = with("n", json!(1));
    let first = client.post(CHAT, &body).await.unwrap();
    assert_eq!((first.status, first.header("x-ratelimit-limit-requests")), (200, "2"), "{first:?}");
    assert_eq!(first.header("x-ratelimit-remaining-requests"), "1");
    assert_eq!(client.post(CHAT, &body).await.unwrap().status, 200);
    let third = client.post(CHAT, &body).await.unwrap();
    assert_error(&third, 429, "rate_limit_exceeded", None);
    assert!(third.header("retry-after").parse::<u64>().is_ok_and(|s| s > 0), "{third:?}");

    // Another key of the tenant has the same bucket, another tenant has its own.
    // The platform, which makes it, is under no tenant's limits; the tenant itself would be refused here as well.
    let refused = client.get("/v1/api-keys").await.unwrap();
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("rate_limit_exceeded")));
    let platform = stand.platform().with_header("x-tenant-id", &tenant.id);
    let (_, other_key) = weir_e2e::stand::key(&platform, &["chat:write"]).await.unwrap();
    assert_eq!(stand.gateway().with_key(&other_key).post(CHAT, &body).await.unwrap().status, 429);
    let other = stand.tenant().await.unwrap();
    assert_eq!(stand.gateway().with_key(&other.key).post(CHAT, &body).await.unwrap().status, 200);
}

#[tokio::test]
async fn tokens_a_minute_are_limited_too() {
    let stand = Stand::shared();
    let tenant = stand.tenant_with(&json!({"tokens_per_minute": 300})).await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    let mut body = with("max_tokens", json!(200));
    body["x_sim"] = json!({"tokens": 200});
    assert_eq!(client.post(CHAT, &body).await.unwrap().status, 200);
    let second = client.post(CHAT, &body).await.unwrap();
    assert_error(&second, 429, "rate_limit_exceeded", None);
}

#[tokio::test]
async fn a_key_can_do_only_what_its_scopes_say() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let owner = stand.gateway().with_key(&tenant.key);
    let (_, reader) = weir_e2e::stand::key(&owner, &["models:read"]).await.unwrap();
    let reader = stand.gateway().with_key(&reader);
    assert_eq!(reader.get("/v1/models").await.unwrap().status, 200);
    let refused = reader.post(CHAT, &with("n", json!(1))).await.unwrap();
    assert_error(&refused, 403, "permission_denied", None);
    let refused = reader.post("/v1/api-keys", &json!({"name": "x"})).await.unwrap();
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("permission_denied")));
}

#[tokio::test]
async fn other_paths_answer_with_problems() {
    let client = client().await;
    let lost = client.get("/v1/nowhere").await.unwrap();
    assert_eq!((lost.status, lost.header("content-type")), (404, "application/problem+json"));
    assert_eq!(lost.json()["code"], "not_found");
    let wrong = client.delete("/v1/tenants").await.unwrap();
    assert_eq!((wrong.status, &wrong.json()["code"]), (405, &json!("method_not_allowed")));
    let later = client.post("/v1/ingestion/documents", &json!({"name": "x"})).await.unwrap();
    assert_eq!((later.status, &later.json()["code"]), (501, &json!("not_implemented")), "{later:?}");
}
