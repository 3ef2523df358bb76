//! Every provider there is a dialect or a platform for: the same question, the same answer, the same bill.

use serde_json::{Value, json};
use weir_e2e::{
    http::{Answer, Http},
    stand::Stand,
};

/// Providers, and the model each is asked for.
const PROVIDERS: [(&str, &str); 10] = [
    ("simulator", "sim-large"),
    ("simulator-responses", "sim-large"),
    ("simulator-anthropic", "sim-large"),
    ("simulator-gemini", "sim-large"),
    ("simulator-mistral", "sim-large"),
    ("simulator-ollama", "sim-large"),
    ("simulator-bedrock", "sim-large"),
    ("simulator-azure", "sim-large"),
    ("simulator-vertex", "sim-large"),
    ("simulator-vertex-anthropic", "sim-large"),
];
const QUESTION: &str = "Which rivers flow through Vienna and Passau?";

fn ask(provider: &str, model: &str, more: &Value) -> Value {
    let mut body = json!({"model": format!("{provider}/{model}"), "max_tokens": 600,
        "messages": [{"role": "user", "content": QUESTION}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn text_of(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

async fn chat(http: &Http, body: &Value) -> Value {
    let answer = http.post("/v1/chat/completions", body).await.unwrap();
    assert_eq!(answer.status, 200, "{body} {answer:?}");
    let provider = body["model"].as_str().unwrap().split_once('/').unwrap().0;
    assert_eq!(answer.header("x-weir-provider"), provider);
    answer.json()
}

/// Chunks of a stream that is whole: one finish, then usage, then the end.
async fn streamed(http: &Http, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = http.post("/v1/chat/completions", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{body} {answer:?}");
    let text = text_of(&answer);
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let chunks: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    let finishes = chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"].is_string()).count();
    assert_eq!(finishes, 1, "{text}");
    chunks
}

fn said(chunks: &[Value], name: &str) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][name].as_str()).collect()
}

#[tokio::test]
async fn each_provider_gives_the_same_answer_plain_and_streamed_and_tells_what_it_used() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let http = stand.gateway().with_key(&tenant.key);
    let first = chat(&http, &ask("simulator", "sim-large", &json!({}))).await;
    let expected = &first["choices"][0]["message"]["content"];
    for (provider, model) in PROVIDERS {
        let body = ask(provider, model, &json!({}));
        let plain = chat(&http, &body).await;
        let choice = &plain["choices"][0];
        assert_eq!(choice["message"]["content"], *expected, "{provider}");
        assert_eq!(choice["finish_reason"], "stop", "{provider}");
        assert!(plain["usage"]["completion_tokens"].as_u64().unwrap() > 10, "{provider} {plain}");
        let chunks = streamed(&http, &body).await;
        assert_eq!(said(&chunks, "content"), expected.as_str().unwrap(), "{provider}");
        let usage = &chunks.last().unwrap()["usage"];
        for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(usage[count], plain["usage"][count], "{provider} {count}");
        }
    }
}

#[tokio::test]
async fn each_provider_calls_tools_and_goes_on_with_what_they_say() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema}});
    let more = json!({"tools": [tool("get_weather"), tool("get_time")],
        "messages": [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Use get_weather and get_time"}]});
    for (provider, model) in PROVIDERS {
        let mut body = ask(provider, model, &more);
        let chunks = streamed(&http, &body).await;
        let mut calls =
            vec![json!({"id": "", "type": "function", "function": {"name": "", "arguments": ""}}); 2];
        let deltas = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array());
        for delta in deltas.flatten() {
            let call = &mut calls[usize::try_from(delta["index"].as_u64().unwrap()).unwrap()];
            for (from, into) in [
                ("/id", "/id"),
                ("/function/name", "/function/name"),
                ("/function/arguments", "/function/arguments"),
            ] {
                if let Some(more) = delta.pointer(from).and_then(Value::as_str) {
                    let whole = format!("{}{more}", call.pointer(into).unwrap().as_str().unwrap());
                    *call.pointer_mut(into).unwrap() = json!(whole);
                }
            }
        }
        let names: Vec<_> = calls.iter().map(|call| call["function"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["get_weather", "get_time"], "{provider}");
        let finish = chunks.iter().find_map(|chunk| chunk["choices"][0]["finish_reason"].as_str());
        assert_eq!(finish, Some("tool_calls"), "{provider}");
        for call in &calls {
            let arguments = call["function"]["arguments"].as_str().unwrap();
            let arguments: Value = serde_json::from_str(arguments).unwrap();
            assert!(arguments["city"].is_string(), "{provider} {arguments}");
        }
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": calls}));
        for (call, result) in calls.iter().zip(["rain", "half past nine"]) {
            messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": result}));
        }
        let second = chat(&http, &body).await;
        let text = second["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(
            text.starts_with("The results say rain") || text.contains("half past nine"),
            "{provider} {text}"
        );
    }
}

#[tokio::test]
async fn an_error_midway_ends_each_stream_as_its_clients_expect() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    for (provider, model) in PROVIDERS {
        for sim in
            [json!({"status": 429, "cut_after": 4}), json!({"cut_after": 4}), json!({"malformed": true})]
        {
            let same = matches!(provider, "simulator" | "simulator-azure");
            if same && sim["malformed"] == true {
                continue;
            }
            let mut body = ask(provider, model, &json!({"x_sim": sim}));
            body["stream"] = json!(true);
            let answer = http.post("/v1/chat/completions", &body).await.unwrap();
            let text = text_of(&answer);
            assert!(answer.status == 200 && text.contains("\"error\""), "{provider} {sim} {text}");
            assert!(text.ends_with("data: [DONE]\n\n"), "{provider} {sim} {text}");
        }
    }
}

#[tokio::test]
async fn claude_on_vertex_gets_what_anthropic_s_clients_sent() {
    let stand = Stand::shared();
    let http = stand
        .gateway()
        .with_header("x-api-key", &stand.tenant().await.unwrap().key)
        .with_header("anthropic-version", "2023-06-01");
    let body = |provider: &str| {
        json!({"model": format!("{provider}/sim-think"), "max_tokens": 3000,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [{"role": "user", "content": QUESTION}]})
    };
    let direct = http.post("/v1/messages", &body("simulator-anthropic")).await.unwrap();
    let mut asked = body("simulator-vertex-anthropic");
    let plain = http.post("/v1/messages", &asked).await.unwrap();
    assert_eq!((plain.status, plain.header("x-weir-warnings")), (200, ""), "{plain:?}");
    assert_eq!(plain.header("x-weir-provider"), "simulator-vertex-anthropic");
    for member in ["content", "stop_reason", "usage"] {
        assert_eq!(plain.json()[member], direct.json()[member], "{member}");
    }
    let counted = http.post("/v1/messages/count_tokens", &asked).await.unwrap();
    assert_eq!(counted.json()["input_tokens"], plain.json()["usage"]["input_tokens"], "{counted:?}");
    assert_eq!(counted.header("x-weir-provider"), "simulator-vertex-anthropic");
    asked["stream"] = json!(true);
    let streamed = http.post("/v1/messages", &asked).await.unwrap();
    let text = text_of(&streamed);
    assert!(streamed.status == 200 && text.ends_with("data: {\"type\":\"message_stop\"}\n\n"), "{text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    let said: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    let content = plain.json()["content"].clone();
    assert_eq!(said, content[1]["text"].as_str().unwrap());
}

#[tokio::test]
async fn claude_on_bedrock_takes_its_thoughts_back_from_anthropic_s_clients() {
    let stand = Stand::shared();
    let http = stand
        .gateway()
        .with_header("x-api-key", &stand.tenant().await.unwrap().key)
        .with_header("anthropic-version", "2023-06-01");
    let model = "simulator-bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0";
    for sim in [json!({}), json!({"redacted": true})] {
        let mut body = json!({"model": model, "max_tokens": 3000, "x_sim": sim,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "tools": [{"name": "get_time", "input_schema": {"type": "object", "properties": {}}}],
            "messages": [{"role": "user", "content": "Use get_time"}]});
        let first = http.post("/v1/messages", &body).await.unwrap();
        assert_eq!((first.status, first.header("x-weir-warnings")), (200, ""), "{first:?}");
        let content = first.json()["content"].clone();
        let kinds: Vec<_> = content.as_array().unwrap().iter().map(|b| b["type"].as_str().unwrap()).collect();
        let thought = if sim["redacted"] == true { "redacted_thinking" } else { "thinking" };
        assert_eq!(kinds, [thought, "tool_use"]);
        let result =
            json!({"type": "tool_result", "tool_use_id": content[1]["id"], "content": "half past nine"});
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": content}));
        messages.push(json!({"role": "user", "content": [result]}));
        let second = http.post("/v1/messages", &body).await.unwrap();
        assert_eq!(second.status, 200, "{second:?}");
        // The provider checks what comes back.
        let member = if thought == "thinking" { "signature" } else { "data" };
        body["messages"][1]["content"][0][member] = json!("forged");
        let forged = http.post("/v1/messages", &body).await.unwrap();
        assert_eq!(forged.status, 400, "{forged:?}");
    }
}

#[tokio::test]
async fn each_provider_that_gives_vectors_gives_the_same() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    let mut first = None;
    for provider in
        ["simulator", "simulator-gemini", "simulator-mistral", "simulator-ollama", "simulator-azure"]
    {
        let body = json!({"model": format!("{provider}/sim-embed"), "input": ["a river", "a hill"], "dimensions": 16});
        let answer = http.post("/v1/embeddings", &body).await.unwrap();
        assert_eq!((answer.status, answer.header("x-weir-provider")), (200, provider), "{answer:?}");
        let answer = answer.json();
        assert_eq!(answer["usage"]["prompt_tokens"], 4, "{provider}");
        let vectors = [answer["data"][0]["embedding"].clone(), answer["data"][1]["embedding"].clone()];
        assert_eq!(vectors[1].as_array().map(Vec::len), Some(16), "{provider}");
        assert_eq!(*first.get_or_insert_with(|| vectors.clone()), vectors, "{provider}");
    }
}

#[tokio::test]
async fn clouds_models_of_vectors_are_asked_in_their_own_ways() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    let first = json!({"model": "simulator/sim-embed", "input": "a river", "dimensions": 256});
    let first = http.post("/v1/embeddings", &first).await.unwrap().json()["data"][0]["embedding"].clone();
    // More than one call takes, of each.
    let inputs: Vec<_> = (0..120).map(|n| if n % 2 == 0 { "a river" } else { "a hill" }).collect();
    for model in [
        "simulator-vertex/text-embedding-005",
        "simulator-vertex/gemini-embedding-001",
        "simulator-vertex/gemini-embedding-2",
        "simulator-bedrock/amazon.titan-embed-text-v2:0",
        "simulator-bedrock/cohere.embed-v4:0",
        "simulator-gemini/gemini-embedding-001",
    ] {
        let body = json!({"model": model, "input": inputs, "dimensions": 256});
        let answer = http.post("/v1/embeddings", &body).await.unwrap();
        assert_eq!((answer.status, answer.header("x-weir-warnings")), (200, ""), "{model}: {answer:?}");
        let answer = answer.json();
        assert_eq!(answer["usage"]["prompt_tokens"], 240, "{model}");
        assert_eq!(answer["data"].as_array().map(Vec::len), Some(120), "{model}");
        assert_eq!(
            (&answer["data"][0]["embedding"], &answer["data"][118]["embedding"]),
            (&first, &first),
            "{model}"
        );
        assert_ne!(answer["data"][119]["embedding"], first, "{model}");
    }
}

