//! Where a request's time goes: the same request through one layer more each time, from a bare hyper proxy to the
//! whole gateway. CPU of the whole process (load generator and upstream included) per request, so that the
//! differences between rows are the layers' own.

mod canned;
mod floor;
mod load;
mod rungs;

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "CPU per request, layer by layer, plain and streamed")]
struct Args {
    /// Requests a round and row.
    #[arg(long, default_value_t = 20_000)]
    requests: usize,
    /// Rounds; rows take turns within each, and medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections at once.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Only the row of this name (as printed, without spaces), for a profiler.
    #[arg(long)]
    only: Option<String>,
    /// Also write the figures here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A server of the bench: it lives as long as the runtime.
#[expect(clippy::disallowed_methods, reason = "a bench's servers end with it; nobody waits for them")]
pub(crate) fn background<F>(future: F)
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    tokio::spawn(async move { drop(future.await) });
}

/// One row: a name and who answers.
pub(crate) struct Rung {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (rungs, _kept) = rungs::start().await?;
        let rungs: Vec<_> = rungs
            .into_iter()
            .filter(|r| args.only.as_ref().is_none_or(|only| r.name.replace(' ', "") == *only))
            .collect();
        let mut report = Vec::new();
        for (title, body) in [("plain", load::PLAIN), ("streamed", load::STREAMED)] {
            let figures = load::compare(&rungs, body, args.requests, args.rounds, args.connections).await?;
            print(title, &rungs, &figures);
            report.push(json(title, &rungs, &figures));
        }
        if let Some(path) = &args.json {
            std::fs::write(path, format!("[{}]\n", report.join(",\n")))?;
        }
        anyhow::Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "the report")]
fn print(title: &str, rungs: &[Rung], figures: &[load::Figures]) {
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

fn json(title: &str, rungs: &[Rung], figures: &[load::Figures]) -> String {
    let rows: Vec<_> = rungs
        .iter()
        .zip(figures)
        .map(|(rung, f)| {
            format!(
                r#"{{"layer":"{}","cpu_us":{:.2},"requests_per_second":{:.0},"p50_us":{:.0},"p99_us":{:.0}}}"#,
                rung.name, f.cpu_us, f.per_second, f.p50_us, f.p99_us
            )
        })
        .collect();
    format!(r#"{{"kind":"{title}","rows":[{}]}}"#, rows.join(","))
}
