//! A stream of one dialect becoming one of another.

use bytes::{Bytes, BytesMut};
use weir_error::{Code, Error};

use crate::{
    Call, Dialect, Usage,
    canonical::{
        CITATIONS, Collector, Delta, Event, Failure, Finish, Logprob, Losses, Opaque, Part, PartStart, Wrong,
    },
    names::Names,
    wire::{Decode, Encode},
};

/// What is held back of a stream until it was looked at; more than that goes on unseen.
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
    losses: Losses,
    names: Names,
}

/// Text of a choice that is whole: what was asked for, if it is what was asked for.
#[derive(Debug)]
pub struct Held {
    pub choice: u64,
    /// The model ended it by itself.
    pub whole: bool,
    parts: Vec<HeldPart>,
    finish: Option<Event>,
}

/// A text as far as it came.
#[derive(Debug)]
struct HeldPart {
    index: usize,
    text: String,
    opaque: Option<Opaque>,
    logprobs: Vec<Logprob>,
    stopped: bool,
}

impl HeldPart {
    fn new(index: usize) -> Self {
        Self { index, text: String::new(), opaque: None, logprobs: Vec::new(), stopped: false }
    }
}

impl Held {
    /// All that the choice said.
    #[must_use]
    pub fn text(&self) -> String {
        self.parts.iter().map(|part| part.text.as_str()).collect()
    }

    /// As few steps as say the same.
    fn pass(self, into: &mut dyn Encode, out: &mut BytesMut) {
        let choice = self.choice;
        for HeldPart { index, text, opaque, logprobs, stopped } in self.parts {
            into.encode(&Event::PartStart { index, choice, part: PartStart::Text }, out);
            let deltas = [
                (!text.is_empty()).then_some(Delta::Text(text)),
                (!logprobs.is_empty()).then_some(Delta::Logprobs(logprobs)),
                opaque.map(Delta::Opaque),
            ];
            for delta in deltas.into_iter().flatten() {
                into.encode(&Event::PartDelta { index, delta }, out);
            }
            if stopped {
                into.encode(&Event::PartStop { index }, out);
            }
        }
        if let Some(finish) = &self.finish {
            into.encode(finish, out);
        }
    }
}

#[derive(Debug, Default)]
struct Hold {
    /// Of all choices, with what it takes to keep them.
    bytes: usize,
    choices: Vec<Held>,
}

impl Hold {
    /// Keeps a step of a text; others go on.
    fn keep(&mut self, step: &Event) -> bool {
        match step {
            Event::PartStart { index, choice, part: PartStart::Text } => {
                self.bytes += size_of::<HeldPart>();
                let part = HeldPart::new(*index);
                match self.choices.iter_mut().find(|held| held.choice == *choice) {
                    Some(held) => held.parts.push(part),
                    None => {
                        self.bytes += size_of::<Held>();
                        let parts = vec![part];
                        self.choices.push(Held { choice: *choice, whole: false, parts, finish: None });
                    }
                }
            }
            Event::PartDelta { index, delta } => {
                let Some(part) = self.part(*index) else { return false };
                let bytes = match delta {
                    Delta::Text(text) => {
                        part.text.push_str(text);
                        text.len()
                    }
                    Delta::Opaque(opaque) => {
                        part.opaque = Some(opaque.clone());
                        opaque.data.len() + opaque.id.as_ref().map_or(0, String::len)
                    }
                    Delta::Logprobs(tokens) => {
                        part.logprobs.extend(tokens.iter().cloned());
                        tokens.iter().map(held_bytes).sum()
                    }
                    // Not of a text.
                    Delta::Thinking(_) | Delta::Arguments(_) | Delta::Refusal(_) => 0,
                };
                self.bytes += bytes;
            }
            Event::PartStop { index } => {
                let Some(part) = self.part(*index) else { return false };
                part.stopped = true;
            }
            Event::Finish { choice, finish } => {
                let Some(held) = self.choices.iter_mut().find(|held| held.choice == *choice) else {
                    return false;
                };
                held.whole = matches!(finish, Finish::Stop | Finish::StopSequence(_));
                held.finish.get_or_insert_with(|| step.clone());
            }
            _ => return false,
        }
        true
    }

