//! Messages of AWS's event streams: <https://smithy.io/2.0/aws/amazon-eventstream.html>.
//!
//! `total length, headers' length, checksum of both, headers, payload, checksum of all`, numbers in network order.
//! Own code, as the vendor's crate comes with twenty others.

use crate::framing::{FrameError, MAX_EVENT};

const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;
/// The type of a header that is text.
const STRING: u8 = 7;

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// Where the message at the beginning ends; its checksums are checked.
pub(crate) fn end(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let (Some(total), Some(headers), Some(checksum)) = (number(bytes, 0), number(bytes, 4), number(bytes, 8))
    else {
        return Ok(None);
    };
    if crc32fast::hash(bytes.get(..8).unwrap_or_default()) != checksum {
        return Err(FrameError::Corrupt);
    }
    let (total, headers) = (total as usize, headers as usize);
    if total > MAX_EVENT {
        return Err(FrameError::TooLong);
    }
    if total < PRELUDE + CHECKSUM + headers {
        return Err(FrameError::Corrupt);
    }
    let Some(message) = bytes.get(..total) else { return Ok(None) };
    let (checked, checksum) = message.split_at(total - CHECKSUM);
    if number(checksum, 0) != Some(crc32fast::hash(checked)) {
        return Err(FrameError::Corrupt);
    }
    Ok(Some(total))
}

/// A whole message, checked before.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    headers: &'a [u8],
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// `None` for what is no whole message.
    #[must_use]
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let headers = number(message, 4)? as usize;
        let payload_at = PRELUDE.checked_add(headers)?;
        Some(Self {
            headers: message.get(PRELUDE..payload_at)?,
            payload: message.get(payload_at..message.len().checked_sub(CHECKSUM)?)?,
        })
    }

    /// A header that is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.headers;
        while let Some((&length, after)) = rest.split_first() {
            let (found, after) = after.split_at_checked(length.into())?;
            let (&kind, after) = after.split_first()?;
            let (size, after) = match kind {
                0 | 1 => (0, after),
                2 => (1, after),
                3 => (2, after),
                4 => (4, after),
                5 | 8 => (8, after),
                9 => (16, after),
                6 | STRING => {
                    let (size, after) = after.split_at_checked(2)?;
                    (u16::from_be_bytes(size.try_into().ok()?).into(), after)
                }
                _ => return None,
            };
            let (value, after) = after.split_at_checked(size)?;
            if found == name.as_bytes() && kind == STRING {
                return std::str::from_utf8(value).ok();
            }
            rest = after;
        }
        None
    }
}

/// Writes a message whose headers are text.
pub fn write(headers: &[(&str, &str)], payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let headers_length: usize = headers.iter().map(|(name, value)| 1 + name.len() + 3 + value.len()).sum();
    let total = PRELUDE + headers_length + payload.len() + CHECKSUM;
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length(total));
    out.extend_from_slice(&length(headers_length));
    let checksum = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_be_bytes());
    for (name, value) in headers {
        out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(name.as_bytes());
        out.push(STRING);
        out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(payload);
    let checksum = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of AWS's own tests (`aws-c-event-stream`): no headers, a payload, a header that is a number.
    const EMPTY: &[u8] = b"\x00\x00\x00\x10\x00\x00\x00\x00\x05\xc2\x48\xeb\x7d\x98\xc8\xff";
    const PAYLOAD: &[u8] = b"\x00\x00\x00\x1d\x00\x00\x00\x00\xfd\x52\x8c\x5a{'foo':'bar'}\xc3\x65\x39\x36";
    const NUMBERED: &[u8] = b"\x00\x00\x00\x2b\x00\x00\x00\x0e\x34\x8b\xec\x7b\x08event-id\x04\x00\x00\xa0\x0c{'foo':'bar'}\xd3\x89\x02\x85";

    #[test]
    fn aws_s_own_vectors_are_read_and_written() {
        for (vector, payload) in
            [(EMPTY, &b""[..]), (PAYLOAD, b"{'foo':'bar'}"), (NUMBERED, b"{'foo':'bar'}")]
        {
            assert_eq!(end(vector), Ok(Some(vector.len())));
            assert_eq!(end(&vector[..vector.len() - 1]), Ok(None));
            assert_eq!(Message::read(vector).unwrap().payload, payload);
        }
        assert_eq!(Message::read(NUMBERED).unwrap().header("event-id"), None);
        let mut written = Vec::new();
        write(&[], b"{'foo':'bar'}", &mut written);
        assert_eq!(written, PAYLOAD);
    }

    #[test]
    fn headers_are_found_among_others() {
        let mut written = Vec::new();
        write(&[(":message-type", "event"), (":event-type", "chunk")], b"x", &mut written);
        assert_eq!(end(&written), Ok(Some(written.len())));
        let message = Message::read(&written).unwrap();
        assert_eq!(message.header(":event-type"), Some("chunk"));
        assert_eq!((message.header("other"), message.payload), (None, &b"x"[..]));
    }
}
