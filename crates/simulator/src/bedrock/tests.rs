//! Bedrock, called in process.

use axum::{Router, body::Body};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Config, Outcome, Simulator, anthropic::signature};

const CLAUDE: &str = "anthropic.claude-sonnet-4-5-20250929-v1:0";

fn ask(more: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": [{"text": "Tell me about rivers"}]}],
        "inferenceConfig": {"maxTokens": 3000}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn send(router: &Router, operation: &str, body: &Value) -> (StatusCode, String, Vec<u8>) {
    let path = format!("/model/{}/{operation}", CLAUDE.replace(':', "%3A"));
    let request =
        Request::post(path).header("authorization", "Bearer sim").body(Body::from(body.to_string()));
    let response = router.clone().oneshot(request.unwrap()).await.unwrap();
    let status = response.status();
    let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    (status, kind, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

/// Names and payloads of messages, whose checksums must be right.
fn frames(mut stream: &[u8]) -> Vec<(String, Value)> {
    let mut frames = Vec::new();
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    while !stream.is_empty() {
        let (total, headers) = (number(&stream[..4]) as usize, number(&stream[4..8]) as usize);
        assert_eq!(number(&stream[8..12]), crc32fast::hash(&stream[..8]));
        assert_eq!(number(&stream[total - 4..total]), crc32fast::hash(&stream[..total - 4]));
        let named = String::from_utf8_lossy(&stream[12..12 + headers]).into_owned();
        let name = named.split('\u{7}').nth(1).unwrap();
        let name: String = name.chars().filter(|c| c.is_ascii_alphabetic()).collect();
        let name = name.strip_suffix("contenttype").unwrap().to_owned();
        frames.push((name, serde_json::from_slice(&stream[12 + headers..total - 4]).unwrap()));
        stream = &stream[total..];
    }
    frames
}

#[tokio::test]
async fn plain_and_streamed_answers_say_and_count_the_same() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let tool = json!({"toolSpec": {"name": "get_time", "inputSchema": {"json": {"type": "object", "properties": {}}}}});
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}});
    for more in [
        json!({}),
        json!({"additionalModelRequestFields": thinking}),
        json!({"additionalModelRequestFields": thinking, "x_sim": {"redacted": true}}),
        json!({"toolConfig": {"tools": [tool], "toolChoice": {"any": {}}}}),
    ] {
        let (status, _, plain) = send(&router, "converse", &ask(&more)).await;
        let plain: Value = serde_json::from_slice(&plain).unwrap();
        assert_eq!(status, StatusCode::OK, "{plain}");
        let (_, kind, stream) = send(&router, "converse-stream", &ask(&more)).await;
        assert_eq!(kind, "application/vnd.amazon.eventstream");
        let frames = frames(&stream);
        let (mut said, mut input) = (String::new(), String::new());
        let mut thought = json!({"text": "", "signature": ""});
        let mut redacted = Value::Null;
        for (name, payload) in &frames {
            let delta = &payload["delta"];
            said.push_str(delta["text"].as_str().unwrap_or_default());
            input.push_str(delta["toolUse"]["input"].as_str().unwrap_or_default());
            for member in ["text", "signature"] {
                if let Some(more) = delta["reasoningContent"][member].as_str() {
                    thought[member] = json!(format!("{}{more}", thought[member].as_str().unwrap()));
                }
            }
            if let Some(data) = delta["reasoningContent"].get("redactedContent") {
                redacted = data.clone();
            }
            if name == "metadata" {
                assert_eq!(payload["usage"], plain["usage"]);
            }
        }
        assert_eq!(frames.first().unwrap().0, "messageStart");
        assert_eq!(frames.last().unwrap().0, "metadata");
        for block in plain["output"]["message"]["content"].as_array().unwrap() {
            if let Some(text) = block.get("text") {
                assert_eq!(*text, said.as_str());
            }
            if let Some(call) = block.get("toolUse") {
                assert_eq!(call["input"], serde_json::from_str::<Value>(&input).unwrap());
            }
            if let Some(reasoning) = block.get("reasoningContent") {
                match reasoning.get("redactedContent") {
                    Some(data) => assert_eq!(*data, redacted),
                    None => assert_eq!(reasoning["reasoningText"], thought),
                }
            }
        }
    }
    assert!(
        sim.ledger()
            .entries()
            .iter()
            .all(|e| e.outcome == Outcome::Finished && e.sent == e.completion_tokens)
    );
}

