//! Billing in a process.

use weir_service::{Name, Room, Service};

use crate::{Deps, build};

pub const SERVICE: Service = Service::new(Name::Billing, |site| {
    Box::pin(async move {
        let (db, bus) = (site.database().await?, site.bus().await?);
        let billing = build(site.config()?, Deps { db, bus, clock: site.clock() })?;
        billing.spawn(site.tasks());
        Ok(Room::grpc(billing.routes()))
    })
});
