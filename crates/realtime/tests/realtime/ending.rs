//! How sessions end: drained, too slow, silent.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::json;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, Message},
};
use weir_config::ByteSize;
use weir_realtime::Config;

use crate::{
    client::PATIENCE,
    rig::{Rig, until},
};

#[tokio::test]
async fn a_stopping_instance_lets_turns_finish() {
    let rig = Rig::start().await;
    let (mut busy, mut idle) = (rig.session().await, rig.session().await);
    busy.chat("a", "gated", "a").await;
    rig.upstream.gate("a").add_permits(1);
    busy.expect("chunk").await;

    rig.tasks.trigger();
    assert_eq!(idle.closed().await, 1001);
    busy.chat("b", "echo", "x").await;
    assert_eq!(busy.expect_error("unavailable").await["id"], "b");
    rig.upstream.gate("a").add_permits(2);
    busy.expect("chunk").await;
    busy.expect("chunk").await;
    busy.expect("done").await;
    assert_eq!(busy.closed().await, 1001);
    assert!(rig.tasks.stop(PATIENCE).await, "sessions outlived their close");
}

#[tokio::test]
async fn a_turn_that_does_not_finish_holds_a_stop_up_only_so_long() {
    let rig = Rig::with(Config { drain: Duration::from_millis(50), ..Config::default() }).await;
    let mut client = rig.session().await;
    client.chat("a", "gated", "a").await;
    rig.upstream.gate("a").add_permits(1);
    client.expect("chunk").await;
    rig.tasks.trigger();
    assert_eq!(client.closed().await, 1001);
    rig.upstream.dropped.subscribe().wait_for(|n| *n == 1).await.unwrap();
    assert!(rig.tasks.stop(PATIENCE).await);
}

#[tokio::test]
async fn a_client_that_has_not_authenticated_is_not_waited_for() {
    let rig = Rig::start().await;
    let mut client = rig.connect().await;
    rig.tasks.trigger();
    assert_eq!(client.closed().await, 1001);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_pauses_the_upstream_and_is_given_up() {
    let rig = Rig::with(Config { stall_timeout: Duration::from_millis(300), ..Config::default() }).await;
    let mut client = rig.session().await;
    client.chat("a", "flood", "").await;
    rig.metric("ws_backpressure_drops{policy=\"disconnect_slow\"} 1").await;
    rig.upstream.dropped.subscribe().wait_for(|n| *n == 1).await.unwrap();
    // What the sockets hold is some megabytes; beyond it only the queue's 256 KiB were read from upstream.
    let read = rig.upstream.flooded.load(Ordering::Relaxed);
    assert!(read < 1_000, "{read} frames of 64 KiB were read for a client that reads nothing");
    rig.metric("ws_active_connections 0").await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let rig = Rig::with(Config { outbound: ByteSize(1_000), ..Config::default() }).await;
    let mut client = rig.session().await;
    client.chat("a", "flood", "").await;
    // Far more than the sockets hold, and each message larger than the queue.
    for _ in 0..300 {
        client.expect("chunk").await;
    }
    client.send(json!({"type": "cancel", "id": "a"})).await;
    while client.next().await["type"] != "cancelled" {}
    rig.upstream.dropped.subscribe().wait_for(|n| *n == 1).await.unwrap();
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed() {
    let rig = Rig::with(Config {
        heartbeat: Duration::from_millis(50),
        pong_deadline: Duration::from_millis(50),
        ..Config::default()
    })
    .await;
    let mut client = rig.session().await;
    // Not reading is not answering.
    rig.metric("ws_closes_total{code=\"4009\"} 1").await;
    assert_eq!(client.closed().await, 4009);
}

#[tokio::test]
async fn a_client_that_answers_pings_stays() {
    let rig = Rig::with(Config {
        heartbeat: Duration::from_millis(20),
        pong_deadline: Duration::from_millis(1_000),
        ..Config::default()
    })
    .await;
    let mut client = rig.session().await;
    use futures_util::StreamExt as _;
    // For longer than the deadline.
    for _ in 0..60 {
        match tokio::time::timeout(PATIENCE, client.0.next()).await.unwrap() {
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("expected a ping: {other:?}"),
        }
    }
    client.send(json!({"type": "ping"})).await;
    client.expect("pong").await;
}

#[tokio::test]
async fn a_stopping_instance_takes_nobody_in() {
    let rig = Rig::start().await;
    let _session = rig.session().await;
    rig.tasks.trigger();
    // The listener closes as well; whoever still gets through is told to go elsewhere.
    let refused = async || match tokio::net::TcpStream::connect(rig.address).await {
        Err(_) => true,
        Ok(stream) => match client_async(format!("ws://{}/ws/chat", rig.address), stream).await {
            Ok(_) => false,
            Err(Error::Http(response)) => response.status().as_u16() == 503,
            // It waited in the backlog when the listener closed.
            Err(_) => true,
        },
    };
    tokio::time::timeout(PATIENCE, until("refused", refused)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), rig.tasks.stop(PATIENCE)).await.unwrap();
}
