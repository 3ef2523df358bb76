//! Durable consumers: batches in, exactly one outcome per message out, dead letters for what cannot be handled.
//!
//! Messages come at least once. A handler records the event's id in the transaction of its effect, so that the
//! effect happens once.

mod batch;
mod run;
mod settle;

use std::{future::Future, time::Duration};

use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use uuid::Uuid;
use weir_runtime::{OnFailure, Tasks};
use weir_types::TenantId;

use crate::Bus;

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
    /// After this many failures of the handler a message becomes a dead letter.
    pub max_deliver: u32,
    /// After this long without an answer (the process died) the server delivers again.
    pub ack_wait: Duration,
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
            max_deliver: 8,
            ack_wait: Duration::from_secs(10),
        }
    }
}

/// A message for a handler.
#[derive(Debug, Clone)]
pub struct Received {
    /// The event's id: what an inbox remembers.
    pub id: Uuid,
    pub tenant: TenantId,
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
    /// It failed and may work later: again after this long, or a dead letter when it has failed too often.
    Retry(Duration),
    /// It will never work; why, for the operator.
    DeadLetter(String),
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
    received: Result<Received, &'static str>,
}

impl Delivery {
    fn new(message: jetstream::Message, failures: impl FnOnce(u64) -> u32) -> Self {
        let sequence = message.info().map_or(0, |i| i.stream_sequence);
        let received = read(&message, failures(sequence));
        Self { message, sequence, received }
    }

    fn kind(&self) -> &str {
        kind(&self.message.subject)
    }
}

fn kind(subject: &str) -> &str {
    subject.splitn(4, '.').nth(3).unwrap_or("")
}

fn read(message: &jetstream::Message, failures: u32) -> Result<Received, &'static str> {
    let id = event_id(message.headers.as_ref()).ok_or("the message has no event id")?;
    let tenant = message.subject.split('.').nth(2).and_then(|t| t.parse().ok());
    Ok(Received {
        id,
        tenant: tenant.ok_or("the subject names no tenant")?,
        subject: message.subject.to_string(),
        payload: message.payload.clone(),
        failures,
    })
}

fn event_id(headers: Option<&HeaderMap>) -> Option<Uuid> {
    let headers = headers?;
    let id = headers.get("ce-id").or_else(|| headers.get(async_nats::header::NATS_MESSAGE_ID))?;
    Uuid::try_parse(id.as_str()).ok()
}
