//! `weir dev`: all services in one process, over a PostgreSQL, a NATS and a Redis of their own.

mod demo;
mod folder;
mod home;
mod leftovers;
mod nats;
mod ports;
mod postgres;
mod programs;
mod redis;
mod remote;
mod report;
mod state;
mod stores;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::{self, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use weir_config::{Settings, Sources};
use weir_runtime::{ListenConfig, OnFailure, Signals, Tasks, serve};
use weir_service::{House, Name};
use weir_simulator::Simulator;
use weir_telemetry::Format;

pub(crate) use {
    folder::Folder,
    state::{Login, StateFile},
};

use crate::{
    child::{http_status, until},
    cli::{DevAction, DevArgs},
    keys::{new_admin_key, sha256},
};
use report::{DevJson, Figures, say};
use stores::Stores;

/// How long requests in flight may take to end after the first signal.
const DRAIN: Duration = Duration::from_secs(30);
/// Longer than the children's own endings together, which force them in the end.
const CHILDREN_GRACE: Duration = Duration::from_secs(60);
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// As shells report a program that Ctrl-C ended: 128 and the signal's number.
const FORCED: u8 = 130;

/// Runs until a signal or a failure. A clean stop is a success.
pub(crate) async fn run(args: DevArgs, sources: Sources, began: Instant) -> Result<ExitCode> {
    let folder = match args.action {
        Some(DevAction::Status) => return remote::status(&args.data).await,
        Some(DevAction::Stop) => return remote::stop(&args.data, false).await,
        Some(DevAction::Reset) => return remote::stop(&args.data, true).await,
        None => Folder::open(&args.data)?,
    };
    let _lock = folder.lock()?;
    let mut signals = Signals::install()?;
    if args.reset {
        leftovers::stop(&folder, false).await;
        folder.wipe()?;
    }
    folder.claim()?;
    let settings = weir_service::load(&sources)?;
    weir_service::start_telemetry(&settings, Format::Pretty, Some(folder.log("app")), None)?;
    let children = Tasks::new();
    let mut house = None;
    let lived = Box::pin(live(&folder, args, sources, &children, &mut house, &mut signals, began)).await;
    let end = async {
        if let Some(house) = house {
            house.stop(DRAIN).await;
        }
        children.stop(CHILDREN_GRACE).await;
        // What was being started when the start was given up has nobody else to stop it.
        leftovers::stop(&folder, false).await;
    };
    let forced = tokio::select! {
        () = end => false,
        signal = signals.next() => {
            tracing::warn!(signal, "second signal, stopping at once");
            children.trigger();
            leftovers::stop(&folder, true).await;
            true
        }
    };
    lived?;
    tracing::info!(forced, "stopped");
    Ok(if forced { ExitCode::from(FORCED) } else { ExitCode::SUCCESS })
}

/// From the start to the signal that ends it. The house is left in `slot` for the caller to stop.
async fn live(
    folder: &Folder,
    args: DevArgs,
    sources: Sources,
    children: &Tasks,
    slot: &mut Option<House>,
    signals: &mut Signals,
    began: Instant,
) -> Result<()> {
    // One of a launcher that was killed would tell of a house that is not there.
    let dev_json = folder.dev_json();
    let _ = fs::remove_file(&dev_json);
    tokio::select! {
        biased;
        signal = signals.next() => {
            tracing::info!(signal, "stopping before it was ready");
            return Ok(());
        }
        up = Box::pin(start(folder, args, sources, children, slot, began)) => say(&up?),
    }
    let Some(house) = slot else { return Ok(()) };
    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "stopping; a second signal does not wait"),
        () = house.stopping() => {}
    }
    let removed = fs::remove_file(&dev_json);
    ensure!(!house.failed(), "a service failed; {} says why", folder.log("app").display());
    removed.with_context(|| format!("removing {}", dev_json.display()))
}

