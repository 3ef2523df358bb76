//! The provider's routes, called in process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use axum::{Router, body::Body};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use weir_simulator::{Config, Faults, Outcome, Simulator};

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The chunks of a stream, without `[DONE]`, which must be there.
    fn chunks(&self) -> Vec<Value> {
        let mut events: Vec<_> = self.text.split_terminator("\n\n").collect();
        assert_eq!(events.pop(), Some("data: [DONE]"), "{}", self.text);
        events
            .iter()
            .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
            .collect()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status, headers, text }
}

fn post(body: &Value) -> Request<Body> {
    Request::post("/v1/chat/completions")
        .header("x-client-request-id", "call-1")
        .body(Body::from(body.to_string()))
        .unwrap()
}

async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

/// A question with more fields.
fn ask(more: &Value) -> Value {
    let mut body =
        json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Tell me about rivers"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn streamed_text(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn plain_and_streamed_answers_say_and_count_the_same() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let plain = send(&router, post(&ask(&json!({})))).await;
    assert_eq!(plain.status, StatusCode::OK);
    assert_eq!(plain.header("content-type"), "application/json");
    assert_eq!(plain.header("content-length"), plain.text.len().to_string());
    let text = plain.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(text.starts_with("About Tell about rivers:"), "{text}");

    let body = ask(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let streamed = send(&router, post(&body)).await;
    assert!(streamed.header("content-type").starts_with("text/event-stream"));
    let chunks = streamed.chunks();
    assert_eq!(streamed_text(&chunks), text);
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(*usage, plain.json()["usage"]);
    assert_eq!(usage["completion_tokens"], bpe_openai::o200k_base().count(&text));
    assert_eq!(usage["prompt_tokens"], 3 + 1 + 4 + 3);

    let summary = sim.ledger().summary();
    assert_eq!((summary.finished.calls, summary.running), (2, 0));
    let entries = sim.ledger().find("call-1");
    assert_eq!(entries.len(), 2);
    assert_eq!(Value::from(entries[1].completion_tokens), usage["completion_tokens"]);
    assert_eq!((entries[1].sent, entries[1].status), (entries[1].completion_tokens, 200));
    assert_eq!((entries[0].stream, entries[1].stream), (false, true));
}

#[tokio::test]
async fn a_wish_changes_neither_text_nor_prompt_tokens() {
    let router = Simulator::new(Config::default()).router();
    let without = send(&router, post(&ask(&json!({})))).await.json();
    let with = send(&router, post(&ask(&json!({"x_sim": {"token_ms": 0, "status": 200}})))).await.json();
    assert_eq!(with["choices"], without["choices"]);
    assert_eq!(with["usage"], without["usage"]);
    assert_ne!(with["id"], without["id"]);
    let long = send(&router, post(&ask(&json!({"x_sim": {"tokens": 300}})))).await.json();
    assert_eq!(long["usage"]["completion_tokens"], 300);
    assert_eq!(long["usage"]["prompt_tokens"], without["usage"]["prompt_tokens"]);
}

#[tokio::test]
async fn headers_tell_limits_that_fall_and_ids_that_differ() {
    let router = Simulator::new(Config { limit_requests: 10, ..Config::default() }).router();
    let first = send(&router, post(&ask(&json!({})))).await;
    let second = send(&router, post(&ask(&json!({"stream": true})))).await;
    assert_eq!(first.header("x-ratelimit-limit-requests"), "10");
    let tokens = |answer: &Answer| answer.header("x-ratelimit-remaining-tokens").parse::<u64>().unwrap();
    // Unless a minute began between them.
    if first.header("x-ratelimit-remaining-requests") == "9"
        && second.header("x-ratelimit-remaining-requests") == "8"
    {
        assert!(tokens(&second) < tokens(&first));
    }
    assert!(first.header("x-request-id").starts_with("req_"));
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    assert!(first.header("openai-processing-ms").parse::<u64>().is_ok());
    assert!(first.headers.contains_key("x-ratelimit-reset-tokens"));
}

#[tokio::test]
async fn tools_are_called_and_their_results_used() {
    let router = Simulator::new(Config::default()).router();
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}}, "required": ["city", "days"]}}}]);
    let question = json!({"role": "user", "content": "Please use get_weather for Berlin"});
    let body = json!({"model": "gpt-4o", "messages": [question], "tools": tools});
    let first = send(&router, post(&body)).await.json();
    assert_eq!(first["choices"][0]["finish_reason"], "tool_calls");
    let message = &first["choices"][0]["message"];
    let call = &message["tool_calls"][0];
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"city": "text", "days": 1}));

    let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "{\"sky\":\"cloudy\"}"});
    let body = json!({"model": "gpt-4o", "messages": [question, message, result], "tools": tools});
    let second = send(&router, post(&body)).await.json();
    let said = second["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(said.starts_with("The result says sky cloudy:"), "{said}");
    assert_eq!(second["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn what_a_wish_says_is_done() {
    let router = Simulator::new(Config::default()).router();
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}});
    let said = async |more: Value| {
        let mut body = ask(&json!({"response_format": format}));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let message = send(&router, post(&body)).await.json()["choices"][0]["message"].clone();
        (message["content"].as_str().unwrap_or("none").to_owned(), message["refusal"].is_string())
    };
    assert_eq!(said(json!({})).await, (r#"{"n": 0}"#.into(), false));
    let again = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "{}"}, {"role": "user", "content": "b"}]);
    for (often, first, second) in [("once", "{}", r#"{"n": 0}"#), ("always", "{}", "{}")] {
        let wish = json!({"off_schema": often});
        assert_eq!(said(json!({"x_sim": wish})).await.0, first);
        assert_eq!(said(json!({"x_sim": wish, "messages": again})).await.0, second);
    }
    assert_eq!(said(json!({"x_sim": {"text": "just \"this\""}})).await, ("just \"this\"".into(), false));
    assert_eq!(said(json!({"x_sim": {"refusal": true}})).await, ("none".into(), true));

    let tools = json!([{"type": "function", "function": {"name": "look"}}]);
    let body = ask(
        &json!({"model": "sim-think", "messages": [{"role": "user", "content": "look"}], "tools": tools, "x_sim": {"preamble": true}}),
    );
    let message = send(&router, post(&body)).await.json()["choices"][0]["message"].clone();
    assert!(message["content"].is_string() && message["reasoning_content"].is_string(), "{message}");
    assert_eq!(message["tool_calls"][0]["function"]["name"], "look");

    let whole = send(&router, post(&ask(&json!({"stream": true})))).await;
    let mut request = post(&ask(&json!({"stream": true})));
    let wish = r#"{"chunk_bytes":1,"pause_ms":1,"pause_after":3}"#;
    request.headers_mut().insert("x-sim", wish.parse().unwrap());
    let split = send(&router, request).await;
    assert_eq!(streamed_text(&split.chunks()), streamed_text(&whole.chunks()));
    let endless = send(&router, post(&ask(&json!({"stream": true, "x_sim": {"no_end": true}})))).await;
    assert!(!endless.text.contains("[DONE]") && !endless.text.contains("\"stop\""));
    let mut request = post(&ask(&json!({})));
    request.headers_mut().insert("x-sim", r#"{"statsu":1}"#.parse().unwrap());
    assert_eq!(send(&router, request).await.json()["error"]["param"], "x-sim");
}

#[tokio::test]
async fn a_long_beginning_is_cached_and_schemas_are_held_to_the_rules() {
    let router = Simulator::new(Config::default()).router();
    let system = json!({"role": "system", "content": "You are a careful assistant. ".repeat(300)});
    let cached = async |question: &str| {
        let messages = json!([system, {"role": "user", "content": question}]);
        let usage = send(&router, post(&ask(&json!({"messages": messages})))).await.json()["usage"].clone();
        usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(cached("one").await, 0);
    let read = cached("two").await;
    assert!(read >= 1_024 && read.is_multiple_of(128), "{read}");

    let open =
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": open}});
    let tools = json!([{"type": "function", "function": {"name": "f", "strict": true, "parameters": open}}]);
    for (more, param, code) in [
        (json!({"response_format": format}), "response_format", Value::Null),
        (json!({"tools": tools}), "tools[0].function.parameters", "invalid_function_parameters".into()),
    ] {
        let error = send(&router, post(&ask(&more))).await.json()["error"].clone();
        assert_eq!((&error["param"], &error["code"]), (&param.into(), &code), "{error}");
        assert!(error["message"].as_str().unwrap().contains("Missing 'a'"), "{error}");
    }
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}});
    let tools = json!([{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]);
    let answer = send(&router, post(&ask(&json!({"tools": tools, "tool_choice": allowed})))).await.json();
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "g");
}

