//! Gemini, called in process.

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Config, Outcome, Simulator};

fn ask(more: &Value) -> Value {
    let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "Tell me about rivers"}]}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn send(router: &Router, target: &str, body: &Value) -> (StatusCode, String) {
    let request =
        Request::post(format!("/v1beta/models/{target}")).body(Body::from(body.to_string())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn whole(router: &Router, model: &str, body: &Value) -> Value {
    let (status, text) = send(router, &format!("{model}:generateContent"), body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// A stream's responses, which are the same in both its forms.
async fn streamed(router: &Router, model: &str, body: &Value) -> Vec<Value> {
    let (_, text) = send(router, &format!("{model}:streamGenerateContent?alt=sse"), body).await;
    let read = |event: &str| serde_json::from_str::<Value>(event.strip_prefix("data: ").unwrap()).unwrap();
    let events: Vec<_> = text.split_terminator("\r\n\r\n").map(read).collect();
    let (_, text) = send(router, &format!("{model}:streamGenerateContent"), body).await;
    let listed: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(listed.len(), events.len());
    events
}

/// Candidates as a client joins them: texts that follow each other are one.
fn joined(events: &[Value]) -> Value {
    let mut candidates: Vec<Value> = Vec::new();
    for candidate in events.iter().flat_map(|event| event["candidates"].as_array().unwrap()) {
        let at = usize::try_from(candidate["index"].as_u64().unwrap()).unwrap();
        if candidates.len() <= at {
            candidates.resize(at + 1, json!({"parts": [], "chosen": []}));
        }
        let into = &mut candidates[at];
        for part in candidate["content"]["parts"].as_array().unwrap() {
            let parts = into["parts"].as_array_mut().unwrap();
            let signed = part.get("thoughtSignature").is_some();
            match parts.last_mut() {
                Some(last)
                    if last["text"].is_string()
                        && part["text"].is_string()
                        && last["thought"] == part["thought"] =>
                {
                    last["text"] = json!(format!(
                        "{}{}",
                        last["text"].as_str().unwrap(),
                        part["text"].as_str().unwrap()
                    ));
                    last["signed"] = json!(signed);
                }
                _ if part["text"] == "" => {}
                _ => {
                    let mut part = part.clone();
                    part.as_object_mut().unwrap().remove("thoughtSignature");
                    part["signed"] = json!(signed);
                    parts.push(part);
                }
            }
        }
        let chosen = candidate["logprobsResult"]["chosenCandidates"].as_array().cloned().unwrap_or_default();
        into["chosen"].as_array_mut().unwrap().extend(chosen);
        if let Some(reason) = candidate.get("finishReason") {
            assert!(into.get("finish").is_none());
            into["finish"] = reason.clone();
        }
    }
    json!(candidates)
}

#[tokio::test]
async fn plain_and_streamed_contents_say_and_count_the_same() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let look = json!([{"functionDeclarations": [{"name": "look", "parametersJsonSchema": {"type": "object", "additionalProperties": false}}]}]);
    let question =
        json!([{"role": "user", "parts": [{"text": "Please look({\"a\": 1}) and look({\"b\": 2})"}]}]);
    let schema =
        json!({"type": "OBJECT", "properties": {"n": {"type": "INTEGER", "minimum": 3}}, "required": ["n"]});
    for (model, more, finish, reasons) in [
        ("sim-large", json!({}), "STOP", false),
        (
            "sim-large",
            json!({"generationConfig": {"maxOutputTokens": 5, "candidateCount": 2}}),
            "MAX_TOKENS",
            false,
        ),
        (
            "sim-large",
            json!({"generation_config": {"response_logprobs": true, "logprobs": 3, "stop_sequences": ["the"]}}),
            "STOP",
            false,
        ),
        (
            "gemini-2.5-flash",
            json!({"generationConfig": {"thinkingConfig": {"includeThoughts": true, "thinkingBudget": 90}}}),
            "STOP",
            true,
        ),
        (
            "gemini-2.5-flash",
            json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}),
            "STOP",
            false,
        ),
        (
            "gemini-2.5-flash",
            json!({"generationConfig": {"responseMimeType": "application/json", "responseSchema": schema}}),
            "STOP",
            true,
        ),
        (
            "gemini-3-pro-preview",
            json!({"contents": question, "tools": look, "x_sim": {"preamble": true}}),
            "STOP",
            true,
        ),
        ("sim-large", json!({"x_sim": {"refusal": true}}), "SAFETY", false),
    ] {
        let plain = whole(&router, model, &ask(&more)).await;
        let events = streamed(&router, model, &ask(&more)).await;
        let (one, many) = (joined(std::slice::from_ref(&plain)), joined(&events));
        assert_eq!(one, many, "{more}");
        assert_eq!(one[0]["finish"], finish);
        let usage = &plain["usageMetadata"];
        assert_eq!(events.last().unwrap()["usageMetadata"], *usage, "{more}");
        let number = |name: &str| usage[name].as_u64().unwrap_or(0);
        assert_eq!(number("thoughtsTokenCount") > 0, reasons, "{more}");
        assert_eq!(
            number("totalTokenCount"),
            number("promptTokenCount") + number("candidatesTokenCount") + number("thoughtsTokenCount")
        );
        let (_, counted) =
            send(&router, &format!("{model}:countTokens"), &json!({"generateContentRequest": ask(&more)}))
                .await;
        assert_eq!(
            serde_json::from_str::<Value>(&counted).unwrap()["totalTokens"],
            usage["promptTokenCount"]
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
async fn signatures_come_back_as_they_went() {
    let router = Simulator::new(Config::default()).router();
    let tools = json!([{"functionDeclarations": [{"name": "look", "parameters": {"type": "OBJECT", "properties": {"at": {"type": "string"}}}}]}]);
    let question = json!({"role": "user", "parts": [{"text": "Please look({\"at\": \"x\"}) and look({\"at\": \"y\"})"}]});
    let with = |contents: Value| json!({"contents": contents, "tools": tools});
    let first = whole(&router, "gemini-3-pro-preview", &with(json!([question]))).await;
    let said = first["candidates"][0]["content"].clone();
    let parts = said["parts"].as_array().unwrap();
    assert!(parts[0]["thoughtSignature"].is_string() && parts[1].get("thoughtSignature").is_none(), "{said}");
    let response = |call: &Value, told: &str| json!({"functionResponse": {"id": call["id"], "name": call["name"], "response": {"result": told}}});
    let results = json!({"role": "user", "parts": [response(&parts[0]["functionCall"], "a lake"), response(&parts[1]["functionCall"], "a hill")]});
    let second = whole(&router, "gemini-3-pro-preview", &with(json!([question, said, results]))).await;
    let last = second["candidates"][0]["content"]["parts"][0].clone();
    assert!(last["text"].as_str().unwrap().starts_with("The result says a lake a hill:"), "{last}");
    assert!(last["thoughtSignature"].is_string());

    // As Google's own client sends a stream back: a content for each part of it, and responses without ids.
    let pieces = |part: &Value| json!({"role": "model", "parts": [part]});
    let bare = json!({"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"result": "x"}}}]});
    let contents =
        json!([question, pieces(&parts[0]), pieces(&parts[1]), pieces(&json!({"text": ""})), bare, bare]);
    whole(&router, "gemini-3-pro-preview", &with(contents)).await;

    let changed = |signature: Value| {
        let mut said = said.clone();
        said["parts"][0]["thoughtSignature"] = signature;
        said
    };
    let swapped = json!({"role": "model", "parts": [parts[1], {"functionCall": {"name": "look"}}]});
    for (said, says) in [
        (changed(Value::Null), "missing a thought_signature"),
        (changed(last["thoughtSignature"].clone()), "Corrupted"),
        (swapped, "missing a thought_signature"),
        (json!({"role": "model", "parts": [parts[0]]}), "equal to the number of function call parts"),
    ] {
        let body = with(json!([question, said, results]));
        let (status, text) = send(&router, "gemini-3-pro-preview:generateContent", &body).await;
        assert!(status == StatusCode::BAD_REQUEST && text.contains(says), "{says}: {text}");
        assert!(text.contains("INVALID_ARGUMENT"));
    }
    // Older turns are not looked at, older models don't mind, and there is a word for what never was signed.
    let again = json!({"role": "user", "parts": [{"text": "And now?"}]});
    let text = json!({"role": "model", "parts": [last]});
    whole(
        &router,
        "gemini-3-pro-preview",
        &with(json!([question, changed(Value::Null), results, text, again])),
    )
    .await;
    whole(&router, "gemini-2.5-flash", &with(json!([question, changed(Value::Null), results]))).await;
    let skipped = changed(json!("skip_thought_signature_validator"));
    whole(&router, "gemini-3-pro-preview", &with(json!([question, skipped, results]))).await;
}

#[tokio::test]
async fn what_google_refuses_is_refused_and_faults_are_in_its_shape() {
    let router = Simulator::new(Config::default()).router();
    let schema = |schema: Value| json!({"generationConfig": {"responseMimeType": "application/json", "responseSchema": schema}});
    let function = |function: Value| json!({"tools": [{"functionDeclarations": [function]}]});
    for (more, says) in [
        (json!({"invented": 1}), "Unknown name \\\"invented\\\": Cannot find field"),
        (json!({"contents": []}), "contents is not specified"),
        (json!({"contents": [{"parts": []}]}), "must not be empty"),
        (json!({"contents": [{"parts": [{}]}]}), "oneof field 'data'"),
        (json!({"contents": [{"role": "boss", "parts": [{"text": "x"}]}]}), "valid role"),
        (json!({"generationConfig": {"temperature": 3}}), "range"),
        (
            json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "!!"}}]}]}),
            "Base64 decoding failed",
        ),
        (
            json!({"contents": [{"parts": [{"text": "x"}]}, {"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
                {"parts": [{"functionResponse": {"name": "f", "response": {}, "parts": [{"text": "x"}]}}]}]}),
            "Unknown name \\\"text\\\"",
        ),
        (
            json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "low"}}}),
            "only set only one",
        ),
        (
            schema(
                json!({"type": "OBJECT", "properties": {"a": {"type": "OBJECT", "additionalProperties": false}}}),
            ),
            "'generation_config.response_schema.properties[0].value': Cannot find field",
        ),
        (schema(json!({"type": ["STRING", "NULL"]})), "cannot start list"),
        (schema(json!({"$ref": "#"})), "$ref"),
        (json!({"generationConfig": {"responseSchema": {"type": "STRING"}}}), "response_mime_type"),
        (function(json!({"name": "a b"})), "Invalid function name"),
        (
            function(json!({"name": "f", "parameters": {"type": "object", "required": ["x"]}})),
            "property is not defined",
        ),
        (
            json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}}),
            "not declared",
        ),
    ] {
        let (status, text) = send(&router, "sim-large:generateContent", &ask(&more)).await;
        assert!(status == StatusCode::BAD_REQUEST && text.contains(says), "{more} {text}");
        assert!(text.contains("\"INVALID_ARGUMENT\""), "{text}");
    }
    assert_eq!(send(&router, "gpt-4o:generateContent", &ask(&json!({}))).await.0, StatusCode::NOT_FOUND);
    let instructed = ask(&json!({"systemInstruction": {"parts": [{"text": "x"}]}}));
    let (status, text) = send(&router, "gemma-3-27b-it:generateContent", &instructed).await;
    assert!(status == StatusCode::BAD_REQUEST && text.contains("Developer instruction"), "{text}");
    for either in ["-_-_", "+/+/", "-_8"] {
        let image =
            json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": either}}]}]});
        assert_eq!(send(&router, "sim-large:generateContent", &image).await.0, StatusCode::OK);
    }
    let busy = ask(&json!({"x_sim": {"status": 429, "retry_after": 7}}));
    let (status, text) = send(&router, "sim-large:streamGenerateContent", &busy).await;
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status.as_u16(), &error[0]["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
    assert_eq!(error[0]["error"]["details"][0]["retryDelay"], "7s");
    let midway = ask(&json!({"x_sim": {"status": 503, "cut_after": 2}}));
    let events = streamed(&router, "sim-large", &midway).await;
    assert_eq!(events.last().unwrap()["error"]["status"], "UNAVAILABLE");
    let forced = json!({"tools": [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["g"]}}});
    let called = whole(&router, "sim-large", &ask(&forced)).await;
    assert_eq!(called["candidates"][0]["content"]["parts"][0]["functionCall"]["name"], "g");
}

