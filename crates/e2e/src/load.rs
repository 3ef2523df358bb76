//! Mixed requests from many clients: plain, streamed, failing, cut, cancelled. What each asks for follows from a seed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};
use weir_llm::tokens::count_text;

use crate::http::{Http, text_of};

/// What a request asks the provider for, and what its client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Streamed,
    StreamedWithUsage,
    /// The provider answers with an error.
    Failing,
    /// The provider closes the connection without an answer.
    Refused,
    /// The provider breaks off within a stream.
    CutStream,
    /// The provider breaks off within an answer in one piece.
    CutPlain,
    /// The provider never says its usage.
    NoUsage,
    /// The client hangs up in the middle of a stream.
    Cancelled,
    /// The client hangs up before anything came.
    CancelledEarly,
    /// The gateway refuses it: no provider hears of it.
    Invalid,
}

impl Kind {
    /// The kind of the `n`th request; fixed shares, in an order without pattern.
    #[must_use]
    pub fn of(n: usize) -> Self {
        let mixed = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        match mixed % 20 {
            0..=4 => Self::Plain,
            5..=8 => Self::Streamed,
            9..=10 => Self::StreamedWithUsage,
            11 => Self::Failing,
            12 => Self::Refused,
            13 => Self::CutStream,
            14 => Self::CutPlain,
            15 => Self::NoUsage,
            16 | 17 => Self::Cancelled,
            18 => Self::CancelledEarly,
            _ => Self::Invalid,
        }
    }

    fn body(self, n: usize) -> Value {
        let stream = !matches!(self, Self::Plain | Self::Failing | Self::CutPlain | Self::CancelledEarly);
        // Different lengths, so that no sum is right by accident.
        let tokens = 5 + n % 23;
        let mut body = json!({
            "model": if n.is_multiple_of(3) { "gpt-4o" } else { "gpt-4o-mini" },
            "stream": stream,
            "messages": [{"role": "user", "content": format!("Request number {n} of the load, kind {self:?}.")}],
            "x_sim": {"tokens": tokens},
        });
        match self {
            Self::Plain | Self::Streamed => {}
            Self::StreamedWithUsage => body["stream_options"] = json!({"include_usage": true}),
            Self::Failing => body["x_sim"] = json!({"status": if n.is_multiple_of(2) { 500 } else { 429 }}),
            Self::Refused => body["x_sim"] = json!({"refuse": true}),
            Self::CutStream | Self::CutPlain => body["x_sim"]["cut_after"] = json!(n % 5),
            Self::NoUsage => body["x_sim"]["no_usage"] = json!(true),
            Self::Cancelled => body["x_sim"] = json!({"tokens": 400, "token_ms": 5}),
            Self::CancelledEarly => body["x_sim"] = json!({"tokens": 400, "first_token_ms": 20_000}),
            Self::Invalid => body["messages"] = json!("not a list"),
        }
        body
    }
}

/// What a client saw of its request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub request_id: String,
    pub kind: Kind,
    /// Input and output tokens of an answer that came whole.
    pub finished: Option<(u64, u64)>,
    /// Output tokens that arrived, at least.
    pub relayed: u64,
    /// The connection broke, or the house was not there.
    pub lost: bool,
}

impl Seen {
    /// Whether it surely reached a provider.
    #[must_use]
    pub fn must_be_counted(&self) -> bool {
        self.finished.is_some()
            || self.relayed > 0
            || (!self.lost && !matches!(self.kind, Kind::Invalid | Kind::CancelledEarly))
    }
}

/// A load under way, or done.
#[derive(Clone)]
pub struct Load {
    /// Where requests go; changed when the house moves.
    pub gateway: Arc<Mutex<Http>>,
    pub next: Arc<AtomicUsize>,
    pub end: usize,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Load {
    /// `requests` of them, to this house with this key.
    #[must_use]
    pub fn new(gateway: Http, requests: usize) -> Self {
        Self {
            gateway: Arc::new(Mutex::new(gateway)),
            next: Arc::default(),
            end: requests,
            seen: Arc::default(),
        }
    }

    /// Runs to the end with this many clients.
    ///
    /// # Panics
    /// A client panicked.
    pub async fn run(&self, clients: usize) {
        let mut running = JoinSet::new();
        for _ in 0..clients {
            let load = self.clone();
            running.spawn(async move { load.client().await });
        }
        while let Some(client) = running.join_next().await {
            if let Err(error) = client {
                panic!("{error}");
            }
        }
    }

    /// How many have been started.
    #[must_use]
    pub fn started(&self) -> usize {
        self.next.load(Ordering::Relaxed).min(self.end)
    }

    async fn client(&self) {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= self.end {
                return;
            }
            let seen = self.request(n).await;
            if seen.lost {
                // The house is being restarted: not a reason to burn through the whole load.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.seen.lock().push(seen);
        }
    }

    async fn request(&self, n: usize) -> Seen {
        let (kind, request_id) = (Kind::of(n), format!("load-{n}"));
        let gateway = self.gateway.lock().clone().with_header("x-request-id", &request_id);
        let mut seen = Seen { request_id, kind, finished: None, relayed: 0, lost: false };
        let body = kind.body(n);
        let outcome = if body["stream"] == true && kind != Kind::Invalid && kind != Kind::Refused {
            streamed(&gateway, kind, &body, &mut seen).await
        } else {
            plain(&gateway, kind, &body, &mut seen).await
        };
        seen.lost = outcome.is_err();
        seen
    }
}

async fn plain(gateway: &Http, kind: Kind, body: &Value, seen: &mut Seen) -> Result<()> {
    let call = gateway.post("/v1/chat/completions", body);
    if kind == Kind::CancelledEarly {
        // Long enough to get to the provider mostly, far too short for an answer.
        drop(timeout(Duration::from_millis(100), call).await);
        return Ok(());
    }
    let answer = call.await?;
    // The gateway's own words when a service behind it is not there; a provider that is simulated has others.
    ensure!(answer.status != 503 || answer.json()["error"]["code"] != "unavailable", "{answer:?}");
    if answer.status == 200 && answer.header("content-type").starts_with("application/json") {
        let usage = &answer.json()["usage"];
        seen.finished = usage["prompt_tokens"].as_u64().zip(usage["completion_tokens"].as_u64());
    }
    Ok(())
}

async fn streamed(gateway: &Http, kind: Kind, body: &Value, seen: &mut Seen) -> Result<()> {
    let mut events = gateway.stream("/v1/chat/completions", body).await?;
    let mut all = Vec::new();
    let outcome = loop {
        match events.next().await {
            Ok(Some(event)) => {
                all.push(event);
                if kind == Kind::Cancelled && all.len() > 8 {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(events);
    seen.relayed = count_text(&text_of(&all));
    let whole =
        all.last().is_some_and(|last| last == "[DONE]") && !all.iter().any(|e| e.contains("\"error\""));
    if whole && kind == Kind::StreamedWithUsage {
        let usage = all
            .iter()
            .rev()
            .filter_map(|e| serde_json::from_str::<Value>(e).ok())
            .find(|e| e["usage"].is_object());
        seen.finished = usage
            .and_then(|e| e["usage"]["prompt_tokens"].as_u64().zip(e["usage"]["completion_tokens"].as_u64()));
    } else if whole {
        seen.finished = Some((weir_llm::tokens::count_prompt(body.to_string().as_bytes()), seen.relayed));
    }
    outcome
}
