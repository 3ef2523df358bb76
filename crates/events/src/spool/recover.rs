//! Reading a spool that was left behind: which attempts are open, what is damaged, where publishing goes on.

use std::{collections::BTreeMap, fs, io, path::Path};

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;
use weir_proto::events::OpenAttempt;

use super::{
    cursor,
    log::Past,
    record::{self, Kind, SEGMENT_HEADER},
    segment::{self, Next, Position, Reader},
    table::{Attempt, Table},
};
use crate::EventMetrics;

/// An attempt that was open when its process ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    pub attempt: OpenAttempt,
    /// The attempt itself was closed and its event is on its way; only its request was still going on (between two
    /// attempts). Close it with the request's event alone.
    pub attempt_closed: bool,
}

/// Reads everything in the folder, cuts off a torn end, and quarantines damage.
pub(super) fn recover(dir: &Path, metrics: &EventMetrics) -> io::Result<(Past, Vec<Open>)> {
    let mut scan = Scan { dir, metrics, table: Table::default() };
    let listed = segment::list(dir)?;
    let last_segment = listed.last().map_or(0, |(number, _)| *number);
    let mut sealed = BTreeMap::new();
    for (number, size) in listed {
        if let Some(length) = scan.segment(number, size, number == last_segment)? {
            sealed.insert(number, length);
        }
    }
    let oldest = sealed.first_key_value().map_or(last_segment + 1, |(number, _)| *number);
    let oldest = Position { segment: oldest, offset: SEGMENT_HEADER as u64 };
    let known = cursor::load(dir)?.filter(|c| (oldest.segment..=last_segment).contains(&c.segment));
    let opens = scan.table.sorted().into_iter().filter_map(|(_, attempt)| open(attempt)).collect();
    Ok((Past { sealed, last_segment, table: scan.table, unpublished_from: known.unwrap_or(oldest) }, opens))
}

fn open(attempt: &Attempt) -> Option<Open> {
    let decoded = OpenAttempt::decode(attempt.payload.as_slice()).ok()?;
    Some(Open { attempt: decoded, attempt_closed: attempt.closed })
}

struct Scan<'a> {
    dir: &'a Path,
    metrics: &'a EventMetrics,
    table: Table,
}

impl Scan<'_> {
    /// The length of the segment's good part; `None` when nothing of it is of use.
    fn segment(&mut self, number: u64, size: u64, last: bool) -> io::Result<Option<u64>> {
        let Some(mut reader) = Reader::open(self.dir, number, 0, size)? else {
            return self.headless(number, size, last).map(|()| None);
        };
        loop {
            match reader.next()? {
                Next::Record { kind, payload, at } => self.record(number, at, kind, &payload)?,
                Next::Gap { at, bytes } => damaged(self.dir, self.metrics, number, at, &bytes)?,
                Next::Tail { at, bytes, torn } => {
                    if torn && last {
                        tracing::warn!(
                            spool.segment = number,
                            spool.offset = at,
                            bytes = bytes.len(),
                            "spool ends in half a record: cut off"
                        );
                    } else {
                        damaged(self.dir, self.metrics, number, at, &bytes)?;
                    }
                    fs::OpenOptions::new().write(true).open(segment::path(self.dir, number))?.set_len(at)?;
                    return Ok(Some(at));
                }
                Next::End => return Ok(Some(reader.offset())),
            }
        }
    }

    /// A segment whose header is not whole: normal for the last one when the process died creating it.
    fn headless(&self, number: u64, size: u64, last: bool) -> io::Result<()> {
        let path = segment::path(self.dir, number);
        if !(last && size < SEGMENT_HEADER as u64) {
            damaged(self.dir, self.metrics, number, 0, &fs::read(&path)?)?;
        }
        fs::remove_file(path)
    }

    fn record(&mut self, number: u64, at: u64, kind: Kind, payload: &Bytes) -> io::Result<()> {
        let understood = match kind {
            Kind::Opened => self.opened(payload),
            Kind::Closed | Kind::AttemptClosed => self.closed(kind, payload.clone()),
            Kind::Other(_) => None,
        };
        match understood {
            Some(()) => Ok(()),
            None => damaged(self.dir, self.metrics, number, at, payload),
        }
    }

    fn opened(&mut self, payload: &[u8]) -> Option<()> {
        let open = OpenAttempt::decode(payload).ok()?;
        let id = Uuid::try_parse(&open.attempt_id).ok()?;
        let request = Uuid::try_parse(&open.request_event_id).ok()?;
        self.table.opened(id, request, payload.to_vec());
        Some(())
    }

    fn closed(&mut self, kind: Kind, payload: Bytes) -> Option<()> {
        let (id, _) = record::get_events(payload)?;
        if kind == Kind::AttemptClosed {
            self.table.attempt_closed(id);
            self.table.stored(id);
        } else {
            self.table.closed(id);
        }
        Some(())
    }
}

/// Reports damage, once for each piece, and keeps its bytes.
pub(super) fn damaged(
    dir: &Path,
    metrics: &EventMetrics,
    segment: u64,
    at: u64,
    bytes: &[u8],
) -> io::Result<()> {
    if segment::quarantine(dir, &format!("{segment:016}-{at}.bin"), bytes)? {
        metrics.quarantined.inc();
        tracing::error!(
            spool.segment = segment,
            spool.offset = at,
            bytes = bytes.len(),
            "spool is damaged: the bytes are in quarantine, events may be lost"
        );
    }
    Ok(())
}
