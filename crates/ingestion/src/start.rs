//! Ingestion in a process.

use weir_service::{Name, Room, Service};

use crate::{Deps, build};

pub const SERVICE: Service = Service::new(Name::Ingestion, |site| {
    Box::pin(async move {
        let ingestion = build(site.config()?, Deps {})?;
        ingestion.spawn(site.tasks());
        Ok(Room::grpc(ingestion.routes()))
    })
});
