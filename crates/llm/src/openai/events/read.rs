//! Reads chunks.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    super::{
        answer::WireUsage,
        content, error_in_stream, lenient,
        logprobs::WireLogprobs,
        state::{Proof, WireDetail, WireExtra, WireThought},
        whole::finish,
    },
    calls::{Calls, WireCall},
};
use crate::{
    canonical::{Content, Delta, Event, Failure, Losses, Media, Opaque, PartStart, Vendor},
    sse,
    wire::Decode,
};

/// Choices that are told apart.
const MAX_CHOICES: usize = 128;
/// Pieces that wait for a call's end, or for a call of theirs; more than that end it.
const MAX_WAITING: usize = 1024;

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
    #[serde(default, deserialize_with = "lenient::read")]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default, deserialize_with = "lenient::read")]
    index: u64,
    #[serde(borrow, default)]
    delta: Option<Said<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::read")]
    logprobs: Option<WireLogprobs>,
}

#[derive(Deserialize, Default)]
struct Said<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    reasoning_content: Option<Cow<'a, str>>,
    /// The same, as other providers name it.
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    reasoning: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::list")]
    thinking_blocks: Vec<WireThought>,
    #[serde(default, deserialize_with = "lenient::list")]
    reasoning_details: Vec<WireDetail>,
    #[serde(default, deserialize_with = "lenient::read")]
    extra_content: Option<WireExtra>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    tool_calls: Vec<WireCall<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    images: Vec<&'a RawValue>,
    #[serde(default, deserialize_with = "lenient::list")]
    annotations: Vec<IgnoredAny>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Refusal,
}

impl Open {
    fn start(self) -> PartStart {
        match self {
            Self::Text => PartStart::Text,
            Self::Thinking => PartStart::Thinking,
            Self::Refusal => PartStart::Refusal,
        }
    }
}

/// What is said while a call waits for more of its arguments: it comes after the call.
#[derive(Debug)]
enum Later {
    Say(Open, Delta),
    Whole(PartStart),
    Close,
}

/// Reads chunks, of any number of choices.
#[derive(Debug, Default)]
pub(in crate::openai) struct Decoder {
    started: bool,
    id: String,
    /// Parts begun, over all choices.
    parts: usize,
    sides: Vec<Side>,
    cites: bool,
}

/// One choice.
#[derive(Debug, Default)]
struct Side {
    choice: u64,
    /// For ids that its provider doesn't give.
    seed: String,
    finished: bool,
    open: Option<(usize, Open)>,
    calls: Calls,
    refused: bool,
    later: Vec<Later>,
    /// State of calls that have not come yet, by their ids.
    of_calls: Vec<(String, Opaque)>,
}

