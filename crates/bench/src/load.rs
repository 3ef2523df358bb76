//! The load: keep-alive connections that send one request after the other, each with a body of its own, so that
//! nothing can be answered from a cache. Latencies go into HDR histograms.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use uuid::Uuid;
use weir_types::{
    KeyId,
    api_key::{self, KeyKind},
};

/// Longest latency that is told apart: ten minutes, in nanoseconds.
const LONGEST_NS: u64 = 600_000_000_000;

/// The key that the layers' own control plane knows, as it is sent.
pub(crate) fn layers_key() -> (KeyId, String) {
    let id = KeyId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
    (id, api_key::assemble(KeyKind::Live, id, &[7; 32]))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Plain,
    Streamed,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Streamed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Streamed => "streamed",
        }
    }

    fn body(self, model: &str, number: u64) -> String {
        let stream = if self == Self::Streamed { r#""stream":true,"# } else { "" };
        format!(
            r#"{{"model":"{model}",{stream}"messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"Tell me about rivers and weirs, number {number}."}}],"temperature":0.7}}"#
        )
    }
}

/// Who is asked, and how.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    pub(crate) model: &'static str,
    pub(crate) kind: Kind,
    pub(crate) connections: usize,
    /// Numbers that no body had before.
    pub(crate) numbers: Arc<AtomicU64>,
}

/// When a run ends: whichever comes first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    pub(crate) requests: u64,
    pub(crate) time: Duration,
}

pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) took: Duration,
    /// Nanoseconds from sending to the answer's last byte.
    pub(crate) whole: Histogram<u64>,
    /// Nanoseconds from sending to the body's first byte.
    pub(crate) first: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    /// Microseconds below which this share of the answers ended.
    pub(crate) fn whole_us(&self, quantile: f64) -> f64 {
        self.whole.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Microseconds below which this share of the answers began.
    pub(crate) fn first_us(&self, quantile: f64) -> f64 {
        self.first.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// # Errors
/// An answer that is not a whole 200: a bench of errors would be a wrong bench.
pub(crate) async fn run(load: &Load, until: Until) -> anyhow::Result<Outcome> {
    let left = AtomicU64::new(until.requests);
    let mut clients = Vec::new();
    for _ in 0..load.connections {
        clients.push(connect(load.address).await?);
    }
    let began = Instant::now();
    let deadline = began + until.time;
    let clients = clients.into_iter().map(|sender| client(load, sender, &left, deadline));
    let each = futures_util::future::try_join_all(clients).await?;
    let took = began.elapsed();
    let (mut whole, mut first) = (histogram()?, histogram()?);
    for (w, f) in each {
        whole.add(w)?;
        first.add(f)?;
    }
    Ok(Outcome { requests: whole.len(), took, whole, first })
}

pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(LONGEST_NS, 3)?)
}

pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let socket = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    socket.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    crate::background(connection);
    Ok(sender)
}

async fn client(
    load: &Load,
    mut sender: SendRequest<Full<Bytes>>,
    left: &AtomicU64,
    deadline: Instant,
) -> anyhow::Result<(Histogram<u64>, Histogram<u64>)> {
    let (mut whole, mut first) = (histogram()?, histogram()?);
    let authorization = format!("Bearer {}", load.key);
    loop {
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if taken.is_err() || Instant::now() >= deadline {
            break;
        }
        let number = load.numbers.fetch_add(1, Ordering::Relaxed);
        let request = Request::post("/v1/chat/completions")
            .header(header::HOST, "bench")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, &authorization)
            .body(Full::new(Bytes::from(load.kind.body(load.model, number))))?;
        sender.ready().await?;
        let sent = Instant::now();
        let began = answer(&mut sender, request, load.kind).await?;
        whole.saturating_record(nanos(sent.elapsed()));
        first.saturating_record(nanos(began - sent));
    }
    Ok((whole, first))
}

/// Reads one answer to its end; when its first byte came.
async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    kind: Kind,
) -> anyhow::Result<Instant> {
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    if status != StatusCode::OK {
        let text = body.collect().await?.to_bytes();
        bail!("{status}: {}", String::from_utf8_lossy(&text));
    }
    let (mut began, mut end) = (None, Bytes::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            began.get_or_insert_with(Instant::now);
            end = data;
        }
    }
    let finish: &[u8] = if kind == Kind::Streamed { b"data: [DONE]\n\n" } else { b"}" };
    ensure!(end.ends_with(finish), "an answer was cut");
    began.context("an empty answer")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The middle one; of two, the upper.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
