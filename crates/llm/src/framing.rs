//! How providers' streams are cut into events.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::{aws_frames, sse};

/// An event longer than this is refused: in most dialects no provider's is.
pub const MAX_EVENT: usize = 1024 * 1024;
/// The same in dialects whose events repeat the request, or hold whole images.
pub const MAX_LONG_EVENT: usize = 16 * 1024 * 1024;

/// What a stream is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// Server-sent events.
    #[default]
    Sse,
    /// A JSON object a line.
    Lines,
    /// AWS's binary messages: <https://smithy.io/2.0/aws/amazon-eventstream.html>.
    AwsFrames,
}

impl Framing {
    /// Whether an answer of this content type is a stream so framed.
    #[must_use]
    pub fn matches(self, content_type: &[u8]) -> bool {
        let kinds: &[&str] = match self {
            Self::Sse => &["text/event-stream"],
            Self::Lines => &["application/x-ndjson", "application/jsonl", "application/x-jsonlines"],
            Self::AwsFrames => &["application/vnd.amazon.eventstream"],
        };
        let end = content_type.iter().position(|b| *b == b';').unwrap_or(content_type.len());
        let kind = content_type.get(..end).unwrap_or_default().trim_ascii();
        kinds.iter().any(|known| kind.eq_ignore_ascii_case(known.as_bytes()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("an event of the stream is too long")]
    TooLong,
    #[error("an event of the stream is not what its checksum says")]
    Corrupt,
}

/// Takes pieces as they come from the network; gives whole events. An event that came whole in one piece is a slice
/// of it, not a copy.
#[derive(Debug)]
pub struct Splitter {
    framing: Framing,
    /// Longest event, in bytes.
    most: usize,
    /// The start of an event whose end has not come.
    begun: BytesMut,
    pieces: VecDeque<Bytes>,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { framing: Framing::Sse, most: MAX_EVENT, begun: BytesMut::new(), pieces: VecDeque::new() }
    }
}

impl Splitter {
    /// Of server-sent events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn of(framing: Framing) -> Self {
        Self { framing, ..Self::default() }
    }

    /// Events may have so many bytes.
    #[must_use]
    pub fn up_to(self, most: usize) -> Self {
        Self { most, ..self }
    }

    pub fn feed(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Bytes that belong to no whole event yet.
    #[must_use]
    pub fn leftover(&self) -> usize {
        self.begun.len() + self.pieces.iter().map(Bytes::len).sum::<usize>()
    }

    /// The next whole event, with whatever ends it; `None` until more is fed.
    ///
    /// # Errors
    /// The event outgrew its bound, or its bytes are not those that were sent.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, FrameError> {
        while let Some(mut piece) = self.pieces.pop_front() {
            if self.begun.is_empty() {
                if let Some(end) = self.event_end(&piece, 0)? {
                    let event = piece.split_to(end);
                    if piece.has_remaining() {
                        self.pieces.push_front(piece);
                    }
                    return Ok(Some(event));
                }
                self.begun.extend_from_slice(&piece);
            } else {
                // The end may straddle the border: its last bytes are looked at again.
                let seen = self.begun.len();
                self.begun.extend_from_slice(&piece);
                if let Some(end) = self.event_end(&self.begun, seen.saturating_sub(3))? {
                    let event = self.begun.split_to(end).freeze();
                    let rest = std::mem::take(&mut self.begun).freeze();
                    if !rest.is_empty() {
                        self.pieces.push_front(rest);
                    }
                    return Ok(Some(event));
                }
            }
            if self.begun.len() > self.most {
                return Err(FrameError::TooLong);
            }
        }
        Ok(None)
    }

    /// What is left when the body is over: a last line may lack its end.
    #[must_use]
    pub fn last_event(&mut self) -> Option<Bytes> {
        let rest = std::mem::take(&mut self.begun).freeze();
        (self.framing == Framing::Lines && !rest.trim_ascii().is_empty()).then_some(rest)
    }