/// Brings everything up; gives what to tell people.
async fn start(
    folder: &Folder,
    args: DevArgs,
    sources: Sources,
    children: &Tasks,
    slot: &mut Option<House>,
    began: Instant,
) -> Result<String> {
    let doors = ports::bind(args.host, args.port)?;
    let state = StateFile::load(&folder.children_json())?;
    let admin_key = state.secret(|state| &mut state.admin_key, new_admin_key)?;
    let stores = stores::up(folder, &state, &args.stores.without_blanks(), children).await?;
    let databases_up = Instant::now();
    let simulator = simulator(&weir_service::load(&sources)?, children)?;
    let settings = house_settings(sources, folder, &stores, &admin_key, &simulator)?;
    let house = slot.insert(Box::pin(House::start(settings, doors)).await.context("starting the services")?);
    let addresses = reachable(house);
    all_ready(&addresses, house).await?;
    let control = house.transport(Name::Control).context("control is not in the house")?;
    let demo = demo::ensure(&control, &state).await?;
    let figures = Figures {
        total: began.elapsed(),
        services: databases_up.elapsed(),
        resident_bytes: weir_runtime::resident_bytes(),
    };
    let dev = DevJson {
        gateway: format!("http://{}", addresses[0].1),
        api_key: demo.api_key,
        admin_key,
        tenant_id: demo.tenant_id,
        database_url: stores.database_url,
        app_database_url: stores.app_url,
        nats_url: stores.nats_url,
        redis_url: stores.redis_url,
        simulator,
        pid: process::id(),
    };
    dev.write(&folder.dev_json())?;
    tracing::info!(
        total.ms = figures.total.as_millis(),
        services.ms = figures.services.as_millis(),
        memory.bytes = figures.resident_bytes,
        "ready"
    );
    Ok(report::ready(&dev, &addresses, figures, &folder.dev_json()))
}

/// The model provider of a house without any: a server in this process. Gives its URL.
fn simulator(settings: &Settings, children: &Tasks) -> Result<String> {
    let listener = weir_runtime::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Simulator::new(settings.section("simulator")?).router();
    let listen: ListenConfig = settings.section("listen")?;
    children.spawn("simulator", OnFailure::Shutdown, serve(listener, router, listen, children.shutdown()));
    Ok(url)
}

/// The settings with what only the launcher knows.
fn house_settings(
    mut sources: Sources,
    folder: &Folder,
    stores: &Stores,
    admin_key: &str,
    simulator: &str,
) -> Result<Settings> {
    const ORIGIN: &str = "weir dev";
    let spool = folder.make("services")?.join("spool").display().to_string();
    let mut set = |key: &str, value: &str| sources.set(key, value, ORIGIN);
    set("database.url", &stores.app_url);
    set("nats.url", &stores.nats_url);
    set("control.admin_key_sha256", &sha256(admin_key));
    set("orchestrator.spool_dir", &spool);
    if let Some(url) = &stores.redis_url {
        set("redis.url", url);
    }
    if let Some(url) = &stores.nats_monitor {
        set("nats.monitor_url", url);
    }
    let settings = weir_service::load(&sources)?;
    let orchestrator: weir_orchestrator::Config = settings.section("orchestrator")?;
    if !orchestrator.endpoints()?.is_empty() {
        return Ok(settings);
    }
    // One server, but a provider in each of its dialects.
    for (key, value) in weir_simulator::providers(simulator) {
        sources.set(key, value, ORIGIN);
    }
    if orchestrator.prices_file.is_none() {
        let prices = folder.make("services")?.join("simulator-prices.toml");
        std::fs::write(&prices, weir_simulator::PRICES)?;
        sources.set("orchestrator.prices_file", prices.display().to_string(), ORIGIN);
    }
    Ok(weir_service::load(&sources)?)
}

/// Where each service can be reached from this machine, in the order of their ports.
fn reachable(house: &House) -> Vec<(&'static str, SocketAddr)> {
    Name::ALL.iter().filter_map(|&name| Some((name.as_str(), house.address(name)?))).collect()
}

/// Waits until every service says so itself.
async fn all_ready(addresses: &[(&'static str, SocketAddr)], house: &House) -> Result<()> {
    let deadline = Instant::now() + READY_PATIENCE;
    for &(name, address) in addresses {
        let ready = until(deadline, || async move {
            let status = http_status(address, "/ready").await?;
            ensure!(status == 200, "/ready answers {status}");
            Ok(())
        });
        tokio::select! {
            ready = ready => ready.with_context(|| format!("{name} did not become ready"))?,
            () = house.stopping() => bail!("a service failed while starting"),
        }
    }
    Ok(())
}
