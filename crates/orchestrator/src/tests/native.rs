//! Clients of the Responses API before providers that serve it themselves.

use std::{collections::VecDeque, sync::Mutex};

use axum::http::Uri;
use serde_json::{Value, json};

use super::*;

/// A provider that answers as it is told, one after another, and what it was asked where.
struct Scripted {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

/// An object, or the events of a stream.
async fn scripted(answers: Vec<Value>) -> Scripted {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let answer = routing::post(move |uri: Uri, Json(body): Json<Value>| {
        seen.lock().unwrap().push((uri.path().to_owned(), body));
        let told = answers.lock().unwrap().pop_front().expect("an answer for every request");
        async move {
            match told {
                Value::Array(events) => {
                    let text: String = events.iter().map(|e| e.as_str().unwrap()).collect();
                    ([("content-type", "text/event-stream")], text).into_response()
                }
                told => Json(told).into_response(),
            }
        }
    });
    let app = Router::new().route("/v1/chat/completions", answer.clone()).route("/v1/responses", answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    Scripted { at, asked }
}

async fn ask(house: &House, body: &Value) -> String {
    let message = CompleteRequest {
        dialect: Dialect::OpenaiResponses.into(),
        model: "m".to_owned(),
        stream: body["stream"] == true,
        body: body.to_string().into(),
        ..CompleteRequest::default()
    };
    let mut chat = house.chat.clone();
    let mut frames = chat.complete(weir_rpc::request(&house.ctx, message)).await.unwrap().into_inner();
    let mut text = String::new();
    while let Some(frame) = frames.message().await.unwrap() {
        if let Frame::Data(data) = frame.frame.unwrap() {
            text.push_str(std::str::from_utf8(&data.bytes).unwrap());
        }
    }
    text
}

/// Data of a stream's events.
fn events_of(text: &str) -> Vec<Value> {
    text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|d| serde_json::from_str(d).unwrap()).collect()
}

fn thought_and_called() -> Value {
    json!({"id": "resp_theirs", "object": "response", "created_at": 5, "status": "completed", "model": "m", "store": false,
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA+/=="},
            {"type": "function_call", "id": "fc_1", "call_id": "call_0a1b2c3d4e5f6071", "name": "f", "arguments": "{}", "status": "completed"}],
        "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11,
            "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 1}}})
}

fn event(number: u64, name: &str, mut data: Value) -> Value {
    (data["type"], data["sequence_number"]) = (name.into(), number.into());
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn streamed(whole: &Value) -> Vec<Value> {
    let mut begun = whole.clone();
    (begun["status"], begun["output"], begun["usage"]) = ("in_progress".into(), json!([]), Value::Null);
    let mut all = vec![event(0, "response.created", json!({"response": begun}))];
    for (index, item) in whole["output"].as_array().unwrap().iter().enumerate() {
        let number = all.len() as u64;
        let (added, done) =
            (json!({"output_index": index, "item": item}), json!({"output_index": index, "item": item}));
        all.push(event(number, "response.output_item.added", added));
        all.push(event(number + 1, "response.output_item.done", done));
    }
    all.push(event(all.len() as u64, "response.completed", json!({"response": whole})));
    all
}

#[tokio::test]
async fn a_provider_that_serves_responses_besides_gets_them_as_they_are() {
    let scripted = scripted(vec![thought_and_called(), streamed(&thought_and_called()).into()]).await;
    let house = House::new(&[("both", scripted.at)], Transport::absent("router")).await;
    let mut body = json!({"model": "m", "input": "x", "vendor_thing": {"a": 1.0}, "metadata": {"k": "v"}});
    let whole: Value = serde_json::from_str(&ask(&house, &body).await).unwrap();
    assert_ne!(whole["id"], "resp_theirs");
    assert_eq!((&whole["output"][1]["name"], &whole["usage"]["total_tokens"]), (&json!("f"), &json!(11)));
    // It was not asked for.
    assert!(whole["output"][0].get("encrypted_content").is_none(), "{whole}");
    (body["stream"], body["include"]) = (true.into(), json!(["reasoning.encrypted_content"]));
    let events = events_of(&ask(&house, &body).await);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["sequence_number"]), (&json!("response.completed"), &json!(5)));
    assert_eq!(last["response"]["output"][0]["encrypted_content"], "gAAA+/==");
    assert_eq!(events[0]["response"]["id"], last["response"]["id"]);
    let asked = scripted.asked.lock().unwrap();
    for (path, body) in asked.iter() {
        assert_eq!(path, "/v1/responses");
        assert_eq!((&body["store"], &body["vendor_thing"]), (&json!(false), &json!({"a": 1.0})));
        assert!(body.get("messages").is_none());
    }
}

#[tokio::test]
async fn others_of_the_dialect_openai_are_asked_for_chat() {
    let chat = json!({"id": "chatcmpl-1", "created": 1, "model": "m", "choices": [{"index": 0,
        "message": {"role": "assistant", "content": "two words"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9, "completion_tokens": 2}});
    let scripted = scripted(vec![chat]).await;
    let house = House::new(&[("plain", scripted.at)], Transport::absent("router")).await;
    let whole: Value =
        serde_json::from_str(&ask(&house, &json!({"model": "m", "input": "x"})).await).unwrap();
    assert_eq!(whole["output"][0]["content"][0]["text"], "two words");
    assert_eq!(scripted.asked.lock().unwrap()[0].0, "/v1/chat/completions");
}

/// Whatever ids the provider gives: a conversation has each once.
#[tokio::test]
async fn items_have_the_ids_of_our_response() {
    let chat = json!({"id": "chatcmpl-1", "created": 1, "model": "m", "choices": [{"index": 0,
        "message": {"role": "assistant", "content": "two words"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9, "completion_tokens": 2}});
    let chunk = json!({"id": "chatcmpl-1", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"content": "two"}, "finish_reason": "stop"}]});
    let stream = json!([format!("data: {chunk}\n\n"), "data: [DONE]\n\n"]);
    let scripted = scripted(vec![chat.clone(), chat, stream.clone(), stream]).await;
    let house = House::new(&[("plain", scripted.at)], Transport::absent("router")).await;
    let mut ids = std::collections::HashSet::new();
    for stream in [false, false, true, true] {
        let text = ask(&house, &json!({"model": "m", "input": "x", "stream": stream})).await;
        let whole = if stream {
            events_of(&text).pop().unwrap()["response"].clone()
        } else {
            serde_json::from_str(&text).unwrap()
        };
        let ours = whole["id"].as_str().unwrap().strip_prefix("resp_").unwrap();
        let item = whole["output"][0]["id"].as_str().unwrap();
        assert_eq!(item, format!("msg_{ours}_0"));
        assert!(ids.insert(item.to_owned()));
    }
}

#[tokio::test]
async fn a_whole_answer_that_failed_is_no_success() {
    let failed = json!({"id": "resp_theirs", "status": "failed", "error": {"code": "invalid_prompt", "message": "odd"},
        "output": [], "usage": null});
    for usage in [Value::Null, json!({"input_tokens": 9, "output_tokens": 2})] {
        let mut failed = failed.clone();
        failed["usage"] = usage.clone();
        let used = if usage.is_null() { (0, 0) } else { (9, 2) };
        // A client of another dialect gets an error of its own.
        let other = scripted(vec![failed.clone()]).await;
        let house = House::new(&[("native", other.at)], Transport::absent("router")).await;
        let (status, _, text, told) = house.answer("m", false, false).await;
        assert_eq!((status, told), (400, used), "{text}");
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&error["error"]["message"], &error["error"]["code"]),
            (&json!("odd"), &json!("invalid_prompt"))
        );
        let (attempts, request) = house.metered().await;
        assert_eq!(
            (attempts[0].outcome(), request.outcome(), tokens(&request)),
            (Outcome::Cut, Outcome::Cut, used)
        );
        assert_eq!((attempts[0].status, request.status), (200, 400));

        // One of its own reads it as it is.
        let own = scripted(vec![failed]).await;
        let house = House::new(&[("native", own.at)], Transport::absent("router")).await;
        let whole: Value =
            serde_json::from_str(&ask(&house, &json!({"model": "m", "input": "x"})).await).unwrap();
        assert_eq!((&whole["status"], &whole["error"]["message"]), (&json!("failed"), &json!("odd")));
        let (attempts, request) = house.metered().await;
        assert_eq!(
            (attempts[0].outcome(), request.outcome(), tokens(&request)),
            (Outcome::Cut, Outcome::Cut, used)
        );
    }
}

