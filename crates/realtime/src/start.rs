//! Realtime in a process.

use weir_access::Access;
use weir_service::{Name, Room, Service, Site};

use crate::{Deps, build};

pub const SERVICE: Service = Service::new(Name::Realtime, |site| Box::pin(start(site)));

async fn start(site: Site) -> anyhow::Result<Room> {
    let deps = Deps {
        access: Access::of(&site).await?,
        chat: site.peer(Name::Orchestrator)?,
        kv: site.kv()?,
        identity: site.identity()?,
        tasks: site.edge().clone(),
        metrics: site.metrics(),
        clock: site.clock(),
    };
    let realtime = build(site.config()?, deps)?;
    realtime.spawn(site.tasks());
    Ok(Room { routes: Some(realtime.routes()), http: realtime.http() })
}
