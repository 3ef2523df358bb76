//! A server on a port of its own, and a raw client.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use weir_runtime::{ListenConfig, ListenMetrics, OnFailure, Tasks, bind, serve_with};
use weir_telemetry::Metrics;

/// Ends a test that would hang; nothing is measured with it.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
}

pub(crate) fn start(app: Router, config: ListenConfig) -> Server {
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let (tasks, metrics) = (Tasks::new(), Metrics::new());
    let listening = ListenMetrics::new(&metrics);
    let addr = listener.local_addr().unwrap();
    let serving = serve_with(listener, app, config, listening, tasks.shutdown());
    tasks.spawn("listener", OnFailure::Shutdown, serving);
    Server { addr, tasks, metrics }
}

impl Server {
    pub(crate) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.addr).await.unwrap())
    }

    /// Waits for a line of the metrics.
    pub(crate) async fn until_metric(&self, line: &str) {
        let seen = async {
            while !self.metrics.encode().contains(line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, seen).await.unwrap_or_else(|_| panic!("no {line} in\n{}", self.metrics.encode()));
    }

    pub(crate) async fn stop(self) {
        assert!(self.tasks.stop(LONG).await, "the listener drains");
    }
}

pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn get(&mut self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        self.answer().await
    }

    /// One answer with a `content-length`; what came until the end if the connection ends first.
    pub(crate) async fn answer(&mut self) -> String {
        let mut text = String::new();
        loop {
            if let Some(head) = text.find("\r\n\r\n") {
                let length =
                    text.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
                if length.is_some_and(|n| text.len() >= head + 4 + n.parse::<usize>().unwrap()) {
                    return text;
                }
            }
            match self.some().await {
                Some(more) => text += &more,
                None => return text,
            }
        }
    }

    /// What comes next; `None` at the end.
    pub(crate) async fn some(&mut self) -> Option<String> {
        let mut buffer = [0; 4096];
        match timeout(LONG, self.0.read(&mut buffer)).await.expect("the server neither answers nor hangs up")
        {
            Ok(0) | Err(_) => None,
            Ok(n) => Some(String::from_utf8_lossy(&buffer[..n]).into_owned()),
        }
    }

    /// All that comes until the server hangs up.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let read = self.0.read_to_end(&mut all);
        let _ = timeout(LONG, read).await.expect("the server does not hang up");
        all
    }
}
