//! Analytics in a process.

use weir_service::{Name, Room, Service};

use crate::{Deps, build};

pub const SERVICE: Service = Service::new(Name::Analytics, |site| {
    Box::pin(async move {
        let (db, bus) = (site.database().await?, site.bus().await?);
        let analytics = build(site.config()?, Deps { db, bus, clock: site.clock() })?;
        analytics.spawn(site.tasks());
        Ok(Room::grpc(analytics.routes()))
    })
});
