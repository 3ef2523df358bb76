//! Conversations whose every turn goes to another provider's model, with thoughts and tools: whatever one left in them,
//! the next takes what the client sends back. Aliases move, fallbacks step in, and people pick another model.

use futures_util::future::join_all;
use serde_json::{Value, json};
use weir_e2e::{http::Http, stand::Stand};

const MODELS: [&str; 10] = [
    "gpt-5-mini",
    "simulator-responses/gpt-5-mini",
    "claude-opus-5-5",
    "simulator-anthropic/claude-sonnet-4-5",
    "simulator-gemini/gemini-3-pro-preview",
    "simulator-gemini/gemini-2.5-flash",
    "simulator-mistral/magistral-medium-latest",
    "simulator-ollama/qwen3:8b",
    "simulator-bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0",
    "simulator-bedrock/amazon.nova-pro-v1:0",
];
const FIRST: &str = r#"f({"a":"x"}) and g"#;
const LAST: &str = r#"f({"a":"y"})"#;

/// How a client writes a conversation down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Chat,
    /// It keeps nothing that it does not know.
    BareChat,
    Messages,
    Responses,
    Gemini,
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
}

fn nothing() -> Value {
    json!({"type": "object", "properties": {}})
}

impl Client {
    const ALL: [Self; 5] = [Self::Chat, Self::BareChat, Self::Messages, Self::Responses, Self::Gemini];

    fn path(self, model: &str) -> String {
        match self {
            Self::Chat | Self::BareChat => "/v1/chat/completions".to_owned(),
            Self::Messages => "/v1/messages".to_owned(),
            Self::Responses => "/v1/responses".to_owned(),
            Self::Gemini => format!("/v1beta/models/{model}:generateContent"),
        }
    }

    fn said(self, text: &str) -> Value {
        match self {
            Self::Gemini => json!({"role": "user", "parts": [{"text": text}]}),
            _ => json!({"role": "user", "content": text}),
        }
    }

    fn body(self, model: &str, talk: &[Value]) -> Value {
        match self {
            Self::Chat | Self::BareChat => {
                let tool = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
                json!({"model": model, "messages": talk, "reasoning_effort": "low",
                    "tools": [tool("f", schema()), tool("g", nothing())]})
            }
            Self::Messages => {
                let adaptive = model.contains("opus-5");
                let thinking = if adaptive {
                    json!({"type": "adaptive"})
                } else {
                    json!({"type": "enabled", "budget_tokens": 1_024})
                };
                json!({"model": model, "max_tokens": 4_000, "messages": talk, "thinking": thinking, "tools": [
                    {"name": "f", "input_schema": schema()}, {"name": "g", "input_schema": nothing()}]})
            }
            Self::Responses => {
                let tool = |name: &str, parameters: Value| json!({"type": "function", "name": name, "parameters": parameters, "strict": false});
                json!({"model": model, "input": talk, "store": false, "include": ["reasoning.encrypted_content"],
                    "reasoning": {"effort": "low", "summary": "auto"}, "tools": [tool("f", schema()), tool("g", nothing())]})
            }
            Self::Gemini => {
                json!({"contents": talk, "generationConfig": {"thinkingConfig": {"includeThoughts": true}},
                "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema()}, {"name": "g"}]}]})
            }
        }
    }

    /// The turn as the client keeps it, and what its calls bring.
    fn kept(self, answer: &Value) -> (Vec<Value>, Vec<Value>) {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        match self {
            Self::Chat | Self::BareChat => {
                let mut message = answer["choices"][0]["message"].clone();
                if self == Self::BareChat {
                    message
                        .as_object_mut()
                        .unwrap()
                        .retain(|name, _| ["role", "content", "tool_calls"].contains(&name.as_str()));
                    for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
                        call.as_object_mut()
                            .unwrap()
                            .retain(|name, _| ["id", "type", "function"].contains(&name.as_str()));
                    }
                }
                let result =
                    |call: &Value| json!({"role": "tool", "tool_call_id": call["id"], "content": "42"});
                let results = list(&message["tool_calls"]).iter().map(result).collect();
                (vec![message], results)
            }
            Self::Messages => {
                let calls = list(&answer["content"]).into_iter().filter(|block| block["type"] == "tool_use");
                let result =
                    |call: Value| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "42"});
                let results: Vec<_> = calls.map(result).collect();
                let results = if results.is_empty() {
                    Vec::new()
                } else {
                    vec![json!({"role": "user", "content": results})]
                };
                (vec![json!({"role": "assistant", "content": answer["content"]})], results)
            }
            Self::Responses => {
                let calls =
                    list(&answer["output"]).into_iter().filter(|item| item["type"] == "function_call");
                let result = |call: Value| json!({"type": "function_call_output", "call_id": call["call_id"], "output": "42"});
                (list(&answer["output"]), calls.map(result).collect())
            }
            Self::Gemini => {
                let content = answer["candidates"][0]["content"].clone();
                let calls =
                    list(&content["parts"]).into_iter().filter_map(|part| part.get("functionCall").cloned());
                let result = |call: Value| {
                    let mut response = json!({"name": call["name"], "response": {"output": "42"}});
                    if let Some(id) = call.get("id") {
                        response["id"] = id.clone();
                    }
                    json!({"functionResponse": response})
                };
                let results: Vec<_> = calls.map(result).collect();
                let results = if results.is_empty() {
                    Vec::new()
                } else {
                    vec![json!({"role": "user", "parts": results})]
                };
                (vec![content], results)
            }
        }
    }
}

