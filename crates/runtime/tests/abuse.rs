//! What the listener does to clients that do not mean well.

mod common;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::StatusCode,
    routing::{get, post},
};
use common::start;
use http_body::Frame;
use tokio::{io::AsyncReadExt as _, sync::Notify};
use weir_runtime::{BodyIdle, ListenConfig, catch_panic, internal_problem};

const SHORT: Duration = Duration::from_millis(200);

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

#[tokio::test]
async fn a_slow_head_is_closed() {
    let server = start(hello(), ListenConfig { header_timeout: SHORT, ..ListenConfig::default() });
    for beginning in ["", "GET / HTTP/1.1\r\nhost", "P"] {
        let mut client = server.connect().await;
        client.send(beginning).await;
        assert_eq!(client.some().await, None, "{beginning:?}");
    }
    // The same on a connection that served a request before.
    let mut client = server.connect().await;
    assert!(client.get("/").await.ends_with("hello"));
    client.send("GET /").await;
    assert_eq!(client.some().await, None);
    server.until_metric("connections_closed_total{reason=\"header_timeout\"} 4\n").await;
    server.stop().await;
}

#[tokio::test]
async fn one_address_has_only_so_many_connections() {
    let server = start(hello(), ListenConfig { max_connections_per_ip: 2, ..ListenConfig::default() });
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    assert!(first.get("/").await.ends_with("hello") && second.get("/").await.ends_with("hello"));
    assert_eq!(server.connect().await.some().await, None);
    server.until_metric("connections_refused_total{reason=\"max_connections_per_ip\"} 1\n").await;
    drop(first);
    server.until_metric("connections_open 1\n").await;
    assert!(server.connect().await.get("/").await.ends_with("hello"));
    drop(second);
    server.stop().await;
}

#[tokio::test]
async fn there_are_only_so_many_connections() {
    let server = start(hello(), ListenConfig { max_connections: 1, ..ListenConfig::default() });
    let mut first = server.connect().await;
    assert!(first.get("/").await.ends_with("hello"));
    assert_eq!(server.connect().await.some().await, None);
    server.until_metric("connections_refused_total{reason=\"max_connections\"} 1\n").await;
    assert!(first.get("/").await.ends_with("hello"), "who is in stays in");
    drop(first);
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_stops_halfway_is_an_error_of_its_own() {
    async fn read(body: Body) -> (StatusCode, String) {
        match axum::body::to_bytes(body, 100).await {
            Ok(bytes) => (StatusCode::OK, format!("{} bytes", bytes.len())),
            Err(error) => {
                let mut cause: Option<&dyn std::error::Error> = Some(&error);
                while let Some(error) = cause {
                    if error.is::<BodyIdle>() {
                        return (StatusCode::REQUEST_TIMEOUT, error.to_string());
                    }
                    cause = error.source();
                }
                (StatusCode::BAD_REQUEST, error.to_string())
            }
        }
    }
    let app = Router::new().route("/", post(read));
    let server = start(app, ListenConfig { body_idle_timeout: SHORT, ..ListenConfig::default() });
    let mut client = server.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
    let answer = client.answer().await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("no part of the request body"), "{answer}");
    server.stop().await;
}

