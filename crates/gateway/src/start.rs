//! The gateway in a process.

use weir_access::Access;
use weir_service::{Name, Room, Service, Site};

use crate::{Deps, build};

pub const SERVICE: Service = Service::new(Name::Gateway, |site| Box::pin(start(site)));

async fn start(site: Site) -> anyhow::Result<Room> {
    let deps = Deps {
        access: Access::of(&site).await?,
        orchestrator: site.peer(Name::Orchestrator)?,
        control: site.peer(Name::Control)?,
        billing: site.peer(Name::Billing)?,
        analytics: site.peer(Name::Analytics)?,
        ingestion: site.peer(Name::Ingestion)?,
        router: site.peer(Name::Router)?,
        realtime: Some(site.address(Name::Realtime)?),
        identity: site.identity()?,
        metrics: site.metrics(),
        clock: site.clock(),
        tasks: site.edge().clone(),
    };
    let gateway = build(site.config()?, deps)?;
    gateway.spawn(site.tasks());
    Ok(Room::http(gateway.http()))
}
