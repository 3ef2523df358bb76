//! Segment files: names, reading one record after another, and what to do about damage.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::record::{self, Kind, Parsed, RECORD_HEADER, SEGMENT_HEADER};

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// A place in the spool: segment number and byte offset. Ordered as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

pub(crate) fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:016}.log"))
}

/// The segments in the folder, oldest first, with their sizes.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_suffix(".log")).and_then(|n| n.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.metadata()?.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Keeps bytes that could not be used, for a person to look at. The same damage met twice is kept once; says
/// whether this was the first time.
pub(crate) fn quarantine(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<bool> {
    let dir = dir.join("quarantine");
    fs::create_dir_all(&dir)?;
    match File::create_new(dir.join(name)) {
        Ok(mut file) => file.write_all(bytes).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[derive(Debug)]
pub(crate) enum Next {
    Record {
        kind: Kind,
        payload: bytes::Bytes,
        at: u64,
    },
    /// Damage with good records after it: these bytes are skipped.
    Gap {
        at: u64,
        bytes: Vec<u8>,
    },
    /// No further good record. `torn` says that the bytes look like a record cut short, as a crash leaves it.
    Tail {
        at: u64,
        bytes: Vec<u8>,
        torn: bool,
    },
    End,
}

/// Reads the records of one segment up to a limit.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    salt: u32,
    /// Where the next record starts.
    offset: u64,
    limit: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` is behind `offset`.
    used: usize,
}

impl Reader {
    /// `None` when the segment's header is not whole.
    pub(crate) fn open(dir: &Path, segment: u64, offset: u64, limit: u64) -> io::Result<Option<Self>> {
        let mut file = File::open(path(dir, segment))?;
        let mut header = [0; SEGMENT_HEADER];
        if limit < SEGMENT_HEADER as u64 {
            return Ok(None);
        }
        file.read_exact(&mut header)?;
        let Some(salt) = record::read_segment_header(&header) else {
            return Ok(None);
        };
        let offset = offset.max(SEGMENT_HEADER as u64);
        file.seek(SeekFrom::Start(offset))?;
        Ok(Some(Self { file, salt, offset, limit, buffer: Vec::new(), used: 0 }))
    }

    /// Where the next record starts.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn next(&mut self) -> io::Result<Next> {
        let mut need = RECORD_HEADER;
        loop {
            let whole = self.fill(need)?;
            match record::parse(&self.buffer[self.used..], self.salt) {
                Parsed::Record { kind, payload } => {
                    let payload = bytes::Bytes::copy_from_slice(payload);
                    let at = self.advance(RECORD_HEADER + payload.len());
                    return Ok(Next::Record { kind, payload, at });
                }
                Parsed::Short(size) if whole => need = size,
                Parsed::Short(_) if self.used == self.buffer.len() => return Ok(Next::End),
                Parsed::Short(_) => return self.resync(true),
                Parsed::Damaged => return self.resync(false),
            }
        }
    }

    fn advance(&mut self, size: usize) -> u64 {
        let at = self.offset;
        self.used += size;
        self.offset += size as u64;
        at
    }

    /// Makes at least `need` unread bytes available; false when the limit comes first.
    fn fill(&mut self, need: usize) -> io::Result<bool> {
        let have = self.buffer.len() - self.used;
        if have >= need {
            return Ok(true);
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        let left = self.limit.saturating_sub(self.offset).saturating_sub(have as u64);
        let want = (need.max(CHUNK) - have) as u64;
        (&mut self.file).take(want.min(left)).read_to_end(&mut self.buffer)?;
        Ok(self.buffer.len() >= need)
    }

    /// From a bad record to the next good one. The place its length points to is believed first, then every byte.
    fn resync(&mut self, torn: bool) -> io::Result<Next> {
        let rest = self.limit.saturating_sub(self.offset);
        self.fill(usize::try_from(rest).unwrap_or(usize::MAX))?;
        let rest = &self.buffer[self.used..];
        let good = |from: usize| {
            rest.get(from..).is_some_and(|r| {
                record::plausible(r) && matches!(record::parse(r, self.salt), Parsed::Record { .. })
            })
        };
        let length = rest.first_chunk::<4>().map_or(0, |l| u32::from_le_bytes(*l) as usize);
        let jump = RECORD_HEADER.saturating_add(length);
        let next = if good(jump) { Some(jump) } else { (1..rest.len()).find(|from| good(*from)) };
        let bytes = rest[..next.unwrap_or(rest.len())].to_vec();
        let at = self.advance(bytes.len());
        Ok(if next.is_some() {
            Next::Gap { at, bytes }
        } else {
            // A machine that lost power may leave zeros where the last write should be.
            let torn = torn || bytes.iter().all(|b| *b == 0);
            Next::Tail { at, bytes, torn }
        })
    }
}
