//! The house, and single services of it, killed again and again under load: nothing lost, nothing counted twice.

use std::{path::Path, sync::Arc};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use weir_e2e::{
    books::Books,
    child::ChildHouse,
    http::Http,
    load::Load,
    stand::{Mode, Stand},
};
use weir_runtime::{ListenConfig, OnFailure, Tasks, serve};
use weir_service::Name;
use weir_testkit::{Nats, Postgres};

use crate::metering::{books, requests, started, wish};

const CLIENTS: usize = 32;

/// The provider outlives the house: its ledger is what the house is measured by.
async fn provider(tasks: &Tasks) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let simulator = weir_simulator::Simulator::new(weir_simulator::Config::default());
    let serving = serve(listener, simulator.router(), ListenConfig::default(), tasks.shutdown());
    tasks.spawn("provider", OnFailure::Log, serving);
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_equal_the_ledger_though_the_house_was_killed() {
    if !Mode::Fused.is_wished("it starts `weir dev`, which has all services in one process") {
        return;
    }
    let (kills, requests) = (wish("WEIR_E2E_KILLS", 3), requests());
    // Its own server: the house makes roles, which are a server's, not a database's.
    let postgres = Postgres::private().await.unwrap();
    let (database, nats) = (postgres.empty().await.unwrap(), Nats::start().await.unwrap());
    let tasks = Tasks::new();
    let provider = provider(&tasks).await;
    let program = Path::new(env!("CARGO_BIN_EXE_weir-under-test"));
    let mut house = ChildHouse::new(program, &database, &nats, &provider).unwrap();
    let dev = house.start().await.unwrap();

    let load = Load::new(Http::at(&dev.gateway).with_key(&dev.api_key), requests);
    let seed = wish("WEIR_E2E_SEED", rand::rng().random_range(1..=1_000_000));
    println!("WEIR_E2E_SEED={seed} kills at the same requests again");
    let mut random = StdRng::seed_from_u64(seed as u64);
    let mut moments: Vec<_> = (0..kills).map(|_| random.random_range(1..requests)).collect();
    moments.sort_unstable();
    let killer = async {
        for moment in moments {
            started(&load, moment).await;
            house.kill().await.unwrap();
            house.start().await.unwrap();
        }
    };
    tokio::join!(load.run(CLIENTS), killer);

    let books = Books {
        simulator: Http::at(&provider),
        nats_url: nats.url(),
        database_url: database.admin_url.clone(),
    };
    let seen = Arc::clone(&load.seen).lock().clone();
    let summary = books.agree(&seen).await.unwrap();
    println!("{kills} kills, {requests} requests: {summary:?}");
    assert!(summary.interrupted > 0, "nothing was under way when the house was killed: {summary:?}");
    assert!(summary.ledger > requests / 3, "{summary:?} of {requests} requests");
    house.kill().await.unwrap();
    assert!(tasks.stop(weir_e2e::http::PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_equal_the_ledger_though_single_services_were_killed() {
    if !Mode::Split.is_wished("services of one process cannot be killed one by one") {
        return;
    }
    let requests = requests();
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let load = Load::new(stand.gateway().with_key(&tenant.key), requests);
    let victims = [Name::Orchestrator, Name::Billing, Name::Gateway, Name::Analytics, Name::Control];
    let killer = async {
        for (n, victim) in victims.into_iter().enumerate() {
            started(&load, requests * (n + 1) / (victims.len() + 1)).await;
            stand.split().kill(victim).await.unwrap();
            stand.split().start_one(victim).await.unwrap();
        }
    };
    tokio::join!(load.run(CLIENTS), killer);
    let seen = load.seen.lock().clone();
    let summary = books(&stand).agree(&seen).await.unwrap();
    println!("{} services killed, {requests} requests: {summary:?}", victims.len());
    assert!(summary.interrupted > 0, "nothing was under way when the orchestrator was killed: {summary:?}");
    assert!(summary.ledger > requests / 2, "{summary:?} of {requests} requests");
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_told_to_stop_ends_what_is_under_way_first() {
    if !Mode::Split.is_wished("services of one process are told together") {
        return;
    }
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let body = serde_json::json!({
        "model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "x"}],
        "x_sim": {"tokens": 60, "token_ms": 20},
    });
    for name in [Name::Orchestrator, Name::Gateway] {
        let client = stand.gateway().with_key(&tenant.key);
        let mut events = client.stream("/v1/chat/completions", &body).await.unwrap();
        assert!(events.next().await.unwrap().is_some());
        let stop = stand.split().stop_one(name);
        let (stopped, rest) = tokio::join!(stop, events.all());
        stopped.unwrap();
        assert_eq!(rest.unwrap().last().unwrap(), "[DONE]", "{name}");
        stand.split().start_one(name).await.unwrap();
    }
    stand.stop().await.unwrap();
}