#[tokio::test]
async fn the_same_words_get_the_same_answer_in_every_dialect() {
    let router = Simulator::new(Config::default()).router();
    let ask = async |path: &str, body: Value| {
        let request =
            Request::post(path).header("anthropic-version", "2023-06-01").body(Body::from(body.to_string()));
        let answer = send(&router, request.unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()
    };
    let (question, said, told) = ("Please look for it", "I will.", "a lake, 21 m deep");
    let tool = json!({"name": "look"});
    let chat = ask("/v1/chat/completions", json!({"model": "sim-large", "tools": [{"type": "function", "function": tool}], "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": question},
        {"role": "assistant", "content": said, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": told}]})).await;
    let responses = ask("/v1/responses", json!({"model": "sim-large", "tools": [{"type": "function", "name": "look"}], "instructions": "Be brief.", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": question}]}, {"role": "assistant", "content": said},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": told}]})).await;
    let messages = ask("/v1/messages", json!({"model": "sim-large", "max_tokens": 500, "system": "Be brief.",
        "tools": [{"name": "look", "input_schema": {"type": "object"}}], "messages": [{"role": "user", "content": question},
        {"role": "assistant", "content": [{"type": "text", "text": said}, {"type": "tool_use", "id": "c", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": told}]}]})).await;
    let gemini = ask("/v1beta/models/sim-large:generateContent", json!({"systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [{"functionDeclarations": [tool]}], "contents": [{"role": "user", "parts": [{"text": question}]},
        {"role": "model", "parts": [{"text": said}, {"functionCall": {"name": "look"}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"result": told}}}]}]})).await;
    let text = chat["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.starts_with("The result says a lake 21 m deep:"), "{text}");
    assert_eq!(responses["output"][0]["content"][0]["text"], text);
    assert_eq!(messages["content"][0]["text"], text);
    assert_eq!(gemini["candidates"][0]["content"]["parts"][0]["text"], text);
}

#[tokio::test]
async fn calls_are_kept_as_they_came_when_that_is_asked_for() {
    let router = Simulator::new(Config::default()).router();
    let kept = async || get(&router, "/_sim/requests?id=call-1").await.json();
    send(&router, post(&ask(&json!({})))).await;
    assert_eq!(kept().await, json!([]));
    let put = Request::put("/_sim/requests").body(Body::from(r#"{"keep":1}"#)).unwrap();
    assert_eq!(send(&router, put).await.status, StatusCode::NO_CONTENT);
    let body = ask(&json!({"of_tomorrow": 1}));
    for _ in 0..2 {
        let mut request = post(&body);
        request.headers_mut().insert("authorization", "Bearer secret".parse().unwrap());
        send(&router, request).await;
    }
    let calls = kept().await;
    assert_eq!(calls.as_array().unwrap().len(), 1);
    assert_eq!(
        (&calls[0]["path"], &calls[0]["body"]),
        (&"/v1/chat/completions".into(), &body.to_string().into())
    );
    assert_eq!(calls[0]["headers"]["authorization"], "***");
    assert!(get(&router, "/_sim/requests?id=other").await.json().as_array().unwrap().is_empty());
}

#[tokio::test]
async fn wrong_requests_are_refused_in_the_providers_shape() {
    let sim = Simulator::new(Config { api_key: Some("sk-right".to_owned().into()), ..Config::default() });
    let router = sim.router();
    let with_key = |body: &Value| {
        let mut request = post(body);
        request.headers_mut().insert("authorization", "Bearer sk-right".parse().unwrap());
        request
    };
    let error = |answer: &Answer| {
        let error = answer.json()["error"].clone();
        assert!(answer.header("x-request-id").starts_with("req_"));
        (answer.status.as_u16(), error["code"].clone(), error["param"].clone(), error["type"].clone())
    };
    let invalid = Value::from("invalid_request_error");
    let answer = send(&router, post(&ask(&json!({})))).await;
    assert_eq!(error(&answer), (401, "invalid_api_key".into(), Value::Null, invalid.clone()));
    let answer = send(&router, with_key(&ask(&json!({"model": "gpt-9"})))).await;
    assert_eq!(error(&answer), (404, "model_not_found".into(), Value::Null, invalid.clone()));
    let answer = send(&router, with_key(&ask(&json!({"temperature": 9})))).await;
    assert_eq!(
        error(&answer),
        (400, "decimal_above_max_value".into(), "temperature".into(), invalid.clone())
    );
    let answer = send(&router, with_key(&ask(&json!({"model": "o3-mini", "max_tokens": 9})))).await;
    assert_eq!(error(&answer), (400, "unsupported_parameter".into(), "max_tokens".into(), invalid.clone()));
    let long = json!([{"role": "user", "content": "word ".repeat(9_000)}]);
    let answer = send(&router, with_key(&ask(&json!({"model": "gpt-4", "messages": long})))).await;
    assert_eq!(error(&answer), (400, "context_length_exceeded".into(), "messages".into(), invalid));
    assert_eq!(send(&router, with_key(&ask(&json!({})))).await.status, StatusCode::OK);
    let summary = sim.ledger().summary();
    assert_eq!((summary.failed.calls, summary.failed.prompt_tokens, summary.finished.calls), (5, 0, 1));

    assert_eq!(get(&router, "/v1/nothing").await.json()["error"]["code"], "unknown_url");
    let wrong = get(&router, "/v1/chat/completions").await;
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong.json()["error"]["code"], "method_not_supported");
}

#[tokio::test]
async fn a_body_too_long_is_an_error_in_the_same_shape() {
    let sim = Simulator::new(Config { max_body_bytes: 100, ..Config::default() });
    let answer = send(&sim.router(), post(&ask(&json!({"user": "x".repeat(100)})))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.json()["error"]["message"].is_string());
    assert_eq!(sim.ledger().entries()[0].status, 413);
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let models = vec!["meta-llama/llama-3:8b".to_owned(), "gpt-4o".to_owned()];
    let router = Simulator::new(Config { models, ..Config::default() }).router();
    let list = get(&router, "/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    for id in ["gpt-4o-mini", "gpt-4.1", "o3-mini", "sim-small", "sim-large", "meta-llama/llama-3:8b"] {
        assert!(ids.contains(&id), "{id}");
    }
    assert_eq!(ids.iter().filter(|id| **id == "gpt-4o").count(), 1);
    let one = get(&router, "/v1/models/meta-llama/llama-3:8b").await.json();
    assert_eq!((&one["id"], &one["object"]), (&"meta-llama/llama-3:8b".into(), &"model".into()));
    let none = get(&router, "/v1/models/gpt-9").await;
    assert_eq!(
        (none.status, &none.json()["error"]["code"]),
        (StatusCode::NOT_FOUND, &"model_not_found".into())
    );
}

#[tokio::test]
async fn statuses_fail_with_their_errors_and_retry_after() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let answer = send(&router, post(&ask(&json!({"x_sim": {"status": 429, "retry_after": 7}})))).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.header("retry-after"), "7");
    assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
    let answer = send(&router, post(&ask(&json!({"stream": true, "x_sim": {"status": 503}})))).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["type"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"server_error".into())
    );
    assert_eq!(sim.ledger().summary().failed.calls, 2);
}

#[tokio::test]
async fn a_stream_can_fail_in_the_middle_with_an_error_or_broken_json() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let wish = json!({"stream": true, "x_sim": {"status": 500, "cut_after": 3}});
    let failed = send(&router, post(&ask(&wish))).await;
    assert_eq!(failed.status, StatusCode::OK);
    let events: Vec<_> = failed.text.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 1 + 3 + 1);
    let last: Value = serde_json::from_str(events[4].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(last["error"]["type"], "server_error");

    let broken = send(&router, post(&ask(&json!({"stream": true, "x_sim": {"malformed": true}})))).await;
    let last = broken.text.split_terminator("\n\n").last().unwrap().strip_prefix("data: ").unwrap();
    assert!(last.starts_with('{') && serde_json::from_str::<Value>(last).is_err(), "{last}");
    let broken = send(&router, post(&ask(&json!({"x_sim": {"malformed": true}})))).await;
    assert_eq!(broken.status, StatusCode::OK);
    assert!(serde_json::from_str::<Value>(&broken.text).is_err());

    let outcomes: Vec<_> = sim.ledger().entries().into_iter().map(|e| (e.outcome, e.status)).collect();
    assert_eq!(outcomes, [(Outcome::Failed, 200); 3]);
    assert_eq!(sim.ledger().entries()[0].sent, 3);
}

#[tokio::test]
async fn usage_can_be_kept_back() {
    let router = Simulator::new(Config::default()).router();
    let plain = send(&router, post(&ask(&json!({"x_sim": {"no_usage": true}})))).await.json();
    assert!(plain.get("usage").is_none());
    let body =
        json!({"stream": true, "stream_options": {"include_usage": true}, "x_sim": {"no_usage": true}});
    let chunks = send(&router, post(&ask(&body))).await.chunks();
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.get("usage").is_none() && !chunk["choices"].as_array().unwrap().is_empty())
    );
}

#[tokio::test(start_paused = true)]
async fn answers_take_the_time_they_are_told_to() {
    let router = Simulator::new(Config::default()).router();
    for stream in [false, true] {
        let began = tokio::time::Instant::now();
        let wish = json!({"stream": stream, "x_sim": {"first_token_ms": 500, "token_ms": 20, "tokens": 11}});
        let answer = send(&router, post(&ask(&wish))).await;
        assert_eq!(answer.status, StatusCode::OK);
        let took = began.elapsed().as_millis();
        assert!((700..=710).contains(&took), "{took} ms of the paused clock, stream: {stream}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_while_it_waits_is_cancelled() {
    let sim = Simulator::new(Config::default());
    let call = sim.router().oneshot(post(&ask(&json!({"x_sim": {"hang": true}}))));
    let minute = std::time::Duration::from_secs(60);
    assert!(tokio::time::timeout(minute, call).await.is_err(), "it hangs");
    let entry = &sim.ledger().entries()[0];
    assert_eq!((entry.outcome, entry.status, entry.sent), (Outcome::Cancelled, 0, 0));
    assert!(entry.prompt_tokens > 0);
    assert_eq!(sim.ledger().summary().running, 0);
}

#[tokio::test]
async fn faults_are_set_read_and_cleared_over_http() {
    let sim = Simulator::new(Config::default());
    let router = sim.router();
    let put = |body: &str| Request::put("/_sim/faults").body(Body::from(body.to_owned())).unwrap();
    let set = send(&router, put(r#"{"status":500,"rate":0.25,"seed":3}"#)).await;
    assert_eq!(set.json(), json!({"status": 500, "rate": 0.25, "seed": 3}));
    let mut failed = 0;
    for _ in 0..200 {
        failed += u32::from(send(&router, post(&ask(&json!({})))).await.status == 500);
    }
    assert!((30..70).contains(&failed), "{failed} of 200");
    let spared = send(&router, put(r#"{"status":500}"#)).await;
    assert_eq!(spared.status, StatusCode::OK);
    let wish = send(&router, post(&ask(&json!({"x_sim": {"status": 200}})))).await;
    assert_eq!(wish.status, StatusCode::OK, "a call's own wish goes first");
    for wrong in [r#"{"statsu":500}"#, r#"{"rate":2}"#, "x"] {
        assert_eq!(send(&router, put(wrong)).await.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let clear = Request::delete("/_sim/faults").body(Body::empty()).unwrap();
    assert_eq!(send(&router, clear).await.status, StatusCode::NO_CONTENT);
    assert_eq!(get(&router, "/_sim/faults").await.json(), json!({}));
    assert_eq!(sim.faults(), Faults::default());
}

#[tokio::test]
async fn the_ledger_is_read_and_cleared_over_http() {
    let sim = Simulator::new(Config { ledger_entries: 2, ..Config::default() });
    let router = sim.router();
    for _ in 0..3 {
        send(&router, post(&ask(&json!({})))).await;
    }
    let short = get(&router, "/_sim/ledger").await.json();
    assert_eq!((&short["finished"]["calls"], &short["dropped"]), (&3.into(), &1.into()));
    assert!(short.get("entries").is_none());
    let full = get(&router, "/_sim/ledger?entries=true").await.json();
    assert_eq!(full["entries"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&full["entries"][0]["id"], &full["entries"][0]["outcome"]),
        (&"call-1".into(), &"finished".into())
    );
    let none = get(&router, "/_sim/ledger?id=other").await.json();
    assert_eq!(none["entries"], json!([]));
    let clear = Request::delete("/_sim/ledger").body(Body::empty()).unwrap();
    assert_eq!(send(&router, clear).await.status, StatusCode::NO_CONTENT);
    assert_eq!(get(&router, "/_sim/ledger").await.json()["finished"]["calls"], 0);
}
