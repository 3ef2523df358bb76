//! Streams of `GenerateContentResponse`s: read as the steps they mean, and written from such steps. None ends one: the
//! body does.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use weir_error::Error;

use super::{
    answer::{
        CallIds, Candidate, OutCandidate, OutContent, OutResponse, Response, Told, WireLogprobs, finish,
        finish_reason, tool_use,
    },
    error::{decode_error, error_frames},
    part::{self, Out, Piece, Read},
};
use crate::{
    Usage,
    canonical::{Content, Delta, Event, Finish, Logprob, Media, Opaque, PartStart, Source},
    prices::Tier,
    sse,
    wire::{Decode, Encode},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
}

/// What a candidate has said so far.
#[derive(Debug, Default)]
struct Saying {
    open: Option<(usize, Kind)>,
    told: Told,
    finished: bool,
}

/// Reads chunks.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    calls: Option<CallIds>,
    /// Parts begun.
    parts: usize,
    candidates: BTreeMap<u64, Saying>,
    blocked: bool,
    /// It cost more than its tokens.
    charged: bool,
    cites: bool,
}

impl Decode for Decoder {
    fn decode(&mut self, event: &[u8], out: &mut Vec<Event>) {
        let Some(data) = sse::data(event) else { return };
        if is_error(&data) {
            out.push(Event::Error(decode_error(0, &data)));
            return;
        }
        let Ok(chunk) = serde_json::from_slice::<Response<'_>>(&data) else { return };
        self.charged |= chunk.candidates.iter().any(Candidate::charged);
        let usage = chunk.usage_metadata.and_then(|told| told.believable());
        let usage =
            usage.map(|usage| if self.charged { Usage { tier: Tier::Other, ..usage } } else { usage });
        if self.calls.is_none() {
            let id = chunk.response_id.unwrap_or_default();
            self.calls = Some(CallIds::new(&id));
            out.push(Event::Start {
                id: id.into_owned(),
                model: chunk.model_version.unwrap_or_default().into_owned(),
                created: 0,
                usage,
            });
        }
        if let Some(why) = chunk.prompt_feedback.and_then(|feedback| feedback.blocked()) {
            self.blocked(why, out);
        }
        for candidate in chunk.candidates {
            self.candidate(candidate, out);
        }
        out.extend(usage.map(Event::Usage));
    }

    fn cites(&self) -> bool {
        self.cites
    }

    /// A prompt that is blocked is not answered, however many answers were asked for.
    fn ended(&self) -> bool {
        self.blocked
    }
}

/// Chunks have no such member, and an error begins with it.
fn is_error(data: &[u8]) -> bool {
    let data = data.trim_ascii_start();
    data.strip_prefix(b"{").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\"error\""))
}

