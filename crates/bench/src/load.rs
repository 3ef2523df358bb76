//! The load: a fixed number of requests over a few keep-alive connections, one after the other on each.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::net::TcpStream;
use uuid::Uuid;
use weir_types::{
    KeyId,
    api_key::{self, KeyKind},
};

use crate::Rung;

pub(crate) const PLAIN: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Tell me about rivers and weirs."}],"temperature":0.7}"#;
pub(crate) const STREAMED: &str = r#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Tell me about rivers and weirs."}],"temperature":0.7}"#;

/// The key that the bench's control plane knows, as it is sent.
pub(crate) fn key() -> (KeyId, String) {
    let id = KeyId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
    (id, format!("Bearer {}", api_key::assemble(KeyKind::Live, id, &[7; 32])))
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// CPU of the whole process per request.
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Rows take turns, so that a busy neighbour hurts all alike; medians over the rounds.
pub(crate) async fn compare(
    rungs: &[Rung],
    body: &'static str,
    requests: usize,
    rounds: usize,
    connections: usize,
) -> anyhow::Result<Vec<Figures>> {
    let mut rounds_of: Vec<Vec<Figures>> = vec![Vec::new(); rungs.len()];
    for rung in rungs {
        run(rung.address, body, requests / 10 + connections, connections).await.with_context(|| rung.name)?;
    }
    for _ in 0..rounds {
        for (rung, all) in rungs.iter().zip(&mut rounds_of) {
            all.push(run(rung.address, body, requests, connections).await.with_context(|| rung.name)?);
        }
    }
    let median = |all: &[Figures], of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let row = |all: &Vec<Figures>| Figures {
        cpu_us: median(all, |f| f.cpu_us),
        per_second: median(all, |f| f.per_second),
        p50_us: median(all, |f| f.p50_us),
        p99_us: median(all, |f| f.p99_us),
    };
    Ok(rounds_of.iter().map(row).collect())
}

async fn run(
    address: SocketAddr,
    body: &'static str,
    requests: usize,
    connections: usize,
) -> anyhow::Result<Figures> {
    let each = requests / connections;
    let (cpu, began) = (cpu()?, Instant::now());
    let clients = (0..connections).map(|_| connection(address, body, each));
    let mut latencies: Vec<Duration> =
        futures_util::future::try_join_all(clients).await?.into_iter().flatten().collect();
    let (spent, took) = (self::cpu()? - cpu, began.elapsed());
    latencies.sort_unstable();
    let at = |part: f64| {
        let i = (latencies.len() as f64 * part) as usize;
        latencies.get(i.min(latencies.len() - 1)).map_or(0.0, |d| d.as_secs_f64() * 1e6)
    };
    let done = (each * connections) as f64;
    Ok(Figures {
        cpu_us: spent.as_secs_f64() * 1e6 / done,
        per_second: done / took.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
    })
}

async fn connection(
    address: SocketAddr,
    body: &'static str,
    requests: usize,
) -> anyhow::Result<Vec<Duration>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    crate::background(connection);
    let (_, key) = key();
    let mut latencies = Vec::with_capacity(requests);
    for _ in 0..requests {
        let request = Request::post("/v1/chat/completions")
            .header(header::HOST, "bench")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, key.as_str())
            .body(Full::new(Bytes::from_static(body.as_bytes())))?;
        sender.ready().await?;
        let sent = Instant::now();
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&answer));
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}

/// User and system time of this process.
fn cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let of = |t: nix::sys::time::TimeVal| {
        Duration::new(u64::try_from(t.tv_sec()).unwrap_or(0), u32::try_from(t.tv_usec()).unwrap_or(0) * 1_000)
    };
    Ok(of(usage.user_time()) + of(usage.system_time()))
}
