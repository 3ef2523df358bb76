//! Ollama, called in process.

use axum::{Router, body::Body};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Config, Outcome, Simulator};

fn ask(more: &Value) -> Value {
    let mut body =
        json!({"model": "llama3.2", "messages": [{"role": "user", "content": "Tell me about rivers"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn send(router: &Router, body: &Value) -> (StatusCode, String, String) {
    let request = Request::post("/api/chat").body(Body::from(body.to_string())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn it_streams_unless_told_not_to_and_says_the_same() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let tool = json!({"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}});
    for more in [
        json!({}),
        json!({"model": "qwen3:8b", "think": true}),
        json!({"messages": [{"role": "user", "content": "Use get_time"}], "tools": [tool]}),
        json!({"logprobs": true, "top_logprobs": 2}),
        json!({"format": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}),
    ] {
        let mut plain = ask(&more);
        plain["stream"] = json!(false);
        let (status, kind, plain) = send(&router, &plain).await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/json; charset=utf-8"), "{plain}");
        let plain: Value = serde_json::from_str(&plain).unwrap();
        let (_, kind, stream) = send(&router, &ask(&more)).await;
        assert_eq!(kind, "application/x-ndjson");
        let lines: Vec<Value> = stream.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let joined = |name: &str| -> String {
            lines.iter().filter_map(|line| line["message"][name].as_str()).collect()
        };
        assert_eq!(joined("content"), plain["message"]["content"].as_str().unwrap());
        assert_eq!(joined("thinking"), plain["message"]["thinking"].as_str().unwrap_or_default());
        let calls: Vec<_> = lines
            .iter()
            .filter_map(|line| line["message"]["tool_calls"].as_array())
            .flatten()
            .cloned()
            .collect();
        assert_eq!(calls, plain["message"]["tool_calls"].as_array().cloned().unwrap_or_default());
        let last = lines.last().unwrap();
        assert!(last["done"] == true && last["done_reason"] == "stop");
        assert_eq!(
            (&last["eval_count"], &last["prompt_eval_count"]),
            (&plain["eval_count"], &plain["prompt_eval_count"])
        );
        let told: Vec<_> =
            lines.iter().filter_map(|line| line["logprobs"].as_array()).flatten().cloned().collect();
        assert_eq!(told, plain["logprobs"].as_array().cloned().unwrap_or_default());
    }
    assert!(
        sim.ledger()
            .entries()
            .iter()
            .all(|e| e.outcome == Outcome::Finished && e.sent == e.completion_tokens)
    );
}

#[tokio::test]
async fn what_ollama_refuses_is_refused() {
    let router = Simulator::new(Config::default()).router();
    let text = json!([{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]);
    for (more, status, says) in [
        (json!({"model": "invented"}), 404, "model 'invented' not found"),
        (json!({"think": true}), 400, "does not support thinking"),
        (json!({"model": "qwen3:8b", "think": "much"}), 400, "invalid think value"),
        (json!({"messages": text}), 400, "cannot unmarshal"),
        (json!({"messages": [{"role": "boss", "content": "x"}]}), 400, "invalid role"),
        (
            json!({"messages": [{"role": "user", "content": "x", "images": ["data:image/png;base64,AAAA"]}]}),
            400,
            "illegal base64",
        ),
        (json!({"format": "xml"}), 400, "invalid format"),
        (json!({"x_sim": {"status": 503}}), 503, "error"),
    ] {
        let (got, _, text) = send(&router, &ask(&more)).await;
        assert!(got.as_u16() == status && text.contains(says), "{more} {got} {text}");
    }
    let (_, _, stream) = send(&router, &ask(&json!({"x_sim": {"status": 500, "cut_after": 3}}))).await;
    let last: Value = serde_json::from_str(stream.lines().last().unwrap()).unwrap();
    assert!(last["error"].is_string(), "{stream}");
}
