//! The command line: the whole platform in one process for development, services that run apart, their keys,
//! migrations, the simulator.

mod analytics;
mod child;
mod cli;
mod dev;
mod dlq;
mod health;
mod keys;
mod reach;
mod times;

use std::{
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

pub use cli::Cli;

use cli::{Command, MigrateArgs, ServeCommand, SimulatorArgs};
use weir_config::Sources;
use weir_runtime::{ListenConfig, OnFailure, Signals, Tasks, serve};
use weir_service::Service;
use weir_telemetry::Format;

const PROGRAM: &str = "weir";
const SIMULATOR_DRAIN: Duration = Duration::from_secs(5);

/// Every service, in the order of their ports.
pub const SERVICES: [Service; 8] = [
    weir_gateway::SERVICE,
    weir_realtime::SERVICE,
    weir_router::SERVICE,
    weir_orchestrator::SERVICE,
    weir_analytics::SERVICE,
    weir_billing::SERVICE,
    weir_ingestion::SERVICE,
    weir_control::SERVICE,
];

/// Does what the command line says. Exit codes: 0 done, 1 failed, 2 wrong arguments (clap's), 130 forced to stop.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let began = Instant::now();
    weir_service::block_on(PROGRAM, Box::pin(command(cli, began)))
}

async fn command(cli: Cli, began: Instant) -> Result<ExitCode> {
    let file = cli.config.path();
    match cli.command {
        Command::Dev(args) => Box::pin(dev::run(args, weir_service::sources(file), began)).await,
        Command::Serve(args) => serve_services(args, file).await,
        Command::Keys(args) => keys::run(&args),
        Command::Migrate(args) => migrate(args, weir_service::sources(file)).await,
        Command::Simulator(args) => simulator(&args, weir_service::sources(file)).await,
        Command::Dlq(args) => dlq::run(args, weir_service::sources(file)).await,
        Command::Analytics(args) => Box::pin(analytics::run(args, weir_service::sources(file))).await,
        Command::Health(args) => health::run(&args).await,
    }
}

async fn serve_services(args: ServeCommand, file: Option<PathBuf>) -> Result<ExitCode> {
    let named = |service: &Service| args.services.contains(&service.name);
    let services: Vec<Service> = SERVICES.into_iter().filter(named).collect();
    weir_service::serve(&services, file, &args.listen).await
}

/// The simulator as a server of its own, until a signal.
async fn simulator(args: &SimulatorArgs, sources: Sources) -> Result<ExitCode> {
    let mut signals = Signals::install()?;
    let settings = weir_service::load(&sources)?;
    weir_service::start_telemetry(&settings, Format::Json, None, None)?;
    let listener = weir_runtime::bind(SocketAddr::new(args.host, args.port))?;
    // Programs that asked for a free port read it here.
    let _ = writeln!(std::io::stdout(), "simulator http://{}", listener.local_addr()?);
    let tasks = Tasks::new();
    let router = weir_simulator::Simulator::new(settings.section("simulator")?).router();
    let listen: ListenConfig = settings.section("listen")?;
    tasks.spawn("simulator", OnFailure::Shutdown, serve(listener, router, listen, tasks.shutdown()));
    let stopping = tasks.shutdown();
    tokio::select! {
        _ = signals.next() => {}
        () = stopping.cancelled() => {}
    }
    tasks.stop(SIMULATOR_DRAIN).await;
    Ok(if tasks.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn migrate(args: MigrateArgs, sources: Sources) -> Result<ExitCode> {
    weir_service::start_telemetry(&weir_service::load(&sources)?, Format::Json, None, None)?;
    let role = weir_db::AppRole::new(args.app_role, args.app_password);
    weir_db::migrate(&args.database_url, &role).await?;
    Ok(ExitCode::SUCCESS)
}
