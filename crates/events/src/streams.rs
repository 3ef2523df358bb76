//! The JetStream streams, and keeping them there.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};

use crate::BusError;

/// Attempts closed and requests finished: what billing and analytics count.
pub const USAGE: &str = "USAGE";
/// Messages no consumer could handle.
pub const DLQ: &str = "DLQ";

const DAY: Duration = Duration::from_secs(86_400);

/// The streams of this version: name and subjects.
pub const STREAMS: &[(&str, &str)] = &[(USAGE, "weir.usage.>"), (DLQ, "weir.dlq.>")];

fn config(name: &str, subjects: &str, replicas: usize) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_age: 30 * DAY,
        duplicate_window: Duration::from_secs(600),
        num_replicas: replicas.max(1),
        ..Config::default()
    }
}

/// Creates what is missing and brings what differs up to date.
pub(crate) async fn ensure(jetstream: &jetstream::Context, replicas: usize) -> Result<(), BusError> {
    for &(name, subjects) in STREAMS {
        jetstream
            .create_or_update_stream(config(name, subjects, replicas))
            .await
            .map_err(|e| BusError::JetStream(Box::new(e)))?;
    }
    Ok(())
}