impl Decode for Decoder {
    fn decode(&mut self, event: &[u8], out: &mut Vec<Event>) {
        let Some(data) = sse::data(event) else { return };
        if data.as_ref() == b"[DONE]" {
            return self.done(out);
        }
        if let Some(failure) = error_in_stream(&data) {
            out.push(Event::Error(failure));
            return;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(&data) else { return };
        if !self.started {
            self.started = true;
            self.id = chunk.id.unwrap_or_default().into_owned();
            out.push(Event::Start {
                id: self.id.clone(),
                model: chunk.model.unwrap_or_default().into_owned(),
                created: chunk.created,
                usage: None,
            });
        }
        for choice in chunk.choices {
            let at = match self.sides.iter().position(|side| side.choice == choice.index) {
                Some(at) => at,
                None if self.sides.len() >= MAX_CHOICES => continue,
                None => {
                    let seed = self.id.clone();
                    self.sides.push(Side { choice: choice.index, seed, ..Side::default() });
                    self.sides.len() - 1
                }
            };
            self.cites |= choice.delta.as_ref().is_some_and(|said| !said.annotations.is_empty());
            let Some(side) = self.sides.get_mut(at) else { continue };
            side.take(choice, &mut self.parts, out);
        }
        out.extend(chunk.usage.and_then(WireUsage::believable).map(Event::Usage));
    }

    fn cites(&self) -> bool {
        self.cites
    }
}

impl Decoder {
    /// Some choices may end without having finished: what was held back is said. Where none has, the provider's own
    /// provider broke off, and it ended the stream all the same.
    fn done(&mut self, out: &mut Vec<Event>) {
        let cut = !self.sides.iter().any(|side| side.finished);
        for side in self.sides.iter_mut().filter(|side| !side.finished) {
            side.end(&mut self.parts, out);
        }
        if cut {
            let message = "the model provider ended its answer without a reason".to_owned();
            out.push(Event::Error(Failure { status: 502, message, ..Failure::default() }));
        }
    }
}

impl Side {
    fn take(&mut self, choice: Choice<'_>, parts: &mut usize, out: &mut Vec<Event>) {
        // Some providers repeat themselves after the end.
        if self.finished {
            return;
        }
        let said = choice.delta.unwrap_or_default();
        let thought =
            said.reasoning_content.filter(|t| !t.is_empty()).or(said.reasoning).map(Cow::into_owned);
        self.thoughts(thought, &said.thinking_blocks, &said.reasoning_details, parts, out);
        if let Some(content) = said.content.and_then(text) {
            self.say(Open::Text, Delta::Text(content), parts, out);
        }
        if let Some(refusal) = said.refusal.filter(|t| !t.is_empty()).map(Cow::into_owned) {
            self.refused = true;
            self.say(Open::Refusal, Delta::Refusal(refusal), parts, out);
        }
        if let Some(opaque) = said.extra_content.and_then(WireExtra::opaque) {
            self.say(Open::Text, Delta::Opaque(opaque), parts, out);
        }
        for media in said.images.into_iter().filter_map(drawn) {
            self.whole(PartStart::Image(media), parts, out);
        }
        let logprobs = choice.logprobs.map(WireLogprobs::into_canonical).unwrap_or_default();
        if let Some((index, _)) =
            self.open.filter(|(_, open)| *open != Open::Thinking && !logprobs.is_empty())
        {
            out.push(Event::PartDelta { index, delta: Delta::Logprobs(logprobs) });
        }
        if !said.tool_calls.is_empty() {
            self.call(said.tool_calls, parts, out);
        }
        if let Some(reason) = choice.finish_reason.filter(|r| !r.is_empty()) {
            self.finished = true;
            self.end(parts, out);
            let finish = finish(&reason, self.calls.any(), self.refused);
            out.push(Event::Finish { choice: self.choice, finish });
        }
    }

    fn call(&mut self, pieces: Vec<WireCall<'_>>, parts: &mut usize, out: &mut Vec<Event>) {
        self.close(out);
        pieces.into_iter().for_each(|piece| self.calls.take(piece));
        let calls = &mut self.calls;
        self.of_calls.retain(|(id, opaque)| !calls.prove(id, opaque));
        self.calls.flush(false, &self.seed, parts, self.choice, out);
        if self.calls.settled() {
            self.late(parts, out);
        }
    }

    /// All that was held back.
    fn end(&mut self, parts: &mut usize, out: &mut Vec<Event>) {
        self.close(out);
        self.calls.flush(true, &self.seed, parts, self.choice, out);
        self.late(parts, out);
        for (_, opaque) in std::mem::take(&mut self.of_calls) {
            self.whole(PartStart::RedactedThinking(opaque), parts, out);
        }
        self.close(out);
    }

    fn late(&mut self, parts: &mut usize, out: &mut Vec<Event>) {
        for later in std::mem::take(&mut self.later) {
            match later {
                Later::Say(kind, delta) => self.say(kind, delta, parts, out),
                Later::Whole(part) => self.whole(part, parts, out),
                Later::Close => self.close(out),
            }
        }
    }

    /// Keeps what has to come after a call; `None` when it need not.
    fn waits(&mut self, later: Later, parts: &mut usize, out: &mut Vec<Event>) -> Option<Later> {
        if self.calls.settled() {
            return Some(later);
        }
        if self.later.len() < MAX_WAITING {
            self.later.push(later);
            return None;
        }
        self.calls.flush(true, &self.seed, parts, self.choice, out);
        self.late(parts, out);
        Some(later)
    }

