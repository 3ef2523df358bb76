//! Publishing one event and waiting until JetStream has it. For relays of outboxes; the spool has a window of its own.

use std::time::Duration;

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID, jetstream::context::PublishErrorKind};
use tokio::time::timeout;

use weir_types::TraceContext;

use crate::{Bus, Event};

const PATIENCE: Duration = Duration::from_secs(2);
/// Key-value buckets are streams with subjects of this form.
const BUCKETS: &str = "$KV.";

/// JetStream has the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// It had it before.
    pub duplicate: bool,
}

/// Nobody said that JetStream has the event; it may have.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the event was not acknowledged: {0}")]
pub struct NotStored(PublishErrorKind);

impl Bus {
    /// Publishes the event under its id, so that repeating it stores it once, and waits for the acknowledgement. An
    /// event whose subject is a key of a bucket becomes that key's value. `trace` is a `traceparent`.
    ///
    /// # Errors
    /// No acknowledgement within two seconds, or a refusal: publish it again.
    pub async fn publish(
        &self,
        event: &Event,
        source: &str,
        trace: Option<&str>,
    ) -> Result<Stored, NotStored> {
        let mut headers = if event.subject.starts_with(BUCKETS) {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, event.id.to_string());
            headers
        } else {
            event.headers(source)
        };
        let parent = trace.and_then(TraceContext::parse);
        let mut span = crate::trace::publishing(source, &event.subject, event.id, parent);
        crate::trace::put(&mut headers, &span);
        self.metrics().published.inc();
        let stored = async {
            let js = self.jetstream();
            js.publish_with_headers(event.subject.clone(), headers, event.payload.clone()).await?.await
        };
        let failure = match timeout(PATIENCE, stored).await {
            Ok(Ok(ack)) => {
                self.metrics().acked.inc();
                return Ok(Stored { duplicate: ack.duplicate });
            }
            Ok(Err(error)) => error.kind(),
            Err(_) => PublishErrorKind::TimedOut,
        };
        self.metrics().publish_failures.inc();
        span.fail(failure.to_string());
        Err(NotStored(failure))
    }
}
