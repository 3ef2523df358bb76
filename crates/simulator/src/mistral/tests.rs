//! Mistral, called in process.

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Config, Outcome, Simulator};

fn ask(more: &Value) -> Value {
    let mut body = json!({"model": "mistral-large-latest", "messages": [{"role": "user", "content": "Tell me about rivers"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn send(router: &Router, body: &Value) -> (StatusCode, String) {
    let request = Request::post("/mistral/v1/chat/completions").body(Body::from(body.to_string())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn plain_and_streamed_answers_say_and_count_the_same() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let tool = json!({"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}});
    for more in [
        json!({}),
        json!({"model": "magistral-medium-latest"}),
        json!({"tools": [tool], "tool_choice": "any"}),
    ] {
        let (status, plain) = send(&router, &ask(&more)).await;
        assert_eq!(status, StatusCode::OK, "{plain}");
        let plain: Value = serde_json::from_str(&plain).unwrap();
        let mut body = ask(&more);
        body["stream"] = json!(true);
        let (_, stream) = send(&router, &body).await;
        assert!(stream.ends_with("data: [DONE]\n\n"));
        let chunks: Vec<Value> = stream
            .split_terminator("\n\n")
            .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok())
            .collect();
        let mut said = String::new();
        let mut thought = String::new();
        let mut calls = Vec::new();
        for chunk in &chunks {
            let delta = &chunk["choices"][0]["delta"];
            said.push_str(delta["content"].as_str().unwrap_or_default());
            thought.push_str(delta["content"][0]["thinking"][0]["text"].as_str().unwrap_or_default());
            calls.extend(delta["tool_calls"].as_array().cloned().unwrap_or_default());
        }
        let message = &plain["choices"][0]["message"];
        let whole = message["content"].as_str().or_else(|| message["content"][1]["text"].as_str());
        assert_eq!(said, whole.unwrap());
        assert_eq!(thought, message["content"][0]["thinking"][0]["text"].as_str().unwrap_or_default());
        assert_eq!(calls, message["tool_calls"].as_array().cloned().unwrap_or_default());
        assert!(calls.iter().all(|call| call["id"].as_str().unwrap().len() == 9));
        assert_eq!(chunks.last().unwrap()["usage"], plain["usage"]);
    }
    assert!(
        sim.ledger()
            .entries()
            .iter()
            .all(|e| e.outcome == Outcome::Finished && e.sent == e.completion_tokens)
    );
}

#[tokio::test]
async fn what_mistral_refuses_is_refused_in_its_shapes() {
    let router = Simulator::new(Config::default()).router();
    let user = json!({"role": "user", "content": "x"});
    let call = |id: &str| json!({"role": "assistant", "tool_calls": [{"id": id, "function": {"name": "f", "arguments": "{}"}}]});
    let result = json!({"role": "tool", "tool_call_id": "abcdefghi", "content": "y"});
    for (more, status, says) in [
        (json!({"stream_options": {"include_usage": true}}), 422, "extra_forbidden"),
        (json!({"user": "u"}), 422, "extra_forbidden"),
        (json!({"random_seed": -1}), 422, "random_seed"),
        (json!({"tool_choice": "sometimes"}), 422, "tool_choice"),
        (json!({"messages": [user, call("call_1"), result, user]}), 400, "length of 9"),
        (json!({"messages": [user, call("abcdefghi"), result, user]}), 400, "after role 'tool'"),
        (json!({"messages": [user, call("abcdefghi"), user]}), 400, "Unexpected role"),
        (json!({"messages": [user, {"role": "assistant", "content": "It"}]}), 400, "prefix True"),
        (json!({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}), 422, "union_tag_invalid"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,-_-_"}]}]}),
            400,
            "Invalid base64",
        ),
        (json!({"model": "gpt-4o"}), 400, "Invalid model"),
        (json!({"x_sim": {"status": 429}}), 429, "rate_limited"),
    ] {
        let (got, text) = send(&router, &ask(&more)).await;
        assert!(got.as_u16() == status && text.contains(says), "{more} {got} {text}");
    }
    let good = json!({"messages": [user, call("abcdefghi"), result], "safe_prompt": true, "random_seed": 7});
    assert_eq!(send(&router, &ask(&good)).await.0, StatusCode::OK);
    let prefix = json!({"messages": [user, {"role": "assistant", "content": "It", "prefix": true}]});
    assert_eq!(send(&router, &ask(&prefix)).await.0, StatusCode::OK);
}
