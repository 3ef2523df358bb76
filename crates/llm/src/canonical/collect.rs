//! A streamed answer put together again, within a bound.

use super::{Content, Delta, Event, Media, Part, PartStart, Source, ToolUse};

/// Parts that are told apart.
const MAX_PARTS: usize = 1_024;

/// Gathers the parts of an answer as they come. Of one that grows beyond its bound nothing is kept.
#[derive(Debug)]
pub struct Collector {
    parts: Vec<Gathered>,
    room: usize,
    overflown: bool,
}

#[derive(Debug)]
struct Gathered {
    index: usize,
    choice: u64,
    part: Part,
}

impl Collector {
    /// Keeps so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { parts: Vec::new(), room: bytes, overflown: false }
    }

    pub fn take(&mut self, event: &Event) {
        if self.overflown {
            return;
        }
        match event {
            Event::PartStart { index, choice, part } => self.begin(*index, *choice, part),
            Event::PartDelta { index, delta } => self.more(*index, delta),
            _ => {}
        }
    }

    fn begin(&mut self, index: usize, choice: u64, start: &PartStart) {
        let part: Part = match start {
            PartStart::Text => Content::Text(String::new()).into(),
            PartStart::Thinking => Content::Thinking(String::new()).into(),
            PartStart::Refusal => Content::Refusal(String::new()).into(),
            PartStart::RedactedThinking(opaque) => {
                self.spend(opaque.data.len());
                Part::from(Content::RedactedThinking).with_opaque(Some(opaque.clone()))
            }
            PartStart::ToolUse { id, name } => {
                self.spend(id.len() + name.len());
                let (id, name) = (id.clone(), name.clone());
                Content::ToolUse(ToolUse { id, name, arguments: String::new() }).into()
            }
            PartStart::Image(Media { source, name, detail }) => {
                let (Source::Url(held)
                | Source::Data { data: held, .. }
                | Source::Id(held)
                | Source::Text(held)) = source;
                self.spend(held.len());
                let (name, detail) = (name.clone(), detail.clone());
                // What there is no room for is not copied.
                let source = if self.overflown { Source::Text(String::new()) } else { source.clone() };
                Content::Image(Media { source, name, detail }).into()
            }
            PartStart::Foreign { kind, value } => {
                self.spend(value.get().len());
                Content::Foreign { kind: kind.clone(), value: value.clone() }.into()
            }
        };
        if self.parts.len() >= MAX_PARTS {
            self.spend(usize::MAX);
        }
        if !self.overflown {
            self.parts.push(Gathered { index, choice, part });
        }
    }

    fn more(&mut self, index: usize, delta: &Delta) {
        let size = match delta {
            Delta::Text(t) | Delta::Thinking(t) | Delta::Arguments(t) | Delta::Refusal(t) => t.len(),
            Delta::Opaque(opaque) => opaque.data.len(),
            Delta::Logprobs(tokens) => tokens.len() * size_of::<super::Logprob>(),
        };
        self.spend(size);
        let Some(part) = self.parts.iter_mut().rev().find(|p| p.index == index).map(|p| &mut p.part) else {
            return;
        };
        match (&mut part.content, delta) {
            (Content::Text(said), Delta::Text(more))
            | (Content::Thinking(said), Delta::Thinking(more))
            | (Content::Refusal(said), Delta::Refusal(more)) => said.push_str(more),
            (Content::ToolUse(call), Delta::Arguments(more)) => call.arguments.push_str(more),
            (_, Delta::Opaque(opaque)) => part.opaque = Some(opaque.clone()),
            (_, Delta::Logprobs(more)) => part.logprobs.extend(more.iter().cloned()),
            _ => {}
        }
    }

    fn spend(&mut self, bytes: usize) {
        match self.room.checked_sub(bytes) {
            Some(room) => self.room = room,
            None => {
                self.overflown = true;
                self.parts = Vec::new();
            }
        }
    }

    /// The parts of each choice; none of an answer that was too long.
    #[must_use]
    pub fn choices(self) -> Vec<Vec<Part>> {
        let mut choices: Vec<(u64, Vec<Part>)> = Vec::new();
        for Gathered { choice, part, .. } in self.parts {
            match choices.iter_mut().find(|(known, _)| *known == choice) {
                Some((_, parts)) => parts.push(part),
                None => choices.push((choice, vec![part])),
            }
        }
        choices.sort_by_key(|(choice, _)| *choice);
        choices.into_iter().map(|(_, parts)| parts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_that_is_too_long_nothing_is_kept() {
        let part = PartStart::ToolUse { id: "call_1".to_owned(), name: "f".to_owned() };
        let begun = |room: usize| {
            let mut collector = Collector::new(room);
            collector.take(&Event::PartStart { index: 0, choice: 0, part: part.clone() });
            collector.choices().len()
        };
        assert_eq!((begun(7), begun(6)), (1, 0));
    }
}
