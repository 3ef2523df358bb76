//! The router in a process.

use secrecy::ExposeSecret as _;
use weir_db::{Db, DbConfig, DbError};
use weir_runtime::Criticality;
use weir_service::{Name, Room, Service, Site};

use crate::{Deps, build};

pub const SERVICE: Service = Service::new(Name::Router, |site| {
    Box::pin(async move {
        let deps = Deps {
            db: database(&site).await?,
            bus: Some(site.bus().await?),
            clock: site.clock(),
            metrics: site.metrics(),
        };
        let router = build(site.config()?, deps)?;
        router.spawn(site.tasks());
        let checked = router.clone();
        site.health().check("outbox", Criticality::Degraded, move || std::future::ready(checked.check()));
        Ok(Room::grpc(router.routes()))
    })
});

/// Unlike others, the router starts while its database is away, or without one: it decides from what is pushed and
/// from its settings. One that it must not use keeps it from starting all the same.
async fn database(site: &Site) -> anyhow::Result<Option<Db>> {
    let config: DbConfig = site.section("database")?;
    if config.url.expose_secret().is_empty() {
        return Ok(None);
    }
    let db = Db::connect_lazy(&config)?;
    match db.verify().await {
        Err(DbError::Unavailable(_)) => tracing::warn!("the database is away; aliases come from elsewhere"),
        verified => verified?,
    }
    let checked = db.clone();
    site.health().check("postgres", Criticality::Degraded, move || {
        let db = checked.clone();
        async move { db.ping().await.map_err(|e| e.to_string()) }
    });
    Ok(Some(db))
}
