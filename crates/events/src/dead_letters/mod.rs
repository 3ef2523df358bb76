//! The messages that no consumer could handle, for an operator to look at, to replay and to drop.
//!
//! A letter's subject says where it comes from (`weir.dlq.<stream>.<consumer>.<reason>.<tenant>`), its headers say
//! the rest, its payload is the event's. Replaying publishes the event again, to the consumer that failed and to no
//! other, and removes the letter once the stream has it: that consumer's inbox sees to it that dying in between, or
//! replaying twice, has no second effect.

mod audit;
mod burial;
mod letter;
mod payload;

use std::{num::NonZeroU64, str::FromStr, sync::Arc, time::Duration};

use async_nats::jetstream::{
    self,
    stream::{LastRawMessageErrorKind, Stream},
};

use weir_proto::events::Actor;
use weir_types::{Clock, Deadline};

pub(crate) use burial::Burial;
pub use letter::{DeadLetter, Reason, ReasonCode};
pub use payload::Payloads;

use crate::{Bus, streams::DLQ};

/// Names the letter in the message that replays it.
const REPLAY_OF: &str = "weir-replay-of";

/// Letters in memory while many are handled.
const AT_ONCE: usize = 100;
/// Of the time a caller has, what is left for the answer.
const SPARE: Duration = Duration::from_secs(1);
/// A page of large letters ends once it has so many bytes of payloads.
const PAGE_BYTES: usize = 1 << 20;

/// What stands before the subject of a message that is replayed to one consumer.
pub(crate) fn replay_prefix(stream: &str, consumer: &str) -> String {
    format!("weir.replay.{stream}.{consumer}.")
}

#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    #[error("there is no such dead letter")]
    NotFound,
    #[error("{field} can be no part of a subject")]
    Filter { field: &'static str },
    /// Replaying would have no effect; the text says why.
    #[error("{0}")]
    Refused(String),
    #[error("nats is not available")]
    Unavailable(#[source] Option<async_nats::Error>),
}

impl DeadLetterError {
    fn unavailable(error: impl Into<async_nats::Error>) -> Self {
        Self::Unavailable(Some(error.into()))
    }
}

/// A dead letter's number in its stream: stable, growing, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(NonZeroU64);

impl LetterId {
    pub(crate) fn new(sequence: u64) -> Option<Self> {
        NonZeroU64::new(sequence).map(Self)
    }

    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl std::fmt::Display for LetterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LetterId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Which dead letters; empty texts stand for all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    pub stream: String,
    pub consumer: String,
    pub reason: String,
    /// `unknown` finds those whose subject named none.
    pub tenant: String,
}

impl Filter {
    fn subject(&self) -> Result<String, DeadLetterError> {
        let part = |field, text: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            match text {
                "" => Ok("*".to_owned()),
                text if text.bytes().all(plain) => Ok(text.to_owned()),
                _ => Err(DeadLetterError::Filter { field }),
            }
        };
        let stream = part("stream", &self.stream)?;
        let consumer = part("consumer", &self.consumer)?;
        let reason = part("reason", &self.reason)?;
        let tenant = part("tenant", &self.tenant.to_ascii_lowercase())?;
        Ok(format!("weir.dlq.{stream}.{consumer}.{reason}.{tenant}"))
    }
}

/// What is done with letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Replay,
    Drop,
}

/// Some of the letters that fit.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub letters: Vec<DeadLetter>,
    /// There are others after these.
    pub has_more: bool,
}

/// Who does it, and until when.
#[derive(Debug, Clone)]
pub struct Operator {
    /// `None`: somebody at a terminal.
    pub actor: Option<Actor>,
    pub clock: Arc<dyn Clock>,
    /// Many are handled no longer than this.
    pub deadline: Option<Deadline>,
}

/// What became of many.
#[derive(Debug, Default)]
pub struct Bulk {
    pub done: u64,
    /// Those that are still there, and why.
    pub failed: Vec<(LetterId, DeadLetterError)>,
    /// There are others that fit: the bound was reached, time is up, or it ended early.
    pub has_more: bool,
    /// What ended it early.
    pub error: Option<DeadLetterError>,
}

/// The stream of dead letters.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    bus: Bus,
}

