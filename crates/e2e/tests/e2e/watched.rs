//! A house in a process of its own, as an operator has it, before a provider that notes what it is sent.

use std::{path::Path, sync::Arc};

use axum::{extract::Request, middleware};
use parking_lot::Mutex;
use weir_e2e::{
    child::{ChildHouse, DevJson},
    http::Http,
};
use weir_runtime::{ListenConfig, OnFailure, Tasks, serve};
use weir_testkit::{Nats, Postgres};

/// In the order of their ports.
pub(crate) const SERVICES: [&str; 8] =
    ["gateway", "realtime", "router", "orchestrator", "analytics", "billing", "ingestion", "control"];

pub(crate) struct Watched {
    pub(crate) house: ChildHouse,
    pub(crate) dev: DevJson,
    pub(crate) tasks: Tasks,
    /// `traceparent` of every chat the provider received.
    pub(crate) traceparents: Arc<Mutex<Vec<String>>>,
    _stores: (Postgres, Nats),
}

impl Watched {
    pub(crate) async fn start(env: &[(&'static str, String)]) -> Self {
        let postgres = Postgres::private().await.unwrap();
        let (database, nats) = (postgres.empty().await.unwrap(), Nats::start().await.unwrap());
        let tasks = Tasks::new();
        let traceparents = Arc::new(Mutex::new(Vec::new()));
        let provider = provider(&tasks, traceparents.clone()).await;
        let program = Path::new(env!("CARGO_BIN_EXE_weir-under-test"));
        let mut house = ChildHouse::new(program, &database, &nats, &provider).unwrap();
        for (name, value) in env {
            house = house.with_env(name, value.clone());
        }
        let dev = house.start().await.unwrap();
        Self { house, dev, tasks, traceparents, _stores: (postgres, nats) }
    }

    pub(crate) fn client(&self) -> Http {
        Http::at(&self.dev.gateway).with_key(&self.dev.api_key)
    }

    pub(crate) fn platform(&self) -> Http {
        Http::at(&self.dev.gateway).with_key(&self.dev.admin_key)
    }

    /// Every service and its port.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (&'static str, u16)> {
        SERVICES.into_iter().zip(self.house.port()..)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.house.data().join("logs/app.log")).unwrap()
    }

    pub(crate) async fn end(mut self) {
        self.house.kill().await.unwrap();
        assert!(self.tasks.stop(weir_e2e::http::PATIENCE).await);
    }
}

async fn provider(tasks: &Tasks, seen: Arc<Mutex<Vec<String>>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let simulator = weir_simulator::Simulator::new(weir_simulator::Config::default());
    let note = move |request: Request, next: middleware::Next| {
        if let Some(value) = request.headers().get("traceparent") {
            seen.lock().push(value.to_str().unwrap().to_owned());
        }
        next.run(request)
    };
    let router = simulator.router().layer(middleware::from_fn(note));
    let serving = serve(listener, router, ListenConfig::default(), tasks.shutdown());
    tasks.spawn("provider", OnFailure::Log, serving);
    format!("http://{address}")
}
