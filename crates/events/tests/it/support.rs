//! What the tests here share.

use bytes::Bytes;
use uuid::Uuid;
use weir_events::{Bus, Event, EventMetrics, NatsConfig, USAGE};
use weir_testkit::{Nats, until};
use weir_types::TenantId;

pub(crate) async fn bus(nats: &Nats) -> Bus {
    let config = NatsConfig { url: nats.url().into(), ..NatsConfig::default() };
    Bus::connect(&config, EventMetrics::default()).await.unwrap()
}

pub(crate) async fn streams(bus: &Bus) {
    until("streams", async || bus.ensure_streams().await.ok()).await;
}

pub(crate) fn event(tenant: TenantId, kind: &str) -> Event {
    Event {
        id: Uuid::now_v7(),
        subject: weir_events::subject("usage", tenant, kind),
        time_ms: 1_700_000_000_000,
        payload: Bytes::from_static(b"something"),
    }
}

pub(crate) async fn publish(bus: &Bus, event: &Event) {
    let mut headers = weir_events::async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", event.id.to_string());
    let js = bus.jetstream();
    // As the spool does: an acknowledgement may be lost with a connection.
    until("an acknowledgement", async || {
        let sent =
            js.publish_with_headers(event.subject.clone(), headers.clone(), event.payload.clone()).await;
        sent.ok()?.await.ok()
    })
    .await;
}

/// Every message of the stream: subject, headers.
pub(crate) async fn stored(bus: &Bus, stream: &str) -> Vec<(String, weir_events::async_nats::HeaderMap)> {
    let stream = bus.jetstream().get_stream(stream).await.unwrap();
    let state = stream.get_info().await.unwrap().state;
    let mut messages = Vec::new();
    for sequence in state.first_sequence.max(1)..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        messages.push((message.subject.to_string(), message.headers));
    }
    messages
}

pub(crate) async fn message_count(bus: &Bus) -> Option<u64> {
    let stream = bus.jetstream().get_stream(USAGE).await.ok()?;
    Some(stream.get_info().await.ok()?.state.messages)
}
