//! Reading a stream's events once more, beside the consumers that handle them.

use std::time::Duration;

use async_nats::{
    Message,
    jetstream::{
        self,
        consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use futures_util::StreamExt as _;

use crate::{Bus, Received, consumer, dead_letters::replay_prefix};

const BATCH: usize = 1_000;
/// A replica of the stream may be behind its leader for a moment: fetches in a row that may bring nothing, and the
/// pause between them.
const FRUITLESS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);
/// The server keeps the reader's place this long while nobody reads.
const IDLE: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("nats is not available")]
    Unavailable(#[source] Option<async_nats::Error>),
    /// The server says that there is more and does not give it, or left something out.
    #[error("the stream could not be read without a gap")]
    Gap,
}

impl ReadError {
    fn unavailable(error: impl Into<async_nats::Error>) -> Self {
        Self::Unavailable(Some(error.into()))
    }
}

/// What a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Its first messages are gone: too old, or too large a stream.
    pub trimmed: bool,
    /// When its oldest message came; `None`: it has none.
    pub oldest_ms: Option<i64>,
}

/// Gives a consumer's events from the stream's beginning on, without changing what the consumer gets.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    consumer: PullConsumer,
    subjects: [String; 2],
    prefix: String,
    /// The last message read: its number in the stream, and how many came before it.
    position: u64,
    count: u64,
}

impl Bus {
    /// What the stream has now.
    ///
    /// # Errors
    /// NATS is away, or has no such stream.
    pub async fn held(&self, stream: &str) -> Result<Held, ReadError> {
        let stream = open(self, stream).await?;
        let info = stream.cached_info();
        let state = &info.state;
        Ok(Held {
            created_ms: unix_ms(info.created),
            trimmed: state.first_sequence > 1,
            oldest_ms: (state.messages > 0).then(|| unix_ms(state.first_timestamp)),
        })
    }

    /// Reads events of these subjects, and those that were replayed to this consumer.
    ///
    /// # Errors
    /// NATS is away, or has no such stream.
    pub async fn reader(&self, stream: &str, subjects: &str, durable: &str) -> Result<Reader, ReadError> {
        let prefix = replay_prefix(stream, durable);
        let subjects = [subjects.to_owned(), format!("{prefix}{subjects}")];
        let stream = open(self, stream).await?;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            filter_subjects: subjects.to_vec(),
            inactive_threshold: IDLE,
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(ReadError::unavailable)?;
        Ok(Reader { stream, consumer, subjects, prefix, position: 0, count: 0 })
    }
}

async fn open(bus: &Bus, stream: &str) -> Result<Stream, ReadError> {
    if !bus.connected() {
        return Err(ReadError::Unavailable(None));
    }
    bus.jetstream().get_stream(stream).await.map_err(ReadError::unavailable)
}

impl Reader {
    /// The number of the last message there is for this reader: what [`Reader::read`] is told to read up to.
    ///
    /// # Errors
    /// NATS is away.
    pub async fn end(&self) -> Result<u64, ReadError> {
        let mut end = 0;
        for subject in &self.subjects {
            match self.stream.get_last_raw_message_by_subject(subject).await {
                Ok(message) => end = end.max(message.sequence),
                Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {}
                Err(error) => return Err(ReadError::unavailable(error)),
            }
        }
        Ok(end)
    }

    /// The next events, in order; `None` once everything up to `end` was read. What no consumer could read is left
    /// out, so a batch may be empty.
    ///
    /// # Errors
    /// NATS is away, or lost its place: only a new reader, from the beginning, helps.
    pub async fn read(&mut self, end: u64) -> Result<Option<Vec<Received>>, ReadError> {
        let mut fruitless = 0;
        while self.position < end {
            let fetch = self.consumer.fetch().max_messages(BATCH);
            let mut messages = fetch.messages().await.map_err(ReadError::unavailable)?;
            let before = self.count;
            let mut batch = Vec::new();
            while let Some(message) = messages.next().await {
                let message = message.map_err(ReadError::unavailable)?;
                self.advance(&message)?;
                batch.extend(self.received(&message));
            }
            if self.count > before {
                return Ok(Some(batch));
            }
            fruitless += 1;
            if fruitless == FRUITLESS {
                return Err(ReadError::Gap);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(None)
    }

    fn advance(&mut self, message: &jetstream::Message) -> Result<(), ReadError> {
        let info = message.info().map_err(ReadError::unavailable)?;
        // Nothing is acknowledged, so nothing comes twice; what was lost on the way left a gap.
        if info.consumer_sequence != self.count + 1 {
            return Err(ReadError::Gap);
        }
        self.count = info.consumer_sequence;
        self.position = info.stream_sequence;
        Ok(())
    }

    fn received(&self, message: &Message) -> Option<Received> {
        let subject = message.subject.strip_prefix(&self.prefix).unwrap_or(&message.subject);
        consumer::read(subject, message.headers.as_ref(), &message.payload).ok()
    }

    /// Lets the server forget it.
    pub async fn close(self) {
        let name = &self.consumer.cached_info().name;
        if let Err(error) = self.stream.delete_consumer(name).await {
            // It forgets by itself after a while.
            tracing::debug!(%error, "reader not removed");
        }
    }
}

fn unix_ms(time: async_nats::datetime::DateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}
