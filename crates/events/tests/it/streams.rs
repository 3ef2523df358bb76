//! The stream of usage events makes room, but never for what somebody has yet to handle.

use weir_events::{
    Bus, Duty, EventMetrics, NatsConfig, USAGE,
    async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull},
};
use weir_testkit::{Nats, until};
use weir_types::TenantId;

use crate::support::{event, message_count, publish, streams};

async fn small(nats: &Nats, usage_bytes: u64) -> Bus {
    let config = NatsConfig { url: nats.url().into(), usage_bytes, ..NatsConfig::default() };
    Bus::connect(&config, EventMetrics::default()).await.unwrap()
}

async fn consumer(bus: &Bus, name: &str) -> PullConsumer {
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    bus.jetstream().create_consumer_on_stream(config, USAGE).await.unwrap()
}

/// Handles the next `count` messages.
async fn handle(consumer: &PullConsumer, count: usize) {
    use futures_util::StreamExt as _;
    let mut batch = consumer.batch().max_messages(count).messages().await.unwrap();
    let mut handled = 0;
    while let Some(message) = batch.next().await {
        message.unwrap().double_ack().await.unwrap();
        handled += 1;
    }
    assert_eq!(handled, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_events_make_room_once_everyone_has_had_them() {
    let nats = Nats::start().await.unwrap();
    let (bus, roomy) = (small(&nats, 1).await, small(&nats, 1 << 30).await);
    streams(&bus).await;
    until("a second connection", async || roomy.connected().then_some(())).await;
    let tenant = TenantId::new();
    for _ in 0..10 {
        publish(&bus, &event(tenant, "attempt_closed")).await;
    }
    let billing = consumer(&bus, "billing-usage").await;
    handle(&billing, 8).await;
    assert!(bus.trim_streams().await.is_err(), "a consumer is missing");
    let analytics = consumer(&bus, "analytics-usage").await;
    assert_eq!(bus.trim_streams().await.unwrap(), 0, "it has had none");
    handle(&analytics, 5).await;
    assert_eq!(roomy.trim_streams().await.unwrap(), 0, "there is room");
    assert_eq!(message_count(&bus).await, Some(10));
    assert_eq!(bus.trim_streams().await.unwrap(), 5);
    handle(&analytics, 5).await;
    assert_eq!(bus.trim_streams().await.unwrap(), 3, "billing has had no more");
    assert_eq!(message_count(&bus).await, Some(2));

    // Only as much as is too much.
    let state = bus.jetstream().get_stream(USAGE).await.unwrap().cached_info().state.clone();
    handle(&billing, 2).await;
    assert_eq!(small_trim(&nats, state.bytes - 1).await, 1);
}

/// As the logins of services are allowed to.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_made_by_some_changed_by_one_and_waited_for_by_the_rest() {
    let nats = Nats::start().await.unwrap();
    let bus = small(&nats, 1).await;
    until("a connection", async || bus.connected().then_some(())).await;
    let [waits, makes] = [Duty::Wait, Duty::Make].map(|duty| bus.clone().with_duty(duty));
    assert!(waits.ensure_streams().await.is_err(), "nobody has made them");
    let exists = async || bus.jetstream().get_stream(USAGE).await.is_ok();
    assert!(!exists().await);
    makes.ensure_streams().await.unwrap();
    waits.ensure_streams().await.unwrap();

    let mut config = bus.jetstream().get_stream(USAGE).await.unwrap().cached_info().config.clone();
    config.subjects.pop();
    bus.jetstream().update_stream(config).await.unwrap();
    let subjects =
        async || bus.jetstream().get_stream(USAGE).await.unwrap().cached_info().config.subjects.len();
    makes.ensure_streams().await.unwrap();
    assert_eq!(subjects().await, 1, "left to whom it belongs");
    bus.ensure_streams().await.unwrap();
    assert_eq!(subjects().await, 2);
}

async fn small_trim(nats: &Nats, usage_bytes: u64) -> u64 {
    let bus = small(nats, usage_bytes).await;
    until("a connection", async || bus.connected().then_some(())).await;
    bus.trim_streams().await.unwrap()
}
