//! What a dialect has to know to be spoken: by clients, by providers, or both. One unit struct a dialect implements
//! these; `dialect.rs` has a line for it.

use std::{borrow::Cow, fmt};

use bytes::{Bytes, BytesMut};
use weir_error::Error;

use crate::{
    Framing, Target, Usage,
    canonical::{Answer, Content, Delta, Event, Failure, Losses, PartStart, Request, ToolUse},
    framing::MAX_EVENT,
    names::Names,
    tokens,
};

/// What an answer needs to know of the call it answers.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Stands in for a name the provider doesn't say.
    pub model: String,
    /// Unix seconds; stands in likewise.
    pub now_s: i64,
    /// The client asked for the usage chunk, in the dialect that has one.
    pub include_usage: bool,
    /// The client's body, for dialects whose answers repeat it.
    pub request: Bytes,
    /// The id that the answer has with us; `None`: the provider's.
    pub id: Option<String>,
    /// Names of functions that its provider was told otherwise.
    pub names: Names,
}

/// A dialect as clients speak it.
pub trait Client: Sync {
    /// What a body means. What this dialect alone has is named as lost; members nobody knows stay in `extras`.
    ///
    /// # Errors
    /// A member that is not of its type, by its path.
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, Error>;

    /// A whole answer; `usage` is what it was metered as. What it has no place for is named.
    fn encode_answer(&self, answer: &Answer, usage: Usage, call: &Call, losses: &mut Losses) -> Bytes;

    fn encoder(&self, call: &Call) -> Box<dyn Encode>;

    /// A provider's refusal, and the status that goes with it here.
    fn encode_error(&self, failure: Failure, request_id: Option<&str>) -> (u16, Bytes);

    /// An error of our own.
    fn error_body(&self, error: &Error, request_id: Option<&str>) -> Bytes;

    /// An error of our own in a stream of which nothing is known, and the stream's end.
    fn error_frames(&self, error: &Error) -> Bytes;

    /// The event that ends a stream; empty in dialects that have none.
    fn terminal(&self) -> Bytes;

    /// What the last object of a stream that tells how it went has in it, and no text in it can have.
    fn tells(&self) -> &'static [u8];

    /// What keeps a silent stream open, between two events.
    fn keep_alive(&self) -> Bytes {
        Bytes::from_static(b": keep-alive\n\n")
    }

    /// This dialect's name of a field that translations name as OpenAI or Anthropic do.
    fn field<'a>(&self, field: &'a str) -> &'a str {
        field
    }

    /// How many bytes of line feeds an event has, to count events by.
    fn lines_an_event(&self) -> u64 {
        2
    }
}

/// A dialect as providers speak it.
pub trait Provider: Sync {
    /// Where chat is asked for, below the base URL.
    fn path(&self, model: &str, stream: bool) -> Cow<'static, str>;

    /// What its streams are made of.
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    /// Longest event of its streams, in bytes.
    fn max_event(&self) -> usize {
        MAX_EVENT
    }

    /// Whether the model takes custom tools; they are functions to all others.
    fn takes_custom_tools(&self, _model: &str) -> bool {
        false
    }

    /// The body for a provider. What it cannot say is named.
    fn encode_request(&self, request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes;

    /// `None` for what is no answer.
    fn decode_answer(&self, body: &[u8]) -> Option<Answer>;

    fn decoder(&self) -> Box<dyn Decode>;

    /// For a model of whose streams something is different.
    fn decoder_for(&self, _model: &str) -> Box<dyn Decode> {
        self.decoder()
    }

    /// A refusal with this status.
    fn decode_error(&self, status: u16, body: &[u8]) -> Failure;

    /// What went wrong, where a whole answer says so itself, whatever its status.
    fn failure_of_answer(&self, _body: &[u8]) -> Option<Failure> {
        None
    }

    /// What a whole answer says that it used.
    fn usage_of_answer(&self, body: &[u8]) -> Option<Usage> {
        self.decode_answer(body)?.usage
    }

    /// Output tokens of a whole answer, counted here.
    fn count_answer(&self, body: &[u8]) -> u64 {
        self.decode_answer(body).map_or(0, |answer| count_output(&answer))
    }

    /// Input tokens of a body, counted here.
    fn count_prompt(&self, body: &[u8]) -> u64;
}

/// Reads a stream.
pub trait Decode: Send + Sync + fmt::Debug {
    /// The steps of one whole event of the stream.
    fn decode(&mut self, event: &[u8], out: &mut Vec<Event>);

    /// The answer says where it has what it says from.
    fn cites(&self) -> bool {
        false
    }

    /// Nothing comes after the last event: the stream is whole, though its body may go on.
    fn ended(&self) -> bool {
        false
    }
}

/// Writes a stream: whatever comes, exactly one finish, then the usage where it was asked for, then the terminal event.
pub trait Encode: Send + Sync + fmt::Debug {
    fn encode(&mut self, event: &Event, out: &mut BytesMut);

    /// There is a place for images that the model drew.
    fn draws(&self) -> bool {
        false
    }

    /// More is kept for the answer's sake than there is room for: it can't go on.
    fn overflown(&self) -> bool {
        false
    }

    /// The end of a whole answer.
    fn end(&mut self, usage: Usage) -> Bytes;

    /// The end of one that broke off.
    fn fail(&mut self, error: &Error) -> Bytes;
}

/// Tokens of all that an answer says.
pub(crate) fn count_output(answer: &Answer) -> u64 {
    let count = |text: &mut String, content: &Content| match content {
        Content::Text(said) | Content::Thinking(said) | Content::Refusal(said) => text.push_str(said),
        Content::ToolUse(ToolUse { name, arguments, .. }) => {
            text.push_str(name);
            text.push_str(arguments);
        }
        _ => {}
    };
    let choices = answer.choices.iter().map(|choice| {
        let mut text = String::new();
        choice.parts.iter().for_each(|part| count(&mut text, &part.content));
        tokens::count_text(&text)
    });
    choices.sum()
}

/// The text of a step that costs tokens.
pub(crate) fn said(event: &Event) -> &str {
    match event {
        Event::PartStart { part: PartStart::ToolUse { name, .. }, .. } => name,
        Event::PartDelta { delta, .. } => match delta {
            Delta::Text(t) | Delta::Thinking(t) | Delta::Arguments(t) | Delta::Refusal(t) => t,
            Delta::Opaque(_) | Delta::Logprobs(_) => "",
        },
        _ => "",
    }
}
