//! Streams of lines, read as the steps they mean.

use super::answer::{Line, failure, finish};
use crate::{
    canonical::{Delta, Event, PartStart},
    ids,
    wire::Decode,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
}

/// Reads lines.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    finished: bool,
    open: Option<(usize, Open)>,
    /// Parts begun.
    parts: usize,
    calls: usize,
}

impl Decode for Decoder {
    fn decode(&mut self, event: &[u8], out: &mut Vec<Event>) {
        let Ok(mut line) = serde_json::from_slice::<Line<'_>>(event) else { return };
        if let Some(error) = &line.error {
            return out.push(Event::Error(failure(500, error)));
        }
        if !self.started {
            self.started = true;
            let model = std::mem::take(&mut line.model);
            out.push(Event::Start { id: ids::plain_or_random(""), model, created: 0, usage: None });
        }
        if let Some(message) = line.message.take() {
            self.say(message.thinking, Open::Thinking, out);
            self.say(message.content, Open::Text, out);
            let logprobs = std::mem::take(&mut line.logprobs);
            if let Some((index, Open::Text)) = self.open
                && !logprobs.is_empty()
            {
                let logprobs = logprobs.into_iter().map(Into::into).collect();
                out.push(Event::PartDelta { index, delta: Delta::Logprobs(logprobs) });
            }
            for call in message.tool_calls {
                self.close(out);
                let call = call.named(&line.created_at, self.calls);
                self.calls += 1;
                let index = self.begin(PartStart::ToolUse { id: call.id, name: call.name }, out);
                out.push(Event::PartDelta { index, delta: Delta::Arguments(call.arguments) });
                out.push(Event::PartStop { index });
            }
        }
        if line.done && !std::mem::replace(&mut self.finished, true) {
            self.close(out);
            let finish = finish(line.done_reason.as_deref(), self.calls > 0);
            out.push(Event::Finish { choice: 0, finish });
            out.extend(line.usage().map(Event::Usage));
        }
    }

    fn ended(&self) -> bool {
        self.finished
    }
}

impl Decoder {
    fn begin(&mut self, part: PartStart, out: &mut Vec<Event>) -> usize {
        let index = self.parts;
        self.parts += 1;
        out.push(Event::PartStart { index, choice: 0, part });
        index
    }

    fn say(&mut self, text: Option<String>, kind: Open, out: &mut Vec<Event>) {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        let index = match self.open {
            Some((index, open)) if open == kind => index,
            _ => {
                self.close(out);
                let part = if kind == Open::Text { PartStart::Text } else { PartStart::Thinking };
                let index = self.begin(part, out);
                self.open = Some((index, kind));
                index
            }
        };
        let delta = if kind == Open::Text { Delta::Text(text) } else { Delta::Thinking(text) };
        out.push(Event::PartDelta { index, delta });
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        out.extend(self.open.take().map(|(index, _)| Event::PartStop { index }));
    }
}
