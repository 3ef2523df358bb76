//! Messages, called in process.

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Config, Outcome, Simulator, tokens::count_text};

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
                "message_delta" => {
                    for (name, count) in event["usage"].as_object().unwrap() {
                        assert_eq!(*count, plain["usage"][name], "{name}");
                    }
                }
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
        (json!({"model": "claude-opus-5-5", "thinking": thinking}), "thinking.type.enabled"),
        (json!({"model": "claude-opus-5-5", "temperature": 0.5}), "deprecated for this model"),
        (json!({"thread": {"type": "create"}}), "thread_unsupported_request"),
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
        (json!({"tools": tools, "thinking": thinking, "tool_choice": {"type": "any"}}), "forces tool use"),
        (
            json!({"model": "claude-opus-5-5", "tools": tools, "tool_choice": {"type": "tool", "name": "f"}}),
            "are not supported for this model",
        ),
        (json!({"model": "claude-opus-5-5", "thinking": {"type": "disabled"}}), "thinking.type.disabled"),
        (json!({"model": "claude-sonnet-5-5", "thinking": {"type": "disabled"}}), "between_tools"),
        (json!({"thinking": {"type": "between_tools"}}), "thinking.type.between_tools"),
        (
            json!({"model": "claude-sonnet-5-5", "thinking": {"type": "between_tools"},
                "output_config": {"effort": "xhigh"}}),
            "thinking is off",
        ),
        (json!({"messages": [{"role": "user", "content": " \n"}]}), "non-whitespace"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "document",
                "source": {"type": "base64", "media_type": "text/plain", "data": "eA=="}}]}]}),
            "application/pdf",
        ),
        (json!({"tools": [{"name": "f", "input_schema": {}}]}), "input_schema.type"),
        (
            json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
            "output_config.format.schema: For 'object' type",
        ),
        (
            json!({"system": marked, "messages": [{"role": "user", "content": [
                {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}]}),
            "must not come after",
        ),
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
    let adaptive = json!({"type": "adaptive"});
    for more in [
        json!({"messages": [user, call, result], "tools": tools, "thinking": adaptive}),
        json!({"tools": tools, "thinking": adaptive, "tool_choice": {"type": "any"}}),
        json!({"model": "claude-sonnet-5-5", "thinking": {"type": "between_tools"}}),
    ] {
        let (status, text) = send(&router, "/v1/messages", "2023-06-01", &ask(&more)).await;
        assert_eq!(status, StatusCode::OK, "{more} {text}");
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
async fn the_prompt_s_cache_is_written_then_read_and_adds_up() {
    let router = Simulator::new(Config::default()).router();
    let marked = |ttl: &str| {
        let text = "A long system prompt. ".repeat(400);
        json!([{"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}])
    };
    let body = ask(&json!({"model": "claude-sonnet-4-5", "system": marked("5m")}));
    let (_, counted) = send(&router, "/v1/messages/count_tokens", "2023-06-01", &body).await;
    let counted = serde_json::from_str::<Value>(&counted).unwrap()["input_tokens"].as_u64().unwrap();
    let mut usages = Vec::new();
    for _ in 0..2 {
        let usage = whole(&router, &body).await["usage"].clone();
        let number = |name: &str| usage[name].as_u64().unwrap();
        let (input, written, read) = (
            number("input_tokens"),
            number("cache_creation_input_tokens"),
            number("cache_read_input_tokens"),
        );
        assert_eq!(input + written + read, counted);
        usages.push((written, read));
    }
    assert!(usages[0].0 > 1_024 && usages[0].1 == 0, "{usages:?}");
    assert_eq!(usages[1], (0, usages[0].0));
    let hour = ask(&json!({"model": "claude-opus-4-5", "system": marked("1h")}));
    assert_eq!(whole(&router, &hour).await["usage"]["cache_creation_input_tokens"], 0, "too short for Opus");
    let hour = ask(&json!({"model": "sim-large", "system": marked("1h")}));
    let usage = whole(&router, &hour).await["usage"]["cache_creation"].clone();
    assert_eq!(usage, json!({"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": usages[0].0}));
}

#[tokio::test]
async fn thoughts_come_back_as_they_went_in_every_turn_of_a_loop() {
    let router = Simulator::new(Config::default()).router();
    let tools = json!([{"name": "look", "input_schema": {"type": "object"}}]);
    for (thinking, wish) in [
        (json!({"type": "adaptive"}), json!({})),
        (json!({"type": "enabled", "budget_tokens": 1024}), json!({"redacted": true, "preamble": true})),
        (json!({"type": "adaptive", "display": "omitted"}), json!({})),
    ] {
        let question =
            json!({"role": "user", "content": r#"Please look({"at": "x"}) and look({"at": "y"})"#});
        let ask = |messages: Value| {
            ask(&json!({"messages": messages, "tools": tools, "thinking": thinking, "x_sim": wish}))
        };
        let first = whole(&router, &ask(json!([question]))).await;
        let events = streamed(&router, &ask(json!([question]))).await;
        let starts = events.iter().filter(|event| event["type"] == "content_block_start").count();
        let content = first["content"].as_array().unwrap();
        assert_eq!((first["stop_reason"].as_str(), starts), (Some("tool_use"), content.len()));
        let calls: Vec<_> = content.iter().filter(|block| block["type"] == "tool_use").collect();
        assert_eq!([&calls[0]["input"]["at"], &calls[1]["input"]["at"]], ["x", "y"]);
        let result =
            |call: &Value| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "seen"});
        let results = json!({"role": "user", "content": [result(calls[0]), result(calls[1])]});
        let mut said = json!({"role": "assistant", "content": content});
        let second = whole(&router, &ask(json!([question, said, results]))).await;
        let last = &second["content"].as_array().unwrap().last().unwrap()["text"];
        assert!(last.as_str().unwrap().starts_with("The result says seen seen"), "{second}");
        let opaque = if content[0]["type"] == "thinking" { "signature" } else { "data" };
        let forged = content[0][opaque].as_str().unwrap().replace(['a', 'b', 'c'], "d");
        said["content"][0][opaque] = json!(forged);
        let body = ask(json!([question, said, results]));
        let (status, text) = send(&router, "/v1/messages", "2023-06-01", &body).await;
        assert!(status == StatusCode::BAD_REQUEST && text.contains("Invalid `"), "{text}");
    }
}

#[tokio::test]
async fn on_vertex_the_path_has_the_model_and_the_body_the_version() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let place = "/v1/projects/p/locations/us-east5/publishers/anthropic/models";
    let send = async |target: &str, token: &str, body: &Value| {
        let request = Request::post(format!("{place}/{target}")).header("authorization", token);
        let response =
            router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let mut body = ask(&json!({"anthropic_version": "vertex-2023-10-16"}));
    let model = body.as_object_mut().unwrap().remove("model").unwrap();
    let direct = whole(&router, &ask(&json!({}))).await;
    let (status, text) = send("claude-haiku-4-5:rawPredict", "Bearer ya29.t", &body).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["content"], direct["content"]);
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let (status, text) = send("claude-haiku-4-5:streamRawPredict", "Bearer ya29.t", &streamed).await;
    assert!(status == 200 && text.contains("event: message_stop"), "{text}");
    let with = |name: &str, value: Value| {
        let mut body = body.clone();
        body[name] = value;
        body
    };
    for (target, token, body, status, says) in [
        ("claude-haiku-4-5:rawPredict", "Bearer sk-1", body.clone(), 401, "OAuth 2"),
        (
            "claude-haiku-4-5:rawPredict",
            "Bearer ya29.t",
            with("model", model.clone()),
            400,
            "model: Extra inputs",
        ),
        (
            "claude-haiku-4-5:rawPredict",
            "Bearer ya29.t",
            with("anthropic_version", json!("2023-06-01")),
            400,
            "vertex-2023",
        ),
        (
            "claude-haiku-4-5:rawPredict",
            "Bearer ya29.t",
            json!({"max_tokens": 1}),
            400,
            "anthropic_version: Field",
        ),
        ("claude-haiku-4-5:rawPredict", "Bearer ya29.t", streamed.clone(), 400, "the method says otherwise"),
        ("claude-haiku-4-5:predict", "Bearer ya29.t", body.clone(), 404, "Method"),
        ("nobody:rawPredict", "Bearer ya29.t", body.clone(), 404, "nobody"),
    ] {
        let (got, text) = send(target, token, &body).await;
        assert!(got == status && text.contains(says), "{target} {got} {text}");
    }
    let (status, text) = send("count-tokens:rawPredict", "Bearer ya29.t", &ask(&json!({}))).await;
    assert!(status == 200 && text.starts_with("{\"input_tokens\":"), "{text}");
    assert_eq!(send("count-tokens:rawPredict", "", &ask(&json!({}))).await.0, 401);
}
