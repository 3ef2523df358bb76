//! Durable consumers: batches in, exactly one outcome per message out, dead letters for what cannot be handled.
//!
//! Four things can go wrong, and each is treated differently. What a handler needs is down: the batch comes again, as
//! often as it takes, at nobody's expense. It takes too long: its messages come again in ever smaller batches. One message fails: it alone comes again, ever later, a bounded number of
//! times. One message can never work: it becomes a dead letter at once.
//!
//! Messages come at least once. A handler records the event's id in the transaction of its effect, so that the
//! effect happens once.

mod batch;
mod run;
mod settle;
mod slow;

use std::{future::Future, sync::Arc, time::Duration};

use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use uuid::Uuid;
use weir_runtime::{OnFailure, Tasks};
use weir_types::{Clock, SystemClock, TenantId};

use crate::{
    Bus,
    dead_letters::{Reason, replay_prefix},
};

/// What to consume, and how.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    pub stream: &'static str,
    /// Name of the consumer on the server; instances with the same name share the work.
    pub durable: &'static str,
    /// Subjects to receive, `weir.usage.>` say.
    pub filter: &'static str,
    /// Last parts of the subjects the handler knows. Others are acknowledged unseen: a later version's events are
    /// not errors.
    pub kinds: &'static [&'static str],
    pub max_batch: usize,
    /// How long a batch waits to fill after its first message.
    pub linger: Duration,
    /// After this many failures of the handler a message becomes a dead letter. `None`: as `nats.max_deliver` says.
    pub max_deliver: Option<u32>,
    /// A message that failed comes again after this, doubling with every failure, with jitter.
    pub retry_first: Duration,
    /// No wait between two deliveries is longer.
    pub retry_max: Duration,
    /// After this long without an answer (the process died) the server delivers again.
    pub ack_wait: Duration,
    /// A handler that takes longer for one batch is given up; its messages come again in smaller batches, and one that
    /// takes too long alone again and again has failed.
    pub handle_within: Duration,
    /// What dead letters take their times from.
    pub clock: Arc<dyn Clock>,
}

impl ConsumerConfig {
    #[must_use]
    pub fn new(
        stream: &'static str,
        durable: &'static str,
        filter: &'static str,
        kinds: &'static [&'static str],
    ) -> Self {
        Self {
            stream,
            durable,
            filter,
            kinds,
            max_batch: 500,
            linger: Duration::from_millis(50),
            max_deliver: None,
            retry_first: Duration::from_millis(500),
            retry_max: Duration::from_secs(60),
            ack_wait: Duration::from_secs(10),
            handle_within: Duration::from_secs(60),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A message for a handler.
#[derive(Debug, Clone)]
pub struct Received {
    /// The event's id: what an inbox remembers.
    pub id: Uuid,
    pub tenant: TenantId,
    /// The one it was first published under, also when it is replayed.
    pub subject: String,
    pub payload: Bytes,
    /// How often a handler has failed on it here.
    pub failures: u32,
}

impl Received {
    /// What happened: the subject after its tenant.
    #[must_use]
    pub fn kind(&self) -> &str {
        kind(&self.subject)
    }
}

/// What becomes of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its effect is stored.
    Ack,
    /// It failed and may work later; why. It comes again after a while, or becomes a dead letter when it has failed
    /// too often.
    Retry(String),
    /// It will never work.
    DeadLetter(Reason),
}

/// Something the handler needs is away. Not the messages' fault: the whole batch comes again, as often as it takes.
#[derive(Debug, thiserror::Error)]
#[error("what the handler needs is not available")]
pub struct InfrastructureDown(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl InfrastructureDown {
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// Handles messages in batches.
pub trait BatchHandler: Send + Sync + 'static {
    /// One outcome for each message, in order. The batch is never empty.
    ///
    /// # Errors
    /// What it needs is down; no message had an effect, or effects are idempotent.
    fn handle(
        &self,
        batch: &[Received],
    ) -> impl Future<Output = Result<Vec<Outcome>, InfrastructureDown>> + Send;
}

/// Consumes until the tasks are told to stop. Creates the consumer, waits for stream and server as long as it takes.
pub fn consume<H: BatchHandler>(bus: &Bus, config: ConsumerConfig, handler: H, tasks: &Tasks) {
    let name = config.durable;
    let run = run::Run::new(bus.clone(), config, handler).run(tasks.shutdown());
    tasks.spawn(name, OnFailure::Shutdown, run);
}

/// A message as it came, with what was read from it.
#[derive(Debug)]
struct Delivery {
    message: jetstream::Message,
    sequence: u64,
    /// Without what was put before it to bring it to this consumer alone.
    subject: String,
    received: Result<Received, &'static str>,
}

impl Delivery {
    fn new(message: jetstream::Message, config: &ConsumerConfig, failures: impl FnOnce(u64) -> u32) -> Self {
        let sequence = message.info().map_or(0, |i| i.stream_sequence);
        let prefix = replay_prefix(config.stream, config.durable);
        let subject = message.subject.strip_prefix(&prefix).unwrap_or(&message.subject).to_owned();
        let mut received = read(&subject, message.headers.as_ref(), &message.payload);
        if let Ok(received) = &mut received {
            received.failures = failures(sequence);
        }
        Self { message, sequence, subject, received }
    }

    fn kind(&self) -> &str {
        kind(&self.subject)
    }
}

/// What a subject says happened: all of it after its tenant.
pub(crate) fn kind(subject: &str) -> &str {
    subject.splitn(4, '.').nth(3).unwrap_or("")
}

/// # Errors
/// Why no handler could do anything with it.
pub(crate) fn read(
    subject: &str,
    headers: Option<&HeaderMap>,
    payload: &Bytes,
) -> Result<Received, &'static str> {
    let id = event_id(headers).ok_or("the message has no event id")?;
    let tenant = tenant(subject).ok_or("the subject names no tenant")?;
    Ok(Received { id, tenant, subject: subject.to_owned(), payload: payload.clone(), failures: 0 })
}

pub(crate) fn tenant(subject: &str) -> Option<TenantId> {
    subject.split('.').nth(2).and_then(|t| t.parse().ok())
}

pub(crate) fn event_id(headers: Option<&HeaderMap>) -> Option<Uuid> {
    let headers = headers?;
    let id = headers.get("ce-id").or_else(|| headers.get(async_nats::header::NATS_MESSAGE_ID))?;
    Uuid::try_parse(id.as_str()).ok()
}
