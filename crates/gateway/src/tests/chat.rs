//! Chat requests that succeed, and what providers say.

use super::*;
use crate::tests::fakes::{ANSWER, PROVIDER_ERROR};

#[tokio::test]
async fn a_plain_answer_comes_whole_and_below_both_prefixes() {
    let house = house();
    for path in ["/v1/chat/completions", "/api/v1/chat/completions"] {
        let response = post(path, &chat("sim-1")).key(&house.key).send(&house).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "content-type"), Some("application/json"));
        assert_eq!(header(&response, "content-length"), Some(ANSWER.len().to_string().as_str()));
        assert_eq!(header(&response, "x-weir-provider"), Some("sim"));
        assert_eq!(header(&response, "x-weir-model"), Some("sim-1"));
        assert_eq!(header(&response, "cache-control"), Some("private, no-store"));
        assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&response, "server"), None);
        assert!(header(&response, "x-request-id").unwrap().starts_with("req_"));
        assert_eq!(body_text(response).await, ANSWER);
    }
}

#[tokio::test]
async fn the_clients_bytes_go_on_untouched() {
    let house = house();
    let body = "{ \"model\":\"sim-1\" , \"new_parameter\": 1.50, \"messages\":[{\"role\":\"user\",\"content\":\"\\u0041\"}]}";
    let response = post("/v1/chat/completions", &json!({})).body(body).key(&house.key).send(&house).await;
    assert_eq!(response.status(), StatusCode::OK);
    let sent = house.fakes.0.chats.lock().pop().unwrap();
    assert_eq!(sent.body, body);
    assert_eq!((sent.model.as_str(), sent.stream, sent.include_usage), ("sim-1", false, false));
    let (_, ctx) = house.fakes.last_call();
    assert_eq!(ctx.tenant, Some(house.tenant));
    assert!(ctx.deadline.is_some() && ctx.key().is_some());

    let mut body = streamed("sim-1");
    body["stream_options"] = json!({ "include_usage": true });
    post("/v1/chat/completions", &body).key(&house.key).send(&house).await;
    let sent = house.fakes.0.chats.lock().pop().unwrap();
    assert!(sent.stream && sent.include_usage);
}

#[tokio::test]
async fn a_body_in_pieces_is_one_body() {
    let house = house();
    let text = chat("sim-1").to_string();
    let (a, b) = text.split_at(20);
    let pieces = [a.to_owned(), b.to_owned()].map(Ok::<_, std::io::Error>);
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let response = post("/v1/chat/completions", &json!({})).body(body).key(&house.key).send(&house).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(house.fakes.0.chats.lock().pop().unwrap().body, text);
}

#[tokio::test]
async fn a_providers_refusal_passes_with_its_words_and_retry_headers() {
    let house = house();
    for body in [chat("refusing"), streamed("refusing")] {
        let response = post("/v1/chat/completions", &body).key(&house.key).send(&house).await;
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(header(&response, "retry-after"), Some("7"));
        assert_eq!(header(&response, "x-should-retry"), Some("true"));
        assert_eq!(header(&response, "content-type"), Some("application/json"));
        assert_eq!(body_text(response).await, PROVIDER_ERROR);
    }
}

#[tokio::test]
async fn request_id_and_trace_come_along() {
    let house = house();
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let response = post("/v1/chat/completions", &chat("sim-1"))
        .key(&house.key)
        .header("x-request-id", "mine-1")
        .header("traceparent", traceparent)
        .send(&house)
        .await;
    assert_eq!(header(&response, "x-request-id"), Some("mine-1"));
    let (_, ctx) = house.fakes.last_call();
    assert_eq!(ctx.request_id.as_str(), "mine-1");
    // Nothing is traced here, so nothing of what the caller asks for is granted.
    let unsampled = traceparent.replace("-01", "-00");
    assert_eq!(ctx.trace.map(|t| t.to_string()), Some(unsampled));
    let response = get("/v1/models").key(&house.key).header("x-request-id", "not fit").send(&house).await;
    assert!(header(&response, "x-request-id").unwrap().starts_with("req_"));
}

#[tokio::test]
async fn limit_headers_show_what_was_really_used() {
    let house = house();
    // Two tokens a second come in meanwhile: the bounds leave room for seconds.
    let key = house.fakes.add_key(TenantId::new(), limits(Some(10), Some(120)));
    let number =
        |response: &Response<Body>, name: &str| header(response, name).unwrap().parse::<u64>().unwrap();
    for n in 1..=3u64 {
        let response = post("/v1/chat/completions", &chat("sim-1")).key(&key).send(&house).await;
        assert_eq!(number(&response, "x-ratelimit-limit-requests"), 10);
        assert_eq!(number(&response, "x-ratelimit-limit-tokens"), 120);
        assert_eq!(number(&response, "x-ratelimit-remaining-requests"), 10 - n);
        let left = number(&response, "x-ratelimit-remaining-tokens");
        assert!((120 - 15 * n..120 - 15 * (n - 1)).contains(&left), "{left} left after {n}");
        assert!(header(&response, "x-ratelimit-reset-requests").unwrap().ends_with('s'));
        assert!(header(&response, "x-ratelimit-reset-tokens").unwrap().ends_with('s'));
    }
    // A stream's headers come before its usage: they show the estimate, and the end settles it.
    let response = post("/v1/chat/completions", &streamed("sim-1")).key(&key).send(&house).await;
    let left = number(&response, "x-ratelimit-remaining-tokens");
    assert!(left < 60, "{left}");
    body_text(response).await;
    let response = post("/v1/chat/completions", &chat("sim-1")).key(&key).send(&house).await;
    let left = number(&response, "x-ratelimit-remaining-tokens");
    assert!(left >= 45, "{left}");
}

#[tokio::test]
async fn models_are_listed_and_found_also_with_slashes() {
    let house = house();
    let (status, list) = get("/v1/models").key(&house.key).json(&house).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(list["object"], "list");
    let expected = json!({ "id": "sim-1", "object": "model", "created": 1_700_000_000, "owned_by": "sim" });
    assert_eq!(list["data"][1], expected);
    for path in ["/v1/models/meta/llama:3", "/api/v1/models/meta%2Fllama%3A3"] {
        let (status, model) = get(path).key(&house.key).json(&house).await;
        assert_eq!((status, &model["id"]), (StatusCode::OK, &json!("meta/llama:3")));
    }
    let (status, error) = get("/v1/models/nope").key(&house.key).json(&house).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(error["error"]["code"], "model_not_found");
    assert_eq!(house.fakes.called("list_models"), 1, "the list is remembered for a while");
    house.clock.advance(5_000);
    assert_eq!(get("/v1/models").key(&house.key).send(&house).await.status(), StatusCode::OK);
    assert_eq!(house.fakes.called("list_models"), 2);
}

#[tokio::test]
async fn answers_are_counted_by_route() {
    let house = house();
    post("/api/v1/chat/completions", &chat("sim-1")).key(&house.key).send(&house).await;
    get("/nowhere").send(&house).await;
    let text = house.metrics.encode();
    for line in [
        "http_requests_total{route=\"/v1/chat/completions\",method=\"POST\",status=\"200\"} 1",
        "http_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"} 1",
        "errors_total{code=\"not_found\"} 1",
    ] {
        assert!(text.contains(line), "{line} not in\n{text}");
    }
}
