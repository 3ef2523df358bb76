//! One pass: take, publish, forget, in one transaction.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::Instant;
use weir_db::Taken;
use weir_events::Event;

use crate::{Relay, RelayError};

/// Letters of one pass; as many may be in flight.
const BATCH: i32 = 256;
/// No letter is sent later than this into a pass: the transaction must end well before PostgreSQL ends it for sitting
/// idle.
const SENDING: Duration = Duration::from_secs(4);

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    pub published: usize,
    pub failed: usize,
}

impl Relay {
    /// Publishes what waits, up to a batch of it. Dropped half-way, all of it waits again.
    ///
    /// # Errors
    /// The database is away.
    pub async fn pass(&self) -> Result<Pass, RelayError> {
        let (outbox, db) = (self.0.outbox, &self.0.db);
        let mut tx = db.lookup(&self.0.ctx).await?;
        let taken = outbox.take(&mut tx, BATCH).await?;
        if taken.is_empty() {
            return Ok(Pass::default());
        }
        let (published, failed) = self.send(taken).await;
        outbox.settle(&mut tx, &published, &failed).await?;
        tx.commit().await?;
        Ok(Pass { published: published.len(), failed: failed.len() })
    }

    /// Which letters JetStream has and which it refused; of the rest nobody knows, as they were not sent.
    async fn send(&self, taken: Vec<Taken>) -> (Vec<i64>, Vec<i64>) {
        let until = Instant::now() + SENDING;
        let mut keys = by_key(taken);
        let (mut published, mut failed) = (Vec::new(), Vec::new());
        // The next of each key, all at once. A key whose letter was refused ends there: its others come after it.
        while !keys.is_empty() && Instant::now() < until {
            let next = keys.iter_mut().filter_map(VecDeque::pop_front).map(|letter| self.send_one(letter));
            let mut results = join_all(next).await.into_iter();
            keys.retain(|rest| match results.next() {
                Some((seq, true)) => {
                    published.push(seq);
                    !rest.is_empty()
                }
                Some((seq, false)) => {
                    failed.push(seq);
                    false
                }
                None => false,
            });
        }
        (published, failed)
    }

    async fn send_one(&self, letter: Taken) -> (i64, bool) {
        let Taken { seq, event_id, subject, payload, trace, time_ms, .. } = letter;
        let event = Event { id: event_id, subject, time_ms, payload: payload.into() };
        let metrics = &self.0.metrics;
        match self.0.bus.publish(&event, &self.0.source, trace.as_deref()).await {
            Ok(stored) => {
                metrics.published.inc();
                metrics.duplicates.inc_by(u64::from(stored.duplicate));
                (seq, true)
            }
            Err(error) => {
                metrics.failures.inc();
                tracing::warn!(
                    event.id = %event.id,
                    event.subject = event.subject,
                    error = &error as &dyn std::error::Error,
                    "change not published, trying again"
                );
                (seq, false)
            }
        }
    }
}

/// Never empty ones; each in its order.
fn by_key(taken: Vec<Taken>) -> Vec<VecDeque<Taken>> {
    let mut places = HashMap::new();
    let mut keys: Vec<VecDeque<Taken>> = Vec::new();
    for letter in taken {
        let place = *places.entry((letter.tenant_id, letter.key.clone())).or_insert(keys.len());
        match keys.get_mut(place) {
            Some(letters) => letters.push_back(letter),
            None => keys.push(VecDeque::from([letter])),
        }
    }
    keys
}
