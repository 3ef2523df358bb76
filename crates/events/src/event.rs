//! One event on its way: id, subject, payload, and the CloudEvents headers it travels with.

use async_nats::{HeaderMap, HeaderName, header::NATS_MESSAGE_ID};
use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;
use weir_proto::events::{AttemptClosed, Caller, RequestFinished};
use weir_types::{TenantId, TraceContext};

pub(crate) const ATTEMPT_CLOSED: &str = "attempt_closed";
pub(crate) const REQUEST_FINISHED: &str = "request_finished";

// Made once: cloning these takes no memory.
static CE_ID: HeaderName = HeaderName::from_static("ce-id");
static CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
static CE_TYPE: HeaderName = HeaderName::from_static("ce-type");
static CE_SOURCE: HeaderName = HeaderName::from_static("ce-source");
static CE_TIME: HeaderName = HeaderName::from_static("ce-time");

/// An event ready to be stored and published. Cheap to clone but for its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Travels as `Nats-Msg-Id` and `ce-id`: publishing it twice stores it once.
    pub id: Uuid,
    /// `weir.<family>.<tenant>.<name>`.
    pub subject: String,
    /// When it happened; Unix milliseconds.
    pub time_ms: i64,
    /// A message of `weir.events.v1`.
    pub payload: Bytes,
}

/// What of an [`AttemptClosed`] says where it belongs: nothing else of it is read when it is sent.
#[derive(prost::Message)]
struct AttemptCaller {
    #[prost(message, optional, tag = "3")]
    caller: Option<Traceparent>,
}

/// The same of a [`RequestFinished`].
#[derive(prost::Message)]
struct RequestCaller {
    #[prost(message, optional, tag = "2")]
    caller: Option<Traceparent>,
}

/// Of a [`Caller`].
#[derive(prost::Message)]
struct Traceparent {
    #[prost(string, tag = "4")]
    traceparent: String,
}

/// Why a message cannot become an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} of the event is not a UUID")]
pub struct EventError {
    field: &'static str,
}

/// `weir.<family>.<tenant>.<name>`.
#[must_use]
pub fn subject(family: &str, tenant: TenantId, name: &str) -> String {
    format!("weir.{family}.{tenant}.{name}")
}

impl Event {
    /// The cost of one attempt; its id is the attempt's.
    ///
    /// # Errors
    /// An id in it is not a UUID.
    pub fn attempt_closed(event: &AttemptClosed) -> Result<Self, EventError> {
        Ok(Self {
            id: uuid("attempt_id", &event.attempt_id)?,
            subject: subject("usage", tenant(event.caller.as_ref())?, ATTEMPT_CLOSED),
            time_ms: event.closed_at_ms,
            payload: event.encode_to_vec().into(),
        })
    }

    /// The charge of one request.
    ///
    /// # Errors
    /// An id in it is not a UUID.
    pub fn request_finished(event: &RequestFinished) -> Result<Self, EventError> {
        Ok(Self {
            id: uuid("id", &event.id)?,
            subject: subject("usage", tenant(event.caller.as_ref())?, REQUEST_FINISHED),
            time_ms: event.finished_at_ms,
            payload: event.encode_to_vec().into(),
        })
    }

    /// Where the request stands that it tells of, when that is traced.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        let payload = &*self.payload;
        let caller = if self.subject.ends_with(ATTEMPT_CLOSED) {
            AttemptCaller::decode(payload).ok()?.caller
        } else if self.subject.ends_with(REQUEST_FINISHED) {
            RequestCaller::decode(payload).ok()?.caller
        } else {
            None
        };
        TraceContext::parse(&caller?.traceparent)
    }

    /// Headers of the CloudEvents binding for NATS, in binary mode.
    pub(crate) fn headers(&self, source: &str) -> HeaderMap {
        let mut buffer = Uuid::encode_buffer();
        let id: &str = self.id.hyphenated().encode_lower(&mut buffer);
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        headers.insert(CE_ID.clone(), id);
        headers.insert(CE_SPECVERSION.clone(), "1.0");
        headers.insert(CE_TYPE.clone(), kind_of(&self.subject));
        headers.insert(CE_SOURCE.clone(), source);
        headers.insert(CE_TIME.clone(), rfc3339(self.time_ms));
        headers
    }
}

/// The subject without its tenant: `weir.usage.attempt_closed`.
fn kind_of(subject: &str) -> String {
    let mut parts = subject.splitn(4, '.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(weir), Some(family), Some(_tenant), Some(name)) => [weir, family, name].join("."),
        _ => subject.to_owned(),
    }
}

fn uuid(field: &'static str, text: &str) -> Result<Uuid, EventError> {
    Uuid::try_parse(text).map_err(|_| EventError { field })
}

fn tenant(caller: Option<&Caller>) -> Result<TenantId, EventError> {
    uuid("caller.tenant_id", caller.map_or("", |c| &c.tenant_id)).map(TenantId)
}

/// UTC with milliseconds. Days to dates after <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
fn rfc3339(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second, milli) =
        (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_standard_says() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn an_event_names_its_tenant_in_the_subject_and_its_kind_in_the_headers() {
        let tenant = TenantId::new();
        let attempt = Uuid::now_v7();
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let caller = Caller {
            tenant_id: tenant.to_string(),
            traceparent: traceparent.to_owned(),
            ..Caller::default()
        };
        let closed = AttemptClosed {
            attempt_id: attempt.to_string(),
            caller: Some(caller.clone()),
            closed_at_ms: 1_000,
            ..AttemptClosed::default()
        };
        let event = Event::attempt_closed(&closed).unwrap();
        assert_eq!(event.subject, format!("weir.usage.{tenant}.attempt_closed"));
        let headers = event.headers("weir/test");
        let get = |name: &str| headers.get(name).map(|v| v.as_str().to_owned());
        assert_eq!(get("Nats-Msg-Id"), Some(attempt.to_string()));
        assert_eq!(get("ce-type").as_deref(), Some("weir.usage.attempt_closed"));
        assert_eq!(get("ce-time").as_deref(), Some("1970-01-01T00:00:01.000Z"));
        assert_eq!(event.trace().map(|t| t.to_string()).as_deref(), Some(traceparent));

        let finished = RequestFinished {
            id: attempt.to_string(),
            caller: Some(caller.clone()),
            ..RequestFinished::default()
        };
        let trace = Event::request_finished(&finished).unwrap().trace().map(|t| t.to_string());
        assert_eq!(trace.as_deref(), Some(traceparent));
        let finished = RequestFinished { id: "7".into(), caller: Some(caller), ..RequestFinished::default() };
        assert_eq!(
            Event::request_finished(&finished).unwrap_err().to_string(),
            "id of the event is not a UUID"
        );
    }
}