    /// Thoughts, under whichever names: what says the same twice is taken once.
    fn thoughts(
        &mut self,
        said: Option<String>,
        blocks: &[WireThought],
        details: &[WireDetail],
        parts: &mut usize,
        out: &mut Vec<Event>,
    ) {
        let of_blocks = || -> String { blocks.iter().filter_map(|b| b.thinking.as_deref()).collect() };
        let of_details = || -> String { details.iter().filter_map(WireDetail::said).collect() };
        let said = said.filter(|t| !t.is_empty()).or_else(|| Some(of_blocks()).filter(|t| !t.is_empty()));
        let said = said.or_else(|| Some(of_details()).filter(|t| !t.is_empty()));
        if let Some(text) = said {
            self.say(Open::Thinking, Delta::Thinking(text), parts, out);
        }
        let mut proven = false;
        for proof in blocks.iter().filter_map(WireThought::proof) {
            proven = true;
            self.prove(proof, parts, out);
        }
        for detail in details {
            let Some(opaque) = detail.opaque() else { continue };
            match (detail.of_call(), opaque.vendor) {
                (_, Vendor::Anthropic) if proven => {}
                // The call may come with this chunk, or later.
                (Some(id), Vendor::Google) if self.of_calls.len() < MAX_WAITING => {
                    if !self.calls.prove(id, &opaque) {
                        self.of_calls.push((id.clone(), opaque));
                    }
                }
                _ => {
                    let thinking = matches!(self.open, Some((_, Open::Thinking)));
                    let proof = if thinking { Proof::Signature(opaque) } else { Proof::Redacted(opaque) };
                    self.prove(proof, parts, out);
                }
            }
        }
    }

    /// A proof ends its thought: what is thought next has one of its own.
    fn prove(&mut self, proof: Proof, parts: &mut usize, out: &mut Vec<Event>) {
        match proof {
            Proof::Signature(opaque) => {
                self.say(Open::Thinking, Delta::Opaque(opaque), parts, out);
                if self.waits(Later::Close, parts, out).is_some() {
                    self.close(out);
                }
            }
            Proof::Redacted(opaque) => self.whole(PartStart::RedactedThinking(opaque), parts, out),
        }
    }

    fn whole(&mut self, part: PartStart, parts: &mut usize, out: &mut Vec<Event>) {
        let Some(Later::Whole(part)) = self.waits(Later::Whole(part), parts, out) else { return };
        self.close(out);
        self.calls.flush(true, &self.seed, parts, self.choice, out);
        let (index, choice) = (*parts, self.choice);
        *parts += 1;
        out.push(Event::PartStart { index, choice, part });
        out.push(Event::PartStop { index });
    }

    /// Into the open part, if it is of this kind, else into a new one in its place.
    fn say(&mut self, kind: Open, delta: Delta, parts: &mut usize, out: &mut Vec<Event>) {
        let Some(Later::Say(kind, delta)) = self.waits(Later::Say(kind, delta), parts, out) else { return };
        let index = match self.open {
            Some((index, open)) if open == kind => index,
            _ => {
                self.close(out);
                self.calls.flush(true, &self.seed, parts, self.choice, out);
                let index = *parts;
                *parts += 1;
                self.open = Some((index, kind));
                out.push(Event::PartStart { index, choice: self.choice, part: kind.start() });
                index
            }
        };
        out.push(Event::PartDelta { index, delta });
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        out.extend(self.open.take().map(|(index, _)| Event::PartStop { index }));
    }
}

/// What a model drew.
fn drawn(raw: &RawValue) -> Option<Media> {
    match content::part(raw, "", &mut Losses::default()).ok()?.content {
        Content::Image(media) => Some(media),
        _ => None,
    }
}

/// A string, or the texts of an array of parts.
fn text(raw: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Piece {
        #[serde(default)]
        text: String,
    }
    let text = lenient::string(raw).map(Cow::into_owned).or_else(|| {
        let pieces: Vec<Piece> = serde_json::from_str(raw.get()).ok()?;
        Some(pieces.into_iter().map(|p| p.text).collect())
    });
    text.filter(|t| !t.is_empty())
}
