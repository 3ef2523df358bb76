//! Server-sent events, cut into whole ones: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
//!
//! The bytes themselves are not changed: an event keeps its lines, its line ends, and the empty line after it.

use std::borrow::Cow;

pub use crate::framing::Splitter;

/// Where the first event ends: after an empty line. Lines end with LF, CR LF or CR. A CR at the very end waits for
/// what follows, as it may be half of a CR LF.
pub(crate) fn event_end(bytes: &[u8], from: usize) -> Option<usize> {
    for at in memchr::memchr2_iter(b'\n', b'\r', bytes.get(from..)?).map(|i| i + from) {
        let next = after_line_end(bytes, at)?;
        if let Some(end) = after_line_end(bytes, next) {
            return Some(end);
        }
    }
    None
}

/// The position after the line end at `at`; `None` if there is none, or it may not be whole.
fn after_line_end(bytes: &[u8], at: usize) -> Option<usize> {
    match (bytes.get(at)?, bytes.get(at + 1)) {
        (b'\n', _) => Some(at + 1),
        (b'\r', Some(b'\n')) => Some(at + 2),
        (b'\r', Some(_)) => Some(at + 1),
        _ => None,
    }
}

/// The value of an event's `data` lines: borrowed when there is one line, as is usual.
#[must_use]
pub fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut found: Option<Cow<'_, [u8]>> = None;
    let mut rest = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    while !rest.is_empty() {
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        let Some(value) = line.strip_prefix(b"data:") else { continue };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &mut found {
            None => found = Some(value.into()),
            Some(data) => {
                let data = data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::framing::MAX_EVENT;

    fn split(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::new();
        let mut events = Vec::new();
        for piece in pieces {
            splitter.feed(Bytes::copy_from_slice(piece));
            while let Some(event) = splitter.next_event().unwrap() {
                events.push(event.to_vec());
            }
        }
        events
    }

    const STREAM: &[u8] =
        b": hello\n\ndata: {\"a\":1}\n\nevent: x\r\ndata: b\r\ndata: c\r\n\r\ndata: d\r\rdata: [DONE]\n\n";

    #[test]
    fn every_split_gives_the_same_events() {
        let whole = split(&[STREAM]);
        assert_eq!(whole.len(), 5);
        assert_eq!(whole.concat(), STREAM);
        for at in 0..=STREAM.len() {
            let (a, b) = STREAM.split_at(at);
            assert_eq!(split(&[a, b]), whole, "split at {at}");
        }
        let bytes: Vec<_> = STREAM.chunks(1).collect();
        assert_eq!(split(&bytes), whole);
    }

    proptest! {
        #[test]
        fn any_splits_of_anything_give_the_same_events(
            text in "(data: [a-z]{0,4}|:|\n|\r|\r\n){0,40}\n",
            cuts in prop::collection::vec(0usize..200, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(split(&pieces), split(&[bytes]));
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut splitter = Splitter::new();
        let refused = (0..MAX_EVENT / 1000 + 2).any(|_| {
            splitter.feed(Bytes::from(vec![b'x'; 1000]));
            splitter.next_event().is_err()
        });
        assert!(refused);
    }

    #[test]
    fn data_lines_are_joined() {
        assert_eq!(data(b"data: a\r\ndata:b\r\n\r\n").unwrap().as_ref(), b"a\nb");
        assert_eq!(data(b": comment\n\n"), None);
    }
}
