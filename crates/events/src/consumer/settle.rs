//! Telling the server what became of a message, and moving dead letters to their stream.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream::AckKind};

use super::{ConsumerConfig, Delivery};
use crate::{Bus, metrics::MessageLabel};

/// When the dead-letter stream does not take a message it is tried again after this.
const DLQ_RETRY: Duration = Duration::from_secs(5);
/// A tenant part for subjects that name none.
const NO_TENANT: &str = "unknown";

pub(super) struct Settler<'a> {
    pub(super) bus: &'a Bus,
    pub(super) config: &'a ConsumerConfig,
}

impl Settler<'_> {
    pub(super) async fn ack(&self, delivery: &Delivery, outcome: &'static str) {
        self.answer(delivery, AckKind::Ack).await;
        self.count(outcome);
    }

    pub(super) async fn retry(&self, delivery: &Delivery, after: Duration) {
        self.answer(delivery, AckKind::Nak(Some(after))).await;
        self.count("retry");
    }

    /// Back to the server without being anyone's fault.
    pub(super) async fn put_back(&self, delivery: &Delivery, after: Duration) {
        self.answer(delivery, AckKind::Nak(Some(after))).await;
    }

    /// Stores the message in the dead-letter stream, then ends it here. Whether that worked.
    pub(super) async fn dead_letter(&self, delivery: &Delivery, failures: u32, reason: &str) -> bool {
        match self.publish(delivery, failures, reason).await {
            Ok(()) => {
                tracing::error!(
                    consumer = self.config.durable,
                    subject = delivery.message.subject.as_str(),
                    stream.sequence = delivery.sequence,
                    failures,
                    reason,
                    "message became a dead letter"
                );
                self.answer(delivery, AckKind::Term).await;
                self.count("dead_letter");
                true
            }
            Err(error) => {
                tracing::warn!(consumer = self.config.durable, %error, "dead letter could not be stored; trying again");
                self.put_back(delivery, DLQ_RETRY).await;
                false
            }
        }
    }

    async fn publish(
        &self,
        delivery: &Delivery,
        failures: u32,
        reason: &str,
    ) -> Result<(), async_nats::Error> {
        let message = &delivery.message;
        let known = delivery.received.as_ref().ok();
        let tenant = known.map_or_else(|| NO_TENANT.to_owned(), |r| r.tenant.to_string());
        let deliveries = message.info().map_or(0, |i| i.delivered);
        let mut headers = HeaderMap::new();
        for name in ["ce-id", "ce-type", "ce-source", "ce-time", "ce-specversion"] {
            if let Some(value) = message.headers.as_ref().and_then(|h| h.get(name)) {
                headers.insert(name, value.clone());
            }
        }
        // One dead letter per consumer and message, however often this is tried.
        let id = format!("{}.{}.{}", self.config.stream, self.config.durable, delivery.sequence);
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        headers.insert("weir-reason", one_line(reason));
        headers.insert("weir-subject", message.subject.as_str());
        headers.insert("weir-consumer", self.config.durable);
        headers.insert("weir-event-id", known.map_or_else(String::new, |r| r.id.to_string()));
        headers.insert("weir-deliveries", deliveries.to_string());
        headers.insert("weir-failures", failures.to_string());
        let subject = format!("weir.dlq.{}.{tenant}", self.config.stream);
        let payload = message.payload.clone();
        self.bus.jetstream().publish_with_headers(subject, headers, payload).await?.await?;
        Ok(())
    }

    /// An answer that is lost only means that the message comes again.
    async fn answer(&self, delivery: &Delivery, kind: AckKind) {
        if let Err(error) = delivery.message.ack_with(kind).await {
            tracing::debug!(consumer = self.config.durable, %error, "acknowledgement not sent");
        }
    }

    fn count(&self, outcome: &'static str) {
        let label = MessageLabel { consumer: self.config.durable, outcome };
        self.bus.metrics().consumer_messages.get_or_create(&label).inc();
    }
}

/// Header values are one line, and short.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
