//! Tool calls of one choice, however their provider numbers, names and cuts them: one after another, each begun with its
//! name, and none interleaved with another.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{
    lenient,
    state::{WireExtra, arguments},
};
use crate::canonical::{Delta, Event, Opaque, PartStart, custom};

/// Calls of one choice; more are none that a model makes.
const MAX_CALLS: usize = 256;
/// Bytes of arguments that wait for an earlier call's end; more than that end it.
const MAX_HELD: usize = 1024 * 1024;

#[derive(Deserialize)]
pub(super) struct WireCall<'a> {
    /// Some providers leave it out, or say the same for all.
    #[serde(default, deserialize_with = "lenient::read")]
    index: Option<u64>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    function: Option<WireFunction<'a>>,
    #[serde(borrow, default)]
    custom: Option<WireCustom<'a>>,
    #[serde(default, deserialize_with = "lenient::read")]
    extra_content: Option<WireExtra>,
}

#[derive(Deserialize)]
struct WireFunction<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

/// Of a custom tool: text in pieces.
#[derive(Deserialize)]
struct WireCustom<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    input: Option<Cow<'a, str>>,
}

/// Where a custom tool's text stands in the arguments of the function that stands for it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Text {
    #[default]
    None,
    Open,
    Closed,
}

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: Option<String>,
    name: Option<String>,
    /// What has not been passed on.
    held: String,
    opaque: Option<Opaque>,
    text: Text,
    shape: Shape,
    /// The part it became.
    part: Option<usize>,
}

/// Whether arguments are whole, by their braces.
#[derive(Debug, Default)]
struct Shape {
    depth: usize,
    began: bool,
    in_string: bool,
    escaped: bool,
}

