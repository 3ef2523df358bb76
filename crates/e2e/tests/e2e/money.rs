//! What calls cost, embeddings, and tokens counted beforehand.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use weir_e2e::{http::Http, stand::Stand};

fn hello(more: &Value) -> Value {
    let mut body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// By the simulator's prices of its small models, in nano-dollars.
fn cost(usage: &Value) -> u64 {
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let (cached, written) =
        (count("/prompt_tokens_details/cached_tokens"), count("/prompt_tokens_details/cache_write_tokens"));
    let fresh = count("/prompt_tokens") - cached - written;
    fresh * 100 + cached * 25 + written * 125 + count("/completion_tokens") * 400
}

fn nano(usd: &str) -> u64 {
    let (whole, fraction) = usd.split_once('.').unwrap_or((usd, ""));
    format!("{whole}{fraction:0<9}").parse().unwrap()
}

async fn client() -> Http {
    let stand = Stand::shared();
    stand.gateway().with_key(&stand.tenant().await.unwrap().key)
}

#[tokio::test]
async fn an_answer_tells_what_it_cost_and_billing_adds_it_up() {
    let client = client().await;
    let answer = client.post("/v1/chat/completions", &hello(&json!({}))).await.unwrap();
    let usage = answer.json()["usage"].clone();
    let first = nano(answer.header("x-weir-cost-usd"));
    assert_eq!((first > 0, first), (true, cost(&usage)), "{usage}");

    // The chunk with the usage has the cost; nobody else is told.
    let asked = hello(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let events = client.stream("/v1/chat/completions", &asked).await.unwrap().all().await.unwrap();
    let chunks: Vec<Value> = events.iter().filter_map(|e| serde_json::from_str(e).ok()).collect();
    let told: Vec<_> = chunks.iter().filter(|c| c.get("weir").is_some()).collect();
    let [told] = told.as_slice() else { panic!("{events:?}") };
    assert_eq!(
        (&told["weir"]["provider"], &told["weir"]["model"]),
        (&json!("simulator"), &json!("gpt-4o-mini"))
    );
    let second = nano(told["weir"]["cost_usd"].as_str().unwrap());
    assert_eq!(second, cost(&told["usage"]));
    let events = client.stream("/v1/chat/completions", &hello(&json!({"stream": true}))).await.unwrap();
    assert!(!events.all().await.unwrap().concat().contains("\"weir\""));

    // Translated: by the prices of its provider, to a client of another dialect.
    let message =
        json!({"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi."}]});
    let translated = client.post("/v1/messages", &message).await.unwrap();
    assert_eq!(translated.status, 200, "{translated:?}");
    let third = nano(translated.header("x-weir-cost-usd"));

    let report = weir_e2e::wait::until("billing has added up", PATIENCE, async || {
        let report = client.get("/v1/users/me/usage").await?.json();
        anyhow::ensure!(report["totals"]["requests"] == 4, "{report}");
        Ok(report)
    });
    let totals = report.await.unwrap()["totals"].clone();
    let all = nano(totals["provider_cost_usd"].as_str().unwrap());
    assert!(all > first + second + third, "{totals}");
    assert_eq!(totals["unpriced_calls"], 0);
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

fn floats(base64: &Value) -> Vec<f32> {
    let bytes = STANDARD.decode(base64.as_str().unwrap()).unwrap();
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

#[tokio::test]
async fn embeddings_come_as_they_are_asked_for() {
    let client = client().await;
    let ask = async |more: Value| {
        let mut body = json!({"model": "text-embedding-3-small", "input": "a river in spring"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.post("/v1/embeddings", &body).await.unwrap()
    };
    let answer = ask(json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let plain = answer.json();
    assert_eq!((&plain["object"], &plain["data"][0]["object"]), (&json!("list"), &json!("embedding")));
    assert_eq!(
        (answer.header("x-weir-provider"), answer.header("x-weir-model")),
        ("simulator", "text-embedding-3-small")
    );
    let tokens = plain["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!((tokens > 0, nano(answer.header("x-weir-cost-usd"))), (true, tokens * 20));
    let vector: Vec<f32> = serde_json::from_value(plain["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(vector.len(), 1_536);

    let packed = ask(json!({"encoding_format": "base64"})).await.json();
    assert_eq!(floats(&packed["data"][0]["embedding"]), vector);
    let short = ask(json!({"dimensions": 8})).await.json();
    assert_eq!(short["data"][0]["embedding"].as_array().unwrap().len(), 8);
    let many = ask(json!({"input": ["a river in spring", "a street in winter"]})).await.json();
    assert_eq!(many["data"].as_array().unwrap().len(), 2);
    assert_eq!(serde_json::from_value::<Vec<f32>>(many["data"][0]["embedding"].clone()).unwrap(), vector);
    let tokens = ask(json!({"input": [[64, 15_140, 304, 10_683]]})).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    for (wrong, param) in [
        (json!({"input": []}), "input"),
        (json!({"input": ["", "a"]}), "input"),
        (json!({"encoding_format": "int8"}), "encoding_format"),
        (json!({"dimensions": 0}), "dimensions"),
        (json!({"model": null}), "model"),
    ] {
        let refused = ask(wrong.clone()).await;
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!(param)), "{wrong}");
    }
    let refused = ask(json!({"model": "gpt-4o-mini"})).await;
    assert!((400..500).contains(&refused.status), "{refused:?}");
}

#[tokio::test]
async fn tokens_are_counted_and_priced_beforehand() {
    let client = client().await;
    let ask =
        json!({"model": "gpt-4o-mini", "prompt": "hello world", "return_token_strs": true, "max_tokens": 10});
    let answer = client.post("/v1/tokenize", &ask).await.unwrap();
    assert_eq!(
        answer.json(),
        json!({
            "count": 2, "max_model_len": 128_000, "tokens": [24_912, 2_375], "token_strs": ["hello", " world"],
            "tokenizer": "o200k_base", "exact": true, "error_percent": 0,
            "estimate": {
                "input_cost_usd": "0.0000002", "max_cost_usd": "0.0000042",
                "price_row": "simulator/sim-small@2026-01-01",
            },
        })
    );
    let messages =
        json!({"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "hello world"}]});
    let counted = client.post("/v1/tokenize", &messages).await.unwrap().json();
    assert_eq!((&counted["tokens"], &counted["exact"]), (&Value::Null, &json!(false)));
    assert!(counted["count"].as_u64().unwrap() > 2 && counted["error_percent"].as_u64().unwrap() > 0);
    let wrong = client.post("/v1/tokenize", &json!({"model": "gpt-4o-mini"})).await.unwrap();
    assert_eq!((wrong.status, &wrong.json()["code"]), (400, &json!("invalid_argument")));
}