    fn part(&mut self, index: usize) -> Option<&mut HeldPart> {
        self.choices.iter_mut().flat_map(|held| held.parts.iter_mut().rev()).find(|part| part.index == index)
    }
}

fn held_bytes(token: &Logprob) -> usize {
    let top: usize = token.top.iter().map(held_bytes).sum();
    size_of::<Logprob>() + token.token.len() + token.bytes.as_ref().map_or(0, Vec::len) + top
}

impl Translator {
    #[must_use]
    pub fn new(provider: Dialect, client: Dialect, call: &Call) -> Self {
        let (from, into) = (provider.provider().decoder_for(&call.model), client.client().encoder(call));
        Self {
            from,
            into,
            steps: Vec::new(),
            collector: None,
            hold: None,
            overflown: false,
            losses: Losses::default(),
            names: call.names.clone(),
        }
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
    /// The provider's error in the middle of its stream; more than there is room for where a client's dialect wants
    /// what is streamed whole.
    pub fn event(&mut self, event: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        self.steps.clear();
        self.from.decode(event, &mut self.steps);
        self.names.in_steps(&mut self.steps);
        for step in &self.steps {
            if let Event::Error(failure) = step {
                return Err(in_stream(failure));
            }
            if let Event::Finish { finish, .. } = step
                && let Some(failure) = finish.failure()
            {
                return Err(in_stream(&failure));
            }
            if let Some(collector) = &mut self.collector {
                collector.take(step);
            }
            // No encoder has a place for what is foreign.
            match step {
                Event::PartStart { part: PartStart::Foreign { kind, .. }, .. } => self.losses.unsaid(kind),
                Event::PartStart { part: PartStart::Image(_), .. } if !self.into.draws() => {
                    self.losses.unsaid("image");
                }
                _ => {}
            }
            if !self.hold.as_mut().is_some_and(|hold| hold.keep(step)) {
                self.into.encode(step, out);
            } else if let Some(hold) = self.hold.take_if(|hold| hold.bytes > MOST_HELD) {
                self.overflown = true;
                hold.choices.into_iter().for_each(|held| held.pass(&mut *self.into, out));
            }
            if self.into.overflown() {
                return Err(Error::new(
                    Code::UpstreamFailed,
                    "the model's answer is too long to be translated",
                ));
            }
        }
        Ok(())
    }

    /// What the last event meant.
    #[must_use]
    pub fn steps(&self) -> &[Event] {
        &self.steps
    }

    /// Nothing comes after it.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.from.ended()
    }

    /// What the client was not told of the answer.
    #[must_use]
    pub fn losses(&self) -> Losses {
        let mut losses = self.losses.clone();
        if self.from.cites() {
            losses.unsaid(CITATIONS);
        }
        losses
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
            let index = held.parts.first().map(|part| part.index).unwrap_or_default();
            held.parts = vec![HeldPart { text, stopped: true, ..HeldPart::new(index) }];
        }
        held.pass(&mut *self.into, out);
    }

    /// The end of a whole answer.
    #[must_use]
    pub fn end(&mut self, usage: Usage) -> Bytes {
        let mut out = BytesMut::new();
        self.held().into_iter().for_each(|held| held.pass(&mut *self.into, &mut out));
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
        self.held().into_iter().for_each(|held| held.pass(&mut *self.into, &mut out));
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

    /// Takes note of what somebody else has decoded already.
    pub fn told(&mut self, steps: &[Event]) {
        steps.iter().for_each(|step| self.collector.take(step));
    }

    /// What was said, by choices.
    #[must_use]
    pub fn said(self) -> Vec<Vec<Part>> {
        self.collector.choices()
    }
}

/// A provider's error as ours, with its words.
fn in_stream(failure: &Failure) -> Error {
    let code = match (failure.wrong(), failure.status) {
        (Wrong::ContextLength, _) => Code::ContextLengthExceeded,
        (Wrong::Quota, _) => Code::InsufficientQuota,
        (_, 429) => Code::RateLimited,
        (_, 503 | 529) => Code::Overloaded,
        (_, 400 | 413) => Code::InvalidArgument,
        (_, 504) => Code::UpstreamTimeout,
        _ => Code::UpstreamFailed,
    };
    let message = if failure.message.is_empty() {
        "the model provider failed in the middle of its answer"
    } else {
        &failure.message
    };
    Error::new(code, message.to_owned())
}
