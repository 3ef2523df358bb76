//! Chat as clients get it.

use serde_json::{Value, json};
use weir_e2e::{http::text_of, stand::Stand};

fn hello(stream: bool) -> Value {
    json!({"model": "gpt-4o-mini", "stream": stream, "messages": [{"role": "user", "content": "Say hello."}]})
}

fn chunks(events: &[String]) -> Vec<Value> {
    events.iter().filter(|e| *e != "[DONE]").map(|e| serde_json::from_str(e).unwrap()).collect()
}

#[tokio::test]
async fn a_plain_answer_has_openai_s_shape_and_our_headers() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    for path in ["/v1/chat/completions", "/api/v1/chat/completions"] {
        let answer = client.post(path, &hello(false)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("x-weir-provider"), "simulator");
        assert_eq!(answer.header("x-weir-model"), "gpt-4o-mini");
        assert!(answer.header("x-request-id").starts_with("req_"));
        let body = answer.json();
        assert_eq!(body["object"], "chat.completion");
        assert!(!body["choices"][0]["message"]["content"].as_str().unwrap().is_empty());
        let usage = &body["usage"];
        let count = |name: &str| usage[name].as_u64().unwrap();
        assert!(count("prompt_tokens") > 0 && count("completion_tokens") > 0);
        assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"));
    }
}

#[tokio::test]
async fn a_streamed_answer_is_the_plain_one_in_pieces() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    let plain = client.post("/v1/chat/completions", &hello(false)).await.unwrap().json();

    let events = client.stream("/v1/chat/completions", &hello(true)).await.unwrap();
    assert_eq!(events.headers["x-weir-provider"], "simulator");
    assert!(events.headers.contains_key("x-request-id"));
    assert!(!events.headers.contains_key("content-encoding"));
    let events = events.all().await.unwrap();
    assert_eq!(events.last().unwrap(), "[DONE]");
    assert_eq!(text_of(&events), plain["choices"][0]["message"]["content"].as_str().unwrap());
    assert!(events.len() > 3, "{events:?}");
    let chunks = chunks(&events);
    assert!(chunks.iter().all(|c| c["object"] == "chat.completion.chunk" && c["id"] == chunks[0]["id"]));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn the_usage_chunk_comes_only_to_those_who_asked() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    let plain = client.post("/v1/chat/completions", &hello(false)).await.unwrap().json();

    let mut wanted = hello(true);
    wanted["stream_options"] = json!({"include_usage": true});
    let events = client.stream("/v1/chat/completions", &wanted).await.unwrap().all().await.unwrap();
    let last = chunks(&events).pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], plain["usage"]);

    let mut unwanted = hello(true);
    for options in [Value::Null, json!({"include_usage": false})] {
        unwanted["stream_options"] = options;
        let events = client.stream("/v1/chat/completions", &unwanted).await.unwrap().all().await.unwrap();
        assert!(
            chunks(&events).iter().all(|c| c["usage"].is_null() && c["choices"] != json!([])),
            "{events:?}"
        );
    }
}

#[tokio::test]
async fn a_client_s_request_id_is_kept() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key).with_header("x-request-id", "my-own-1");
    let answer = client.post("/v1/chat/completions", &hello(false)).await.unwrap();
    assert_eq!(answer.header("x-request-id"), "my-own-1");
}

#[tokio::test]
async fn fields_nobody_knows_yet_reach_the_provider() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    // The simulator's own field is such a one: seven tokens were wished for there.
    let mut body = hello(false);
    body["x_sim"] = json!({"tokens": 7});
    let answer = client.post("/v1/chat/completions", &body).await.unwrap().json();
    assert_eq!(answer["usage"]["completion_tokens"], 7);
}

#[tokio::test]
async fn tools_come_through_in_both_forms() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    let mut body = hello(false);
    body["tools"] = json!([{"type": "function", "function": {"name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]);
    body["tool_choice"] = json!("required");
    let plain = client.post("/v1/chat/completions", &body).await.unwrap().json();
    let call = &plain["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "get_weather", "{plain}");

    body["stream"] = json!(true);
    let events = client.stream("/v1/chat/completions", &body).await.unwrap().all().await.unwrap();
    let arguments: String = chunks(&events)
        .iter()
        .filter_map(|c| {
            c["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(arguments, call["arguments"].as_str().unwrap());
}

#[tokio::test]
async fn aliases_and_auto_are_decided_by_the_router() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    for (asked, served) in [
        ("smart-model", "gpt-4o"),
        ("fast-model", "gpt-4o-mini"),
        ("auto", "gpt-4o-mini"),
        ("simulator/gpt-4o", "gpt-4o"),
    ] {
        let mut body = hello(false);
        body["model"] = json!(asked);
        let answer = client.post("/v1/chat/completions", &body).await.unwrap();
        assert_eq!((answer.status, answer.header("x-weir-model")), (200, served), "{asked}: {answer:?}");
    }
    let decided = client.post("/v1/router/decide", &json!({"model": "smart-model"})).await.unwrap();
    assert_eq!(decided.status, 200, "{decided:?}");
    let decided = decided.json();
    assert_eq!((&decided["model"], &decided["reasons"][0]), (&json!("gpt-4o"), &json!("alias smart-model")));
}

#[tokio::test]
async fn models_are_listed_and_shown() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    let list = client.get("/v1/models").await.unwrap().json();
    assert_eq!(list["object"], "list");
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().filter_map(|m| m["id"].as_str()).collect();
    assert!(ids.contains(&"gpt-4o-mini"), "{ids:?}");
    let one = client.get("/v1/models/gpt-4o-mini").await.unwrap().json();
    assert_eq!((&one["id"], &one["object"]), (&json!("gpt-4o-mini"), &json!("model")));
    let none = client.get("/v1/models/no-such-model").await.unwrap();
    assert_eq!((none.status, &none.json()["error"]["code"]), (404, &json!("model_not_found")));
}
