//! What is known of models beside what their providers tell.

use http::Method;
use serde_json::{Value, json};
use weir_e2e::stand::Stand;

fn hello(model: &str) -> Value {
    json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Say hello."}]})
}

#[tokio::test]
async fn a_retired_name_that_nobody_serves_leads_to_its_successor() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    for (path, asked, answers) in [
        ("/v1/chat/completions", "gpt-4-1106-preview", "gpt-5.6-sol"),
        ("/v1/messages", "claude-3-haiku-20240307", "claude-haiku-4-5"),
        ("/v1/chat/completions", "simulator-gemini/gemini-1.5-pro", "gemini-2.0-flash"),
    ] {
        let answer = http.post(path, &hello(asked)).await.unwrap();
        let told = (answer.status, answer.header("x-weir-model"));
        assert_eq!(told, (200, answers), "{asked}: {answer:?}");
        let warnings: Vec<_> = answer.header("x-weir-warnings").split(", ").collect();
        assert!(warnings.contains(&"altered;model"), "{asked}: {answer:?}");
        let strict = http.with_header("x-weir-strict", "true").post(path, &hello(asked)).await.unwrap();
        assert_eq!(strict.status, 404, "{asked}: {strict:?}");
        assert!(strict.json()["error"]["message"].as_str().unwrap().contains(answers), "{strict:?}");
    }
}

#[tokio::test]
async fn a_name_that_is_listed_is_served_however_old() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    for model in ["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "claude-3-5-haiku-latest", "gemini-2.0-flash"] {
        let answer = http.post("/v1/chat/completions", &hello(model)).await.unwrap();
        assert_eq!((answer.status, answer.header("x-weir-model")), (200, model), "{answer:?}");
        assert!(!answer.header("x-weir-warnings").contains("model"), "{answer:?}");
    }
    // Its successors are served by nobody either.
    let unknown = http.post("/v1/chat/completions", &hello("gemini-1.5-flash")).await.unwrap();
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn an_alias_wins_over_a_model_in_every_dialect_and_is_listed() {
    let stand = Stand::shared();
    let (mine, other) = (stand.tenant().await.unwrap().key, stand.tenant().await.unwrap().key);
    let (mine, other) = (stand.gateway().with_key(&mine), stand.gateway().with_key(&other));
    for (name, model) in
        [("gpt-4o", "gpt-4o-mini"), ("my-own", "claude-haiku-4-5"), ("text-embedding-3-small", "weir-hash-1")]
    {
        let body = json!({"model": model}).to_string().into();
        let put = mine.send(Method::PUT, &format!("/v1/router/aliases/{name}"), Some(body)).await.unwrap();
        assert_eq!(put.status, 200, "{put:?}");
    }
    let contents = json!({"contents": [{"parts": [{"text": "hello"}]}]});
    let input = json!({"model": "gpt-4o", "input": "hello"});
    for (path, body) in [
        ("/v1/chat/completions", hello("gpt-4o")),
        ("/v1/messages", hello("gpt-4o")),
        ("/v1/responses", input),
        ("/v1beta/models/gpt-4o:generateContent", contents),
    ] {
        for (http, model) in [(&mine, "gpt-4o-mini"), (&other, "gpt-4o")] {
            let answer = http.post(path, &body).await.unwrap();
            assert_eq!((answer.status, answer.header("x-weir-model")), (200, model), "{path}: {answer:?}");
        }
    }
    let embedded = json!({"model": "text-embedding-3-small", "input": "hello"});
    let answer = mine.post("/v1/embeddings", &embedded).await.unwrap();
    assert_eq!(answer.header("x-weir-model"), "weir-hash-1", "{answer:?}");

    let owners = |list: Value| -> std::collections::BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        list["data"].as_array().unwrap().iter().map(|m| (text(&m["id"]), text(&m["owned_by"]))).collect()
    };
    let (listed, others) = (mine.get("/v1/models").await.unwrap(), other.get("/v1/models").await.unwrap());
    let (listed, others) = (owners(listed.json()), owners(others.json()));
    assert_eq!((listed["gpt-4o"].as_str(), listed["my-own"].as_str()), ("tenant-alias", "tenant-alias"));
    assert_eq!((listed["auto"].as_str(), listed["smart-model"].as_str()), ("router", "alias"));
    assert!(others["gpt-4o"] != "tenant-alias" && !others.contains_key("my-own"), "{others:?}");
    for id in ["my-own", "auto", "simulator-anthropic/claude-sonnet-4-5", "simulator-azure/gpt-4o"] {
        let answer = mine.get(&format!("/v1/models/{id}")).await.unwrap();
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(id)), "{answer:?}");
    }
    assert_eq!(other.get("/v1/models/my-own").await.unwrap().status, 404);
}

#[tokio::test]
async fn every_event_of_azure_s_streams_is_a_chunk_and_its_remarks_are_there() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    let mut body = hello("simulator-azure/gpt-4o");
    body["stream"] = json!(true);
    let events = http.stream("/v1/chat/completions", &body).await.unwrap().all().await.unwrap();
    let chunks: Vec<Value> = events.iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
    assert!(chunks.len() > 2);
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk", "{chunk}");
        assert_eq!(
            (&chunk["id"], &chunk["created"], &chunk["model"]),
            (&chunks[0]["id"], &chunks[0]["created"], &chunks[0]["model"])
        );
    }
    assert!(chunks[0]["prompt_filter_results"].is_array(), "{}", chunks[0]);
}