/// What went wrong, if anything did.
async fn converse(http: &Http, client: Client, first: &str, second: &str) -> Result<(), String> {
    let ask = async |model: &str, talk: &[Value]| {
        let answer =
            http.post(&client.path(model), &client.body(model, talk)).await.map_err(|e| e.to_string())?;
        if answer.status == 200 {
            Ok(answer.json())
        } else {
            Err(format!("{model}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)))
        }
    };
    let mut talk = vec![client.said(FIRST)];
    let answer = ask(first, &talk).await?;
    let (turn, results) = client.kept(&answer);
    if results.is_empty() {
        return Err(format!("no call: {answer}"));
    }
    talk.extend(turn.into_iter().chain(results));
    let answer = ask(second, &talk).await?;
    if !answer.to_string().contains("42") {
        return Err(format!("the results were not seen: {answer}"));
    }
    talk.extend(client.kept(&answer).0);
    talk.push(client.said(LAST));
    ask(first, &talk).await.map(drop)
}

#[tokio::test]
async fn every_turn_may_go_to_another_provider_whoever_asks() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    let mut wrong = Vec::new();
    for first in MODELS {
        let http = &http;
        let pairs = MODELS.into_iter().flat_map(|second| Client::ALL.map(|client| (second, client)));
        let talks = pairs.map(async |(second, client)| {
            let told = converse(http, client, first, second).await;
            told.err().map(|why| format!("{client:?}: {first} -> {second}: {why}"))
        });
        wrong.extend(join_all(talks).await.into_iter().flatten());
    }
    assert!(wrong.is_empty(), "{} of 500:\n{}", wrong.len(), wrong.join("\n"));
}

/// A Gemini client's question to a model of any provider.
async fn generate(http: &Http, model: &str, body: &Value) -> Value {
    let answer = http.post(&Client::Gemini.path(model), body).await.unwrap();
    assert_eq!(answer.status, 200, "{model}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

#[tokio::test]
async fn what_google_s_clients_alone_write_reaches_every_provider() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    // As google-genai for Python writes bytes.
    let image = json!({"contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": "-__-Zg=="}}, {"text": "What?"}]}]});
    let function = json!({"name": "db.query", "parametersJsonSchema": schema()});
    let tools = json!({"contents": [{"parts": [{"text": r#"db_query({"a":"x"})"#}]}], "tools": [{"functionDeclarations": [function]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}});
    for model in MODELS.into_iter().chain(["simulator-azure/gpt-4o", "simulator-vertex/gemini-2.5-flash"]) {
        generate(&http, model, &image).await;
        // Some models can't be told that they must call.
        let answer = generate(&http, model, &tools).await;
        let parts = answer["candidates"][0]["content"]["parts"].as_array().unwrap();
        let called: Vec<_> = parts.iter().filter_map(|part| part["functionCall"]["name"].as_str()).collect();
        assert!(called.iter().all(|name| *name == "db.query"), "{model}: {answer}");
        assert!(!called.is_empty() || model.contains("ollama"), "{model}: {answer}");
    }
}

#[tokio::test]
async fn a_model_of_ollama_s_that_does_not_think_answers_all_the_same() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    let body = json!({"model": "simulator-ollama/llama3.2", "reasoning_effort": "low",
        "messages": [{"role": "user", "content": "Tell me about rivers"}]});
    // The first time it refuses, later it is known.
    for _ in 0..2 {
        let answer = http.post("/v1/chat/completions", &body).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("x-weir-warnings"), "dropped;reasoning_effort");
    }
    let strict = http.with_header("x-weir-strict", "true").post("/v1/chat/completions", &body).await.unwrap();
    assert_eq!(strict.status, 400, "{strict:?}");
    let thinks = json!({"model": "simulator-ollama/qwen3:8b", "reasoning_effort": "low", "messages": body["messages"]});
    let answer = http.post("/v1/chat/completions", &thinks).await.unwrap();
    assert_eq!((answer.status, answer.header("x-weir-warnings")), (200, "altered;reasoning_effort"));
}
