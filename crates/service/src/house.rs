//! Services in one process, each on a port of its own.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::Router;
use tokio::net::TcpListener;
use weir_config::Settings;
use weir_rpc::Transport;
use weir_runtime::{Health, Info, ListenMetrics, OnFailure, ops_router, probe_router, serve_with};
use weir_types::{Clock, SystemClock};

use crate::{
    Name, Room, Service,
    settings::explain,
    site::{Shared, Site},
};

const READY_POLL: Duration = Duration::from_millis(5);
/// How long what was started already may take to end when a start is given up.
const UNDO: Duration = Duration::from_secs(5);

/// Sockets that are bound already, so that a taken port is known before anything starts.
#[derive(Debug)]
pub struct Doors {
    pub service: TcpListener,
    /// Where `/metrics`, `/info` and `/health` go instead.
    pub ops: Option<TcpListener>,
}

impl Doors {
    /// One port for everything.
    #[must_use]
    pub fn one(service: TcpListener) -> Self {
        Self { service, ops: None }
    }
}

/// Running services.
pub struct House {
    shared: Arc<Shared>,
    health: Vec<Health>,
}

impl House {
    /// Builds the services from the inside out and opens their ports.
    ///
    /// # Errors
    /// Whatever keeps a service from starting: a wrong setting, a database login that may bypass row-level security,
    /// migrations pending, a spool in use.
    pub async fn start(settings: Settings, mut services: Vec<(Service, Doors)>) -> Result<Self> {
        services.sort_by_key(|(service, _)| service.name.start_order());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut addresses = BTreeMap::new();
        for (service, doors) in &services {
            addresses.insert(service.name, doors.service.local_addr()?);
        }
        let shared = Arc::new(Shared::new(settings, clock, addresses)?);
        let mut house = Self { shared, health: Vec::new() };
        match Box::pin(house.build(services)).await {
            Ok(()) => Ok(house),
            Err(error) => {
                house.stop(UNDO).await;
                Err(error)
            }
        }
    }

    async fn build(&mut self, services: Vec<(Service, Doors)>) -> Result<()> {
        let mut built = Vec::new();
        for (service, doors) in services {
            let site = Site::new(service.name, self.shared.clone());
            let (health, metrics) = (site.health.clone(), site.metrics.clone());
            let room = (service.build)(site).await;
            let room = room
                .map_err(|error| explain(&self.shared.settings, service.name, error))
                .with_context(|| service.name.to_string())?;
            if let (Some(routes), Some(slot)) = (&room.routes, self.shared.slots.get(&service.name)) {
                slot.fill(routes.clone());
            }
            self.health.push(health.clone());
            built.push((service.name, room, doors, health, metrics));
        }
        for (name, room, doors, health, metrics) in built {
            self.open(name, room, doors, &health, &metrics)?;
        }
        Ok(())
    }

    fn open(
        &self,
        name: Name,
        room: Room,
        doors: Doors,
        health: &Health,
        metrics: &weir_telemetry::Metrics,
    ) -> Result<()> {
        let shared = &self.shared;
        let info = Info::new(name.as_str()).with_config_hash(shared.settings.fingerprint());
        let ops = ops_router(health.clone(), metrics.clone(), info);
        let mut app = match doors.ops {
            None => room.http.merge(ops),
            Some(listener) => {
                self.listen("ops", listener, ops, ListenMetrics::default());
                room.http.merge(probe_router(health.clone()))
            }
        };
        if let Some(routes) = room.routes {
            let identity = shared.identities.of(name)?;
            app = app.fallback_service(weir_rpc::server(name.as_str(), routes, identity));
        }
        health.drain_on(shared.edge.shutdown());
        self.listen(name.as_str(), doors.service, app, ListenMetrics::new(metrics));
        Ok(())
    }

    fn listen(&self, task: &'static str, listener: TcpListener, app: Router, metrics: ListenMetrics) {
        let (edge, config) = (&self.shared.edge, self.shared.listen.clone());
        edge.spawn(task, OnFailure::Shutdown, serve_with(listener, app, config, metrics, edge.shutdown()));
    }

    /// Where a service of this house can be reached from this machine.
    #[must_use]
    pub fn address(&self, name: Name) -> Option<SocketAddr> {
        self.shared.addresses.get(&name).copied().map(crate::site::callable)
    }

    /// To a service of this house, for the launcher's own calls.
    #[must_use]
    pub fn transport(&self, name: Name) -> Option<Transport> {
        self.shared.slots.get(&name).map(weir_rpc::Slot::transport)
    }

    /// Whether services of other processes may call here.
    #[must_use]
    pub fn trusts_others(&self) -> bool {
        self.shared.identities.trusts_others
    }

    /// Waits until every service says it is ready.
    pub async fn ready(&self) {
        for health in &self.health {
            while !health.readiness().ready {
                tokio::time::sleep(READY_POLL).await;
            }
        }
    }

    /// Whether a part ended that the house can't do without.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.shared.edge.failed() || self.shared.inner.failed()
    }

    /// Ends when a part asks for the house to stop.
    pub async fn stopping(&self) {
        let (edge, inner) = (self.shared.edge.shutdown(), self.shared.inner.shutdown());
        tokio::select! {
            () = edge.cancelled() => {}
            () = inner.cancelled() => {}
        }
    }

    /// Takes nothing new, lets requests under way end, then stops what is behind them. `false`: something had to be
    /// cut off.
    pub async fn stop(self, grace: Duration) -> bool {
        let drained = self.shared.edge.stop(grace).await;
        self.shared.inner.stop(grace).await && drained
    }
}