impl Bus {
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters { bus: self.clone() }
    }
}

impl DeadLetters {
    /// Those that fit, oldest first, from the one after `after` on: `limit` of them, or fewer large ones.
    ///
    /// # Errors
    /// NATS is away; a filter that cannot be.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<LetterId>,
        limit: usize,
    ) -> Result<Page, DeadLetterError> {
        let subject = filter.subject()?;
        let stream = self.stream(DLQ).await?;
        let mut page = Page::default();
        let mut bytes = 0;
        let mut from = after.map_or(1, |id| id.get().saturating_add(1));
        loop {
            let found = found(stream.get_first_raw_message_by_subject(&subject, from).await)?;
            let Some(letter) = found.and_then(DeadLetter::read) else { return Ok(page) };
            if page.letters.len() >= limit || bytes > PAGE_BYTES {
                page.has_more = true;
                return Ok(page);
            }
            from = letter.id.get() + 1;
            bytes += letter.payload.len();
            page.letters.push(letter);
        }
    }

    /// # Errors
    /// There is none of this id; NATS is away.
    pub async fn get(&self, id: LetterId) -> Result<DeadLetter, DeadLetterError> {
        let stream = self.stream(DLQ).await?;
        let message = found(stream.get_raw_message(id.get()).await)?.ok_or(DeadLetterError::NotFound)?;
        DeadLetter::read(message).ok_or(DeadLetterError::NotFound)
    }

    /// Gives the event to the consumer that failed on it once more; the letter is gone afterwards. The audit log is told
    /// before it goes.
    ///
    /// # Errors
    /// There is none of this id; the consumer is not there; NATS is away. The letter is still there then, and the
    /// event may have been replayed all the same: doing so again has no second effect.
    pub async fn replay(&self, id: LetterId, by: &Operator) -> Result<DeadLetter, DeadLetterError> {
        let letter = self.get(id).await?;
        self.publish(&letter).await?;
        self.audit(Deed::Replay, &letter, by).await;
        // Somebody else may have been as fast.
        match self.remove(id).await {
            Ok(()) | Err(DeadLetterError::NotFound) => Ok(letter),
            Err(error) => Err(error),
        }
    }

    /// Forgets the event for good. The audit log is told before that: nothing goes unseen, whatever happens in between.
    ///
    /// # Errors
    /// There is none of this id; NATS is away.
    pub async fn drop(&self, id: LetterId, by: &Operator) -> Result<DeadLetter, DeadLetterError> {
        let letter = self.get(id).await?;
        self.audit(Deed::Drop, &letter, by).await;
        self.remove(id).await?;
        Ok(letter)
    }

    /// # Errors
    /// Those of [`Self::replay`] and [`Self::drop`].
    pub async fn one(&self, deed: Deed, id: LetterId, by: &Operator) -> Result<DeadLetter, DeadLetterError> {
        match deed {
            Deed::Replay => self.replay(id, by).await,
            Deed::Drop => self.drop(id, by).await,
        }
    }

    /// How many there are; the gauge `weir_dlq_messages` says so too from then on.
    ///
    /// # Errors
    /// NATS is away.
    pub async fn depth(&self) -> Result<u64, DeadLetterError> {
        let messages = self.stream(DLQ).await?.cached_info().state.messages;
        self.bus.metrics().dead_letters.set(i64::try_from(messages).unwrap_or(i64::MAX));
        Ok(messages)
    }

    /// Does it to those that fit and are there now, at most `limit`, oldest first, as long as there is time. What was done
    /// is said also when it ends early.
    ///
    /// # Errors
    /// NATS is away; a filter that cannot be. Nothing was done.
    pub async fn all(
        &self,
        deed: Deed,
        filter: &Filter,
        limit: usize,
        by: &Operator,
    ) -> Result<Bulk, DeadLetterError> {
        // What is replayed and fails again comes back as a new letter: not to be taken in the same go.
        let last = self.stream(DLQ).await?.cached_info().state.last_sequence;
        // Enough time is left to say what was done.
        let spare = by.deadline.map(|d| (d, (d.remaining() / 4).min(SPARE)));
        let time_is_up = || spare.is_some_and(|(deadline, spare)| deadline.remaining() <= spare);
        let mut bulk = Bulk::default();
        let (mut after, mut left) = (None, limit);
        loop {
            let page = match self.list(filter, after, AT_ONCE).await {
                Ok(page) => page,
                Err(error) if after.is_none() => return Err(error),
                Err(error) => {
                    (bulk.has_more, bulk.error) = (true, Some(error));
                    return Ok(bulk);
                }
            };
            for letter in page.letters.iter().filter(|letter| letter.id.get() <= last) {
                if left == 0 || time_is_up() {
                    bulk.has_more = true;
                    return Ok(bulk);
                }
                left -= 1;
                after = Some(letter.id);
                match self.one(deed, letter.id, by).await {
                    Ok(_) => bulk.done += 1,
                    Err(DeadLetterError::NotFound) => {}
                    Err(error) => bulk.failed.push((letter.id, error)),
                }
            }
            let end = page.letters.last().is_none_or(|letter| letter.id.get() >= last);
            if end || !page.has_more {
                return Ok(bulk);
            }
        }
    }

    async fn publish(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let stream = self.stream(&letter.stream).await?;
        let prefix = replay_prefix(&letter.stream, &letter.consumer);
        let consumer = stream.consumer_info(&letter.consumer).await;
        let listens = consumer.is_ok_and(|c| c.config.filter_subjects.contains(&format!("{prefix}>")));
        if !listens {
            let text = format!("no consumer {} of {} takes replays", letter.consumer, letter.stream);
            return Err(DeadLetterError::Refused(text));
        }
        let mut headers = letter.replayed_headers();
        headers.insert(REPLAY_OF, letter.id.to_string());
        // New to the stream, which remembers the first; the same however often this letter is replayed.
        let id = format!("replay.{}.{}", letter.id, letter.stored_at_ms);
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        let payload = if letter.payload_left_behind {
            let source = found(stream.get_raw_message(letter.sequence).await)?;
            source.map(|m| m.payload).ok_or_else(|| {
                DeadLetterError::Refused(format!("the event is no longer in stream {}", letter.stream))
            })?
        } else {
            letter.payload.clone()
        };
        let subject = format!("{prefix}{}", letter.subject);
        let sent = self.bus.jetstream().publish_with_headers(subject, headers, payload).await;
        sent.map_err(DeadLetterError::unavailable)?.await.map_err(DeadLetterError::unavailable)?;
        Ok(())
    }

    async fn remove(&self, id: LetterId) -> Result<(), DeadLetterError> {
        let stream = self.stream(DLQ).await?;
        match stream.delete_message(id.get()).await {
            Ok(_) => Ok(()),
            // The server says no more than that it failed: whether it is there decides.
            Err(error) => match found(stream.get_raw_message(id.get()).await)? {
                Some(_) => Err(DeadLetterError::unavailable(error)),
                None => Err(DeadLetterError::NotFound),
            },
        }
    }

    async fn stream(&self, name: &str) -> Result<Stream, DeadLetterError> {
        if !self.bus.connected() {
            return Err(DeadLetterError::Unavailable(None));
        }
        self.bus.jetstream().get_stream(name).await.map_err(DeadLetterError::unavailable)
    }
}

/// `None` when there is no such message.
fn found(
    answer: Result<jetstream::message::StreamMessage, jetstream::stream::RawMessageError>,
) -> Result<Option<jetstream::message::StreamMessage>, DeadLetterError> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            // 404 with an error code of its own for a sequence that was deleted.
            LastRawMessageErrorKind::JetStream(e) if e.code() == 404 => Ok(None),
            _ => Err(DeadLetterError::unavailable(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_subject_and_nothing_else() {
        let filter = Filter { consumer: "billing-usage".into(), ..Filter::default() };
        assert_eq!(filter.subject().unwrap(), "weir.dlq.*.billing-usage.*.*");
        for bad in ["*", ">", "a.b", "a b", "a\r\n"] {
            let filter = Filter { tenant: bad.into(), ..Filter::default() };
            assert!(matches!(filter.subject(), Err(DeadLetterError::Filter { field: "tenant" })), "{bad}");
        }
    }
}
