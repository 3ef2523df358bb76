//! Control in a process.

use weir_runtime::Criticality;
use weir_service::{Name, Room, Service};

use crate::{Deps, build};

pub const SERVICE: Service = Service::new(Name::Control, |site| {
    Box::pin(async move {
        let (db, bus) = (site.database().await?, site.bus().await?);
        let deps = Deps { db, bus, clock: site.clock(), metrics: site.metrics() };
        let control = build(site.config()?, deps)?;
        control.spawn(site.tasks());
        let checked = control.clone();
        site.health().check("outbox", Criticality::Degraded, move || std::future::ready(checked.check()));
        Ok(Room::grpc(control.routes()))
    })
});
