//! A stream of one dialect becoming one of another.

use bytes::{Bytes, BytesMut};
use weir_error::{Code, Error};

use crate::{
    Call, Dialect, Usage,
    canonical::{Collector, Delta, Event, Failure, Finish, Part, PartStart},
    wire::{Decode, Encode},
};

/// Text that is held back until it was looked at; more than that goes on unseen.
const MOST_HELD: usize = 64 * 1024;

/// Event by event. It can keep what the answer said, and hold its text back until somebody has looked at it.
#[derive(Debug)]
pub struct Translator {
    from: Box<dyn Decode>,
    into: Box<dyn Encode>,
    steps: Vec<Event>,
    collector: Option<Collector>,
    hold: Option<Hold>,
    overflown: bool,
}

/// Text of a choice that is whole: what was asked for, if it is what was asked for.
#[derive(Debug)]
pub struct Held {
    pub choice: u64,
    pub text: String,
    /// The model ended it by itself.
    pub whole: bool,
    steps: Vec<Event>,
    finish: Option<Event>,
}

#[derive(Debug, Default)]
struct Hold {
    bytes: usize,
    overflown: bool,
    choices: Vec<Held>,
    /// Parts that are text, and whose.
    parts: Vec<(usize, u64)>,
}

impl Hold {
    /// Keeps a step of a text; others go on.
    fn keep(&mut self, step: &Event) -> bool {
        let choice = match step {
            Event::PartStart { index, choice, part: PartStart::Text } => {
                self.parts.push((*index, *choice));
                *choice
            }
            Event::PartDelta { index, .. } | Event::PartStop { index } => {
                let Some((_, choice)) = self.parts.iter().rev().find(|(part, _)| part == index) else {
                    return false;
                };
                *choice
            }
            Event::Finish { choice, .. } if self.choices.iter().any(|held| held.choice == *choice) => *choice,
            _ => return false,
        };
        let at = self.choices.iter().position(|held| held.choice == choice).unwrap_or_else(|| {
            let (text, steps) = (String::new(), Vec::new());
            self.choices.push(Held { choice, text, whole: false, steps, finish: None });
            self.choices.len() - 1
        });
        let Some(held) = self.choices.get_mut(at) else { return false };
        match step {
            Event::Finish { finish, .. } => {
                held.whole = matches!(finish, Finish::Stop | Finish::StopSequence(_));
                held.finish.get_or_insert_with(|| step.clone());
            }
            step => {
                if let Event::PartDelta { delta: Delta::Text(text), .. } = step {
                    self.bytes += text.len();
                    held.text.push_str(text);
                }
                held.steps.push(step.clone());
            }
        }
        self.overflown |= self.bytes > MOST_HELD || held.steps.len() > MOST_HELD;
        true
    }
}

impl Translator {
    #[must_use]
    pub fn new(provider: Dialect, client: Dialect, call: &Call) -> Self {
        let (from, into) = (provider.provider().decoder(), client.client().encoder(call));
        Self { from, into, steps: Vec::new(), collector: None, hold: None, overflown: false }
    }

    /// Keeps what was said, up to so many bytes.
    #[must_use]
    pub fn keeping(self, bytes: usize) -> Self {
        Self { collector: Some(Collector::new(bytes)), ..self }
    }

    /// Holds text back until it is released.
    #[must_use]
    pub fn holding(self) -> Self {
        Self { hold: Some(Hold::default()), ..self }
    }

    /// The client's events for one whole event of the provider's; may be none.
    ///
    /// # Errors
    /// The provider's error in the middle of its stream.
    pub fn event(&mut self, event: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        self.steps.clear();
        self.from.decode(event, &mut self.steps);
        for step in &self.steps {
            if let Event::Error(failure) = step {
                return Err(in_stream(failure));
            }
            if let Some(collector) = &mut self.collector {
                collector.take(step);
            }
            if !self.hold.as_mut().is_some_and(|hold| hold.keep(step)) {
                self.into.encode(step, out);
            } else if let Some(hold) = self.hold.take_if(|hold| hold.overflown) {
                self.overflown = true;
                hold.choices.into_iter().for_each(|held| pass(&held, &mut *self.into, out));
            }
        }
        Ok(())
    }

    /// What was said, by choices.
    pub fn said(&mut self) -> Vec<Vec<Part>> {
        self.collector.take().map(Collector::choices).unwrap_or_default()
    }

    /// What is held back, to be looked at and released. Nothing is held any more then.
    pub fn held(&mut self) -> Vec<Held> {
        self.hold.take().map(|hold| hold.choices).unwrap_or_default()
    }

    /// Whether the text was too long to be held back.
    #[must_use]
    pub fn overflown(&self) -> bool {
        self.overflown
    }

    /// Lets a text go on, with other words if there are any.
    pub fn release(&mut self, mut held: Held, text: Option<String>, out: &mut BytesMut) {
        if let Some(text) = text {
            let index = held.steps.iter().find_map(|step| match step {
                Event::PartStart { index, .. } => Some(*index),
                _ => None,
            });
            let index = index.unwrap_or_default();
            held.steps = vec![
                Event::PartStart { index, choice: held.choice, part: PartStart::Text },
                Event::PartDelta { index, delta: Delta::Text(text) },
                Event::PartStop { index },
            ];
        }
        pass(&held, &mut *self.into, out);
    }

    /// The end of a whole answer.
    #[must_use]
    pub fn end(&mut self, usage: Usage) -> Bytes {
        let mut out = BytesMut::new();
        self.held().into_iter().for_each(|held| pass(&held, &mut *self.into, &mut out));
        let end = self.into.end(usage);
        if out.is_empty() {
            return end;
        }
        out.extend_from_slice(&end);
        out.freeze()
    }

    /// The end of one that broke off.
    #[must_use]
    pub fn fail(&mut self, error: &Error) -> Bytes {
        let mut out = BytesMut::new();
        self.held().into_iter().for_each(|held| pass(&held, &mut *self.into, &mut out));
        out.extend_from_slice(&self.into.fail(error));
        out.freeze()
    }
}

/// Listens to a stream that goes on as it came, and keeps what it says.
#[derive(Debug)]
pub struct Listener {
    from: Box<dyn Decode>,
    steps: Vec<Event>,
    collector: Collector,
}

impl Listener {
    /// Keeps up to so many bytes.
    #[must_use]
    pub fn new(provider: Dialect, bytes: usize) -> Self {
        Self { from: provider.provider().decoder(), steps: Vec::new(), collector: Collector::new(bytes) }
    }

    /// Takes note of one whole event.
    pub fn observe(&mut self, event: &[u8]) {
        self.steps.clear();
        self.from.decode(event, &mut self.steps);
        self.steps.iter().for_each(|step| self.collector.take(step));
    }

    /// What was said, by choices.
    #[must_use]
    pub fn said(self) -> Vec<Vec<Part>> {
        self.collector.choices()
    }
}

fn pass(held: &Held, into: &mut dyn Encode, out: &mut BytesMut) {
    held.steps.iter().chain(&held.finish).for_each(|step| into.encode(step, out));
}

/// A provider's error as ours, with its words.
fn in_stream(failure: &Failure) -> Error {
    let code = match failure.status {
        429 => Code::RateLimited,
        503 | 529 => Code::Overloaded,
        400 | 413 => Code::InvalidArgument,
        504 => Code::UpstreamTimeout,
        _ => Code::UpstreamFailed,
    };
    let message = if failure.message.is_empty() {
        "the model provider failed in the middle of its answer"
    } else {
        &failure.message
    };
    Error::new(code, message.to_owned())
}