#[tokio::test]
async fn what_a_model_of_vectors_can_t_be_told_is_named_or_refused() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    let strict = http.with_header("x-weir-strict", "true");
    for (model, lost) in [
        ("simulator/sim-embed", ""),
        ("simulator-gemini/sim-embed", "dropped;user"),
        ("simulator-mistral/sim-embed", "dropped;user"),
        ("simulator-ollama/sim-embed", "dropped;user"),
        ("simulator-vertex/text-embedding-005", "dropped;user"),
        ("simulator-bedrock/amazon.titan-embed-text-v2:0", "dropped;user"),
        ("weir-hash-1", "dropped;user"),
    ] {
        let body = json!({"model": model, "input": "a river", "user": "me"});
        let answer = http.post("/v1/embeddings", &body).await.unwrap();
        assert_eq!((answer.status, answer.header("x-weir-warnings")), (200, lost), "{model}: {answer:?}");
        let answer = strict.post("/v1/embeddings", &body).await.unwrap();
        assert_eq!(answer.status, if lost.is_empty() { 200 } else { 400 }, "{model}: {answer:?}");
        assert!(
            lost.is_empty() || answer.json()["error"]["message"].as_str().unwrap().contains(lost),
            "{model}"
        );
    }
    let content = json!({"content": {"parts": [{"text": "a river"}]}, "taskType": "CLUSTERING"});
    let answer = http.post("/v1beta/models/weir-hash-1:embedContent", &content).await.unwrap();
    assert_eq!((answer.status, answer.header("x-weir-warnings")), (200, "dropped;taskType"), "{answer:?}");
    let answer = strict.post("/v1beta/models/weir-hash-1:embedContent", &content).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
}

