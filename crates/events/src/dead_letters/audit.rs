//! What is done to dead letters is told to the audit log: over NATS, where the letters themselves are.

use prost::Message as _;
use uuid::Uuid;
use weir_proto::events::{Actor, DeadLetterHandled};
use weir_types::TenantId;

use super::{DeadLetter, DeadLetters, Deed, Operator};
use crate::{Event, subject};

/// Who is at work when nobody is named: the operator, at a terminal.
const TERMINAL: &str = "weir dlq";

impl Deed {
    fn event(self) -> &'static str {
        match self {
            Self::Replay => "dead_letter_replayed",
            Self::Drop => "dead_letter_dropped",
        }
    }
}

impl DeadLetters {
    /// Says in the log and in the stream AUDIT what is done, and who does it. Should the stream not take it, the log says that too.
    pub(super) async fn audit(&self, deed: Deed, letter: &DeadLetter, by: &Operator) {
        let now_ms = by.clock.now_ms();
        let text = |id: Option<String>| id.unwrap_or_default();
        let id = Uuid::now_v7();
        let actor = by.actor.clone().unwrap_or_else(|| Actor {
            kind: "platform".to_owned(),
            service: TERMINAL.to_owned(),
            ..Actor::default()
        });
        let tenant = text(letter.tenant.map(|t| t.to_string()));
        let event_id = text(letter.event_id.map(|id| id.to_string()));
        tracing::info!(
            business_event = deed.event(),
            dead_letter.id = %letter.id,
            stream = letter.stream,
            consumer = letter.consumer,
            tenant.id = tenant,
            event.id = event_id,
            reason.code = letter.reason_code,
            request.id = actor.request_id,
            "dead letter handled"
        );
        let handled = DeadLetterHandled {
            id: id.to_string(),
            actor: Some(actor),
            tenant_id: tenant,
            letter_id: letter.id.to_string(),
            stream: letter.stream.clone(),
            consumer: letter.consumer.clone(),
            event_id,
            reason: letter.reason_code.clone(),
            at_ms: now_ms,
        };
        let event = Event {
            id,
            subject: subject("audit", letter.tenant.unwrap_or(TenantId(Uuid::nil())), deed.event()),
            time_ms: now_ms,
            payload: handled.encode_to_vec().into(),
        };
        if let Err(error) = self.bus.publish(&event, "weir/dlq", None).await {
            tracing::warn!(%error, dead_letter.id = %letter.id, "the audit log was not told");
        }
    }
}
