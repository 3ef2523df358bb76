//! Streams of AWS's messages, read as the steps they mean.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    answer::{ServiceTier, WireUsage, finish},
    error::exception,
    model::Kind,
};
use crate::{
    aws_frames::Message,
    canonical::{Delta, Event, Failure, Opaque, PartStart, Vendor},
    ids, lenient,
    wire::Decode,
};

/// The members of all events.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Step<'a> {
    #[serde(deserialize_with = "lenient::read")]
    content_block_index: u64,
    #[serde(deserialize_with = "lenient::read")]
    start: Option<Start>,
    #[serde(deserialize_with = "lenient::read")]
    delta: Option<Said>,
    #[serde(deserialize_with = "lenient::read")]
    stop_reason: Option<String>,
    #[serde(borrow)]
    additional_model_response_fields: Option<&'a RawValue>,
    #[serde(deserialize_with = "lenient::read")]
    usage: Option<WireUsage>,
    #[serde(deserialize_with = "lenient::read")]
    service_tier: Option<ServiceTier>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Start {
    #[serde(deserialize_with = "lenient::read")]
    tool_use: Option<Call>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    #[serde(default, deserialize_with = "lenient::read")]
    tool_use_id: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Said {
    #[serde(deserialize_with = "lenient::read")]
    text: Option<String>,
    #[serde(deserialize_with = "lenient::read")]
    tool_use: Option<Input>,
    #[serde(deserialize_with = "lenient::read")]
    reasoning_content: Option<Thought>,
    citation: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default, deserialize_with = "lenient::read")]
    input: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Thought {
    #[serde(deserialize_with = "lenient::read")]
    text: Option<String>,
    #[serde(deserialize_with = "lenient::read")]
    signature: Option<String>,
    #[serde(deserialize_with = "lenient::read")]
    redacted_content: Option<String>,
}

/// A block that has begun, and the part it became.
#[derive(Debug)]
struct Open {
    block: u64,
    index: usize,
    /// A call of which no argument has come: without any its object is empty.
    bare: bool,
}

/// Reads messages.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    parts: Vec<Open>,
    begun: usize,
    finished: bool,
    ended: bool,
    cites: bool,
    /// It is told of input with its cached parts.
    inclusive: bool,
}

impl Decoder {
    pub(super) fn of(model: &str) -> Self {
        Self { inclusive: Kind::of(model) == Kind::OpenAi, ..Self::default() }
    }
}

impl Decode for Decoder {
    fn decode(&mut self, event: &[u8], out: &mut Vec<Event>) {
        let Some(message) = Message::read(event) else { return };
        match message.header(":message-type") {
            Some("exception") => {
                let name = message.header(":exception-type").unwrap_or_default();
                return out.push(Event::Error(exception(name, message.payload)));
            }
            Some("error") => {
                let text = message.header(":error-message").unwrap_or_default().to_owned();
                let code = message.header(":error-code").map(str::to_owned);
                return out.push(Event::Error(Failure { status: 500, message: text, code, param: None }));
            }
            _ => {}
        }
        let Ok(step) = serde_json::from_slice::<Step<'_>>(message.payload) else { return };
        let block = step.content_block_index;
        match message.header(":event-type").unwrap_or_default() {
            "messageStart" => {
                let (id, model) = (ids::plain_or_random(""), String::new());
                out.push(Event::Start { id, model, created: 0, usage: None });
            }
            "contentBlockStart" => {
                if let Some(call) = step.start.and_then(|start| start.tool_use) {
                    self.start(block, PartStart::ToolUse { id: call.tool_use_id, name: call.name }, out);
                }
            }
            "contentBlockDelta" => {
                if let Some(said) = step.delta {
                    self.cites |= said.citation.is_some();
                    self.delta(block, said, out);
                }
            }
            "contentBlockStop" => {
                if let Some(at) = self.parts.iter().position(|open| open.block == block) {
                    let Open { index, bare, .. } = self.parts.swap_remove(at);
                    let empty = bare.then(|| Delta::Arguments("{}".to_owned()));
                    out.extend(empty.map(|delta| Event::PartDelta { index, delta }));
                    out.push(Event::PartStop { index });
                }
            }
            "messageStop" if !self.finished => {
                self.finished = true;
                let reason = step.stop_reason.as_deref().unwrap_or("end_turn");
                let finish = finish(reason, step.additional_model_response_fields);
                out.push(Event::Finish { choice: 0, finish });
            }
            "metadata" => {
                // The last of all.
                self.ended = self.finished;
                let usage = step.usage.map(|usage| if self.inclusive { usage.exclusive() } else { usage });
                let usage = usage.and_then(|usage| usage.inclusive(step.service_tier));
                out.extend(usage.map(Event::Usage));
            }
            _ => {}
        }
    }

    fn cites(&self) -> bool {
        self.cites
    }

    fn ended(&self) -> bool {
        self.ended
    }
}

impl Decoder {
    fn start(&mut self, block: u64, part: PartStart, out: &mut Vec<Event>) -> usize {
        let index = self.begun;
        self.begun += 1;
        self.parts.push(Open { block, index, bare: matches!(part, PartStart::ToolUse { .. }) });
        out.push(Event::PartStart { index, choice: 0, part });
        index
    }

    /// Texts and thoughts begin with their first delta.
    fn part(&mut self, block: u64, part: PartStart, out: &mut Vec<Event>) -> usize {
        let known = self.parts.iter().find(|open| open.block == block).map(|open| open.index);
        known.unwrap_or_else(|| self.start(block, part, out))
    }

    fn delta(&mut self, block: u64, said: Said, out: &mut Vec<Event>) {
        if let Some(text) = said.text {
            let index = self.part(block, PartStart::Text, out);
            if !text.is_empty() {
                out.push(Event::PartDelta { index, delta: Delta::Text(text) });
            }
        }
        if let Some(Input { input }) = said.tool_use.filter(|said| !said.input.is_empty())
            && let Some(open) = self.parts.iter_mut().find(|open| open.block == block)
        {
            open.bare = false;
            out.push(Event::PartDelta { index: open.index, delta: Delta::Arguments(input) });
        }
        let Some(thought) = said.reasoning_content else { return };
        if let Some(data) = thought.redacted_content {
            self.part(block, PartStart::RedactedThinking(Opaque::new(Vendor::Anthropic, data)), out);
            return;
        }
        let index = self.part(block, PartStart::Thinking, out);
        if let Some(text) = thought.text.filter(|text| !text.is_empty()) {
            out.push(Event::PartDelta { index, delta: Delta::Thinking(text) });
        }
        if let Some(signature) = thought.signature.filter(|signature| !signature.is_empty()) {
            let delta = Delta::Opaque(Opaque::new(Vendor::Anthropic, signature));
            out.push(Event::PartDelta { index, delta });
        }
    }
}