#[tokio::test]
async fn our_own_model_of_vectors_needs_no_provider() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    let ask = async |more: Value| {
        let mut body = json!({"model": "weir-hash-1", "input": ["a river in spring", "rivers in the spring", "tax forms"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        http.post("/v1/embeddings", &body).await.unwrap()
    };
    let answer = ask(json!({})).await;
    assert_eq!((answer.status, answer.header("x-weir-provider")), (200, "weir"), "{answer:?}");
    assert_eq!(answer.header("x-weir-cost-usd").trim_matches(['0', '.']), "", "known to be nothing");
    assert!(!answer.header("x-weir-cost-usd").is_empty());
    let answer = answer.json();
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 9);
    let vectors: Vec<Vec<f64>> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| serde_json::from_value(one["embedding"].clone()).unwrap())
        .collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    assert_eq!(vectors[0].len(), 384);
    assert!((dot(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-5);
    assert!(dot(&vectors[0], &vectors[1]) > dot(&vectors[0], &vectors[2]) + 0.3);
    assert_eq!(
        ask(json!({"dimensions": 64})).await.json()["data"][0]["embedding"].as_array().map(Vec::len),
        Some(64)
    );
    for (wrong, param) in [
        (json!({"dimensions": 5_000}), "dimensions"),
        (json!({"input": ""}), "input"),
        (json!({"input": [[4_000_000_000_u32]]}), "input"),
    ] {
        let answer = ask(wrong).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{answer:?}");
    }
    let card = http.get("/v1/models/weir-hash-1").await.unwrap();
    assert_eq!((card.status, &card.json()["owned_by"]), (200, &json!("weir")), "{card:?}");
    let counted = http
        .post("/v1/tokenize", &json!({"model": "weir-hash-1", "prompt": "a river in spring"}))
        .await
        .unwrap();
    assert_eq!(counted.status, 200, "{counted:?}");
    let chat = json!({"model": "weir-hash-1", "messages": [{"role": "user", "content": "Hello"}]});
    let chat = http.post("/v1/chat/completions", &chat).await.unwrap();
    assert_eq!((chat.status, &chat.json()["error"]["param"]), (400, &json!("model")), "{chat:?}");
}
