//! What the listener does for clients that mean well.

mod common;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::ws::WebSocketUpgrade,
    routing::{get, post},
};
use common::{LONG, start};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Builder, Client},
    rt::TokioExecutor,
};
use tokio::{net::TcpStream, sync::Notify, time::timeout};
use weir_runtime::{BindError, ListenConfig, PeerAddr, bind, client_ip};

fn echo() -> Router {
    Router::new()
        .route(
            "/peer",
            get(|Extension(PeerAddr(peer)): Extension<PeerAddr>| async move { peer.ip().to_string() }),
        )
        .route("/echo", post(|body: Body| async move { body }))
}

fn builder(http2: bool) -> Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.http2_only(http2);
    builder
}

#[tokio::test]
async fn http1_and_http2_are_served_on_one_port() {
    let server = start(echo(), ListenConfig::default());
    for http2 in [false, true] {
        let client = builder(http2).build_http::<Full<Bytes>>();
        let body = Bytes::from(vec![7; 3 << 20]);
        for (path, sent, want) in [("peer", Bytes::new(), "127.0.0.1".into()), ("echo", body.clone(), body)] {
            let request = http::Request::builder()
                .method(if path == "echo" { "POST" } else { "GET" })
                .uri(format!("http://{}/{path}", server.addr))
                .body(Full::new(sent))
                .unwrap();
            let response = client.request(request).await.unwrap();
            assert_eq!(response.version() == http::Version::HTTP_2, http2);
            assert!(response.into_body().collect().await.unwrap().to_bytes() == want, "{path}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    async fn client(extensions: http::Extensions) -> String {
        client_ip(&extensions).unwrap().to_string()
    }
    let app =
        || Router::new().route("/", get(|request: http::Request<Body>| client(request.extensions().clone())));
    for (trusted_proxies, expected) in [("127.0.0.0/8", "198.51.100.1"), ("10.0.0.0/8", "127.0.0.1")] {
        let trusted_proxies = vec![trusted_proxies.parse().unwrap()];
        let server = start(app(), ListenConfig { trusted_proxies, ..ListenConfig::default() });
        let mut raw = server.connect().await;
        raw.send("GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 198.51.100.1\r\n\r\n").await;
        let answer = raw.answer().await;
        assert!(answer.ends_with(expected), "{answer}");
        drop(raw);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_connection_is_kept_between_requests_and_closed_when_idle() {
    let config = ListenConfig { idle_timeout: Duration::from_secs(2), ..ListenConfig::default() };
    let server = start(echo(), config);
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert!(client.get("/peer").await.ends_with("127.0.0.1"));
    }
    assert_eq!(client.some().await, None);
    server.until_metric("connections_closed_total{reason=\"idle_timeout\"} 1\n").await;
    server.stop().await;
}

#[tokio::test]
async fn a_drain_lets_streams_end_and_refuses_new_connections() {
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let app = Router::new().route(
        "/stream",
        get(move || async move {
            let parts = futures_util::stream::unfold(0, move |i| {
                let gate = gate.clone();
                async move {
                    if i == 1 {
                        gate.notified().await;
                    }
                    (i < 2).then(|| (Ok::<_, std::io::Error>(format!("part{i};")), i + 1))
                }
            });
            Body::from_stream(parts)
        }),
    );
    let server = start(app, ListenConfig { drain: LONG, ..ListenConfig::default() });
    let mut idle = server.connect().await;
    assert!(idle.get("/none").await.contains("404"));
    let mut client = server.connect().await;
    client.send("GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut text = String::new();
    while !text.contains("part0;") {
        text += &client.some().await.unwrap();
    }

    server.tasks.trigger();
    assert_eq!(idle.some().await, None, "an idle connection ends at once");
    let refused = async { while TcpStream::connect(server.addr).await.is_ok() {} };
    timeout(LONG, refused).await.expect("new connections are refused");
    go.notify_one();
    text += &String::from_utf8(client.rest().await).unwrap();
    assert!(text.contains("part1;") && text.ends_with("0\r\n\r\n"), "the stream came to its end: {text}");
    server.stop().await;
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let app = Router::new().route("/never", get(std::future::pending::<()>));
    let server = start(app, ListenConfig { drain: Duration::from_millis(100), ..ListenConfig::default() });
    let mut client = server.connect().await;
    client.send("GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.until_metric("connections_open 1\n").await;
    server.tasks.trigger();
    assert_eq!(client.some().await, None);
    server.until_metric("connections_closed_total{reason=\"drain_timeout\"} 1\n").await;
    server.stop().await;
}

#[tokio::test]
async fn a_websocket_counts_as_open_and_ends_with_the_drain() {
    let app = Router::new().route(
        "/ws",
        get(|upgrade: WebSocketUpgrade| async {
            upgrade.on_upgrade(|mut socket| async move { while let Some(Ok(_)) = socket.recv().await {} })
        }),
    );
    let config = ListenConfig {
        drain: Duration::from_millis(100),
        // A socket that is upgraded is idle as long as it likes.
        idle_timeout: Duration::from_millis(50),
        header_timeout: Duration::from_secs(60),
        ..ListenConfig::default()
    };
    let server = start(app, config);
    let mut client = server.connect().await;
    client
        .send(
            "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    assert!(client.some().await.unwrap().starts_with("HTTP/1.1 101"));
    // A ping is answered with a pong: masked, empty.
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        client.send(ping).await;
        assert!(client.some().await.is_some(), "not closed for idleness");
    }
    server.until_metric("connections_open 1\n").await;
    server.tasks.trigger();
    assert!(client.rest().await.is_empty());
    server.until_metric("connections_open 0\n").await;
    server.stop().await;
}

#[tokio::test]
async fn a_taken_port_names_its_owner() {
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addr = listener.local_addr().unwrap();
    for addr in [addr, ([0, 0, 0, 0], addr.port()).into()] {
        let error = bind(addr).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{addr} is in use")), "{text}");
        if cfg!(target_os = "linux") {
            assert!(text.contains(&format!("by this process itself (pid {})", std::process::id())), "{text}");
        }
    }
}
