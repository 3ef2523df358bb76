//! Messages, called in process.

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use weir_llm::tokens::count_text;

use crate::{Config, Outcome, Simulator};

fn ask(more: &Value) -> Value {
    let mut body = json!({"model": "claude-haiku-4-5", "max_tokens": 3000,
        "messages": [{"role": "user", "content": "Tell me about rivers"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn send(router: &Router, path: &str, version: &str, body: &Value) -> (StatusCode, String) {
    let request = Request::post(path).header("anthropic-version", version);
    let request = request.header("x-client-request-id", "call-1").body(Body::from(body.to_string())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn whole(router: &Router, body: &Value) -> Value {
    let (status, text) = send(router, "/v1/messages", "2023-06-01", body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Data of a stream's events, which must end as one that is whole.
async fn streamed(router: &Router, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let (_, text) = send(router, "/v1/messages", "2023-06-01", &body).await;
    let read = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
        data
    };
    let events: Vec<_> = text.split_terminator("\n\n").map(read).collect();
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    events
}

#[tokio::test]
async fn plain_and_streamed_messages_say_and_count_the_same() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}});
    for more in [json!({}), thinking] {
        let plain = whole(&router, &ask(&more)).await;
        let events = streamed(&router, &ask(&more)).await;
        let mut content: Vec<Value> = Vec::new();
        for event in &events {
            let at = |name: &str| event["delta"][name].as_str().unwrap_or_default().to_owned();
            match event["type"].as_str().unwrap() {
                "content_block_start" => content.push(event["content_block"].clone()),
                "content_block_delta" => {
                    let block = content.last_mut().unwrap();
                    for name in ["text", "thinking", "signature"] {
                        if let Some(said) = block[name].as_str() {
                            block[name] = json!(format!("{said}{}", at(name)));
                        }
                    }
                }
                "message_delta" => assert_eq!(event["usage"], plain["usage"]),
                _ => {}
            }
        }
        assert_eq!(json!(content), plain["content"]);
        let texts: String =
            content.iter().flat_map(|b| [&b["thinking"], &b["text"]]).filter_map(Value::as_str).collect();
        assert_eq!(plain["usage"]["output_tokens"], count_text(&texts));
    }
    let entries = sim.ledger().entries();
    assert_eq!(entries.len(), 4);
    assert!(
        entries
            .iter()
            .all(|e| e.outcome == Outcome::Finished && e.sent == e.completion_tokens && e.id == "call-1")
    );
}

#[tokio::test]
async fn the_same_words_get_the_same_answer_in_both_dialects() {
    let router = Simulator::new(Config::default()).router();
    let body = ask(&json!({"model": "sim-large"}));
    let message = whole(&router, &body).await;
    let (_, chat) = send(&router, "/v1/chat/completions", "", &body).await;
    let chat: Value = serde_json::from_str(&chat).unwrap();
    assert_eq!(message["content"][0]["text"], chat["choices"][0]["message"]["content"]);
}

#[tokio::test]
async fn what_anthropic_refuses_is_refused() {
    let router = Simulator::new(Config::default()).router();
    let call =
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]});
    let user = json!({"role": "user", "content": "x"});
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let thinking = json!({"type": "enabled", "budget_tokens": 1024});
    let result =
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "y"}]});
    let forged =
        json!({"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "y"}]});
    let marked = json!([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]);
    for (more, says) in [
        (json!({"invented": 1}), "invented: Extra inputs"),
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"temperature": 1.5}), "temperature"),
        (json!({"messages": [user, call, user]}), "without `tool_result`"),
        (json!({"messages": [user, result]}), "unexpected `tool_use_id`"),
        (json!({"messages": [user, forged, user]}), "Invalid `signature`"),
        (
            json!({"messages": [user, call, result], "tools": tools, "thinking": thinking}),
            "Expected `thinking`",
        ),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 10}}), "1024"),
        (json!({"thinking": thinking, "temperature": 0.5}), "temperature"),
        (json!({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}), "non-empty"),
        (
            json!({"messages": (0..5).map(|_| json!({"role": "user", "content": marked})).collect::<Vec<_>>()}),
            "maximum of 4",
        ),
    ] {
        let (status, text) = send(&router, "/v1/messages", "2023-06-01", &ask(&more)).await;
        assert!(status == StatusCode::BAD_REQUEST && text.contains(says), "{more} {text}");
        assert!(text.contains("\"invalid_request_error\""), "{text}");
    }
    let sampled = ask(&json!({"temperature": 1}));
    assert_eq!(send(&router, "/v1/messages", "2023-06-01", &sampled).await.0, StatusCode::OK);
    assert_eq!(send(&router, "/v1/messages", "2026-10-21", &sampled).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(send(&router, "/v1/messages", "tomorrow", &ask(&json!({}))).await.0, StatusCode::BAD_REQUEST);
    let (status, _) = send(&router, "/v1/messages", "2023-06-01", &ask(&json!({"model": "gpt-4o"}))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, text) =
        send(&router, "/v1/messages", "2023-06-01", &ask(&json!({"x_sim": {"status": 529}}))).await;
    assert!(status.as_u16() == 529 && text.contains("overloaded_error"), "{text}");
}

#[tokio::test]
async fn the_prompt_s_cache_and_its_count_add_up() {
    let router = Simulator::new(Config::default()).router();
    let marked =
        json!([{"type": "text", "text": "A system prompt.", "cache_control": {"type": "ephemeral"}}]);
    let body = ask(&json!({"system": marked}));
    let usage = whole(&router, &body).await["usage"].clone();
    let sum: u64 = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]
        .iter()
        .map(|name| usage[name].as_u64().unwrap())
        .sum();
    let (_, counted) = send(&router, "/v1/messages/count_tokens", "2023-06-01", &body).await;
    assert_eq!(serde_json::from_str::<Value>(&counted).unwrap(), json!({"input_tokens": sum}));
    assert!(usage["cache_creation_input_tokens"].as_u64() > usage["cache_read_input_tokens"].as_u64());
}
