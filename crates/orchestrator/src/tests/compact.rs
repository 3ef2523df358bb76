//! Conversations that are made shorter by providers that can, and by others.

use std::sync::Mutex;

use axum::http::Uri;
use serde_json::{Value, json};
use weir_error::Code;

use super::*;

/// What a provider was asked where.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

fn compacted() -> Value {
    json!({"id": "resp_theirs", "object": "response.compaction", "created_at": 5, "output": [
        {"id": "msg_1", "type": "message", "status": "completed", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {"id": "cmp_1", "type": "compaction", "encrypted_content": "gAAA+/=="}],
        "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11,
            "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 1}}})
}

/// A provider that compacts with this status, and serves nothing else.
async fn compacting(status: u16, body: Value) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let asked = seen.clone();
    let answer = routing::post(move |uri: Uri, Json(sent): Json<Value>| {
        asked.lock().unwrap().push((uri.path().to_owned(), sent));
        let answer = (StatusCode::from_u16(status).unwrap(), Json(body.clone()));
        async move { answer }
    });
    let app = Router::new().route("/v1/responses/compact", answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    (at, seen)
}

/// The head's status and warnings, and the body.
async fn ask(house: &House, body: &str, strict: bool) -> Result<(u32, String, String), Error> {
    let message = CompleteRequest {
        dialect: Dialect::OpenaiResponses.into(),
        model: "m".to_owned(),
        body: body.to_owned().into(),
        strict,
        ..CompleteRequest::default()
    };
    let mut chat = house.chat.clone();
    let mut frames = chat.compact(weir_rpc::request(&house.ctx, message)).await?.into_inner();
    let (mut head, mut text) = (None, String::new());
    while let Some(frame) = frames.message().await? {
        match frame.frame.unwrap() {
            Frame::Head(told) => head = Some(told),
            Frame::Data(data) => text.push_str(std::str::from_utf8(&data.bytes).unwrap()),
            Frame::End(_) => {}
        }
    }
    let head = head.unwrap();
    Ok((head.status, head.headers.get("x-weir-warnings").cloned().unwrap_or_default(), text))
}

#[tokio::test]
async fn a_provider_that_compacts_is_asked_in_the_client_s_own_bytes() {
    let (at, seen) = compacting(200, compacted()).await;
    let house = House::new(&[("native", at)], Transport::absent("router")).await;
    let body =
        r#"{ "model":"m", "input":[{"type":"compaction","encrypted_content":"gAAA=="}], "image":{"a":1.0} }"#;
    // There is no database, and nothing of it is needed; nor is anything lost.
    let (status, warnings, text) = ask(&house, body, true).await.unwrap();
    assert_eq!((status, warnings.as_str(), text), (200, "", compacted().to_string()));
    let (path, sent) = seen.lock().unwrap().remove(0);
    let expected: Value = serde_json::from_str(body).unwrap();
    assert_eq!((path.as_str(), sent), ("/v1/responses/compact", expected));
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts.len(), attempts[0].outcome()), (1, Outcome::Succeeded));
    assert_eq!((request.outcome(), tokens(&request), request.stream), (Outcome::Succeeded, (9, 2), false));
}

#[tokio::test]
async fn what_a_provider_refuses_is_its_answer_unless_it_refuses_to_compact() {
    let error = |message: &str| json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}});
    let body = r#"{"model":"m","input":"x"}"#;
    for (status, message) in [(400, "bad"), (404, "The model `m` does not exist.")] {
        let (at, _) = compacting(status, error(message)).await;
        let house = House::new(&[("native", at)], Transport::absent("router")).await;
        let (told, _, text) = ask(&house, body, false).await.unwrap();
        assert_eq!((told, text.contains(message)), (status.into(), true), "{text}");
    }
    for status in [404, 405, 501] {
        let (at, seen) = compacting(status, error("Invalid URL (POST /v1/responses/compact)")).await;
        let house = House::new(&[("native", at)], Transport::absent("router")).await;
        for strict in [true, false, false] {
            let refused = ask(&house, body, strict).await.unwrap_err();
            // Without a database nothing can be sealed.
            let expected = if strict { Code::InvalidArgument } else { Code::Unavailable };
            assert_eq!(refused.code(), expected, "{status}");
        }
        // It was asked once, and its refusal is recorded.
        assert_eq!(seen.lock().unwrap().len(), 1, "{status}");
        let (attempts, request) = house.metered().await;
        assert_eq!((attempts.len(), attempts[0].status), (1, u32::from(status)));
        assert_eq!(request.outcome(), Outcome::Failed);
    }
}

#[tokio::test]
async fn those_who_insist_get_whoever_compacts() {
    let (at, _) = compacting(200, compacted()).await;
    let providers = [("claude", provider(plain).await), ("native", at)];
    let house = House::new(&providers, Transport::absent("router")).await;
    let body = r#"{"model":"m","input":"x"}"#;
    let (status, _, text) = ask(&house, body, true).await.unwrap();
    assert_eq!((status, text), (200, compacted().to_string()));
    // Others get the first.
    assert_eq!(ask(&house, body, false).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn who_leaves_ends_the_call() {
    let begun = Arc::new(tokio::sync::Notify::new());
    let told = begun.clone();
    let answer = routing::post(move || {
        told.notify_one();
        std::future::pending::<StatusCode>()
    });
    let app = Router::new().route("/v1/responses/compact", answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    let house = House::new(&[("native", at)], Transport::absent("router")).await;
    tokio::select! {
        answer = ask(&house, r#"{"model":"m","input":"x"}"#, false) => panic!("{answer:?}"),
        () = begun.notified() => {}
    }
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts.len(), request.outcome()), (1, Outcome::Cancelled));
}
