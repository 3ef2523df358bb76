//! Telling the server what became of a message, and moving dead letters to their stream.

use std::time::Duration;

use async_nats::jetstream::AckKind;

use super::{ConsumerConfig, Delivery};
use crate::{
    Bus,
    dead_letters::{Burial, Reason},
    metrics::MessageLabel,
};

/// When the dead-letter stream does not take a message it is tried again after this.
const DLQ_RETRY: Duration = Duration::from_secs(5);

/// How often the handler failed on a message, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failures {
    pub(super) count: u32,
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
}

impl Failures {
    pub(super) fn none(now_ms: i64) -> Self {
        Self { count: 0, first_ms: now_ms, last_ms: now_ms }
    }
}

pub(super) struct Settler<'a> {
    pub(super) bus: &'a Bus,
    pub(super) config: &'a ConsumerConfig,
}

impl Settler<'_> {
    pub(super) async fn ack(&self, delivery: &Delivery, outcome: &'static str) {
        self.answer(delivery, AckKind::Ack).await;
        self.count(outcome);
    }

    pub(super) async fn retry(&self, delivery: &Delivery, after: Duration, why: &str) {
        tracing::warn!(
            consumer = self.config.durable,
            subject = delivery.subject,
            stream.sequence = delivery.sequence,
            after_ms = after.as_millis(),
            why,
            "message failed and comes again"
        );
        self.answer(delivery, AckKind::Nak(Some(after))).await;
        self.count("retry");
    }

    /// Back to the server without being anyone's fault.
    pub(super) async fn put_back(&self, delivery: &Delivery, after: Duration) {
        self.answer(delivery, AckKind::Nak(Some(after))).await;
    }

    /// Stores the message in the dead-letter stream, then ends it here. Whether that worked: a process that dies in
    /// between gets the message again, and the stream knows the letter by its id.
    pub(super) async fn dead_letter(
        &self,
        delivery: &Delivery,
        failures: &Failures,
        reason: &Reason,
    ) -> bool {
        let burial = Burial {
            stream: self.config.stream,
            consumer: self.config.durable,
            message: &delivery.message,
            subject: &delivery.subject,
            failures: failures.count,
            first_failure_ms: failures.first_ms,
            last_failure_ms: failures.last_ms,
            reason,
        };
        match burial.publish(self.bus).await {
            Ok(()) => {
                tracing::error!(
                    consumer = self.config.durable,
                    subject = delivery.subject,
                    stream.sequence = delivery.sequence,
                    failures = failures.count,
                    reason.code = reason.code.as_str(),
                    reason = reason.text,
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

    /// An answer that is lost only means that the message comes again.
    async fn answer(&self, delivery: &Delivery, kind: AckKind) {
        if let Err(error) = delivery.message.ack_with(kind).await {
            tracing::debug!(consumer = self.config.durable, %error, "acknowledgement not sent");
        }
    }

    fn count(&self, outcome: &'static str) {
        let label = MessageLabel { stream: self.config.stream, consumer: self.config.durable, outcome };
        self.bus.metrics().consumer_messages.get_or_create(&label).inc();
    }
}
