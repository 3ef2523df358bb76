//! Broken connections and hang-ups, over a real listener.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use weir_runtime::{ListenConfig, OnFailure, Tasks, serve};
use weir_simulator::{Config, Entry, Outcome, Simulator};

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    sim: Simulator,
    addr: SocketAddr,
    tasks: Tasks,
}

impl Server {
    async fn start() -> Self {
        let sim = Simulator::new(Config::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let tasks = Tasks::new();
        let serving = serve(listener, sim.router(), ListenConfig::default(), tasks.shutdown());
        tasks.spawn("simulator", OnFailure::Log, serving);
        Self { sim, addr, tasks }
    }

    async fn ask(&self, more: &Value) -> TcpStream {
        let mut body =
            json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Tell me about rivers"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = body.to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\nx-client-request-id: call\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        stream
    }

    /// The one call's entry, once it has ended.
    async fn entry(&self) -> Entry {
        let ended = async {
            loop {
                if let Some(entry) = self.sim.ledger().find("call").pop() {
                    return entry;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("the call's entry")
    }

    async fn stop(self) {
        assert!(self.tasks.stop(PATIENCE).await);
    }
}

/// What came until the connection closed.
async fn rest(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut got)).await.expect("the connection closes").unwrap();
    String::from_utf8(got).unwrap()
}

/// Reads until the text has come.
async fn until(stream: &mut TcpStream, text: &str) -> String {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    let read = async {
        while !String::from_utf8_lossy(&got).contains(text) {
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "closed before {text:?}: {}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buffer[..n]);
        }
    };
    timeout(PATIENCE, read).await.unwrap();
    String::from_utf8(got).unwrap()
}

fn words(text: &str) -> u64 {
    // The role's chunk has an empty one.
    text.matches(r#""delta":{"content":""#).count() as u64
}

#[tokio::test]
async fn refused_calls_get_no_byte() {
    let server = Server::start().await;
    let mut stream = server.ask(&json!({"x_sim": {"refuse": true}})).await;
    assert_eq!(rest(&mut stream).await, "");
    let entry = server.entry().await;
    assert_eq!((entry.outcome, entry.status, entry.prompt_tokens, entry.sent), (Outcome::Failed, 0, 0, 0));
    server.stop().await;
}

#[tokio::test]
async fn a_cut_stream_has_so_many_tokens_and_no_end() {
    for (after, token_ms) in [(0, 0), (5, 0), (5, 2), (60, 0)] {
        let server = Server::start().await;
        let wish = json!({"stream": true, "x_sim": {"cut_after": after, "tokens": 80, "token_ms": token_ms}});
        let mut stream = server.ask(&wish).await;
        let got = rest(&mut stream).await;
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
        assert_eq!(words(&got), after, "{got}");
        assert!(!got.contains("[DONE]") && !got.ends_with("0\r\n\r\n"));
        let entry = server.entry().await;
        assert_eq!((entry.outcome, entry.status), (Outcome::Cut, 200));
        assert_eq!((entry.completion_tokens, entry.sent), (80, after));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_cut_plain_answer_is_shorter_than_it_says() {
    let server = Server::start().await;
    let mut stream = server.ask(&json!({"x_sim": {"cut_after": 4, "tokens": 30}})).await;
    let got = rest(&mut stream).await;
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    let said = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert!(body.len() < said.parse().unwrap());
    assert!(body.ends_with(r#""content":"About Tell about rivers"#), "{body}");
    let entry = server.entry().await;
    assert_eq!((entry.outcome, entry.completion_tokens, entry.sent), (Outcome::Cut, 30, 4));
    server.stop().await;
}

#[tokio::test]
async fn an_answer_shorter_than_the_cut_is_whole() {
    let server = Server::start().await;
    let mut stream = server.ask(&json!({"stream": true, "x_sim": {"cut_after": 31, "tokens": 30}})).await;
    let got = until(&mut stream, "0\r\n\r\n").await;
    assert_eq!(words(&got), 30);
    assert!(got.contains("data: [DONE]"));
    assert_eq!(server.entry().await.outcome, Outcome::Finished);
    server.stop().await;
}

#[tokio::test]
async fn who_hangs_up_within_a_stream_is_noticed() {
    let server = Server::start().await;
    let mut stream = server.ask(&json!({"stream": true, "x_sim": {"token_ms": 20, "tokens": 100000}})).await;
    let got = until(&mut stream, r#""delta":{"content":""#).await;
    drop(stream);
    let entry = server.entry().await;
    assert_eq!((entry.outcome, entry.status, entry.completion_tokens), (Outcome::Cancelled, 200, 100_000));
    assert!((words(&got)..100_000).contains(&entry.sent), "{entry:?}");
    assert_eq!(server.sim.ledger().summary().running, 0);
    server.stop().await;
}

#[tokio::test]
async fn who_hangs_up_while_waiting_is_noticed() {
    for wish in [
        json!({"x_sim": {"hang": true}}),
        json!({"x_sim": {"first_token_ms": 3_600_000}}),
        json!({"stream": true, "x_sim": {"first_token_ms": 3_600_000}}),
        json!({"x_sim": {"token_ms": 3_600_000}}),
    ] {
        let server = Server::start().await;
        let stream = server.ask(&wish).await;
        let arrived = async {
            while server.sim.ledger().summary().running == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, arrived).await.unwrap();
        drop(stream);
        let entry = server.entry().await;
        assert_eq!((entry.outcome, entry.status, entry.sent), (Outcome::Cancelled, 0, 0), "{wish}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_stream_that_falls_silent_stays_open() {
    let server = Server::start().await;
    let wish = json!({"stream": true, "x_sim": {"hang": true, "cut_after": 3}});
    let mut stream = server.ask(&wish).await;
    let mut got = until(&mut stream, r#""delta":{"content":""#).await;
    while words(&got) < 3 {
        got += &until(&mut stream, "\n\n").await;
    }
    let more = timeout(Duration::from_millis(100), stream.read_u8()).await;
    assert!(more.is_err(), "nothing comes, and no end: {more:?}");
    drop(stream);
    let entry = server.entry().await;
    assert_eq!((entry.outcome, entry.sent), (Outcome::Cancelled, 3));
    server.stop().await;
}

#[tokio::test]
async fn connections_are_kept_over_whole_answers() {
    let server = Server::start().await;
    let mut stream = server.ask(&json!({"x_sim": {"tokens": 5}})).await;
    let first = until(&mut stream, r#""system_fingerprint""#).await;
    assert!(first.starts_with("HTTP/1.1 200"));
    stream.write_all(b"GET /v1/models/gpt-4o HTTP/1.1\r\nhost: sim\r\n\r\n").await.unwrap();
    until(&mut stream, r#""owned_by":"openai"}"#).await;
    server.stop().await;
}