#[tokio::test]
async fn what_bedrock_refuses_is_refused() {
    let router = Simulator::new(Config::default()).router();
    let user = |block: Value| json!({"role": "user", "content": [block]});
    let hello = user(json!({"text": "x"}));
    let call =
        json!({"role": "assistant", "content": [{"toolUse": {"toolUseId": "t1", "name": "f", "input": {}}}]});
    let result = user(json!({"toolResult": {"toolUseId": "t1", "content": [{"text": "y"}]}}));
    let thought = |signature: &str| {
        let text = json!({"text": "hm", "signature": signature});
        json!({"role": "assistant", "content": [{"reasoningContent": {"reasoningText": text}}, {"text": "z"}]})
    };
    let tools = json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]});
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}});
    for (more, says) in [
        (json!({"invented": 1}), "extraneous key [invented]"),
        (json!({"messages": []}), "length 0"),
        (json!({"messages": [hello, hello]}), "alternate"),
        (json!({"messages": [call]}), "start with a user"),
        (json!({"messages": [hello, call, result]}), "toolConfig field must be defined"),
        (json!({"messages": [hello, call, hello], "toolConfig": tools}), "Expected toolResult"),
        (json!({"messages": [user(json!({"text": " "}))]}), "is blank"),
        (json!({"messages": [hello, thought("forged"), hello]}), "Invalid `signature`"),
        (
            json!({"messages": [hello, call, result], "toolConfig": tools, "additionalModelRequestFields": thinking}),
            "Expected `thinking`",
        ),
        (json!({"additionalModelRequestFields": thinking, "inferenceConfig": {}}), "max_tokens"),
        (json!({"additionalModelRequestFields": {"invented": 1}}), "Extra inputs"),
        (
            json!({"messages": [user(json!({"document": {"format": "pdf", "name": "a_b", "source": {"bytes": "AAAA"}}}))]}),
            "file name",
        ),
        (
            json!({"messages": [user(json!({"document": {"format": "pdf", "name": "a", "source": {"bytes": "AAAA"}}}))]}),
            "text block",
        ),
        (json!({"toolConfig": {"tools": []}}), "length 0"),
    ] {
        let (status, _, body) = send(&router, "converse", &ask(&more)).await;
        let text = String::from_utf8(body).unwrap();
        assert!(status == StatusCode::BAD_REQUEST && text.contains(says), "{more} {status} {text}");
    }
    let good = json!({"messages": [hello, thought(&signature("hm")), hello]});
    assert_eq!(send(&router, "converse", &ask(&good)).await.0, StatusCode::OK);
    let (_, _, stream) =
        send(&router, "converse-stream", &ask(&json!({"x_sim": {"status": 429, "cut_after": 2}}))).await;
    assert_eq!(frames(&stream).last().unwrap().0, "throttlingException");
}

#[tokio::test]
async fn who_shows_nothing_or_a_forged_signature_is_refused() {
    let router = Simulator::new(Config::default()).router();
    let scope = "20250101/us-east-1/bedrock/aws4_request";
    let forged = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders=host;x-amz-date, Signature={}",
        super::ACCESS_KEY_ID,
        "0".repeat(64)
    );
    let stranger = forged.replace(super::ACCESS_KEY_ID, "AKIASTRANGER");
    for (shown, says) in [
        (None, "Missing Authentication Token"),
        (Some(forged.as_str()), "does not match"),
        (Some(stranger.as_str()), "security token"),
        (Some("Basic x"), "not of a known algorithm"),
    ] {
        let mut request =
            Request::post("/model/x/converse").header("host", "h").header("x-amz-date", "20250101T000000Z");
        if let Some(shown) = shown {
            request = request.header("authorization", shown);
        }
        let response = router
            .clone()
            .oneshot(request.body(Body::from(ask(&json!({})).to_string())).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers()["x-amzn-errortype"], "AccessDeniedException");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(says), "{shown:?} {body:?}");
    }
}

#[tokio::test]
async fn vectors_are_asked_for_in_their_makers_bodies() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let invoke = async |model: &str, body: Value| {
        let path = format!("/model/{model}/invoke");
        let request =
            Request::post(path).header("authorization", "Bearer sim").body(Body::from(body.to_string()));
        let response = router.clone().oneshot(request.unwrap()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let told = headers.get("x-amzn-bedrock-input-token-count").map(|n| n.to_str().unwrap().to_owned());
        (status, serde_json::from_slice::<Value>(&body).unwrap(), told)
    };
    let titan = "amazon.titan-embed-text-v2:0";
    let (status, one, told) = invoke(titan, json!({"inputText": "a river", "dimensions": 256})).await;
    assert_eq!((status, one["embedding"].as_array().unwrap().len(), told.as_deref()), (200, 256, Some("2")));
    assert_eq!(one["inputTextTokenCount"], 2);
    let texts =
        json!({"texts": ["a river", "a hill"], "input_type": "search_query", "output_dimension": 256});
    let (status, two, told) = invoke("cohere.embed-v4:0", texts).await;
    assert_eq!((status, told.as_deref()), (200, Some("4")));
    assert_eq!(
        (&two["embeddings"][0], &two["response_type"]),
        (&one["embedding"], &json!("embeddings_floats"))
    );
    for (model, body) in [
        (titan, json!({"inputText": "x", "dimensions": 300})),
        (titan, json!({"inputText": "x", "user": "me"})),
        (titan, json!({"inputText": ""})),
        (titan, json!({"inputText": "word ".repeat(9_000)})),
        ("amazon.titan-embed-text-v1", json!({"inputText": "x", "dimensions": 256})),
        ("cohere.embed-v4:0", json!({"texts": ["x"]})),
        ("cohere.embed-v4:0", json!({"texts": vec!["x"; 97], "input_type": "clustering"})),
        (
            "cohere.embed-english-v3",
            json!({"texts": ["x"], "input_type": "clustering", "output_dimension": 256}),
        ),
        (CLAUDE, json!({"inputText": "x"})),
    ] {
        assert_eq!(invoke(model, body.clone()).await.0, 400, "{model} {body}");
    }
}
