//! The bytes of a segment: a header, then records of `[u32 length][u32 checksum][u8 kind][payload]`, little endian.
//!
//! The checksum covers length, kind and payload, and starts from a salt of the segment's own: nobody can smuggle
//! something that looks like a record into a payload.

use bytes::{Buf as _, BufMut as _, Bytes};
use uuid::Uuid;

use crate::Event;

const MAGIC: &[u8; 8] = b"WEIRSPL1";
/// Magic, salt, checksum of both.
pub(crate) const SEGMENT_HEADER: usize = 16;
pub(crate) const RECORD_HEADER: usize = 9;
/// No record is larger; a length beyond it is damage.
pub(crate) const MAX_PAYLOAD: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An `OpenAttempt`.
    Opened,
    /// The attempt and its request are done; its events.
    Closed,
    /// The attempt is done, its request goes on; its events.
    AttemptClosed,
    /// Written by a later version.
    Other(u8),
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Opened => 1,
            Self::Closed => 2,
            Self::AttemptClosed => 3,
            Self::Other(byte) => byte,
        }
    }

    fn of(byte: u8) -> Self {
        match byte {
            1 => Self::Opened,
            2 => Self::Closed,
            3 => Self::AttemptClosed,
            other => Self::Other(other),
        }
    }
}

pub(crate) fn segment_header(salt: u32) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&salt.to_le_bytes());
    let checksum = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// The segment's salt, when its header is whole.
pub(crate) fn read_segment_header(header: &[u8; SEGMENT_HEADER]) -> Option<u32> {
    let salt = u32_at(header, 8)?;
    (*header == segment_header(salt)).then_some(salt)
}

/// Appends one record to `buffer`, its payload written by `fill`.
pub(crate) fn frame(buffer: &mut Vec<u8>, salt: u32, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; RECORD_HEADER]);
    buffer[start + 8] = kind.byte();
    fill(buffer);
    let length = u32::try_from(buffer.len() - start - RECORD_HEADER).unwrap_or(u32::MAX).to_le_bytes();
    let checksum = checksum(salt, length, &buffer[start + 8..]).to_le_bytes();
    buffer[start..start + 4].copy_from_slice(&length);
    buffer[start + 4..start + 8].copy_from_slice(&checksum);
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    Record {
        kind: Kind,
        payload: &'a [u8],
    },
    /// It may be whole once there are this many bytes.
    Short(usize),
    Damaged,
}

/// The record at the start of `bytes`.
pub(crate) fn parse(bytes: &[u8], salt: u32) -> Parsed<'_> {
    let (Some(length), Some(sum)) = (u32_at(bytes, 0), u32_at(bytes, 4)) else {
        return Parsed::Short(RECORD_HEADER);
    };
    let payload = usize::try_from(length).unwrap_or(usize::MAX);
    if payload > MAX_PAYLOAD {
        return Parsed::Damaged;
    }
    let size = RECORD_HEADER + payload;
    let Some(body) = bytes.get(8..size) else {
        return Parsed::Short(size);
    };
    if checksum(salt, length.to_le_bytes(), body) != sum {
        return Parsed::Damaged;
    }
    Parsed::Record { kind: Kind::of(body[0]), payload: &body[1..] }
}

/// A cheap look before [`parse`], for the search through damage: is there the start of a record as this version
/// writes them?
pub(crate) fn plausible(bytes: &[u8]) -> bool {
    u32_at(bytes, 0).is_some_and(|l| l as usize <= MAX_PAYLOAD)
        && bytes.get(8).is_some_and(|k| (1..=3).contains(k))
}

fn checksum(salt: u32, length: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// The payload of a closing record.
pub(crate) fn put_events(buffer: &mut Vec<u8>, attempt: Uuid, events: &[Event]) {
    buffer.put_slice(attempt.as_bytes());
    for event in events {
        buffer.put_slice(event.id.as_bytes());
        buffer.put_i64_le(event.time_ms);
        buffer.put_u32_le(u32::try_from(event.subject.len()).unwrap_or(u32::MAX));
        buffer.put_slice(event.subject.as_bytes());
        buffer.put_u32_le(u32::try_from(event.payload.len()).unwrap_or(u32::MAX));
        buffer.put_slice(&event.payload);
    }
}

/// The reverse; `None` when it is not such a payload.
pub(crate) fn get_events(mut payload: Bytes) -> Option<(Uuid, Vec<Event>)> {
    let attempt = get_uuid(&mut payload)?;
    let mut events = Vec::new();
    while payload.has_remaining() {
        let id = get_uuid(&mut payload)?;
        let time_ms = payload.try_get_i64_le().ok()?;
        let subject = String::from_utf8(get_slice(&mut payload)?.to_vec()).ok()?;
        events.push(Event { id, subject, time_ms, payload: get_slice(&mut payload)? });
    }
    Some((attempt, events))
}

fn get_uuid(payload: &mut Bytes) -> Option<Uuid> {
    (payload.len() >= 16).then(|| payload.split_to(16)).and_then(|id| Uuid::from_slice(&id).ok())
}

fn get_slice(payload: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(payload.try_get_u32_le().ok()?).ok()?;
    (payload.len() >= length).then(|| payload.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            id: Uuid::now_v7(),
            subject: "weir.usage.t.x".into(),
            time_ms: -3,
            payload: Bytes::from_static(b"p"),
        }
    }

    #[test]
    fn a_record_survives_and_any_flipped_bit_is_noticed() {
        let attempt = Uuid::now_v7();
        let events = vec![event(), event()];
        let mut bytes = Vec::new();
        frame(&mut bytes, 7, Kind::Closed, |b| put_events(b, attempt, &events));
        let Parsed::Record { kind, payload } = parse(&bytes, 7) else { panic!("not parsed") };
        assert_eq!(kind, Kind::Closed);
        assert_eq!(get_events(Bytes::copy_from_slice(payload)), Some((attempt, events)));
        assert_eq!(parse(&bytes, 8), Parsed::Damaged, "another segment's record is not ours");
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(parse(&broken, 7), Parsed::Record { .. }), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(matches!(parse(&bytes[..cut], 7), Parsed::Short(_)), "cut {cut}");
        }
    }

    #[test]
    fn a_segment_header_is_checked() {
        let header = segment_header(99);
        assert_eq!(read_segment_header(&header), Some(99));
        let mut broken = header;
        broken[9] ^= 1;
        assert_eq!(read_segment_header(&broken), None);
    }
}
