//! Clients of Google's dialect before providers that speak it.

use std::{collections::VecDeque, sync::Mutex};

use http::Uri;
use serde_json::{Value, json};

use super::*;

const MODEL: &str = "gemini-3-flash";

type AskedFor = Arc<Mutex<Vec<(String, Value)>>>;

/// A provider that answers as it is told, one after another, and what it was asked where.
async fn scripted(answers: Vec<String>) -> (SocketAddr, AskedFor) {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let asked = AskedFor::default();
    let seen = asked.clone();
    let answer = routing::post(move |uri: Uri, Json(body): Json<Value>| {
        seen.lock().unwrap().push((uri.to_string(), body));
        let told = answers.lock().unwrap().pop_front().expect("an answer for every request");
        let kind = if told.starts_with('{') { "application/json" } else { "text/event-stream" };
        async move { ([("content-type", kind)], told).into_response() }
    });
    let app = Router::new().route("/v1/models/{*method}", answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    (at, asked)
}

async fn ask(house: &House, body: &Value, stream: bool) -> String {
    let message = CompleteRequest {
        dialect: Dialect::Gemini.into(),
        model: MODEL.to_owned(),
        stream,
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

fn chunk(parts: &Value, finish: Option<&str>) -> Value {
    let mut chunk = json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0}], "responseId": "r",
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "thoughtsTokenCount": 3}});
    if let Some(finish) = finish {
        chunk["candidates"][0]["finishReason"] = finish.into();
    }
    chunk
}

fn called() -> Value {
    json!([{"functionCall": {"id": "call-0a1b2c3d4e5f6071", "name": "f", "args": {}}, "thoughtSignature": "c2ln+/8="}])
}

fn hello() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}]})
}

#[tokio::test]
async fn the_same_dialect_passes_byte_for_byte_and_is_metered() {
    let events = format!(
        "data: {}\r\n\r\ndata: {}\r\n\r\n",
        chunk(&json!([{"text": "Hi"}]), None),
        chunk(&called(), Some("STOP"))
    );
    let (at, asked) = scripted(vec![events.clone()]).await;
    let house = House::listing(&[("gemini", at)], Transport::absent("router"), &[MODEL]).await;
    let mut body = hello();
    body["vendorThing"] = json!({"a": 1.0});
    assert_eq!(ask(&house, &body, true).await, events);
    {
        let asked = asked.lock().unwrap();
        assert_eq!(asked[0].0, format!("/v1/models/{MODEL}:streamGenerateContent?alt=sse"));
        assert_eq!(asked[0].1, body);
    }
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts[0].outcome(), request.outcome()), (Outcome::Succeeded, Outcome::Succeeded));
    assert_eq!(tokens(&request), (9, 5));
}

#[tokio::test]
async fn a_stream_without_its_finish_is_cut() {
    let begun = format!("data: {}\n\n", chunk(&json!([{"text": "Hi"}]), None));
    let told = "data: {\"error\":{\"code\":503,\"message\":\"Overloaded\",\"status\":\"UNAVAILABLE\"}}\n\n";
    for (end, code) in [("", 502), (told, 503)] {
        let (at, _) = scripted(vec![format!("{begun}{end}")]).await;
        let house = House::listing(&[("gemini", at)], Transport::absent("router"), &[MODEL]).await;
        let text = ask(&house, &hello(), true).await;
        let errors: Vec<_> = text.lines().filter(|line| line.starts_with("data: {\"error\"")).collect();
        assert!(text.starts_with(&begun) && errors.len() == 1, "{text}");
        assert!(errors[0].contains(&format!("\"code\":{code},")), "{text}");
        assert_eq!(house.metered().await.1.outcome(), Outcome::Cut);
    }
}

#[tokio::test]
async fn signatures_that_a_client_dropped_come_back() {
    for stream in [false, true] {
        let first = chunk(&called(), Some("STOP"));
        let first = if stream { format!("data: {first}\n\n") } else { first.to_string() };
        let (at, asked) =
            scripted(vec![first, chunk(&json!([{"text": "Hi"}]), Some("STOP")).to_string()]).await;
        let house = House::listing(&[("gemini", at)], Transport::absent("router"), &[MODEL]).await;
        ask(&house, &hello(), stream).await;
        let mut bare = called();
        bare[0].as_object_mut().unwrap().remove("thoughtSignature");
        let mut body = hello();
        let contents = body["contents"].as_array_mut().unwrap();
        contents.push(json!({"role": "model", "parts": bare}));
        contents.push(json!({"role": "user", "parts": [{"functionResponse": {"id": "call-0a1b2c3d4e5f6071", "name": "f", "response": {}}}]}));
        ask(&house, &body, false).await;
        let asked = asked.lock().unwrap();
        assert_eq!(asked[1].1["contents"][1]["parts"], called(), "stream: {stream}");
    }
}
