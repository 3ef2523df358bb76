//! Services as a process: bind, start, wait for a signal, drain.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use weir_config::{Alias, Settings, Sources};
use weir_runtime::{ListenConfig, Signals, bind};
use weir_telemetry::{Format, InitError, LogConfig};

use crate::{ALIASES, Doors, House, ServeArgs, Service};

/// A process that runs apart may have an ops port by its well-known name.
const APART: &[Alias] = &[("METRICS_PORT", "listen.ops")];
/// What the end may take beyond the time that requests under way have.
const ENDING: Duration = Duration::from_secs(10);
/// What says nothing that our own lines don't say is left out.
const LOG_LEVEL: &str = "info,async_nats=warn,sqlx::postgres::notice=warn";
/// As shells report a program that Ctrl-C ended: 128 and the signal's number.
const FORCED: u8 = 130;

/// Where the settings of a process come from.
#[must_use]
pub fn sources(file: Option<PathBuf>) -> Sources {
    Sources { file, ..Sources::from_process() }.with_aliases(ALIASES)
}

/// Runs services until a signal or a failure. Exit codes: 0 after a clean stop, 130 when a second signal cut it short.
///
/// # Errors
/// Whatever keeps a service from starting, or ended one.
pub async fn serve(services: &[Service], file: Option<PathBuf>, args: &ServeArgs) -> Result<ExitCode> {
    let began = Instant::now();
    let mut signals = Signals::install().context("installing signal handlers")?;
    let settings = crate::load(&args.add_to(sources(file).with_aliases(APART)))?;
    let alone = if let [service] = services { Some(service.name.as_str()) } else { None };
    start_telemetry(&settings, Format::Json, None, alone)?;
    let listen: ListenConfig = settings.section("listen")?;
    let doors = doors(services, &settings, &listen)?;
    let house = tokio::select! {
        biased;
        signal = signals.next() => {
            tracing::info!(signal, "stopping before it was ready");
            return Ok(ExitCode::SUCCESS);
        }
        started = Box::pin(House::start(settings, doors)) => started?,
    };
    say_ready(&house, services, began).await;
    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "stopping; a second signal does not wait"),
        () = house.stopping() => {}
    }
    let failed = house.failed();
    let grace = listen.lame_duck + listen.drain + ENDING;
    tokio::select! {
        clean = house.stop(grace) => tracing::info!(clean, "stopped"),
        signal = signals.next() => {
            tracing::warn!(signal, "second signal, stopping at once");
            return Ok(ExitCode::from(FORCED));
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Sets up log and traces. `format` is how lines look, and `file` where they are kept, when nothing says otherwise;
/// `service` is whose process this is, if one's alone.
///
/// # Errors
/// A level that is none, a file that cannot be opened: by key and source.
pub fn start_telemetry(
    settings: &Settings,
    format: Format,
    file: Option<PathBuf>,
    service: Option<&'static str>,
) -> Result<()> {
    let mut log: LogConfig = settings.section("log")?;
    log.service = service;
    if settings.origin("log.format").is_none() {
        log.format = format;
    }
    if settings.origin("log.level").is_none() {
        LOG_LEVEL.clone_into(&mut log.level);
    }
    log.file = log.file.or(file);
    weir_telemetry::init(&log, &settings.section("telemetry")?).map_err(|error| {
        let key = match error {
            InitError::Level { .. } => "log.level",
            InitError::File { .. } => "log.file",
            InitError::Ratio(_) => "telemetry.sample_ratio",
            InitError::Endpoint { .. } => "telemetry.otlp_endpoint",
            error => return anyhow!(error),
        };
        anyhow!(error).context(settings.refuse(key, "cannot be used"))
    })
}

/// Binds every port before anything starts, so that a taken one costs nothing but its message.
fn doors(services: &[Service], settings: &Settings, listen: &ListenConfig) -> Result<Vec<(Service, Doors)>> {
    let host = listen.host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    if services.len() > 1 {
        for (key, set) in [("listen.port", listen.port.is_some()), ("listen.ops", listen.ops.is_some())] {
            if set {
                return Err(settings.refuse(key, "is for a process with one service").into());
            }
        }
    }
    let open = |service: &Service| -> Result<(Service, Doors)> {
        let port = listen.port.unwrap_or(service.name.port());
        let ops = listen.ops.map(|ops| bind(ops.at(host))).transpose().context("listen.ops")?;
        let door = bind(SocketAddr::new(host, port)).with_context(|| service.name.to_string())?;
        Ok((*service, Doors { service: door, ops }))
    };
    services.iter().map(open).collect()
}

async fn say_ready(house: &House, services: &[Service], began: Instant) {
    for service in services {
        if let Some(address) = house.address(service.name) {
            tracing::info!(service = service.name.as_str(), address = %address, "listening");
        }
    }
    let alone = services.iter().all(|service| service.name == crate::Name::Gateway);
    if !house.trusts_others() && services.len() < crate::Name::ALL.len() && !alone {
        tracing::warn!(
            "no service of another process may call here: identity.trusted is empty (`weir keys` makes a set)"
        );
    }
    tokio::select! {
        () = house.ready() => {
            let memory = weir_runtime::resident_bytes();
            tracing::info!(start.ms = began.elapsed().as_millis(), memory.bytes = memory, "ready");
        }
        () = house.stopping() => {}
    }
}