impl Decoder {
    fn blocked(&mut self, why: String, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.blocked, true) {
            return;
        }
        let index = self.begin(0, PartStart::Refusal, out);
        out.push(Event::PartDelta { index, delta: Delta::Refusal(why) });
        out.push(Event::PartStop { index });
        out.push(Event::Finish { choice: 0, finish: Finish::Refusal });
    }

    fn begin(&mut self, choice: u64, part: PartStart, out: &mut Vec<Event>) -> usize {
        let index = self.parts;
        self.parts += 1;
        out.push(Event::PartStart { index, choice, part });
        index
    }

    fn candidate(&mut self, candidate: Candidate<'_>, out: &mut Vec<Event>) {
        let choice = candidate.index;
        self.cites |= candidate.charged();
        if self.candidates.entry(choice).or_default().finished {
            return;
        }
        let mut logprobs = candidate.logprobs_result.map(WireLogprobs::read).filter(|l| !l.is_empty());
        for raw in candidate.content.unwrap_or_default().parts {
            let Ok(Piece { read, opaque, .. }) = part::told(raw) else { continue };
            match read {
                Read::Content(Content::Text(text)) => {
                    let part = self.text(choice, Kind::Text, text, opaque, out);
                    if let (Some(index), Some(told)) = (part, logprobs.take()) {
                        out.push(Event::PartDelta { index, delta: Delta::Logprobs(told) });
                    }
                }
                Read::Content(Content::Thinking(text)) => {
                    self.text(choice, Kind::Thinking, text, opaque, out);
                }
                Read::Bare => {
                    self.text(choice, Kind::Text, String::new(), opaque, out);
                }
                Read::Call(call) => {
                    let Some(call) = self.calls.as_mut().and_then(|calls| tool_use(call, calls)) else {
                        continue;
                    };
                    self.close(choice, out);
                    self.told(choice, Told::Calls);
                    let start = PartStart::ToolUse { id: call.id, name: call.name };
                    let index = self.begin(choice, start, out);
                    out.extend(opaque.map(|o| Event::PartDelta { index, delta: Delta::Opaque(o) }));
                    out.push(Event::PartDelta { index, delta: Delta::Arguments(call.arguments) });
                    out.push(Event::PartStop { index });
                }
                Read::Content(Content::RedactedThinking) => {
                    let Some(opaque) = opaque else { continue };
                    self.whole(choice, PartStart::RedactedThinking(opaque), out);
                }
                Read::Content(Content::Image(media)) => {
                    self.close(choice, out);
                    self.told(choice, Told::Something);
                    let index = self.begin(choice, PartStart::Image(media), out);
                    out.extend(opaque.map(|o| Event::PartDelta { index, delta: Delta::Opaque(o) }));
                    out.push(Event::PartStop { index });
                }
                Read::Content(Content::Foreign { kind, .. }) => {
                    self.whole(choice, PartStart::Foreign { kind, value: raw.to_owned() }, out);
                }
                Read::Content(other) => {
                    let kind = other.kind().to_owned();
                    self.whole(choice, PartStart::Foreign { kind, value: raw.to_owned() }, out);
                }
                Read::Response(_) => {}
            }
        }
        if let Some(reason) = candidate.finish_reason {
            self.close(choice, out);
            let saying = self.candidates.entry(choice).or_default();
            saying.finished = true;
            out.push(Event::Finish { choice, finish: finish(&reason, saying.told) });
        }
    }

    /// A piece of a text, which goes on until its signature. The part it belongs to, if it has any.
    fn text(
        &mut self,
        choice: u64,
        kind: Kind,
        text: String,
        opaque: Option<Opaque>,
        out: &mut Vec<Event>,
    ) -> Option<usize> {
        if text.is_empty() && opaque.is_none() {
            return None;
        }
        let open = self.candidates.entry(choice).or_default().open;
        let index = match open.filter(|(_, open)| *open == kind) {
            Some((index, _)) => index,
            None => {
                self.close(choice, out);
                let part = if kind == Kind::Text { PartStart::Text } else { PartStart::Thinking };
                let index = self.begin(choice, part, out);
                self.candidates.entry(choice).or_default().open = Some((index, kind));
                index
            }
        };
        if !text.is_empty() {
            let delta = if kind == Kind::Text { Delta::Text(text) } else { Delta::Thinking(text) };
            out.push(Event::PartDelta { index, delta });
            self.told(choice, if kind == Kind::Text { Told::Something } else { Told::Nothing });
        }
        if let Some(opaque) = opaque {
            out.push(Event::PartDelta { index, delta: Delta::Opaque(opaque) });
            self.close(choice, out);
        }
        Some(index)
    }

    fn whole(&mut self, choice: u64, part: PartStart, out: &mut Vec<Event>) {
        if !matches!(part, PartStart::RedactedThinking(_)) {
            self.told(choice, Told::Something);
        }
        self.close(choice, out);
        let index = self.begin(choice, part, out);
        out.push(Event::PartStop { index });
    }

    fn told(&mut self, choice: u64, told: Told) {
        let saying = self.candidates.entry(choice).or_default();
        saying.told = saying.told.max(told);
    }

    fn close(&mut self, choice: u64, out: &mut Vec<Event>) {
        let open = self.candidates.entry(choice).or_default().open.take();
        out.extend(open.map(|(index, _)| Event::PartStop { index }));
    }
}

/// Arguments of calls that are not whole yet, in bytes.
const MOST_ARGUMENTS: usize = 1024 * 1024;

/// A part that is being written. Calls go out whole, when they are.
#[derive(Debug)]
enum Writing {
    Text,
    Thinking,
    Call { id: String, name: String, arguments: String, opaque: Option<Opaque> },
}

/// Writes chunks: the last has the finish of every candidate, and the usage.
#[derive(Debug)]
pub(super) struct Encoder {
    id: Option<String>,
    model: String,
    writing: BTreeMap<usize, (u64, Writing)>,
    /// Bytes of arguments in these.
    held: usize,
    /// Candidates that have begun, and how they ended.
    finished: BTreeMap<u64, Option<Finish>>,
}

impl Encoder {
    /// `model` stands in for a name the provider doesn't say; `id` stands for the provider's.
    pub(super) fn new(model: &str, id: Option<&str>) -> Self {
        Self {
            id: id.map(str::to_owned),
            model: model.to_owned(),
            writing: BTreeMap::new(),
            held: 0,
            finished: BTreeMap::new(),
        }
    }

