//! Putting a message among the dead letters.

use async_nats::{HeaderMap, HeaderName, header::NATS_MESSAGE_ID, jetstream};
use bytes::Bytes;

use super::letter::{ORIGINAL, Reason, names};
use crate::{Bus, consumer};

/// A tenant part for subjects that name none.
const NO_TENANT: &str = "unknown";
/// What the protocol itself needs of a message, beside headers and payload; generously.
const SLACK: usize = 1_024;
/// Characters of a reason.
const REASON_LENGTH: usize = 500;

/// A message, and why it is dead.
pub(crate) struct Burial<'a> {
    pub(crate) stream: &'a str,
    pub(crate) consumer: &'a str,
    pub(crate) message: &'a jetstream::Message,
    /// Under which the event was first published.
    pub(crate) subject: &'a str,
    pub(crate) failures: u32,
    pub(crate) first_failure_ms: i64,
    pub(crate) last_failure_ms: i64,
    pub(crate) reason: &'a Reason,
}

impl Burial<'_> {
    /// Returns once the stream has it.
    pub(crate) async fn publish(&self, bus: &Bus) -> Result<(), async_nats::Error> {
        let mut headers = self.headers();
        let mut payload = self.message.payload.clone();
        let size = payload.len() + headers.len_bytes() + SLACK;
        if size > bus.client().max_payload() {
            // It stays where it is, as long as letters do, unless the stream needs the room (`nats.usage_bytes`): this
            // consumer is done with it. The letter says so.
            let size = payload.len();
            let text = one_line(&self.reason.text);
            let note =
                format!("{text} (its {size} bytes are in {} only until that needs the room)", self.stream);
            headers.insert(names::REASON, note);
            headers.insert(names::LEFT_BEHIND, size.to_string());
            payload = Bytes::new();
        }
        let tenant = consumer::tenant(self.subject).map_or_else(|| NO_TENANT.to_owned(), |t| t.to_string());
        let code = self.reason.code.as_str();
        let subject = format!("weir.dlq.{}.{}.{code}.{tenant}", self.stream, self.consumer);
        bus.jetstream().publish_with_headers(subject, headers, payload).await?.await?;
        Ok(())
    }

    fn headers(&self) -> HeaderMap {
        let info = self.message.info().ok();
        let sequence = info.as_ref().map_or(0, |i| i.stream_sequence);
        let published = info.as_ref().map_or(0, |i| i.published.unix_timestamp_nanos());
        let event_id = consumer::event_id(self.message.headers.as_ref());
        let mut headers = HeaderMap::new();
        for (name, values) in self.message.headers.iter().flat_map(HeaderMap::iter) {
            // Numbered: stored messages are read with one value a name.
            for (n, value) in values.iter().enumerate() {
                let Ok(name) = format!("{ORIGINAL}{n}-{name}").parse::<HeaderName>() else { continue };
                headers.insert(name, value.clone());
            }
        }
        // One letter per consumer and message, however often this is tried. The time tells a stream that was made
        // anew from the one before it.
        headers.insert(NATS_MESSAGE_ID, format!("{}.{}.{sequence}.{published}", self.stream, self.consumer));
        headers.insert(names::REASON_CODE, self.reason.code.as_str());
        headers.insert(names::REASON, one_line(&self.reason.text));
        headers.insert(names::SUBJECT, self.subject);
        headers.insert(names::STREAM, self.stream);
        headers.insert(names::SEQUENCE, sequence.to_string());
        headers.insert(names::CONSUMER, self.consumer);
        headers.insert(names::EVENT_ID, event_id.map_or_else(String::new, |id| id.to_string()));
        headers.insert(names::DELIVERIES, info.as_ref().map_or(0, |i| i.delivered).to_string());
        headers.insert(names::FAILURES, self.failures.to_string());
        headers.insert(names::FIRST_FAILURE, self.first_failure_ms.to_string());
        headers.insert(names::LAST_FAILURE, self.last_failure_ms.to_string());
        headers
    }
}

trait LenBytes {
    fn len_bytes(&self) -> usize;
}

impl LenBytes for HeaderMap {
    fn len_bytes(&self) -> usize {
        // A colon, a space, a line end.
        self.iter()
            .map(|(name, values)| {
                let name: &str = name.as_ref();
                values.iter().map(|v| name.len() + v.as_str().len() + 4).sum::<usize>()
            })
            .sum()
    }
}

/// Header values are one line, and short.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_LENGTH).collect()
}
