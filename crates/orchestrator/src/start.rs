//! The orchestrator in a process.

use std::time::Duration;

use weir_runtime::{Criticality, OnFailure};
use weir_service::{Name, Room, Service, Site};

use crate::{Config, Deps, build};

/// Longest wait for the providers' lists of models; without them, models named outright are passed on.
const MODELS_WAIT: Duration = Duration::from_secs(2);
/// The router's own default.
const DEFAULT_MODEL: &str = "gpt-4o-mini";
const MODELS_POLL: Duration = Duration::from_millis(5);
/// The readiness gate that opens with them.
const MODELS: &str = "models";

pub const SERVICE: Service = Service::new(Name::Orchestrator, |site| Box::pin(start(site)));

async fn start(site: Site) -> anyhow::Result<Room> {
    let mut config: Config = site.config()?;
    // What the router would say; the same file is given to both.
    let default = || site.text("router.default_model").unwrap_or(DEFAULT_MODEL).to_owned();
    config.fallback_model.get_or_insert_with(default);
    let deps = Deps {
        router: site.peer(Name::Router)?,
        database: site.late_database().await?,
        bus: site.bus().await?,
        kv: site.kv()?,
        metrics: site.metrics(),
        clock: site.clock(),
    };
    let orchestrator = build(&config, deps)?;
    orchestrator.spawn(site.tasks());
    orchestrator.close_within(site.edge());
    orchestrator.spawn_background(site.edge());
    let checked = orchestrator.clone();
    site.health().check("spool", Criticality::Degraded, move || std::future::ready(checked.check()));

    let (health, known, shutdown) = (site.health().clone(), orchestrator.clone(), site.edge().shutdown());
    health.ready(MODELS, false);
    site.edge().spawn("orchestrator.ready", OnFailure::Log, async move {
        let all_known = async {
            while !known.models_known() {
                tokio::time::sleep(MODELS_POLL).await;
            }
        };
        tokio::select! {
            () = all_known => {}
            () = tokio::time::sleep(MODELS_WAIT) => {
                tracing::warn!("ready although a provider has not listed its models yet");
            }
            () = shutdown.cancelled() => {}
        }
        health.ready(MODELS, true);
    });
    Ok(Room::grpc(orchestrator.routes()))
}