/// A body without end, that tells when it is given up.
struct Endless(Arc<Notify>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1 << 16])))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_closed() {
    let ended = Arc::new(Notify::new());
    let body = ended.clone();
    let app = Router::new().route("/", get(move || async move { Body::new(Endless(body)) }));
    let server = start(app, ListenConfig { write_timeout: SHORT, ..ListenConfig::default() });
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    tokio::time::timeout(common::LONG, ended.notified()).await.expect("the answer is given up");
    server.until_metric("connections_closed_total{reason=\"write_timeout\"} 1\n").await;
    server.stop().await;
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_in_number() {
    let server = start(hello(), ListenConfig::default());
    let fields: String = (0..101).map(|i| format!("x-{i}: y\r\n")).collect();
    for head in [format!("x: {}\r\n", "y".repeat(200_000)), fields] {
        let mut client = server.connect().await;
        // The server may hang up before all is written.
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{head}\r\n");
        let (mut read, mut write) = client.0.split();
        let mut answer = Vec::new();
        let _ = tokio::join!(
            tokio::io::AsyncWriteExt::write_all(&mut write, request.as_bytes()),
            tokio::time::timeout(common::LONG, tokio::io::AsyncReadExt::read_to_end(&mut read, &mut answer)),
        );
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    }
    assert!(server.connect().await.get("/").await.ends_with("hello"));
    server.stop().await;
}

/// Frames as in RFC 9113, section 4.1: length (24 bits), type, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().to_be_bytes();
    let mut out = length[length.len() - 3..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

#[tokio::test]
async fn a_rapid_reset_ends_the_connection() {
    let (headers, rst_stream, settings, goaway) = (1, 3, 4, 7);
    const ENHANCE_YOUR_CALM: u8 = 0xb;
    let server = start(hello(), ListenConfig::default());
    let mut client = server.connect().await;
    let mut attack = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    attack.extend(frame(settings, 0, 0, &[]));
    for i in 0..500 {
        // GET http / from HPACK's static table, the head complete, then the reset.
        attack.extend(frame(headers, 0x5, i * 2 + 1, &[0x82, 0x86, 0x84]));
        attack.extend(frame(rst_stream, 0, i * 2 + 1, &8u32.to_be_bytes()));
    }
    client.send(attack).await;
    let mut bytes = &client.rest().await[..];
    let mut calmed = false;
    while bytes.len() >= 9 {
        let len = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        if bytes.len() < 9 + len {
            break;
        }
        calmed |= bytes[3] == goaway && bytes[9 + 7] == ENHANCE_YOUR_CALM;
        bytes = &bytes[9 + len..];
    }
    assert!(calmed, "GOAWAY with ENHANCE_YOUR_CALM");
    server.stop().await;
}

/// A beginning of HTTP/2 that leaves no room for answers: SETTINGS_INITIAL_WINDOW_SIZE is 0. Then `GET /` on the
/// streams.
fn no_window(streams: &[u32]) -> Vec<u8> {
    let (headers, settings) = (1, 4);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(settings, 0, 0, &[0, 4, 0, 0, 0, 0]));
    for stream in streams {
        bytes.extend(frame(headers, 0x5, *stream, &[0x82, 0x86, 0x84]));
    }
    bytes
}

#[tokio::test]
async fn who_gives_no_window_for_an_answer_is_closed_and_the_answer_dropped() {
    let dropped = Arc::new(Notify::new());
    let gone = dropped.clone();
    let app = Router::new().route("/", get(|| async move { Body::new(Endless(gone.clone())) }));
    let config =
        ListenConfig { write_timeout: SHORT, idle_timeout: 2 * common::LONG, ..ListenConfig::default() };
    let server = start(app, config);
    let mut client = server.connect().await;
    client.send(no_window(&[1])).await;
    client.rest().await;
    tokio::time::timeout(common::LONG, dropped.notified()).await.expect("the answer is still held");
    server.until_metric("connections_closed_total{reason=\"write_timeout\"} 1\n").await;
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_taken_does_not_end_its_neighbour() {
    let (dropped, first) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(true)));
    let (gone, release) = (dropped.clone(), Arc::new(Notify::new()));
    let released = release.clone();
    let answer = move || async move {
        if first.swap(false, Ordering::SeqCst) {
            return Body::new(Endless(gone.clone()));
        }
        released.notified().await;
        Body::empty()
    };
    let app = Router::new().route("/", get(answer));
    let server = start(app, ListenConfig { write_timeout: SHORT, ..ListenConfig::default() });
    let mut client = server.connect().await;
    client.send(no_window(&[1, 3])).await;
    tokio::time::timeout(common::LONG, dropped.notified()).await.expect("the answer is still held");
    release.notify_one();
    let headers_of_third = [1, 0x5, 0, 0, 0, 3];
    let mut seen = Vec::<u8>::new();
    while !seen.windows(6).any(|w| w == headers_of_third) {
        let mut some = [0; 4096];
        let n = tokio::time::timeout(common::LONG, client.0.read(&mut some)).await.unwrap().unwrap();
        assert_ne!(n, 0, "the connection was closed: {seen:?}");
        seen.extend(&some[..n]);
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_connection_goes_on() {
    async fn broken() -> &'static str {
        panic!("secret detail")
    }
    let app = hello().route("/broken", get(broken)).layer(catch_panic(internal_problem));
    let server = start(app, ListenConfig::default());
    let mut client = server.connect().await;
    let answer = client.get("/broken").await;
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("\"code\":\"internal_error\""), "{answer}");
    assert!(!answer.contains("secret detail"));
    assert!(client.get("/").await.ends_with("hello"));
    drop(client);
    server.stop().await;
}
