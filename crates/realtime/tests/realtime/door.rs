//! Who gets in.

use std::time::Duration;

use serde_json::json;
use weir_proto::control::RateLimits;
use weir_realtime::Config;
use weir_types::scope;

use crate::{
    client::open,
    rig::{Rig, until},
};

#[tokio::test]
async fn a_key_in_the_first_message_opens_a_session_on_every_path() {
    let rig = Rig::start().await;
    for path in ["/ws/chat", "/v1/chat/ws", "/api/v1/chat/ws", "/v1/ws/chat", "/api/v1/ws/chat"] {
        let mut client = open(rig.address, path, &[]).await.unwrap();
        client.auth(&rig.key).await;
        let ready = client.expect("ready").await;
        assert!(ready["session_id"].as_str().is_some_and(|id| id.len() == 36), "{ready}");
        client.send(json!({"type": "ping"})).await;
        client.expect("pong").await;
    }
}

#[tokio::test]
async fn a_key_in_the_header_opens_a_session_at_once() {
    let rig = Rig::start().await;
    let bearer = format!("Bearer {}", rig.key);
    let mut client = open(rig.address, "/ws/chat", &[("authorization", &bearer)]).await.unwrap();
    client.expect("ready").await;
}

#[tokio::test]
async fn a_wrong_key_in_the_header_is_refused_before_the_upgrade() {
    let rig = Rig::start().await;
    let refusal = open(rig.address, "/ws/chat", &[("authorization", "Bearer nonsense")]).await.err().unwrap();
    assert_eq!(refusal.status().as_u16(), 401);
    assert_eq!(refusal.headers()["content-type"], "application/problem+json");
    assert!(refusal.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn a_wrong_key_in_the_first_message_ends_in_4401() {
    let rig = Rig::start().await;
    let mut client = rig.connect().await;
    client.auth("nonsense").await;
    client.expect_error("invalid_api_key").await;
    assert_eq!(client.closed().await, 4401);
    rig.metric("ws_closes_total{code=\"4401\"} 1").await;
}

#[tokio::test]
async fn anything_but_a_key_first_ends_in_4401() {
    let rig = Rig::start().await;
    for first in [json!({"type": "ping"}), json!({"type": "auth"}), json!([])] {
        let mut client = rig.connect().await;
        client.send(first).await;
        client.expect("error").await;
        assert_eq!(client.closed().await, 4401);
    }
    assert!(rig.upstream.requests.lock().is_empty());
}

#[tokio::test]
async fn silence_ends_in_4408() {
    let rig = Rig::with(Config { auth_timeout: Duration::from_millis(50), ..Config::default() }).await;
    assert_eq!(rig.connect().await.closed().await, 4408);
}

#[tokio::test]
async fn a_platform_key_names_its_tenant() {
    let rig = Rig::start().await;
    let platform = rig.control.key(None, &[scope::PLATFORM_ADMIN]);

    let mut nameless = rig.connect().await;
    nameless.auth(&platform).await;
    nameless.expect_error("tenant_required").await;
    assert_eq!(nameless.closed().await, 4401);

    let mut named = rig.connect().await;
    named.send(json!({"type": "auth", "token": platform, "tenant_id": rig.tenant.to_string()})).await;
    named.expect("ready").await;
    assert_eq!(rig.count(rig.tenant).await, 1);

    let (bearer, tenant) = (format!("Bearer {platform}"), rig.tenant.to_string());
    let headers = [("authorization", bearer.as_str()), ("x-tenant-id", tenant.as_str())];
    open(rig.address, "/ws/chat", &headers).await.unwrap().expect("ready").await;
}

#[tokio::test]
async fn a_tenant_s_key_speaks_for_no_other_tenant() {
    let rig = Rig::start().await;
    let other = rig.control.tenant(RateLimits::default());
    for named in [other.to_string(), weir_types::TenantId::new().to_string(), "x".to_owned()] {
        let mut client = rig.connect().await;
        client.send(json!({"type": "auth", "token": rig.key, "tenant_id": named})).await;
        client.expect_error("tenant_mismatch").await;
        assert_eq!(client.closed().await, 4401);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_to_try_again() {
    let rig = Rig::with(Config { max_connections: 2, ..Config::default() }).await;
    let (first, _second) = (rig.session().await, rig.session().await);
    assert_eq!(rig.connect().await.closed().await, 1013);
    drop(first);
    rig.metric("ws_active_connections 1").await;
    rig.session().await;
}

#[tokio::test]
async fn sessions_are_counted_for_their_own_tenant() {
    let rig = Rig::start().await;
    let other = rig.control.tenant(RateLimits::default());
    let other_key = rig.control.key(Some(other), scope::DEFAULT);
    let (first, _second, _others) =
        (rig.session().await, rig.session().await, rig.session_of(&other_key).await);
    assert_eq!((rig.count(rig.tenant).await, rig.count(other).await), (2, 1));
    rig.metric("ws_active_connections 3").await;
    drop(first);
    until("one session less", async || rig.count(rig.tenant).await == 1).await;
    assert_eq!(rig.count(other).await, 1);
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_is_refused_where_a_list_says_so() {
    let config = Config { allowed_origins: vec!["https://app.example".to_owned()], ..Config::default() };
    let rig = Rig::with(config).await;
    let refusal = open(rig.address, "/ws/chat", &[("origin", "https://evil.example")]).await.err().unwrap();
    assert_eq!(refusal.status().as_u16(), 403);
    open(rig.address, "/ws/chat", &[("origin", "https://app.example")]).await.unwrap();
    open(rig.address, "/ws/chat", &[]).await.unwrap();
}

#[tokio::test]
async fn what_is_no_websocket_is_answered_as_http() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let rig = Rig::start().await;
    let mut stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"GET /ws/chat HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}
