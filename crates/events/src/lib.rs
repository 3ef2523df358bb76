//! Events: the spool they are written to first, the JetStream streams they travel in, the consumers that take
//! them out, and the key-value buckets that push state.
//!
//! Exactness, in short: an attempt is noted in the [`Spool`] before its provider is called and closed in one write
//! together with its events; every event is published with its id as `Nats-Msg-Id`; consumers note the id beside
//! the effect. Whatever dies in between, each event takes effect once.

mod bus;
mod consumer;
mod dead_letters;
mod event;
mod metrics;
mod publish;
mod push;
mod reader;
mod spool;
mod streams;
mod trace;
pub mod usage;

pub use async_nats;
pub use bus::{Bus, BusError, Duty, Link, NatsConfig};
pub use consumer::{BatchHandler, ConsumerConfig, InfrastructureDown, Outcome, Received, consume};
pub use dead_letters::{
    Bulk, DeadLetter, DeadLetterError, DeadLetters, Deed, Filter, LetterId, Operator, Page, Payloads, Reason,
    ReasonCode,
};
pub use event::{Event, EventError, subject};
pub use metrics::EventMetrics;
pub use publish::{NotStored, Stored};
pub use push::{Bucket, Change, Push, PushError, Watch};
pub use reader::{Held, ReadError, Reader};
pub use spool::{Commit, CommitError, Durability, Open, Spool, SpoolConfig, SpoolError};
pub use streams::{ANALYTICS_CONSUMER, AUDIT, BILLING_CONSUMER, DLQ, STREAMS, USAGE};
