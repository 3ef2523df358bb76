//! Streams of chunks, read as the steps they mean.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    answer::{Call, Message, Piece, WireUsage, finish, pieces},
    error::decode_error,
};
use crate::{
    canonical::{Delta, Event, PartStart},
    lenient, sse,
    wire::Decode,
};

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    id: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    created: i64,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    choices: Vec<Choice<'a>>,
    #[serde(default, deserialize_with = "lenient::object")]
    usage: Option<WireUsage>,
    /// Of an error instead.
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    object: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    index: u64,
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    delta: Message<'a>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    /// By the provider's index.
    Call(u64),
}

/// One of the answers that were asked for.
#[derive(Debug, Default)]
struct Track {
    choice: u64,
    open: Option<(usize, Kind)>,
    /// Calls begun: their indices, ids and parts.
    calls: Vec<(u64, Option<String>, usize)>,
    finished: bool,
}

/// Reads chunks.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    ended: bool,
    /// Parts begun.
    parts: usize,
    tracks: Vec<Track>,
}

impl Decode for Decoder {
    fn decode(&mut self, event: &[u8], out: &mut Vec<Event>) {
        let Some(data) = sse::data(event) else { return };
        if data.as_ref() == b"[DONE]" {
            self.ended = true;
            return;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(&data) else { return };
        if let Some(error) = chunk.error {
            return out.push(Event::Error(decode_error(0, error.get().as_bytes())));
        }
        if chunk.object.as_deref() == Some("error") {
            return out.push(Event::Error(decode_error(0, &data)));
        }
        if !self.started {
            self.started = true;
            out.push(Event::Start {
                id: chunk.id.unwrap_or_default().into_owned(),
                model: chunk.model.unwrap_or_default().into_owned(),
                created: chunk.created,
                usage: None,
            });
        }
        for choice in chunk.choices {
            let at = self.tracks.iter().position(|track| track.choice == choice.index);
            let mut track = match at {
                Some(at) => self.tracks.swap_remove(at),
                None => Track { choice: choice.index, ..Track::default() },
            };
            self.choice(choice, &mut track, out);
            self.tracks.push(track);
        }
        out.extend(chunk.usage.and_then(WireUsage::believable).map(Event::Usage));
    }

    fn ended(&self) -> bool {
        self.ended
    }
}

impl Decoder {
    fn choice(&mut self, choice: Choice<'_>, track: &mut Track, out: &mut Vec<Event>) {
        for piece in pieces(choice.delta.content) {
            match piece {
                Piece::Text(text) => {
                    let index = self.open(track, Kind::Text, PartStart::Text, out);
                    out.push(Event::PartDelta { index, delta: Delta::Text(text) });
                }
                Piece::Thinking(text) => {
                    let index = self.open(track, Kind::Thinking, PartStart::Thinking, out);
                    out.push(Event::PartDelta { index, delta: Delta::Thinking(text) });
                }
                Piece::Foreign(kind, value) => {
                    close(track, out);
                    let index = self.begin(track, PartStart::Foreign { kind, value }, out);
                    out.push(Event::PartStop { index });
                }
            }
        }
        for call in choice.delta.tool_calls {
            self.call(call, track, out);
        }
        if let Some(reason) = choice.finish_reason.filter(|_| !track.finished) {
            track.finished = true;
            close(track, out);
            let finish = finish(&reason, !track.calls.is_empty());
            out.push(Event::Finish { choice: track.choice, finish });
        }
    }

    /// Mistral sends calls whole, and has been known to give them all the index 0: another id is another call.
    fn call(&mut self, call: Call<'_>, track: &mut Track, out: &mut Vec<Event>) {
        let arguments = call.function.arguments();
        let id = call.id.filter(|id| !id.is_empty() && id != "null");
        let last = track.calls.last();
        let known = match (&id, call.index) {
            (Some(id), _) => track.calls.iter().find(|(_, known, _)| known.as_ref() == Some(id)),
            (None, Some(index)) => track.calls.iter().rfind(|(known, ..)| *known == index),
            (None, None) => last,
        };
        let part = match known.map(|(_, _, part)| *part) {
            Some(part) => part,
            None => {
                let number = track.calls.len() as u64;
                let named = id.clone().unwrap_or_else(|| format!("call{number:05}"));
                let start = PartStart::ToolUse { id: named, name: call.function.name };
                let part = self.open(track, Kind::Call(number), start, out);
                track.calls.push((call.index.unwrap_or(number), id, part));
                part
            }
        };
        if !arguments.is_empty() {
            out.push(Event::PartDelta { index: part, delta: Delta::Arguments(arguments) });
        }
    }

    /// The open part, if it is of this kind, else a new one in its place.
    fn open(&mut self, track: &mut Track, kind: Kind, part: PartStart, out: &mut Vec<Event>) -> usize {
        if let Some((index, open)) = track.open
            && open == kind
        {
            return index;
        }
        close(track, out);
        let index = self.begin(track, part, out);
        track.open = Some((index, kind));
        index
    }

    fn begin(&mut self, track: &Track, part: PartStart, out: &mut Vec<Event>) -> usize {
        let index = self.parts;
        self.parts += 1;
        out.push(Event::PartStart { index, choice: track.choice, part });
        index
    }
}

fn close(track: &mut Track, out: &mut Vec<Event>) {
    out.extend(track.open.take().map(|(index, _)| Event::PartStop { index }));
}
