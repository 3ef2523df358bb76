//! One dead letter, as the stream keeps it.

use async_nats::{HeaderMap, HeaderName, HeaderValue, jetstream::message::StreamMessage};
use bytes::Bytes;
use uuid::Uuid;
use weir_types::TenantId;

use super::LetterId;
use crate::consumer;

/// Before a number and the names of the event's own headers: some of them would mean something to the server.
pub(super) const ORIGINAL: &str = "weir-original-";
/// What only the server reads.
const SERVERS: &str = "nats-";

pub(super) mod names {
    pub(in super::super) const REASON_CODE: &str = "weir-reason-code";
    pub(in super::super) const REASON: &str = "weir-reason";
    pub(in super::super) const SUBJECT: &str = "weir-subject";
    pub(in super::super) const STREAM: &str = "weir-stream";
    pub(in super::super) const SEQUENCE: &str = "weir-sequence";
    pub(in super::super) const CONSUMER: &str = "weir-consumer";
    pub(in super::super) const EVENT_ID: &str = "weir-event-id";
    pub(in super::super) const DELIVERIES: &str = "weir-deliveries";
    pub(in super::super) const FAILURES: &str = "weir-failures";
    pub(in super::super) const FIRST_FAILURE: &str = "weir-first-failure-ms";
    pub(in super::super) const LAST_FAILURE: &str = "weir-last-failure-ms";
    pub(in super::super) const LEFT_BEHIND: &str = "weir-payload-left-behind";
}

/// Why a message is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonCode {
    /// It cannot be read, or makes no sense.
    Undecodable,
    /// What it asks for can never be stored.
    Rejected,
    /// Its handler failed every time.
    RetriesExhausted,
}

impl ReasonCode {
    pub const ALL: [Self; 3] = [Self::Undecodable, Self::Rejected, Self::RetriesExhausted];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Rejected => "rejected",
            Self::RetriesExhausted => "retries_exhausted",
        }
    }
}

/// Why a message is dead: for programs, and for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub code: ReasonCode,
    pub text: String,
}

impl Reason {
    #[must_use]
    pub fn new(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// A message no consumer could handle.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub id: LetterId,
    /// One of [`ReasonCode`], or of a later version's.
    pub reason_code: String,
    pub reason: String,
    /// Under which the event was first published.
    pub subject: String,
    pub stream: String,
    /// The message's number there.
    pub sequence: u64,
    pub consumer: String,
    /// `None`: the subject names none.
    pub tenant: Option<TenantId>,
    /// `None`: it came without one.
    pub event_id: Option<Uuid>,
    /// How often the server delivered it, times when what the handler needs was down included.
    pub deliveries: u64,
    /// How often the handler failed on it.
    pub failures: u32,
    /// Unix milliseconds, as all times here.
    pub first_failure_ms: i64,
    pub last_failure_ms: i64,
    /// By the server's clock.
    pub stored_at_ms: i64,
    /// The event's own.
    pub headers: Vec<(String, String)>,
    /// The event's, byte by byte; empty when it was left behind.
    pub payload: Bytes,
    /// It was too large to be kept beside all this, and is in its stream only.
    pub payload_left_behind: bool,
}

impl DeadLetter {
    /// What the event says happened: its subject after the tenant.
    #[must_use]
    pub fn kind(&self) -> &str {
        consumer::kind(&self.subject)
    }

    /// Everything about it but the event itself: small enough to keep many.
    #[must_use]
    pub fn without_payload(&self) -> Self {
        Self { payload: Bytes::new(), ..self.clone() }
    }

    /// `None` for what is no letter.
    pub(super) fn read(message: StreamMessage) -> Option<Self> {
        let StreamMessage { subject: place, sequence: id, headers, payload, time } = message;
        let get = |name: &str| headers.get(name).map_or("", HeaderValue::as_str);
        let number = |name: &str| get(name).parse().unwrap_or_default();
        let time_ms = |name: &str| get(name).parse().unwrap_or_default();
        let subject = get(names::SUBJECT).to_owned();
        let mut parts = place.split('.').skip(2);
        let mut or_part = |name: &str| {
            let part = parts.next().unwrap_or_default();
            Some(get(name)).filter(|text| !text.is_empty()).unwrap_or(part).to_owned()
        };
        Some(Self {
            id: LetterId::new(id)?,
            stream: or_part(names::STREAM),
            consumer: or_part(names::CONSUMER),
            reason_code: or_part(names::REASON_CODE),
            reason: get(names::REASON).to_owned(),
            sequence: number(names::SEQUENCE),
            tenant: consumer::tenant(&subject),
            event_id: Uuid::try_parse(get(names::EVENT_ID)).ok(),
            deliveries: number(names::DELIVERIES),
            failures: get(names::FAILURES).parse().unwrap_or_default(),
            first_failure_ms: time_ms(names::FIRST_FAILURE),
            last_failure_ms: time_ms(names::LAST_FAILURE),
            stored_at_ms: i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
            headers: original(&headers),
            payload,
            payload_left_behind: headers.get(names::LEFT_BEHIND).is_some(),
            subject,
        })
    }

    /// The event's headers as they were, without those that spoke to the server.
    pub(super) fn replayed_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            if name.to_ascii_lowercase().starts_with(SERVERS) || name == super::REPLAY_OF {
                continue;
            }
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                headers.append(name, value);
            }
        }
        // It may have been known by its message id alone, which is another one now.
        if let (Some(id), None) = (self.event_id, headers.get("ce-id")) {
            headers.insert("ce-id", id.to_string());
        }
        headers
    }
}

/// In the order of their names, values of one name as they were.
fn original(headers: &HeaderMap) -> Vec<(String, String)> {
    let numbered = |name: &str| {
        let (n, name) = name.strip_prefix(ORIGINAL)?.split_once('-')?;
        Some((name.to_owned(), n.parse::<usize>().ok()?))
    };
    let mut found: Vec<_> = headers
        .iter()
        .filter_map(|(name, values)| Some((numbered(name.as_ref())?, values.first()?.as_str().to_owned())))
        .collect();
    found.sort();
    found.into_iter().map(|((name, _), value)| (name, value)).collect()
}
