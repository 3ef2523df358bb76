//! The JetStream streams, and keeping them there.

use std::time::Duration;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{GetStreamError, GetStreamErrorKind},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};

use crate::{BusError, bus::Duty};

/// Attempts closed and requests finished: what billing and analytics count.
pub const USAGE: &str = "USAGE";
/// Who changed what, from outboxes.
pub const AUDIT: &str = "AUDIT";
/// Messages no consumer could handle.
pub const DLQ: &str = "DLQ";

/// Billing's durable consumer of [`USAGE`].
pub const BILLING_CONSUMER: &str = "billing-usage";
/// Analytics' durable consumer of [`USAGE`].
pub const ANALYTICS_CONSUMER: &str = "analytics-usage";

/// The durable consumers that must have had a usage event before it may go.
const USAGE_CONSUMERS: &[&str] = &[BILLING_CONSUMER, ANALYTICS_CONSUMER];

const DAY: Duration = Duration::from_secs(86_400);

/// The streams of this version: name and subjects.
pub const STREAMS: &[(&str, &str)] = &[(USAGE, "weir.usage.>"), (AUDIT, "weir.audit.>"), (DLQ, "weir.dlq.>")];

/// For how long a broker knows a message by its id. Dead letters have longer: an instance that died between storing
/// one and ending its message gets that again whenever it is back.
const DUPLICATES: Duration = Duration::from_secs(600);

fn config(name: &str, subjects: &str, replicas: usize) -> Config {
    let mut subjects = vec![subjects.to_owned()];
    if name != DLQ {
        subjects.push(format!("weir.replay.{name}.>"));
    }
    Config {
        name: name.to_owned(),
        subjects,
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_age: 30 * DAY,
        duplicate_window: if name == DLQ { DAY } else { DUPLICATES },
        num_replicas: replicas.max(1),
        ..Config::default()
    }
}

/// Looks at every stream; creates what is missing and brings what differs up to date, as far as that is this
/// connection's duty: a request that the login is not allowed has no answer at all.
pub(crate) async fn ensure(
    jetstream: &jetstream::Context,
    replicas: usize,
    duty: Duty,
) -> Result<(), BusError> {
    let refused = |e: Box<dyn std::error::Error + Send + Sync>| BusError::JetStream(e);
    for &(name, subjects) in STREAMS {
        let wanted = config(name, subjects, replicas);
        match jetstream.get_stream(name).await {
            Ok(found) if duty != Duty::Keep || is(&found.cached_info().config, &wanted) => {}
            Ok(_) => drop(jetstream.update_stream(wanted).await.map_err(|e| refused(Box::new(e)))?),
            Err(error) if duty != Duty::Wait && missing(&error) => {
                jetstream.create_stream(wanted).await.map_err(|e| refused(Box::new(e)))?;
            }
            Err(error) => return Err(refused(Box::new(error))),
        }
    }
    Ok(())
}

/// Whether a stream has all that is asked for; the server fills in the rest.
fn is(found: &Config, wanted: &Config) -> bool {
    let of = |c: &Config| {
        (
            c.subjects.clone(),
            (c.retention, c.storage, c.discard),
            (c.max_age, c.duplicate_window, c.num_replicas),
            (c.max_bytes.max(0), c.max_messages.max(0), c.max_messages_per_subject.max(0)),
        )
    };
    of(found) == of(wanted)
}

fn missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Lets the oldest usage events go that every consumer has handled, once the stream is larger than `max_bytes`, down
/// to three quarters of that. Gives how many went. None go while a consumer is missing: it has yet to see them all.
/// Events that were too large for their dead letters go as well: replaying those is refused from then on.
pub(crate) async fn trim(jetstream: &jetstream::Context, max_bytes: u64) -> Result<u64, BusError> {
    let refused = |e: Box<dyn std::error::Error + Send + Sync>| BusError::JetStream(e);
    let stream = jetstream.get_stream(USAGE).await.map_err(|e| refused(Box::new(e)))?;
    let state = &stream.cached_info().state;
    if state.bytes <= max_bytes {
        return Ok(0);
    }
    let mut keep_from = state.first_sequence + excess(state.messages, state.bytes, max_bytes);
    for name in USAGE_CONSUMERS {
        let consumer = stream.consumer_info(name).await.map_err(|e| refused(Box::new(e)))?;
        keep_from = keep_from.min(consumer.ack_floor.stream_sequence + 1);
    }
    if keep_from <= state.first_sequence {
        return Ok(0);
    }
    let gone = stream.purge().sequence(keep_from).await.map_err(|e| refused(Box::new(e)))?;
    Ok(gone.purged)
}

/// How many messages of average size are too many.
fn excess(messages: u64, bytes: u64, max_bytes: u64) -> u64 {
    let over = u128::from(bytes - max_bytes / 4 * 3);
    let count = (u128::from(messages) * over).div_ceil(u128::from(bytes));
    u64::try_from(count).unwrap_or(messages)
}
