//! Systems side by side: each is processes of its own under the same load, taking turns. CPU and memory are those of
//! the system's processes alone, without load generator and upstream, which share the machine with it.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    canned,
    load::{self, Kind, Load, Outcome, Until, median},
    report::{Frontier, Point, Report, Row},
    streams,
    systems::{System, Systems},
};

/// p99 limits of the throughput frontier, in milliseconds.
pub(crate) const LIMITS_MS: [u64; 4] = [1, 5, 10, 50];
/// Connections that the frontier tries.
const LADDER: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Nothing takes longer than this.
const LONGEST: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests a round and system; streamed answers get a tenth.
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
    /// Rounds; systems take turns within each, and medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections at once.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Seconds on each step of the throughput frontier; 0 leaves it out.
    #[arg(long, default_value_t = 2)]
    frontier: u64,
    /// Paced streams at once; 0 leaves them out. Memory a stream is what twice as many need more.
    #[arg(long, default_value_t = 256)]
    streams: usize,
    /// Only these systems, comma-separated: floor, plain, governed, translated, split.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// The `weir` program; the one beside this program when nothing is said.
    #[arg(long)]
    pub(crate) weir: Option<std::path::PathBuf>,
    /// Where the figures go; what was there is kept as `previous.json` beside it.
    #[arg(long, default_value = "target/bench/latest.json")]
    pub(crate) json: std::path::PathBuf,
    /// Earlier figures to compare with; what `--json` held before when nothing is said.
    #[arg(long)]
    pub(crate) baseline: Option<std::path::PathBuf>,
}

/// What one run of one system showed.
struct Round {
    outcome: Outcome,
    cpu: Duration,
    behind: Duration,
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<Report> {
    let systems = Systems::start(args).await?;
    let numbers = Arc::new(AtomicU64::new(0));
    let mut report = Report::new(args.requests, args.rounds, args.connections);
    for kind in Kind::ALL {
        report.rows.extend(rounds(&systems, kind, args, &numbers).await?);
    }
    if args.frontier > 0 {
        for system in &systems.all {
            report.frontier.push(frontier(system, args, &numbers).await.with_context(|| system.name)?);
        }
    }
    if args.streams > 0 {
        for system in &systems.all {
            systems.settle().await?;
            report.streams.push(streams::run(system, args.streams).await.with_context(|| system.name)?);
        }
    }
    Ok(report)
}

async fn rounds(
    systems: &Systems,
    kind: Kind,
    args: &Args,
    numbers: &Arc<AtomicU64>,
) -> anyhow::Result<Vec<Row>> {
    let requests = if kind == Kind::Streamed { args.requests.div_ceil(10) } else { args.requests };
    let load = |system: &System| Load {
        address: system.address,
        key: system.key.clone(),
        model: system.model,
        kind,
        connections: args.connections,
        numbers: numbers.clone(),
    };
    for system in &systems.all {
        once(systems, system, &load(system), requests.div_ceil(5)).await.with_context(|| system.name)?;
    }
    let mut all: Vec<Vec<Round>> = systems.all.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.rounds {
        for (system, rounds) in systems.all.iter().zip(&mut all) {
            rounds.push(once(systems, system, &load(system), requests).await.with_context(|| system.name)?);
        }
    }
    systems.all.iter().zip(all).map(|(system, rounds)| row(system, kind, &rounds)).collect()
}

async fn once(systems: &Systems, system: &System, load: &Load, requests: u64) -> anyhow::Result<Round> {
    // What the run before left to be published and counted would be charged to this one.
    systems.settle().await?;
    let (cpu, behind) = (system.cpu()?, systems.behind_cpu()?);
    let outcome = load::run(load, Until { requests, time: LONGEST }).await?;
    let cpu = system.cpu()? - cpu;
    systems.settle().await?;
    Ok(Round { outcome, cpu, behind: systems.behind_cpu()? - behind })
}

fn row(system: &System, kind: Kind, rounds: &[Round]) -> anyhow::Result<Row> {
    let of = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure));
    let each = |time: Duration, outcome: &Outcome| time.as_secs_f64() * 1e6 / outcome.requests as f64;
    let cpu_us = of(&|r| each(r.cpu, &r.outcome));
    let streamed = kind == Kind::Streamed;
    Ok(Row {
        system: system.name.to_owned(),
        kind,
        requests_per_second: of(&|r| r.outcome.per_second()),
        p50_us: of(&|r| r.outcome.whole_us(0.5)),
        p95_us: of(&|r| r.outcome.whole_us(0.95)),
        p99_us: of(&|r| r.outcome.whole_us(0.99)),
        first_p50_us: of(&|r| r.outcome.first_us(0.5)),
        first_p99_us: of(&|r| r.outcome.first_us(0.99)),
        cpu_us,
        cpu_us_per_token: streamed.then(|| cpu_us / canned::TOKENS as f64),
        behind_cpu_us: system.metered.then(|| of(&|r| each(r.behind, &r.outcome))),
        memory_bytes: system.memory()?,
    })
}

/// The highest throughput of plain requests at which p99 stays below each limit.
async fn frontier(system: &System, args: &Args, numbers: &Arc<AtomicU64>) -> anyhow::Result<Frontier> {
    let mut steps = Vec::new();
    for connections in LADDER {
        let load = Load {
            address: system.address,
            key: system.key.clone(),
            model: system.model,
            kind: Kind::Plain,
            connections,
            numbers: numbers.clone(),
        };
        let time = Duration::from_secs(args.frontier);
        let outcome = load::run(&load, Until { requests: u64::MAX, time }).await?;
        let p99_us = outcome.whole_us(0.99);
        steps.push(Point { connections, requests_per_second: outcome.per_second(), p99_us });
    }
    let best = |limit_ms: u64| {
        let within = steps.iter().filter(|s| s.p99_us < limit_ms as f64 * 1e3);
        within.map(|s| s.requests_per_second).max_by(f64::total_cmp)
    };
    Ok(Frontier {
        system: system.name.to_owned(),
        within: LIMITS_MS.iter().map(|&limit| (format!("{limit}ms"), best(limit))).collect(),
        steps,
    })
}
