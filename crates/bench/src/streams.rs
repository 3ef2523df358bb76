//! Many paced streams at once: whether each token comes, and in time, and what an open stream costs.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};

use crate::{
    canned::{PACE, PACED, PACED_TOKENS, clock_us},
    load::{connect, histogram},
    report::Streams,
    systems::System,
};

/// So many times as many streams, for what one takes.
const MORE: usize = 2;
/// A stream's time, and patience for its beginning.
const LONGEST: Duration = Duration::from_secs(60);

/// What came of all streams of one run.
struct Seen {
    delays: Histogram<u64>,
    late: usize,
    /// Resident memory in the middle of it.
    memory: u64,
}

pub(crate) async fn run(system: &System, streams: usize) -> anyhow::Result<Streams> {
    let cpu = system.cpu()?;
    let few = all(system, streams).await?;
    let cpu = system.cpu()? - cpu;
    let many = all(system, streams * MORE).await?;
    let tokens = streams * PACED_TOKENS;
    let came = usize::try_from(few.delays.len()).unwrap_or(usize::MAX);
    let quantile = |q: f64| few.delays.value_at_quantile(q) as f64;
    Ok(Streams {
        system: system.name.to_owned(),
        streams,
        tokens,
        lost: tokens.saturating_sub(came),
        late: few.late,
        delay_p50_us: quantile(0.5),
        delay_p99_us: quantile(0.99),
        delay_max_us: few.delays.max() as f64,
        cpu_us_per_token: cpu.as_secs_f64() * 1e6 / tokens as f64,
        bytes_per_stream: (many.memory as f64 - few.memory as f64) / (streams * (MORE - 1)) as f64,
    })
}

async fn all(system: &System, streams: usize) -> anyhow::Result<Seen> {
    let each = futures_util::future::try_join_all((0..streams).map(|n| one(system, n)));
    let middle = async {
        let tokens = u32::try_from(PACED_TOKENS / 2)?;
        tokio::time::sleep(PACE * tokens).await;
        system.memory()
    };
    let both = async { tokio::try_join!(each, middle) };
    let (each, memory) = tokio::time::timeout(LONGEST, both).await.context("streams hang")??;
    let (mut delays, mut late) = (histogram()?, 0);
    for delay in each.into_iter().flatten() {
        late += usize::from(Duration::from_micros(delay) > PACE);
        delays.saturating_record(delay);
    }
    Ok(Seen { delays, late, memory })
}

/// The delay of each token of one stream, in microseconds.
async fn one(system: &System, number: usize) -> anyhow::Result<Vec<u64>> {
    let mut sender = connect(system.address).await?;
    let model = system.model;
    let body = format!(
        r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"{PACED} {number}"}}]}}"#
    );
    let request = Request::post("/v1/chat/completions")
        .header(header::HOST, "bench")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", system.key))
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    if status != StatusCode::OK {
        bail!("{status}: {}", String::from_utf8_lossy(&body.collect().await?.to_bytes()));
    }
    let (mut delays, mut text) = (Vec::with_capacity(PACED_TOKENS), String::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let now = clock_us();
        text.push_str(std::str::from_utf8(&data)?);
        while let Some(end) = text.find("\n\n") {
            let sent = text.get(..end).and_then(token);
            delays.extend(sent.map(|sent| now.saturating_sub(sent)));
            text.drain(..end + 2);
        }
    }
    ensure!(delays.len() <= PACED_TOKENS, "a token came twice");
    Ok(delays)
}

/// The time that an event says.
fn token(event: &str) -> Option<u64> {
    const CONTENT: &str = "\"content\":\" ";
    let at = event.find(CONTENT)? + CONTENT.len();
    event.get(at..)?.split('"').next()?.parse().ok()
}
