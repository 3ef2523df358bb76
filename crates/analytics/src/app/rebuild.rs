//! Building the hourly figures again from the events that are still in their stream, while new ones are counted.
//!
//! The inbox says which events were counted, so the figures of an hour are the sum of those and of no others: what has
//! yet to be counted will be, by whoever counts it. Each hour is one transaction, during which nothing is counted;
//! dying in between leaves whole hours, and doing it again changes nothing.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;
use weir_db::{BatchTx, Db, DbError};
use weir_events::{
    ANALYTICS_CONSUMER, Bus, Held, ReadError, Reader, Received, USAGE,
    usage::{REQUESTS, UsageEvent},
};
use weir_types::{Clock, RequestContext, TenantId};

use crate::store::{self, Figures, Share};

const HOUR_MS: i64 = 3_600_000;
/// Events are in their stream no longer than this.
const STREAM_MS: i64 = 30 * 24 * HOUR_MS;
/// How far services', broker's and database's clocks may be apart.
const SKEW_MS: i64 = 60_000;
/// Events of one rebuild: a set of their ids is kept in memory.
const MAX_EVENTS: usize = 20_000_000;
/// Events that are looked up in the inbox together.
const LOOK_UP: usize = 10_000;

/// Which hours; what is `None` is as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RebuildRange {
    /// Starts of hours, in Unix milliseconds.
    pub from_ms: Option<i64>,
    /// Exclusive.
    pub to_ms: Option<i64>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rebuilt {
    pub from_ms: i64,
    pub to_ms: i64,
    /// Counted events in these hours.
    pub events: u64,
    /// Rows there are now: hours, models and tenants.
    pub rows: u64,
    /// Hours of a tenant whose rows were wrong.
    pub mended: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("the range must be whole hours, the first before the last")]
    Range,
    /// Events of the range are gone. The start of the first hour of which none is, in Unix milliseconds.
    #[error("the events of these hours are no longer all there")]
    NotHeld { first_whole_hour_ms: i64 },
    #[error("there are more than {MAX_EVENTS} events in these hours: choose fewer")]
    TooMany,
    #[error("the events could not be read")]
    Events(#[from] ReadError),
    #[error("the figures could not be written")]
    Figures(#[from] DbError),
}

/// Builds the hours of the range again.
///
/// # Errors
/// As [`RebuildError`] says. Hours that were finished before stay so.
pub async fn rebuild(
    db: &Db,
    bus: &Bus,
    clock: &dyn Clock,
    range: RebuildRange,
) -> Result<Rebuilt, RebuildError> {
    let ctx = RequestContext::service("analytics");
    let now_ms = clock.now_ms();
    let since = store::rebuild::counted_since(db, &ctx).await?;
    let first = first_whole_hour(bus.held(USAGE).await?, since, now_ms);
    let from_ms = range.from_ms.unwrap_or(first);
    let to_ms = range.to_ms.unwrap_or_else(|| up(now_ms + 1));
    if from_ms % HOUR_MS != 0 || to_ms % HOUR_MS != 0 || from_ms >= to_ms {
        return Err(RebuildError::Range);
    }
    let held = |first: i64| {
        if from_ms < first { Err(RebuildError::NotHeld { first_whole_hour_ms: first }) } else { Ok(()) }
    };
    held(first)?;
    let mut reader = bus.reader(USAGE, REQUESTS, ANALYTICS_CONSUMER).await?;
    let mut books = Books::new(from_ms, to_ms);
    books.read(&mut reader, db, &ctx).await?;
    // Nothing went while it was read.
    held(first_whole_hour(bus.held(USAGE).await?, since, now_ms))?;
    let mut done = Rebuilt { from_ms, to_ms, ..Rebuilt::default() };
    let mut hour_ms = from_ms;
    while hour_ms < to_ms {
        let mut tx = db.batch(&ctx).await?;
        store::rebuild::stop_counting(&mut tx).await?;
        // What was counted until now was in the stream before.
        books.catch_up(&mut reader).await?;
        books.decide_hour(&mut tx, hour_ms).await?;
        write_hour(&mut tx, hour_ms, books.take(hour_ms), &mut done).await?;
        tx.commit().await?;
        hour_ms += HOUR_MS;
    }
    reader.close().await;
    done.events = books.counted;
    Ok(done)
}

async fn write_hour(
    tx: &mut BatchTx,
    hour_ms: i64,
    mut right: BTreeMap<TenantId, Figures<String>>,
    done: &mut Rebuilt,
) -> Result<(), DbError> {
    // Rows that nobody's events explain go as well.
    for tenant in store::rebuild::tenants(tx, hour_ms).await? {
        right.entry(tenant).or_default();
    }
    for (tenant, figures) in &right {
        done.mended += u64::from(store::rebuild::mend(tx, *tenant, hour_ms, figures).await?);
        done.rows += figures.rows() as u64;
    }
    Ok(())
}

/// The start of the first hour of which every event that was counted is still in the stream.
fn first_whole_hour(held: Held, counted_since: Option<i64>, now_ms: i64) -> i64 {
    let since = if held.trimmed {
        // An event comes after it happened: what happened after the oldest came is there.
        held.oldest_ms.unwrap_or(now_ms) + SKEW_MS
    } else if counted_since.is_none_or(|since| since >= held.created_ms - SKEW_MS) {
        i64::MIN
    } else {
        // There was another stream before it.
        held.created_ms + SKEW_MS
    };
    up(since.max(now_ms - STREAM_MS))
}

/// The start of an hour, this one or the next.
fn up(ms: i64) -> i64 {
    ms + (HOUR_MS - ms.rem_euclid(HOUR_MS)) % HOUR_MS
}

/// An event of which is not known yet that it was counted.
struct Open {
    id: Uuid,
    tenant: TenantId,
    hour_ms: i64,
    model: String,
    share: Share,
}

/// The figures as they come together.
struct Books {
    from_ms: i64,
    to_ms: i64,
    seen: HashSet<Uuid>,
    /// Not looked up yet.
    fresh: Vec<Open>,
    /// By hour: not counted when last looked up.
    waiting: BTreeMap<i64, Vec<Open>>,
    figures: BTreeMap<(i64, TenantId), Figures<String>>,
    counted: u64,
}

impl Books {
    fn new(from_ms: i64, to_ms: i64) -> Self {
        Self {
            from_ms,
            to_ms,
            seen: HashSet::new(),
            fresh: Vec::new(),
            waiting: BTreeMap::new(),
            figures: BTreeMap::new(),
            counted: 0,
        }
    }

    /// Everything there is now.
    async fn read(&mut self, reader: &mut Reader, db: &Db, ctx: &RequestContext) -> Result<(), RebuildError> {
        let end = reader.end().await?;
        while let Some(batch) = reader.read(end).await? {
            self.note(&batch)?;
            if self.fresh.len() >= LOOK_UP {
                self.look_up(db, ctx).await?;
            }
        }
        Ok(self.look_up(db, ctx).await?)
    }

    /// What came since.
    async fn catch_up(&mut self, reader: &mut Reader) -> Result<(), RebuildError> {
        let end = reader.end().await?;
        while let Some(batch) = reader.read(end).await? {
            self.note(&batch)?;
        }
        for open in self.fresh.drain(..) {
            self.waiting.entry(open.hour_ms).or_default().push(open);
        }
        Ok(())
    }

    fn note(&mut self, batch: &[Received]) -> Result<(), RebuildError> {
        for received in batch {
            // What cannot be decoded was not counted.
            let Ok(event) = UsageEvent::decode(received) else { continue };
            let Some((usage, share)) = store::share(&event) else { continue };
            if !(self.from_ms..self.to_ms).contains(&usage.hour_ms) || !self.seen.insert(received.id) {
                continue;
            }
            if self.seen.len() > MAX_EVENTS {
                return Err(RebuildError::TooMany);
            }
            self.fresh.push(Open {
                id: received.id,
                tenant: received.tenant,
                hour_ms: usage.hour_ms,
                model: usage.model.clone(),
                share,
            });
        }
        Ok(())
    }

    /// Once counted, an event stays so: most need not be kept.
    async fn look_up(&mut self, db: &Db, ctx: &RequestContext) -> Result<(), DbError> {
        let mut tx = db.batch(ctx).await?;
        let fresh = std::mem::take(&mut self.fresh);
        self.decide(&mut tx, fresh).await?;
        tx.commit().await
    }

    /// Of what is left of the hour, now that nothing is counted.
    async fn decide_hour(&mut self, tx: &mut BatchTx, hour_ms: i64) -> Result<(), DbError> {
        let open = self.waiting.remove(&hour_ms).unwrap_or_default();
        self.decide(tx, open).await
    }

    async fn decide(&mut self, tx: &mut BatchTx, mut open: Vec<Open>) -> Result<(), DbError> {
        open.sort_by_key(|open| open.tenant);
        let mut counted = HashSet::new();
        for group in open.chunk_by(|a, b| a.tenant == b.tenant) {
            let Some(tenant) = group.first().map(|open| open.tenant) else { continue };
            let ids: Vec<_> = group.iter().map(|open| open.id).collect();
            counted.extend(store::rebuild::counted(tx, tenant, &ids).await?);
        }
        for open in open {
            if counted.contains(&open.id) {
                self.counted += 1;
                let figures = self.figures.entry((open.hour_ms, open.tenant)).or_default();
                figures.add(open.hour_ms, open.model, open.share);
            } else {
                self.waiting.entry(open.hour_ms).or_default().push(open);
            }
        }
        Ok(())
    }

    fn take(&mut self, hour_ms: i64) -> BTreeMap<TenantId, Figures<String>> {
        let later = self.figures.split_off(&(hour_ms + 1, TenantId(Uuid::nil())));
        let hour = std::mem::replace(&mut self.figures, later);
        hour.into_iter().map(|((_, tenant), figures)| (tenant, figures)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_709_210_096_789;
    const THIS_HOUR: i64 = 1_709_208_000_000;

    #[test]
    fn what_is_gone_is_known() {
        let whole = Held { created_ms: NOW - 100, trimmed: false, oldest_ms: None };
        let month = up(NOW - STREAM_MS);
        assert_eq!(first_whole_hour(whole, None, NOW), month);
        assert_eq!(first_whole_hour(whole, Some(NOW - 50), NOW), month);
        // Something was counted before this stream was made.
        assert_eq!(first_whole_hour(whole, Some(NOW - 500_000), NOW), THIS_HOUR + HOUR_MS);
        let trimmed = |oldest_ms| Held { created_ms: 0, trimmed: true, oldest_ms };
        assert_eq!(first_whole_hour(trimmed(Some(THIS_HOUR - 100_000)), None, NOW), THIS_HOUR);
        // Its clock may be behind.
        assert_eq!(first_whole_hour(trimmed(Some(THIS_HOUR - 1)), None, NOW), THIS_HOUR + HOUR_MS);
        assert_eq!(first_whole_hour(trimmed(None), None, NOW), THIS_HOUR + HOUR_MS);
    }

    #[test]
    fn hours_are_rounded_up() {
        assert_eq!((up(THIS_HOUR), up(THIS_HOUR + 1), up(-1)), (THIS_HOUR, THIS_HOUR + HOUR_MS, 0));
    }
}