/// Whose account it is stays with the operator, also where a stream's last event says why it failed.
#[tokio::test]
async fn a_stream_that_failed_names_no_account() {
    let begun = json!({"id": "resp_theirs", "status": "in_progress", "output": []});
    let error =
        json!({"code": "server_error", "message": "org-SECRETPLATFORM is not in projects/secret-prod"});
    let failed = json!({"id": "resp_theirs", "status": "failed", "output": [], "error": error});
    let stream = json!([
        event(0, "response.created", json!({"response": begun})),
        event(1, "response.failed", json!({"response": failed}))
    ]);
    let scripted = scripted(vec![stream]).await;
    let house = House::new(&[("native", scripted.at)], Transport::absent("router")).await;
    let text = ask(&house, &json!({"model": "m", "input": "x", "stream": true})).await;
    let last = events_of(&text).pop().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    assert_eq!(last["response"]["error"]["message"], "[...] is not in [...]");
    assert_eq!(house.metered().await.1.outcome(), Outcome::Cut);
}

#[tokio::test]
async fn reasoning_that_a_client_dropped_comes_back() {
    for stream in [false, true] {
        let first = if stream { streamed(&thought_and_called()).into() } else { thought_and_called() };
        let scripted = scripted(vec![first, thought_and_called()]).await;
        let house = House::new(&[("native", scripted.at)], Transport::absent("router")).await;
        let tools = json!([{"type": "function", "name": "f", "parameters": {}}]);
        let effort = json!({"effort": "low"});
        ask(
            &house,
            &json!({"model": "m", "input": "x", "stream": stream, "tools": tools, "reasoning": effort}),
        )
        .await;
        let call = json!({"type": "function_call", "id": "fc_1", "call_id": "call_0a1b2c3d4e5f6071", "name": "f", "arguments": "{}"});
        let result =
            json!({"type": "function_call_output", "call_id": "call_0a1b2c3d4e5f6071", "output": "y"});
        let input = json!([{"role": "user", "content": "x"}, call, result]);
        ask(&house, &json!({"model": "m", "input": input, "tools": tools, "reasoning": effort})).await;
        let asked = scripted.asked.lock().unwrap();
        let thought = &asked[1].1["input"][1];
        assert_eq!(
            (&thought["id"], &thought["encrypted_content"]),
            (&json!("rs_1"), &json!("gAAA+/==")),
            "stream: {stream}"
        );
        assert_eq!(asked[1].1["input"][2]["call_id"], "call_0a1b2c3d4e5f6071");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_fails_once_and_under_the_next_number() {
    let whole = streamed(&thought_and_called());
    let told = event(3, "error", json!({"code": "rate_limit_exceeded", "message": "slow", "param": null}));
    let failed = event(4, "response.failed", json!({"response": {"id": "resp_theirs", "status": "failed"}}));
    for (end, message) in [(vec![], "broke off"), (vec![told, failed], "slow")] {
        let cut = [&whole[..3], &end].concat();
        let scripted = scripted(vec![cut.into()]).await;
        let house = House::new(&[("native", scripted.at)], Transport::absent("router")).await;
        let events = events_of(&ask(&house, &json!({"model": "m", "input": "x", "stream": true})).await);
        let numbers: Vec<_> = events.iter().map(|e| e["sequence_number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
        let terminal: Vec<_> = events.iter().filter(|e| e["type"] == "response.failed").collect();
        assert_eq!(terminal.len(), 1);
        let response = &events.last().unwrap()["response"];
        assert_eq!((&response["status"], &response["id"]), (&json!("failed"), &events[0]["response"]["id"]));
        assert!(response["error"]["message"].as_str().unwrap().contains(message), "{response}");
    }
}

#[tokio::test]
async fn the_usage_chunk_comes_also_where_the_provider_tells_it_with_the_finish() {
    let told = || {
        let last = LAST.replace("\"usage\":null", r#""usage":{"prompt_tokens":9,"completion_tokens":2}"#);
        events(&[CHUNK, &last, "data: [DONE]"])
    };
    let house = House::new(&[("one", provider(told).await)], Transport::absent("router")).await;
    let (_, _, text, usage) = house.answer("m", true, true).await;
    assert_eq!(usage, (9, 2));
    let events: Vec<_> = text.split_terminator("\n\n").collect();
    let [.., made, "data: [DONE]"] = events.as_slice() else { panic!("{text}") };
    let made: serde_json::Value = serde_json::from_str(made.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&made["choices"], &made["usage"]["total_tokens"]), (&serde_json::json!([]), &11.into()));
    let (_, _, text, _) = house.answer("m", true, false).await;
    assert_eq!(text.matches("\n\n").count(), 3, "{text}");
}

#[tokio::test]
async fn an_error_in_a_chunk_with_choices_is_no_success() {
    let failed = || {
        events(&[
            CHUNK,
            r#"data: {"id":"gen-1","object":"chat.completion.chunk","model":"some/very/long/name/of/a/model","error":{"code":502,"message":"gone"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#,
            "data: [DONE]",
        ])
    };
    let house = House::new(&[("one", provider(failed).await)], Transport::absent("router")).await;
    let (_, _, text, _) = house.answer("m", true, false).await;
    assert!(text.contains("gone") && text.ends_with("data: [DONE]\n\n"), "{text}");
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts[0].outcome(), request.outcome()), (Outcome::Cut, Outcome::Cut));
}

/// What can't be told to the provider is known before it is asked; so is what runs without its client.
#[tokio::test]
async fn what_runs_in_the_background_is_refused_at_once() {
    let provider = scripted(Vec::new()).await;
    let house = House::new(&[("chat", provider.at)], Transport::absent("router")).await;
    let message = CompleteRequest {
        dialect: Dialect::OpenaiResponses.into(),
        model: "m".to_owned(),
        body: r#"{"model":"m","input":"x","truncation":"auto","background":true}"#.into(),
        strict: true,
        ..CompleteRequest::default()
    };
    let refused = house.chat.clone().complete(weir_rpc::request(&house.ctx, message)).await.err().unwrap();
    let error = Error::from(refused);
    assert_eq!(error.code(), weir_error::Code::InvalidArgument);
    assert!(error.message().contains("dropped;truncation"), "{}", error.message());
    assert!(provider.asked.lock().unwrap().is_empty());
}
