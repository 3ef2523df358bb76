//! Side decoders: they look at a provider's stream as it passes, and change nothing.

use crate::{
    Dialect, Usage, anthropic,
    canonical::Event,
    openai, responses, tokens,
    wire::{Decode, said},
};

/// Text that is counted at once.
const COUNTED_AT: usize = 16 * 1024;

/// What an event is to whoever relays it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// It carries a piece of the answer, or comes after the first that did.
    Delta,
    /// The chunk that only tells usage, in OpenAI's dialect.
    Usage,
    /// The terminal event.
    Done,
    /// The provider's error in the middle of the stream.
    Error,
    /// A role, a finish, a comment, a vendor's own.
    Other,
}

/// The side decoder of a provider's stream.
#[derive(Debug)]
pub enum Tap {
    OpenAi(openai::StreamTap),
    Anthropic(anthropic::StreamTap),
    Responses(responses::StreamTap),
    /// By the dialect's own decoder.
    Decoding(DecodingTap),
}

impl Tap {
    /// For a stream of so many choices.
    #[must_use]
    pub fn new(dialect: Dialect, choices: u64) -> Self {
        match dialect {
            Dialect::OpenAi => Self::OpenAi(openai::StreamTap::new(choices)),
            Dialect::Anthropic => Self::Anthropic(anthropic::StreamTap::default()),
            Dialect::Responses => Self::Responses(responses::StreamTap::default()),
            other => Self::Decoding(DecodingTap::new(Some(other.provider().decoder()), choices)),
        }
    }

    /// For one that is translated: where the dialect has no decoder of the tap's own, what the translation reads will do.
    #[must_use]
    pub fn beside(dialect: Dialect, choices: u64) -> Self {
        match Self::new(dialect, choices) {
            Self::Decoding(_) => Self::Decoding(DecodingTap::new(None, choices)),
            own => own,
        }
    }

    /// It must be told what others read.
    #[must_use]
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Decoding(tap) if tap.decoder.is_none())
    }

    /// Takes note of the steps of one event, and of whether it was the last.
    pub fn told(&mut self, steps: &[Event], ended: bool) -> FrameKind {
        match self {
            Self::Decoding(tap) => tap.told(steps, ended),
            _ => FrameKind::Other,
        }
    }

    /// The steps of the event that was observed last, of a dialect that is decoded here.
    #[must_use]
    pub fn steps(&self) -> &[Event] {
        match self {
            Self::Decoding(tap) => &tap.steps,
            _ => &[],
        }
    }

    /// Takes note of one whole event.
    pub fn observe(&mut self, event: &[u8]) -> FrameKind {
        match self {
            Self::OpenAi(tap) => tap.observe(event),
            Self::Anthropic(tap) => tap.observe(event),
            Self::Responses(tap) => tap.observe(event),
            Self::Decoding(tap) => tap.observe(event),
        }
    }

    /// The provider's own numbers, once they came.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match self {
            Self::OpenAi(tap) => tap.usage(),
            Self::Anthropic(tap) => tap.usage(),
            Self::Responses(tap) => tap.usage(),
            Self::Decoding(tap) => tap.usage,
        }
    }

    /// Whether a chunk came that only tells usage, in OpenAI's dialect.
    #[must_use]
    pub fn told_usage(&self) -> bool {
        matches!(self, Self::OpenAi(tap) if tap.told_usage())
    }

    /// Whether the answer has told why it ended.
    #[must_use]
    pub fn finished(&self) -> bool {
        match self {
            Self::OpenAi(tap) => tap.finished(),
            Self::Anthropic(tap) => tap.finished(),
            Self::Responses(tap) => tap.finished(),
            Self::Decoding(tap) => tap.finished >= tap.choices,
        }
    }

    /// Whether the provider sent an error.
    #[must_use]
    pub fn failed(&self) -> bool {
        match self {
            Self::OpenAi(tap) => tap.failed(),
            Self::Anthropic(tap) => tap.failed(),
            Self::Responses(tap) => tap.failed(),
            Self::Decoding(tap) => tap.failed,
        }
    }

    /// Tokens of the text that passed, counted here.
    #[must_use]
    pub fn count_output(&self) -> u64 {
        match self {
            Self::OpenAi(tap) => tap.count_output(),
            Self::Anthropic(tap) => tap.count_output(),
            Self::Responses(tap) => tap.count_output(),
            Self::Decoding(tap) => tap.counted + tokens::count_text(&tap.text),
        }
    }
}

/// For streams that are few. Translated ones are decoded by their translation.
#[derive(Debug)]
pub struct DecodingTap {
    decoder: Option<Box<dyn Decode>>,
    steps: Vec<Event>,
    choices: u64,
    finished: u64,
    failed: bool,
    usage: Option<Usage>,
    text: String,
    counted: u64,
}

impl DecodingTap {
    fn new(decoder: Option<Box<dyn Decode>>, choices: u64) -> Self {
        Self {
            decoder,
            steps: Vec::new(),
            choices: choices.max(1),
            finished: 0,
            failed: false,
            usage: None,
            text: String::new(),
            counted: 0,
        }
    }

    fn observe(&mut self, event: &[u8]) -> FrameKind {
        let Some(decoder) = &mut self.decoder else { return FrameKind::Other };
        let mut steps = std::mem::take(&mut self.steps);
        steps.clear();
        decoder.decode(event, &mut steps);
        let ended = decoder.ended();
        let kind = self.told(&steps, ended);
        self.steps = steps;
        kind
    }

    fn told(&mut self, steps: &[Event], ended: bool) -> FrameKind {
        let mut kind = FrameKind::Other;
        for step in steps {
            match step {
                Event::Finish { .. } => self.finished += 1,
                Event::Usage(usage) | Event::Start { usage: Some(usage), .. } => self.usage = Some(*usage),
                Event::Error(_) => {
                    self.failed = true;
                    kind = FrameKind::Error;
                }
                Event::PartStart { .. } | Event::PartDelta { .. } => {
                    self.text.push_str(said(step));
                    kind = FrameKind::Delta;
                }
                _ => {}
            }
        }
        if self.text.len() > COUNTED_AT {
            self.counted += tokens::count_text(&self.text);
            self.text.clear();
        }
        if ended { FrameKind::Done } else { kind }
    }
}
