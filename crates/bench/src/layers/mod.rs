//! Where a request's time goes: the same request through one layer more each time, from a bare hyper proxy to the
//! whole gateway, all in this process. CPU of the whole process (load generator and upstream included) per request,
//! so that the differences between rows are the layers' own.

pub(crate) mod rungs;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};

use crate::load::{self, Kind, Load, Until, median};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests a round and row.
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
    /// Rounds; rows take turns within each, and medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections at once.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Only the row of this name (as printed, without spaces), for a profiler.
    #[arg(long)]
    only: Option<String>,
    /// Only plain, or only streamed answers.
    #[arg(long)]
    kind: Option<String>,
    /// Also write the figures here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One row: a name and who answers.
pub(crate) struct Rung {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
}

#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    cpu_us: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let (rungs, _kept) = rungs::start().await?;
    let wanted = |r: &Rung| args.only.as_ref().is_none_or(|only| r.name.replace(' ', "") == *only);
    let rungs: Vec<_> = rungs.into_iter().filter(wanted).collect();
    let mut report = Vec::new();
    for kind in Kind::ALL {
        if args.kind.as_ref().is_some_and(|only| only != kind.name()) {
            continue;
        }
        let figures = measure(&rungs, kind, args).await?;
        print(kind.name(), &rungs, &figures);
        report.push(json(kind.name(), &rungs, &figures));
    }
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{:#}\n", serde_json::Value::from(report)))?;
    }
    Ok(())
}

/// Rows take turns, so that a busy neighbour hurts all alike; medians over the rounds.
async fn measure(rungs: &[Rung], kind: Kind, args: &Args) -> anyhow::Result<Vec<Figures>> {
    let numbers = Arc::new(AtomicU64::new(0));
    let load = |rung: &Rung| Load {
        address: rung.address,
        key: load::layers_key().1,
        model: crate::systems::GPT,
        kind,
        connections: args.connections,
        numbers: numbers.clone(),
    };
    for rung in rungs {
        once(&load(rung), args.requests / 10).await.with_context(|| rung.name)?;
    }
    let mut rounds_of: Vec<Vec<Figures>> = vec![Vec::new(); rungs.len()];
    for _ in 0..args.rounds {
        for (rung, all) in rungs.iter().zip(&mut rounds_of) {
            all.push(once(&load(rung), args.requests).await.with_context(|| rung.name)?);
        }
    }
    let row = |all: &Vec<Figures>| Figures {
        cpu_us: median(all.iter().map(|f| f.cpu_us)),
        per_second: median(all.iter().map(|f| f.per_second)),
        p50_us: median(all.iter().map(|f| f.p50_us)),
        p99_us: median(all.iter().map(|f| f.p99_us)),
    };
    Ok(rounds_of.iter().map(row).collect())
}

async fn once(load: &Load, requests: u64) -> anyhow::Result<Figures> {
    let before = cpu()?;
    let outcome = load::run(load, Until { requests, time: Duration::from_secs(600) }).await?;
    let spent = cpu()? - before;
    Ok(Figures {
        cpu_us: spent.as_secs_f64() * 1e6 / outcome.requests as f64,
        per_second: outcome.per_second(),
        p50_us: outcome.whole_us(0.5),
        p99_us: outcome.whole_us(0.99),
    })
}

/// User and system time of this process.
fn cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let of = |t: nix::sys::time::TimeVal| {
        Duration::new(u64::try_from(t.tv_sec()).unwrap_or(0), u32::try_from(t.tv_usec()).unwrap_or(0) * 1_000)
    };
    Ok(of(usage.user_time()) + of(usage.system_time()))
}

#[expect(clippy::print_stdout, reason = "the report")]
fn print(title: &str, rungs: &[Rung], figures: &[Figures]) {
    println!("\n{title:<34} cpu µs/request   added   req/s   p50 µs   p99 µs");
    let mut before = 0.0;
    for (rung, f) in rungs.iter().zip(figures) {
        println!(
            "{:<34} {:>14.1} {:>7.1} {:>7.0} {:>8.0} {:>8.0}",
            rung.name,
            f.cpu_us,
            f.cpu_us - before,
            f.per_second,
            f.p50_us,
            f.p99_us
        );
        before = f.cpu_us;
    }
}

fn json(title: &str, rungs: &[Rung], figures: &[Figures]) -> serde_json::Value {
    let row = |(rung, f): (&Rung, &Figures)| {
        serde_json::json!({
            "layer": rung.name,
            "cpu_us": f.cpu_us,
            "requests_per_second": f.per_second,
            "p50_us": f.p50_us,
            "p99_us": f.p99_us,
        })
    };
    serde_json::json!({"kind": title, "rows": rungs.iter().zip(figures).map(row).collect::<Vec<_>>()})
}