    fn part(&mut self, index: usize, choice: u64, part: &PartStart, out: &mut BytesMut) {
        let writing = match part {
            PartStart::Text | PartStart::Refusal => Writing::Text,
            PartStart::Thinking => Writing::Thinking,
            PartStart::ToolUse { id, name } => {
                Writing::Call { id: id.clone(), name: name.clone(), arguments: String::new(), opaque: None }
            }
            PartStart::RedactedThinking(opaque) => {
                let part = Out { thought: true, ..Out::default() }.signed(Some(part::sealed(opaque)));
                return self.chunk(choice, part, None, out);
            }
            PartStart::Image(Media { source: Source::Data { media_type, data }, .. }) => {
                return self.chunk(choice, Out::blob(media_type, data), None, out);
            }
            PartStart::Image(_) | PartStart::Foreign { .. } => return,
        };
        self.writing.insert(index, (choice, writing));
    }

    fn delta(&mut self, index: usize, delta: &Delta, out: &mut BytesMut) {
        let Some((choice, writing)) = self.writing.get_mut(&index) else { return };
        let (choice, thought) = (*choice, matches!(writing, Writing::Thinking));
        let text = |text| if thought { Out::thought(text) } else { Out::text(text) };
        match (delta, writing) {
            (Delta::Arguments(piece), Writing::Call { arguments, .. }) => {
                self.held += piece.len();
                arguments.push_str(piece);
            }
            (Delta::Opaque(state), Writing::Call { opaque, .. }) => *opaque = Some(state.clone()),
            (Delta::Opaque(state), _) => {
                self.chunk(choice, text("").signed(Some(part::sealed(state))), None, out);
            }
            (
                Delta::Text(piece) | Delta::Refusal(piece) | Delta::Thinking(piece),
                Writing::Text | Writing::Thinking,
            ) if !piece.is_empty() => {
                self.chunk(choice, text(piece), None, out);
            }
            (Delta::Logprobs(told), Writing::Text) => self.chunk(choice, Out::text(""), Some(told), out),
            _ => {}
        }
    }

    fn stop(&mut self, index: usize, out: &mut BytesMut) {
        if let Some((choice, Writing::Call { id, name, arguments, opaque })) = self.writing.remove(&index) {
            self.held = self.held.saturating_sub(arguments.len());
            let call = Out::call(&id, &name, &arguments);
            self.chunk(choice, call.signed(opaque.as_ref().map(part::sealed)), None, out);
        }
    }

    fn chunk(&self, index: u64, part: Out<'_>, logprobs: Option<&[Logprob]>, out: &mut BytesMut) {
        let candidate = OutCandidate {
            content: OutContent::new(vec![part]),
            finish_reason: None,
            index,
            logprobs_result: WireLogprobs::write(logprobs.into_iter().flatten()),
        };
        self.write(vec![candidate], None, out);
    }

    fn write(&self, candidates: Vec<OutCandidate<'_>>, usage: Option<Usage>, out: &mut BytesMut) {
        let response = OutResponse {
            candidates,
            usage_metadata: usage.map(Into::into),
            model_version: &self.model,
            response_id: self.id.as_deref().unwrap_or_default(),
        };
        out.extend_from_slice(b"data: ");
        // Serializing into memory can't fail.
        drop(serde_json::to_writer(out.writer(), &response));
        out.extend_from_slice(b"\n\n");
    }
}

impl Encode for Encoder {
    fn encode(&mut self, event: &Event, out: &mut BytesMut) {
        match event {
            Event::Start { id, model, .. } => {
                self.id.get_or_insert_with(|| id.clone());
                if !model.is_empty() {
                    self.model.clone_from(model);
                }
            }
            Event::PartStart { index, choice, part } => {
                self.finished.entry(*choice).or_default();
                self.part(*index, *choice, part, out);
            }
            Event::PartDelta { index, delta } => self.delta(*index, delta, out),
            Event::PartStop { index } => self.stop(*index, out),
            Event::Finish { choice, finish } => {
                self.finished.entry(*choice).or_default().get_or_insert_with(|| finish.clone());
            }
            // Usage goes with the finish, and an error ends it all.
            Event::Usage(_) | Event::Error(_) => {}
        }
    }

    fn overflown(&self) -> bool {
        self.held > MOST_ARGUMENTS
    }

    fn draws(&self) -> bool {
        true
    }

    fn end(&mut self, usage: Usage) -> Bytes {
        let mut out = BytesMut::new();
        // Calls whose end was not told are whole all the same.
        for index in self.writing.keys().copied().collect::<Vec<_>>() {
            self.stop(index, &mut out);
        }
        let mut finished = std::mem::take(&mut self.finished);
        if finished.is_empty() {
            finished.insert(0, None);
        }
        let candidates = finished.iter().map(|(index, finish)| OutCandidate {
            content: OutContent::new(Vec::new()),
            finish_reason: Some(finish_reason(finish.as_ref().unwrap_or(&Finish::Stop))),
            index: *index,
            logprobs_result: None,
        });
        self.write(candidates.collect(), Some(usage), &mut out);
        out.freeze()
    }

    fn fail(&mut self, error: &Error) -> Bytes {
        error_frames(error)
    }
}
