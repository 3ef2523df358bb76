//! What is known of models beside what their providers tell.

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
