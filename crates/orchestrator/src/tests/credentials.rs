//! Providers whose credentials a cloud gives.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::http::HeaderMap;
use weir_proto::chat::CountTokensRequest;

use super::*;
use crate::{CredentialsFrom, ProviderPlatform};

const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"c","stop_reason":"end_turn","content":[{"type":"text","text":"two words"}],"usage":{"input_tokens":4,"output_tokens":2}}"#;
const BODY: &str =
    r#"{"model":"claude/claude-x@20260101", "max_tokens":9,"messages":[{"role":"user","content":"\u00e9"}]}"#;

/// A metadata server that gives one token after `failures` refusals, and Claude on Vertex, which tells what it was sent.
async fn vertex(failures: usize) -> SocketAddr {
    let asked = Arc::new(AtomicUsize::new(0));
    let token = move || {
        let n = asked.fetch_add(1, Relaxed);
        async move {
            let token = Json(serde_json::json!({"access_token": "ya29.secret", "expires_in": 3600}));
            match n < failures {
                true => StatusCode::NOT_FOUND.into_response(),
                false => ([("metadata-flavor", "Google")], token).into_response(),
            }
        }
    };
    let claude = async |headers: HeaderMap, uri: axum::http::Uri, body: String| {
        let shown = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        assert_eq!(
            (shown("authorization"), shown("anthropic-version")),
            ("Bearer ya29.secret".into(), String::new())
        );
        assert_eq!(shown("anthropic-beta"), "context-1m-2025-08-07");
        let place = "/v1/projects/p/locations/global/publishers/anthropic/models/";
        match uri.path().strip_prefix(place).unwrap() {
            "claude-x@20260101:rawPredict" => {
                assert_eq!(
                    body,
                    BODY.replace(
                        r#""model":"claude/claude-x@20260101""#,
                        r#""anthropic_version":"vertex-2023-10-16""#
                    )
                );
                ([("content-type", "application/json")], MESSAGE).into_response()
            }
            "count-tokens:rawPredict" => {
                assert_eq!(body, BODY.replace("claude/claude-x", "claude-x"));
                Json(serde_json::json!({"input_tokens": 7})).into_response()
            }
            other => panic!("{other}"),
        }
    };
    let app = Router::new()
        .route("/computeMetadata/v1/instance/service-accounts/default/token", routing::get(token))
        .fallback(claude);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn house(at: SocketAddr) -> House {
    House::set(&[("claude", at)], Transport::absent("router"), &[], |config| {
        let provider = config.providers.get_mut("claude").unwrap();
        provider.api_key = None;
        provider.platform = ProviderPlatform::Vertex;
        provider.project = Some("p".to_owned());
        provider.credentials = CredentialsFrom::Instance;
        provider.credentials_url = Some(format!("http://{at}"));
    })
    .await
}

fn request() -> CompleteRequest {
    CompleteRequest {
        dialect: Dialect::AnthropicMessages.into(),
        model: "claude/claude-x@20260101".to_owned(),
        body: Bytes::from_static(BODY.as_bytes()),
        headers: [
            ("anthropic-beta".to_owned(), "context-1m-2025-08-07".to_owned()),
            ("anthropic-version".to_owned(), "2023-06-01".to_owned()),
        ]
        .into(),
        ..CompleteRequest::default()
    }
}

#[tokio::test]
async fn claude_on_vertex_gets_the_client_s_bytes_but_for_model_and_version() {
    let house = house(vertex(0).await).await;
    let mut chat = house.chat.clone();
    let mut frames = chat.complete(weir_rpc::request(&house.ctx, request())).await.unwrap().into_inner();
    let mut text = Vec::new();
    while let Some(frame) = frames.message().await.unwrap() {
        match frame.frame.unwrap() {
            Frame::Head(head) => assert_eq!((head.status, head.provider.as_str()), (200, "claude")),
            Frame::Data(data) => text.extend_from_slice(&data.bytes),
            Frame::End(_) => {}
        }
    }
    assert_eq!(text, MESSAGE.as_bytes());
    let CompleteRequest { dialect, model, body, headers, .. } = request();
    let asked = CountTokensRequest { dialect, model, body, headers };
    let counted = chat.count_tokens(weir_rpc::request(&house.ctx, asked)).await.unwrap().into_inner();
    assert_eq!((counted.input_tokens, counted.provider.as_str()), (7, "claude"));
}

#[tokio::test]
async fn without_credentials_the_provider_and_what_is_wrong_are_named() {
    let house = house(vertex(usize::MAX).await).await;
    let mut chat = house.chat.clone();
    for _ in 0..2 {
        let refused = chat.complete(weir_rpc::request(&house.ctx, request())).await.map(|_| ()).unwrap_err();
        let refused = Error::from(refused);
        assert_eq!(refused.code(), Code::UpstreamFailed);
        let text = "there are no credentials for the model provider `claude`: who gives them refused to";
        assert_eq!(refused.message(), text);
    }
}
