//! Weir's speed: `compare` puts it beside a bare proxy, `layers` shows where a request's time goes.

mod canned;
mod compare;
mod floor;
mod layers;
mod load;
mod process;
mod report;
mod streams;
mod systems;

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use http::Uri;
use report::Report;
use tokio::net::TcpListener;
use weir_runtime::{ListenConfig, Tasks};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "How fast Weir is, as ratios against a bare hyper proxy in the same run")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Floor, plain, governed, translated and split side by side: throughput, latency, CPU, memory, paced streams.
    Compare(compare::Args),
    /// CPU per request, layer by layer, in one process.
    Layers(layers::Args),
    /// The upstream of `compare`; prints where it listens.
    #[command(hide = true)]
    Upstream,
    /// A bare hyper proxy to the upstream; prints where it listens.
    #[command(hide = true)]
    Floor { upstream: Uri },
    /// Weir's way to the upstream with every safeguard off; prints where it listens.
    #[command(hide = true)]
    Plain { upstream: Uri },
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

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(cli.command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Compare(args) => {
            let baseline = args.baseline.as_ref().or(Some(&args.json)).filter(|path| path.exists());
            let baseline = baseline.map(|path| Report::read(path)).transpose()?;
            let report = compare::run(&args).await?;
            report.write(&args.json)?;
            report.print(baseline.as_ref());
        }
        Command::Layers(args) => layers::run(&args).await?,
        Command::Upstream => canned::serve(listen().await?).await,
        Command::Floor { upstream } => floor::serve(listen().await?, upstream).await,
        Command::Plain { upstream } => {
            let (app, tasks) = (layers::rungs::plain(&upstream)?, Tasks::new());
            weir_runtime::serve(listen().await?, app, ListenConfig::default(), tasks.shutdown()).await;
        }
    }
    Ok(())
}

/// On a port of the system's choice, which is the first line of output.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn listen() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address: SocketAddr = listener.local_addr()?;
    println!("{address}");
    Ok(listener)
}
