//! Responses, called in process.

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Config, Outcome, Simulator};

fn ask(more: &Value) -> Value {
    let mut body = json!({"model": "sim-large", "input": "Tell me about rivers"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn send(router: &Router, body: &Value) -> (StatusCode, String) {
    send_to(router, "/v1/responses", body).await
}

async fn send_to(router: &Router, path: &str, body: &Value) -> (StatusCode, String) {
    let request = Request::post(path).body(Body::from(body.to_string())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn whole(router: &Router, body: &Value) -> Value {
    let (status, text) = send(router, body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap()
}

async fn streamed(router: &Router, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let (_, text) = send(router, &body).await;
    let read = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
        data
    };
    let events: Vec<_> = text.split_terminator("\n\n").map(read).collect();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], at);
    }
    events
}

/// Without what differs between two answers to the same question.
fn bare(response: &Value) -> String {
    let mut response = response.clone();
    for name in ["id", "created_at", "completed_at"] {
        response[name].take();
    }
    for item in response["output"].as_array_mut().unwrap() {
        item["id"] = json!(item["id"].as_str().unwrap().len());
        if let Some(secret) = item.get_mut("encrypted_content") {
            *secret = json!(secret.as_str().unwrap().len());
        }
    }
    response.to_string()
}

/// Items as the events build them, deltas and all.
fn assembled(events: &[Value]) -> Value {
    let mut output: Vec<Value> = Vec::new();
    for event in events {
        let kind = event["type"].as_str().unwrap();
        if kind == "response.output_item.added" {
            assert_eq!(event["output_index"], output.len());
            output.push(event["item"].clone());
            continue;
        }
        let Some(item) = event["output_index"].as_u64().map(|at| &mut output[usize::try_from(at).unwrap()])
        else {
            continue;
        };
        let add = |to: &mut Value| {
            *to = json!(format!("{}{}", to.as_str().unwrap(), event["delta"].as_str().unwrap()));
        };
        match kind {
            "response.content_part.added" => item["content"] = json!([event["part"]]),
            "response.reasoning_summary_part.added" => item["summary"] = json!([event["part"]]),
            "response.output_text.delta" => {
                add(&mut item["content"][0]["text"]);
                let logprobs = event["logprobs"].as_array().unwrap().clone();
                item["content"][0]["logprobs"].as_array_mut().unwrap().extend(logprobs);
            }
            "response.refusal.delta" => add(&mut item["content"][0]["refusal"]),
            "response.reasoning_summary_text.delta" => add(&mut item["summary"][0]["text"]),
            "response.custom_tool_call_input.delta" => add(&mut item["input"]),
            "response.custom_tool_call_input.done" => assert_eq!(item["input"], event["input"]),
            "response.function_call_arguments.delta" => add(&mut item["arguments"]),
            "response.function_call_arguments.done" => assert_eq!(item["arguments"], event["arguments"]),
            "response.content_part.done" => assert_eq!(item["content"], json!([event["part"]])),
            "response.output_item.done" => {
                let secret = event["item"].get("encrypted_content").cloned();
                item.as_object_mut()
                    .unwrap()
                    .extend(secret.map(|secret| ("encrypted_content".to_owned(), secret)));
                if item.get("status").is_some() {
                    item["status"] = event["item"]["status"].clone();
                }
                assert_eq!(*item, event["item"]);
            }
            _ => {}
        }
    }
    json!(output)
}

#[tokio::test]
async fn plain_and_streamed_responses_are_the_same_to_the_last_member() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let tool = json!({"type": "function", "name": "look", "parameters": {"type": "object"}});
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    for (more, status, kinds) in [
        (json!({}), "completed", "message"),
        (json!({"max_output_tokens": 16}), "incomplete", "message"),
        (json!({"include": ["message.output_text.logprobs"], "top_logprobs": 2}), "completed", "message"),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}}),
            "completed",
            "message",
        ),
        (json!({"x_sim": {"refusal": true}}), "completed", "message"),
        (json!({"x_sim": {"tokens": 0}}), "completed", "message"),
        (json!({"model": "gpt-5-mini"}), "completed", "reasoning message"),
        (
            json!({"input": "Please look({\"a\": 1}) and look({\"b\": 2})", "tools": [tool], "x_sim": {"preamble": true},
                "reasoning": {"effort": "high", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}),
            "completed",
            "reasoning message function_call function_call",
        ),
        (
            json!({"input": "Please patch({\"a b\": \"c\"}) and look and write",
                "tools": [{"type": "custom", "name": "patch"}, {"type": "custom", "name": "write"}, tool]}),
            "completed",
            "custom_tool_call custom_tool_call function_call",
        ),
    ] {
        let plain = whole(&router, &ask(&more)).await;
        let events = streamed(&router, &ask(&more)).await;
        let last = events.last().unwrap();
        assert_eq!(last["type"], format!("response.{status}"));
        assert_eq!(bare(&last["response"]), bare(&plain), "{more}");
        assert_eq!(assembled(&events), last["response"]["output"], "{more}");
        let output = plain["output"].as_array().unwrap();
        let told: Vec<_> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
        assert_eq!(told.join(" "), kinds);
        assert!(
            plain["usage"]["total_tokens"].as_u64() > plain["usage"]["input_tokens"].as_u64()
                || more["x_sim"]["tokens"] == 0
        );
        assert_eq!(events[0]["response"]["status"], "in_progress");
        assert!(
            ["tools", "truncation", "parallel_tool_calls", "completed_at"]
                .iter()
                .all(|name| plain.get(*name).is_some())
        );
    }
    assert!(
        sim.ledger()
            .entries()
            .iter()
            .all(|e| e.outcome == Outcome::Finished && e.sent == e.completion_tokens)
    );
}