impl Shape {
    fn feed(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => {
                    self.depth += 1;
                    self.began = true;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn whole(&self) -> bool {
        self.began && self.depth == 0 && !self.in_string
    }
}

impl Call {
    fn say(&mut self, text: &str) {
        self.shape.feed(text);
        self.held.push_str(text);
    }

    /// A piece of a custom tool's text.
    fn write(&mut self, piece: &str) {
        if self.text == Text::None {
            self.text = Text::Open;
            self.say(custom::OPENING);
        }
        if self.text == Text::Open {
            self.say(&custom::escaped(piece));
        }
    }

    /// That was all of it.
    fn close(&mut self) {
        if self.text == Text::Open {
            self.text = Text::Closed;
            self.say(custom::CLOSING);
        }
    }
}

/// Calls in the order in which they began. All before `current` have ended.
#[derive(Debug, Default)]
pub(super) struct Calls {
    all: Vec<Call>,
    current: usize,
}

impl Calls {
    pub(super) fn any(&self) -> bool {
        !self.all.is_empty()
    }

    /// Whether no call waits for more of its arguments.
    pub(super) fn settled(&self) -> bool {
        self.all.iter().skip(self.current).all(|call| call.shape.whole())
    }

    /// Takes a piece in.
    pub(super) fn take(&mut self, piece: WireCall<'_>) {
        let (name, raw) = piece.function.map_or((None, None), |f| (f.name, f.arguments));
        let (name, input) = match piece.custom {
            Some(custom) => (name.or(custom.name), Some(custom.input.unwrap_or_default())),
            None => (name, None),
        };
        let name = name.filter(|n| !n.is_empty()).map(Cow::into_owned);
        let id = piece.id.filter(|id| !id.is_empty()).map(Cow::into_owned);
        let Some(at) = self.place(piece.index, id.as_deref(), name.as_deref()) else { return };
        // The next call says that a text is whole.
        self.all.iter_mut().take(at).skip(self.current).for_each(Call::close);
        let Some(call) = self.all.get_mut(at).filter(|_| at >= self.current) else { return };
        call.id = call.id.take().or(id);
        call.name = call.name.take().or(name);
        if let Some(text) = raw.map(arguments) {
            call.say(&text);
        }
        if let Some(input) = input {
            call.write(&input);
        }
        call.opaque = piece.extra_content.and_then(WireExtra::opaque).or(call.opaque.take());
    }

    /// State of a call that came apart from it.
    pub(super) fn prove(&mut self, id: &str, opaque: &Opaque) -> bool {
        let call = self.all.iter_mut().skip(self.current).find(|c| c.id.as_deref() == Some(id));
        call.map(|call| call.opaque = Some(opaque.clone())).is_some()
    }

    /// Which call a piece belongs to; a new one if to none.
    fn place(&mut self, index: Option<u64>, id: Option<&str>, name: Option<&str>) -> Option<usize> {
        let new = |calls: &mut Vec<Call>| {
            if calls.len() >= MAX_CALLS {
                return None;
            }
            calls.push(Call { index, ..Call::default() });
            Some(calls.len() - 1)
        };
        // The last of that index: several calls may bear the same.
        let known = match index {
            Some(_) => self.all.iter().rposition(|c| c.index == index),
            None => match id.and_then(|id| self.all.iter().rposition(|c| c.id.as_deref() == Some(id))) {
                Some(at) => Some(at),
                None if id.is_none() => self.all.len().checked_sub(1),
                None => None,
            },
        };
        let Some(at) = known else { return new(&mut self.all) };
        let call = self.all.get(at)?;
        let other_id = id.is_some_and(|id| call.id.as_deref().is_some_and(|known| known != id));
        // Pieces may repeat their call's name, or bear ids of their own: a named piece that can't be more of a whole
        // call, or has another id, begins the next.
        let nameless = index.is_none() && id.is_none();
        let other_name = !call.shape.began && name != call.name.as_deref();
        let begins = name.is_some()
            && call.name.is_some()
            && (other_id || (nameless && (call.shape.whole() || other_name)));
        if begins { new(&mut self.all) } else { Some(at) }
    }

    /// What can be passed on: of the current call all there is, of the next once this one is whole. One without arguments
    /// shows that by another's being whole. At the `end`, all.
    pub(super) fn flush(
        &mut self,
        end: bool,
        seed: &str,
        parts: &mut usize,
        choice: u64,
        out: &mut Vec<Event>,
    ) {
        if end {
            self.all.iter_mut().skip(self.current).for_each(Call::close);
        }
        let (count, last_whole) = (self.all.len(), self.all.iter().rposition(|call| call.shape.whole()));
        let mut held: usize = self.all.iter().skip(self.current).map(|call| call.held.len()).sum();
        while let Some(call) = self.all.get_mut(self.current) {
            let last = self.current + 1 == count;
            let at = self.current;
            let crowded = held > MAX_HELD;
            if call.part.is_none() {
                if call.name.is_none() && !end && !crowded {
                    return;
                }
                let id = call.id.clone().unwrap_or_else(|| made_up(seed, choice, at));
                let name = call.name.clone().unwrap_or_default();
                out.push(Event::PartStart { index: *parts, choice, part: PartStart::ToolUse { id, name } });
                call.part = Some(*parts);
                *parts += 1;
            }
            let Some(index) = call.part else { return };
            out.extend(call.opaque.take().map(|o| Event::PartDelta { index, delta: Delta::Opaque(o) }));
            if !call.held.is_empty() {
                held = held.saturating_sub(call.held.len());
                let delta = Delta::Arguments(std::mem::take(&mut call.held));
                out.push(Event::PartDelta { index, delta });
            }
            let empty = !call.shape.began && last_whole.is_some_and(|whole| whole > at);
            if !end && (last || !(call.shape.whole() || empty || crowded)) {
                return;
            }
            out.push(Event::PartStop { index });
            self.current += 1;
        }
    }
}

/// An id for a call whose provider gives none: the same however the stream is cut.
pub(in crate::openai) fn made_up(seed: &str, choice: u64, at: usize) -> String {
    let seed: Vec<char> = seed.chars().filter(char::is_ascii_alphanumeric).collect();
    let tail: String = seed.iter().skip(seed.len().saturating_sub(20)).collect();
    if choice == 0 { format!("call_{tail}_{at}") } else { format!("call_{tail}_{choice}_{at}") }
}
