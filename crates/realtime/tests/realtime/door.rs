//! Who gets in.

use std::time::Duration;

use serde_json::json;
use weir_proto::control::RateLimits;
use weir_realtime::Config;
use weir_types::{
    KeyId,
    api_key::{KeyKind, assemble},
    scope,
};

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

/// The status that an unknown key is refused with, said to come from an address.
async fn refused(rig: &Rig, introduction: Option<&str>, address: &str, n: u8) -> u16 {
    let key = assemble(KeyKind::Live, KeyId::new(), &[n; 32]);
    let bearer = format!("Bearer {key}");
    let mut headers = vec![("authorization", bearer.as_str()), ("x-forwarded-for", address)];
    headers.extend(introduction.map(|introduction| ("x-weir-introduction", introduction)));
    open(rig.address, "/ws/chat", &headers).await.err().unwrap().status().as_u16()
}

#[tokio::test]
async fn the_gateway_says_whose_connections_it_hands_over_and_nobody_else_does() {
    let access = weir_access::Config { unknown_keys_per_address: 1, ..weir_access::Config::default() };
    let rig = Rig::with_access(Config::default(), access).await;
    let introduction = rig.gateway.introduction("realtime").unwrap();
    let gateway = Some(introduction.to_str().unwrap());
    assert_eq!(refused(&rig, gateway, "198.51.100.1", 1).await, 401);
    assert_eq!(refused(&rig, gateway, "198.51.100.1", 2).await, 429);
    assert_eq!(
        refused(&rig, gateway, "198.51.100.2", 3).await,
        401,
        "another client has a bucket of its own"
    );
    for (n, stranger) in [None, Some("Bearer nonsense")].into_iter().enumerate() {
        let n = u8::try_from(n).unwrap();
        let address = format!("203.0.113.{n}");
        assert_eq!(refused(&rig, stranger, &address, 4 + n).await, if n == 0 { 401 } else { 429 });
    }
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
