//! What providers refuse, what they get wrong, and what of it reaches clients.

use std::sync::Mutex;

use serde_json::{Value, json};
use weir_proto::chat::End;

use super::*;

/// Answers as told, one after another, and keeps what it was asked.
async fn told(answers: Vec<(u16, String)>) -> (SocketAddr, Arc<Mutex<Vec<Value>>>) {
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let answer = routing::post(move |Json(body): Json<Value>| {
        seen.lock().unwrap().push(body);
        let (status, text) = answers.lock().unwrap().next().expect("an answer for every request");
        let headers = [("content-type", "application/json"), ("retry-after", "7")];
        async move { (StatusCode::from_u16(status).unwrap(), headers, text) }
    });
    let app = Router::new().route("/v1/chat/completions", answer.clone()).route("/v1/messages", answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, asked)
}

struct Got {
    head: weir_proto::chat::Head,
    text: String,
    end: End,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn warnings(&self) -> &str {
        self.head.headers.get("x-weir-warnings").map_or("", String::as_str)
    }
}

async fn ask(house: &House, dialect: Dialect, body: &Value) -> Result<Got, Error> {
    let message = CompleteRequest {
        dialect: dialect.into(),
        model: body["model"].as_str().unwrap().to_owned(),
        stream: body["stream"] == true,
        body: body.to_string().into(),
        ..CompleteRequest::default()
    };
    let mut chat = house.chat.clone();
    let mut frames = chat.complete(weir_rpc::request(&house.ctx, message)).await?.into_inner();
    let (mut head, mut text, mut end) = (None, Vec::new(), None);
    while let Some(frame) = frames.message().await? {
        match frame.frame.unwrap() {
            Frame::Head(h) => head = Some(h),
            Frame::Data(data) => text.extend_from_slice(&data.bytes),
            Frame::End(e) => end = Some(e),
        }
    }
    Ok(Got { head: head.unwrap(), text: String::from_utf8(text).unwrap(), end: end.unwrap() })
}

fn chat(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}]})
}

