//! The router in a process.

use weir_service::{Name, Room, Service};

use crate::{Deps, build};

pub const SERVICE: Service = Service::new(Name::Router, |site| {
    Box::pin(async move {
        let router = build(site.config()?, Deps { metrics: site.metrics() })?;
        router.spawn(site.tasks());
        Ok(Room::grpc(router.routes()))
    })
});