#[tokio::test]
async fn reasoning_comes_back_as_it_went() {
    let router = Simulator::new(Config::default()).router();
    let question = json!({"role": "user", "content": [{"type": "input_text", "text": "Please look"}]});
    let with = |input: Value| {
        ask(
            &json!({"model": "sim-think", "input": input, "include": ["reasoning.encrypted_content"], "store": false,
            "tools": [{"type": "function", "name": "look"}]}),
        )
    };
    let first = whole(&router, &with(json!([question]))).await;
    let (reasoning, call) = (first["output"][0].clone(), first["output"][1].clone());
    let patch = ask(&json!({"input": "patch", "tools": [{"type": "custom", "name": "patch"}]}));
    let patched = whole(&router, &patch).await["output"][0].clone();
    assert_eq!(patched["input"], "text");
    let output = json!({"type": "custom_tool_call_output", "call_id": patched["call_id"], "output": "done"});
    let said = whole(&router, &ask(&json!({"input": [question, patched, output]}))).await;
    assert!(said["output"][0]["content"][0]["text"].as_str().unwrap().starts_with("The result says done:"));

    let result = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "a lake"});
    let second = whole(&router, &with(json!([question, reasoning, call, result]))).await;
    let said = second["output"][1]["content"][0]["text"].as_str().unwrap();
    assert!(said.starts_with("The result says a lake:"), "{said}");

    let changed = |name: &str, value: Value| {
        let mut reasoning = reasoning.clone();
        reasoning[name] = value;
        reasoning
    };
    // Another signature of the same item.
    let secret = reasoning["encrypted_content"].as_str().unwrap();
    let (kept, last) = secret.split_at(secret.len() - 12);
    let secret = format!("{kept}{}", last.replace(|c: char| c.is_ascii_lowercase(), "A"));
    for (input, status, code, says) in [
        (
            json!([question, changed("encrypted_content", json!(secret)), call, result]),
            400,
            json!("invalid_encrypted_content"),
            "could not be verified",
        ),
        (
            json!([question, changed("id", json!("rs_other")), call, result]),
            400,
            json!("invalid_encrypted_content"),
            "did not match",
        ),
        (
            json!([question, changed("encrypted_content", Value::Null), call, result]),
            404,
            Value::Null,
            "not found",
        ),
        (json!([question, call, result]), 400, Value::Null, "without its required 'reasoning' item"),
        (json!([question, reasoning, call]), 400, Value::Null, "No tool output found"),
        (json!([question, result]), 400, Value::Null, "No tool call found"),
    ] {
        let (got, text) = send(&router, &with(input)).await;
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((got.as_u16(), &error["error"]["code"]), (status, &code), "{text}");
        assert!(error["error"]["message"].as_str().unwrap().contains(says), "{text}");
    }
}