fn messages() -> Value {
    json!({"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "x"}]})
}

fn answer(text: &str) -> (u16, String) {
    let body = json!({"id": "c1", "created": 1, "model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 2},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]});
    (200, body.to_string())
}

fn message(text: &str) -> (u16, String) {
    let body = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 9, "output_tokens": 2}});
    (200, body.to_string())
}

#[tokio::test]
async fn whose_account_it_is_stays_with_the_operator() {
    let limited = r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-SECRETPLATFORM on tokens per min","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
    let unknown = r#"{"error":{"message":"Project `proj_SECRET` does not have access to model `m`","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#;
    for dialect in [Dialect::OpenaiChat, Dialect::AnthropicMessages] {
        let told = told(vec![(429, limited.to_owned()), (404, unknown.to_owned())]).await;
        let house = House::new(&[("one", told.0)], Transport::absent("router")).await;
        let body = if dialect == Dialect::OpenaiChat { chat(false) } else { messages() };
        let got = ask(&house, dialect, &body).await.unwrap();
        assert!(!got.text.contains("SECRET") && got.text.contains("platform"), "{}", got.text);
        assert_eq!((got.head.status, got.head.headers["retry-after"].as_str()), (429, "7"));
        let code = if dialect == Dialect::OpenaiChat { "/error/code" } else { "/error/type" };
        let code = got.json().pointer(code).unwrap().as_str().unwrap().to_owned();
        assert!(["rate_limit_exceeded", "rate_limit_error"].contains(&code.as_str()), "{code}");
        let got = ask(&house, dialect, &body).await.unwrap();
        assert_eq!(got.head.status, 404);
        assert!(!got.text.contains("SECRET") && got.text.contains("does not have access"), "{}", got.text);
    }
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let half = answer("two words").1[..40].to_owned();
    for provider in ["one", "claude"] {
        let told = told(vec![(200, half.clone())]).await;
        let house = House::new(&[(provider, told.0)], Transport::absent("router")).await;
        let (dialect, body) = match provider {
            "one" => (Dialect::OpenaiChat, chat(false)),
            _ => (Dialect::AnthropicMessages, messages()),
        };
        let error = ask(&house, dialect, &body).await.err().unwrap();
        assert_eq!(error.code(), Code::UpstreamFailed);
        let (attempts, request) = house.metered().await;
        assert_eq!((attempts[0].outcome(), attempts[0].status), (Outcome::Cut, 200));
        assert_eq!((request.outcome(), request.status), (Outcome::Cut, 502));
        assert!(tokens(&request).0 > 0);
    }
}

#[tokio::test]
async fn a_model_that_knows_the_newer_limit_alone_is_asked_with_it() {
    let text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    let refusal = json!({"error": {"message": text, "type": "invalid_request_error", "param": "max_tokens"}});
    let refusal = (400, refusal.to_string());
    let (at, asked) = told(vec![refusal.clone(), answer("a"), answer("b"), answer("c")]).await;
    let house = House::new(&[("one", at)], Transport::absent("router")).await;
    let got = ask(&house, Dialect::AnthropicMessages, &messages()).await.unwrap();
    assert_eq!((got.head.status, got.warnings()), (200, ""), "{}", got.text);
    assert_eq!(ask(&house, Dialect::AnthropicMessages, &messages()).await.unwrap().head.status, 200);
    let mut own = chat(false);
    own["max_tokens"] = 50.into();
    let got = ask(&house, Dialect::OpenaiChat, &own).await.unwrap();
    assert_eq!((got.head.status, got.warnings()), (200, "altered;max_tokens"));
    let limits: Vec<_> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|body| (body["max_tokens"].clone(), body["max_completion_tokens"].clone()))
        .collect();
    let (older, newer) = ((json!(50), Value::Null), (Value::Null, json!(50)));
    assert_eq!(limits, [older, newer.clone(), newer.clone(), newer]);

    // At once, where the client says it itself; and not against its will.
    let (at, asked) = told(vec![refusal.clone(), refusal.clone()]).await;
    let house = House::new(&[("one", at)], Transport::absent("router")).await;
    let got = ask(&house, Dialect::OpenaiChat, &own).await.unwrap();
    assert_eq!((got.head.status, got.warnings()), (400, "altered;max_tokens"));
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn families_that_are_known_get_the_newer_limit_at_once() {
    let (at, asked) = told(vec![answer("a")]).await;
    let house = House::listing(&[("one", at)], Transport::absent("router"), &["gpt-5-mini"]).await;
    let body =
        json!({"model": "gpt-5-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]});
    let got = ask(&house, Dialect::OpenaiChat, &body).await.unwrap();
    assert_eq!((got.head.status, got.warnings()), (200, "altered;max_tokens"));
    assert_eq!(asked.lock().unwrap()[0]["max_completion_tokens"], 5);
}

#[tokio::test]
async fn json_that_is_asked_for_in_words_is_looked_at() {
    let mut body = chat(false);
    body["response_format"] = json!({"type": "json_object"});
    let fenced = "```json\n{\"a\": 1}\n```";
    let answers =
        vec![message(fenced), message("Here you are"), message("{\"b\":2}"), message("no"), message("no")];
    let house = House::new(&[("claude", told(answers).await.0)], Transport::absent("router")).await;
    for (expected, invalid, output) in [("{\"a\": 1}", false, 2), ("{\"b\":2}", false, 4), ("no", true, 4)] {
        let got = ask(&house, Dialect::OpenaiChat, &body).await.unwrap();
        assert_eq!(got.json()["choices"][0]["message"]["content"], expected);
        assert_eq!(got.warnings().contains("invalid;response_format"), invalid, "{}", got.warnings());
        assert_eq!(got.end.usage.unwrap().output_tokens, output);
    }
}

/// A model that was seen to want something otherwise is asked so for a better answer, too.
#[tokio::test]
async fn an_answer_is_asked_for_again_as_its_model_takes_it() {
    let text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    let refusal = (400, json!({"error": {"message": text, "param": "max_tokens"}}).to_string());
    let (at, asked) = told(vec![refusal, answer("no"), answer(r#"{"a":7}"#)]).await;
    let house = House::new(&[("one", at)], Transport::absent("router")).await;
    let mut body = messages();
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]});
    body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
    let got = ask(&house, Dialect::AnthropicMessages, &body).await.unwrap();
    assert_eq!(got.json()["content"][0]["text"], r#"{"a":7}"#, "{}", got.text);
    assert!(!got.warnings().contains("invalid"), "{}", got.warnings());
    let asked = asked.lock().unwrap();
    assert_eq!((asked.len(), &asked[2]["max_completion_tokens"]), (3, &json!(50)));
    assert!(asked[2].get("max_tokens").is_none());
}

#[tokio::test]
async fn too_many_messages_and_parts_are_refused_before_they_are_understood() {
    let house = House::new(&[("one", provider(plain).await)], Transport::absent("router")).await;
    let many = |what: Value| Value::Array(vec![what; 20_001]);
    let said = json!({"role": "user", "content": ""});
    let mut body = messages();
    body["messages"] = many(said);
    let error = ask(&house, Dialect::AnthropicMessages, &body).await.err().unwrap();
    assert_eq!((error.code(), error.param()), (Code::InvalidArgument, Some("messages")));
    assert!(error.message().contains("at most 20000"), "{}", error.message());
    body["messages"] = json!([{"role": "user", "content": many(json!({"type": "text", "text": "x"}))}]);
    let error = ask(&house, Dialect::AnthropicMessages, &body).await.err().unwrap();
    assert!(error.message().contains("parts"), "{}", error.message());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_client_left_is_closed_before_the_process_ends() {
    let mut house = House::new(&[("one", provider(endless).await)], Transport::absent("router")).await;
    let mut body = chat(true);
    // Long to count.
    body["messages"][0]["content"] = "word ".repeat(400_000).into();
    let message = CompleteRequest {
        dialect: Dialect::OpenaiChat.into(),
        model: "m".to_owned(),
        stream: true,
        body: body.to_string().into(),
        ..CompleteRequest::default()
    };
    let mut frames = house.chat.complete(weir_rpc::request(&house.ctx, message)).await.unwrap().into_inner();
    for _ in 0..2 {
        frames.message().await.unwrap().unwrap();
    }
    drop(frames);
    // The local transport drops the answer a moment later.
    while house.edge.running().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(house.edge.stop(PATIENCE).await);
    assert!(house.tasks.stop(PATIENCE).await);
    let (_, request) = house.metered().await;
    assert_eq!(request.outcome(), Outcome::Cancelled);
    assert!(tokens(&request).0 > 100_000);
}

#[tokio::test]
async fn json_for_a_client_that_waits_for_a_stream_is_written_as_one() {
    for (provider, dialect, ends) in [
        ("one", Dialect::OpenaiChat, "data: [DONE]\n\n"),
        ("claude", Dialect::OpenaiChat, "data: [DONE]\n\n"),
        ("one", Dialect::AnthropicMessages, "\"type\":\"message_stop\"}\n\n"),
        ("claude", Dialect::AnthropicMessages, "\"type\":\"message_stop\"}\n\n"),
    ] {
        let whole = if provider == "one" { answer("two words") } else { message("two words") };
        let house = House::new(&[(provider, told(vec![whole]).await.0)], Transport::absent("router")).await;
        let mut body = if dialect == Dialect::OpenaiChat { chat(true) } else { messages() };
        body["stream"] = true.into();
        let got = ask(&house, dialect, &body).await.unwrap();
        assert!(got.head.content_type.starts_with("text/event-stream"), "{}", got.head.content_type);
        assert_eq!(got.text.matches("two words").count(), 1, "{}", got.text);
        assert!(got.text.ends_with(ends), "{}", got.text);
        let finish = if dialect == Dialect::OpenaiChat {
            "\"finish_reason\":\"stop\""
        } else {
            "\"stop_reason\":\"end_turn\""
        };
        assert_eq!(got.text.matches(finish).count(), 1, "{}", got.text);
        assert_eq!(got.end.usage.unwrap().output_tokens, 2);
        let (_, request) = house.metered().await;
        assert_eq!((request.outcome(), tokens(&request)), (Outcome::Succeeded, (9, 2)));
    }
}

#[tokio::test]
async fn what_is_counted_is_what_the_model_would_get() {
    let tools = json!([{"name": "get_weather", "description": "w",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]);
    let mut body =
        json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], "tools": tools});
    let house =
        House::listing(&[("one", provider(plain).await)], Transport::absent("router"), &["gpt-4o-mini", "m"])
            .await;
    let count = |dialect: Dialect, model: &str, body: &Value| {
        let asked = weir_proto::chat::CountTokensRequest {
            dialect: dialect.into(),
            model: model.to_owned(),
            body: body.to_string().into(),
            ..weir_proto::chat::CountTokensRequest::default()
        };
        let (mut chat, ctx) = (house.chat.clone(), house.ctx.clone());
        async move { chat.count_tokens(weir_rpc::request(&ctx, asked)).await.unwrap().into_inner().input_tokens }
    };
    // What OpenAI says of it, and the simulator.
    let function = json!({"type": "function", "name": "get_weather", "description": "w", "strict": false,
        "parameters": tools[0]["input_schema"]});
    let responses = json!({"model": "gpt-4o-mini", "input": "hello", "tools": [function]});
    let declared =
        json!({"name": "get_weather", "description": "w", "parametersJsonSchema": tools[0]["input_schema"]});
    let gemini = json!({"generateContentRequest": {"model": "models/gpt-4o-mini",
        "contents": [{"parts": [{"text": "hello"}]}], "tools": [{"functionDeclarations": [declared]}]}});
    for (dialect, body) in [
        (Dialect::AnthropicMessages, &body),
        (Dialect::OpenaiResponses, &responses),
        (Dialect::Gemini, &gemini),
    ] {
        let counted = count(dialect, "gpt-4o-mini", body).await;
        assert!((44..=52).contains(&counted), "{dialect:?}: {counted}");
    }
    body["model"] = "m".into();
    assert!((40..=60).contains(&count(Dialect::AnthropicMessages, "m", &body).await));
}