#[tokio::test]
async fn keys_models_and_vectors() {
    let router =
        Simulator::new(Config { api_key: Some("right".to_owned().into()), ..Config::default() }).router();
    let get = async |path: &str| {
        let response = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    assert_eq!(get("/v1beta/models").await.0, 403);
    assert_eq!(
        get("/v1beta/models?key=wrong").await.1["error"]["message"],
        "API key not valid. Please pass a valid API key."
    );
    let (_, list) = get("/v1beta/models?key=right").await;
    let names: Vec<_> =
        list["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"models/gemini-2.5-flash")
            && names.contains(&"models/sim-small")
            && !names.contains(&"models/gpt-4o")
    );
    assert_eq!(get("/v1beta/models/gemini-2.5-pro?key=right").await.1["thinking"], true);
    assert_eq!(send(&router, "sim-large:countTokens", &ask(&json!({}))).await.0, StatusCode::FORBIDDEN);

    let request = |text: &str| json!({"content": {"parts": [{"text": text}]}, "outputDimensionality": 8});
    let body = json!({"requests": [request("a river"), request("a hill")]});
    let (_, text) = send(&router, "gemini-embedding-001:batchEmbedContents?key=right", &body).await;
    let many: Value = serde_json::from_str(&text).unwrap();
    let (_, text) = send(&router, "gemini-embedding-001:embedContent?key=right", &request("a river")).await;
    let one: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(many["embeddings"][0]["values"].as_array().unwrap().len(), 8);
    assert_eq!(one["embedding"], many["embeddings"][0]);
    assert_ne!(one["embedding"], many["embeddings"][1]);
}

#[tokio::test]
async fn vectors_on_vertex_are_predictions_or_of_contents() {
    let router = Simulator::new(Config::default()).router();
    let ask = async |target: &str, body: Value| {
        let path = format!("/v1/projects/p/locations/l/publishers/google/models/{target}");
        let request =
            Request::post(path).header("authorization", "Bearer ya29.x").body(Body::from(body.to_string()));
        let response = router.clone().oneshot(request.unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let instances = |texts: &[&str]| texts.iter().map(|text| json!({"content": text})).collect::<Vec<_>>();
    let two =
        json!({"instances": instances(&["a river", "a hill"]), "parameters": {"outputDimensionality": 8}});
    let (status, told) = ask("text-embedding-005:predict", two.clone()).await;
    let first = &told["predictions"][0]["embeddings"];
    assert_eq!((status, first["values"].as_array().unwrap().len()), (200, 8));
    assert_eq!(first["statistics"]["token_count"], 2);
    let content = json!({"content": {"parts": [{"text": "a river"}]}, "embedContentConfig": {"outputDimensionality": 8}});
    let (status, one) = ask("gemini-embedding-2:embedContent", content).await;
    assert_eq!((status, &one["embedding"]["values"]), (200, &first["values"]));
    assert_eq!(one["usageMetadata"]["promptTokenCount"], 2);
    let long = "word ".repeat(2_100);
    let uncut = json!({"instances": instances(&[&long]), "parameters": {"autoTruncate": false}});
    for (target, body, expected) in [
        ("gemini-embedding-001:predict", two.clone(), 400),
        ("gemini-embedding-2:predict", two.clone(), 400),
        ("gemini-embedding-001:predict", json!({"instances": instances(&["a river"])}), 200),
        ("text-embedding-005:predict", json!({"instances": instances(&[&long])}), 200),
        ("text-embedding-005:predict", uncut, 400),
        ("text-embedding-005:predict", json!({"instances": instances(&vec!["x"; 251])}), 400),
        ("gpt-4o:predict", json!({"instances": instances(&["x"])}), 404),
    ] {
        assert_eq!(ask(target, body).await.0, expected, "{target}");
    }
}