#[tokio::test]
async fn what_openai_refuses_is_refused_and_faults_end_a_stream_once() {
    let router = Simulator::new(Config::default()).router();
    for (more, param) in [
        (json!({"invented": 1}), "invented"),
        (json!({"model": null}), "model"),
        (json!({"input": 7}), "input"),
        (json!({"input": [{"role": "user"}]}), "input[0].content"),
        (json!({"input": [{"role": "user", "content": [{"type": "smell"}]}]}), "input[0].content[0].type"),
        (json!({"input": [{"role": "boss", "content": "x"}]}), "input[0].role"),
        (json!({"max_output_tokens": 5}), "max_output_tokens"),
        (json!({"temperature": 2.5}), "temperature"),
        (json!({"include": ["everything"]}), "include[0]"),
        (json!({"reasoning": {"effort": "some"}}), "reasoning.effort"),
        (json!({"tool_choice": {"type": "function", "name": "f"}}), "tool_choice"),
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"background": true}), "background"),
        (json!({"text": {"format": {"type": "json_object"}}}), "input"),
    ] {
        let (status, text) = send(&router, &ask(&more)).await;
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &error["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(param)), "{text}");
    }
    let events = streamed(&router, &ask(&json!({"x_sim": {"status": 500, "cut_after": 3}}))).await;
    let failed = events.last().unwrap();
    assert_eq!(
        (&failed["type"], &failed["response"]["status"]),
        (&json!("response.failed"), &json!("failed"))
    );
    assert_eq!(failed["response"]["error"]["code"], "server_error");
    let events = streamed(&router, &ask(&json!({"x_sim": {"no_end": true, "chunk_bytes": 7}}))).await;
    assert_eq!(events.last().unwrap()["type"], "response.output_item.done");
    let wish = Request::post("/v1/responses").header("x-sim", r#"{"status":429,"retry_after":2}"#);
    let response =
        router.clone().oneshot(wish.body(Body::from(ask(&json!({})).to_string())).unwrap()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &http::HeaderValue::from(2))
    );
    let said = ask(&json!({"input": r#"Hello [x_sim {"status": 503}]"#}));
    assert_eq!(send(&router, &said).await.0.as_u16(), 503);
}

#[tokio::test]
async fn a_conversation_is_compacted_and_gone_on_with() {
    let router = Simulator::new(Config::default()).router();
    let called = json!([{"role": "user", "content": "Look it up"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "the code is zebra seven"}]);
    let body = json!({"model": "sim-large", "input": called, "prompt_cache_key": "k"});
    let (status, text) = send_to(&router, "/v1/responses/compact", &body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let compacted: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(compacted["object"], "response.compaction");
    let output = compacted["output"].as_array().unwrap();
    assert_eq!((output.len(), &output[0]["content"][0]["text"]), (2, &json!("Look it up")));
    assert_eq!(output[1]["type"], "compaction");
    assert!(!text.contains("zebra") && compacted["usage"]["output_tokens"].as_u64() > Some(5));

    let mut input = output.clone();
    input.push(json!({"role": "user", "content": "Repeat what was said"}));
    let told = whole(&router, &json!({"model": "sim-large", "input": input})).await;
    assert!(told["output"][0]["content"][0]["text"].as_str().unwrap().contains("zebra seven"), "{told}");
    input[1]["encrypted_content"] = json!("gAAAAABpnothing==");
    let (status, text) = send(&router, &json!({"model": "sim-large", "input": input})).await;
    assert_eq!((status, text.contains("invalid_encrypted_content")), (StatusCode::BAD_REQUEST, true));
    let unknown = json!({"model": "sim-large", "input": "x", "stream": true});
    let (status, text) = send_to(&router, "/v1/responses/compact", &unknown).await;
    assert_eq!((status, text.contains("unknown_parameter")), (StatusCode::BAD_REQUEST, true));
}
