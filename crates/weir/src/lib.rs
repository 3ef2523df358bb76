//! The command line: the whole platform in one process for development, migrations, the simulator.

mod child;
mod cli;
mod dev;
mod house;
mod settings;

use std::{
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

pub use cli::Cli;
pub use house::{Addresses, House, HouseConfig, Listeners};
pub use settings::{ALIASES, Settings};

use cli::{Command, MigrateArgs, SimulatorArgs};
use weir_config::Sources;
use weir_runtime::{OnFailure, Tasks, serve};
use weir_telemetry::LogConfig;

/// How long blocking work may hold up the end of the process.
const RUNTIME_GRACE: Duration = Duration::from_secs(2);
/// What says nothing that our own lines don't say is left out.
const LOG_LEVEL: &str = "info,async_nats=warn,sqlx::postgres::notice=warn";
const SIMULATOR_DRAIN: Duration = Duration::from_secs(5);

/// Does what the command line says. Exit codes: 0 done, 1 failed, 2 wrong arguments (clap's), 130 forced to stop.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let began = Instant::now();
    let outcome = runtime().and_then(|runtime| {
        let outcome = runtime.block_on(Box::pin(command(cli, began)));
        runtime.shutdown_timeout(RUNTIME_GRACE);
        outcome
    });
    outcome.unwrap_or_else(|error| {
        // The whole chain, once, where the person at the terminal sees it.
        let _ = writeln!(std::io::stderr(), "weir: {error:#}");
        ExitCode::FAILURE
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")
}

async fn command(cli: Cli, began: Instant) -> Result<ExitCode> {
    match cli.command {
        Command::Dev(args) => {
            let settings = settings(cli.config, weir_telemetry::Format::Pretty)?;
            Box::pin(dev::run(args, settings, began)).await
        }
        Command::Migrate(args) => migrate(args, &settings(cli.config, weir_telemetry::Format::Json)?).await,
        Command::Simulator(args) => {
            simulator(&args, settings(cli.config, weir_telemetry::Format::Json)?).await
        }
    }
}

/// `format` is how lines look when nothing says otherwise.
fn settings(file: Option<PathBuf>, format: weir_telemetry::Format) -> Result<Settings> {
    let sources = Sources { file, ..Sources::from_process() }.with_aliases(ALIASES);
    let loaded = weir_config::load_checked::<Settings>(&sources, |_| Ok(()))?;
    let mut settings = loaded.config;
    if !loaded.origins.contains_key("log.format") {
        settings.log.format = format;
    }
    if !loaded.origins.contains_key("log.level") {
        settings.log.level = LOG_LEVEL.to_owned();
    }
    Ok(settings)
}

/// `file`: where lines are kept when nothing says otherwise.
fn start_log(config: &LogConfig, file: Option<PathBuf>) -> Result<()> {
    let config = LogConfig { file: config.file.clone().or(file), ..config.clone() };
    Ok(weir_telemetry::init(&config)?)
}

/// The simulator as a server of its own, until a signal.
async fn simulator(args: &SimulatorArgs, settings: Settings) -> Result<ExitCode> {
    start_log(&settings.log, None)?;
    let listener = weir_runtime::bind(SocketAddr::new(args.host, args.port))?;
    // Programs that asked for a free port read it here.
    let _ = writeln!(std::io::stdout(), "simulator http://{}", listener.local_addr()?);
    let tasks = Tasks::new();
    let router = weir_simulator::Simulator::new(settings.simulator).router();
    tasks.spawn("simulator", OnFailure::Shutdown, serve(listener, router, settings.listen, tasks.shutdown()));
    let stopping = tasks.shutdown();
    tokio::select! {
        _ = weir_runtime::stop_signal() => {}
        () = stopping.cancelled() => {}
    }
    tasks.stop(SIMULATOR_DRAIN).await;
    Ok(if tasks.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn migrate(args: MigrateArgs, settings: &Settings) -> Result<ExitCode> {
    start_log(&settings.log, None)?;
    let role = weir_db::AppRole::new(args.app_role, args.app_password);
    weir_db::migrate(&args.database_url, &role).await?;
    Ok(ExitCode::SUCCESS)
}
