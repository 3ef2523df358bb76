//! How far the publisher got, kept beside the segments: everything before it is in JetStream.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use super::segment::Position;

const NAME: &str = "cursor";

/// `None` when there is none, or none that can be trusted: everything is published again, under the same ids.
pub(crate) fn load(dir: &Path) -> io::Result<Option<Position>> {
    let bytes = match fs::read(dir.join(NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let sum = bytes.get(16..20).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let (Some(segment), Some(offset)) = (number(0), number(8)) else { return Ok(None) };
    Ok((sum == Some(crc32fast::hash(&bytes[..16]))).then_some(Position { segment, offset }))
}

/// Replaces the file in one step.
pub(crate) fn store(dir: &Path, position: Position, durable: bool) -> io::Result<()> {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&position.segment.to_le_bytes());
    bytes[8..16].copy_from_slice(&position.offset.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&sum.to_le_bytes());
    let temporary = dir.join("cursor.new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&bytes)?;
    if durable {
        file.sync_data()?;
    }
    fs::rename(temporary, dir.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_cursor_is_no_cursor() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        let position = Position { segment: 3, offset: 77 };
        store(dir.path(), position, true).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(position));
        let file = dir.path().join(NAME);
        let mut bytes = fs::read(&file).unwrap();
        bytes[3] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        fs::write(&file, &bytes[..7]).unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
    }
}