    /// Where the first event ends. No end begins before `from`.
    fn event_end(&self, bytes: &[u8], from: usize) -> Result<Option<usize>, FrameError> {
        match self.framing {
            Framing::Sse => Ok(sse::event_end(bytes, from)),
            Framing::Lines => {
                let rest = bytes.get(from..).unwrap_or_default();
                Ok(memchr::memchr(b'\n', rest).map(|at| from + at + 1))
            }
            Framing::AwsFrames => aws_frames::end(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    fn split(framing: Framing, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::of(framing);
        let mut events = Vec::new();
        for piece in pieces {
            splitter.feed(Bytes::copy_from_slice(piece));
            while let Some(event) = splitter.next_event().unwrap() {
                events.push(event.to_vec());
            }
        }
        events.extend(splitter.last_event().map(|e| e.to_vec()));
        events
    }

    #[test]
    fn every_split_of_lines_and_frames_gives_the_same_events() {
        let mut frames = Vec::new();
        for (kind, payload) in [("messageStart", "{}"), ("metadata", r#"{"usage":{}}"#), ("x", "")] {
            aws_frames::write(&[(":event-type", kind)], payload.as_bytes(), &mut frames);
        }
        let lines = b"{\"a\":1}\r\n{\"b\":\"\xc3\xa9\"}\n\n{\"done\":true}";
        for (framing, stream, count) in [(Framing::AwsFrames, &frames[..], 3), (Framing::Lines, lines, 4)] {
            let whole = split(framing, &[stream]);
            assert_eq!(whole.len(), count, "{framing:?}");
            assert_eq!(whole.concat(), stream);
            for at in 0..=stream.len() {
                let (a, b) = stream.split_at(at);
                assert_eq!(split(framing, &[a, b]), whole, "{framing:?} at {at}");
            }
            let bytes: Vec<_> = stream.chunks(1).collect();
            assert_eq!(split(framing, &bytes), whole);
        }
    }

    #[test]
    fn a_flipped_bit_and_an_endless_line_are_refused() {
        let mut frame = Vec::new();
        aws_frames::write(&[(":event-type", "x")], b"{\"text\":\"hello\"}", &mut frame);
        for at in 0..frame.len() {
            let mut broken = frame.clone();
            broken[at] ^= 4;
            let mut splitter = Splitter::of(Framing::AwsFrames);
            splitter.feed(Bytes::from(broken));
            assert!(!matches!(splitter.next_event(), Ok(Some(_))), "at {at}");
        }
        let mut splitter = Splitter::of(Framing::Lines);
        splitter.feed(Bytes::from(vec![b'x'; MAX_EVENT + 1]));
        assert_eq!(splitter.next_event(), Err(FrameError::TooLong));
    }

    #[test]
    fn events_are_as_long_as_their_dialect_has_them() {
        let event = [b"data: ".as_slice(), &vec![b'x'; 3 * MAX_EVENT], b"\n\n"].concat();
        for dialect in [Dialect::Responses, Dialect::Gemini, Dialect::OpenAi, Dialect::Anthropic] {
            let long = dialect != Dialect::Anthropic;
            let provider = dialect.provider();
            assert_eq!(provider.max_event(), if long { MAX_LONG_EVENT } else { MAX_EVENT });
            let mut splitter = Splitter::of(provider.framing()).up_to(provider.max_event());
            let mut pieces = event.chunks(64 * 1024);
            let first = pieces.find_map(|piece| {
                splitter.feed(Bytes::copy_from_slice(piece));
                splitter.next_event().transpose()
            });
            let length = first.unwrap().map(|event| event.len());
            assert_eq!(length, if long { Ok(event.len()) } else { Err(FrameError::TooLong) }, "{dialect:?}");
        }
    }

    #[test]
    fn content_types_tell_streams_from_whole_answers() {
        assert!(Framing::Sse.matches(b"text/event-stream; charset=utf-8"));
        assert!(Framing::AwsFrames.matches(b"application/vnd.amazon.eventstream"));
        assert!(Framing::Lines.matches(b"Application/x-ndjson"));
        assert!(!Framing::Lines.matches(b"application/json; charset=utf-8"));
        assert!(!Framing::Sse.matches(b"text/event-streams"));
    }
}
