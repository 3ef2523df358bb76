//! A whole answer as a stream: for clients that asked for one, of providers that gave none.

use bytes::{Bytes, BytesMut};

use crate::{
    Call, Dialect, Usage,
    canonical::{Answer, Content, Delta, Event, Losses, Part, PartStart},
};

impl Dialect {
    /// In the dialect of a client, from its first event to its last. What it has no place for is named. `None` for
    /// what is too long for it.
    #[must_use]
    pub fn replay(self, answer: &Answer, usage: Usage, call: &Call, losses: &mut Losses) -> Option<Bytes> {
        let mut into = self.client().encoder(call);
        let mut out = BytesMut::new();
        let (id, model) = (answer.id.clone(), answer.model.clone());
        let start = Event::Start { id, model, created: answer.created, usage: Some(usage) };
        into.encode(&start, &mut out);
        let mut index = 0;
        for (choice, said) in (0..).zip(&answer.choices) {
            for part in &said.parts {
                let Some(start) = begun(part) else {
                    losses.unsaid(part.content.kind());
                    continue;
                };
                match &start {
                    PartStart::Foreign { kind, .. } => losses.unsaid(kind),
                    PartStart::Image(_) if !into.draws() => losses.unsaid("image"),
                    _ => {}
                }
                into.encode(&Event::PartStart { index, choice, part: start }, &mut out);
                for delta in deltas(part) {
                    into.encode(&Event::PartDelta { index, delta }, &mut out);
                }
                into.encode(&Event::PartStop { index }, &mut out);
                index += 1;
            }
            into.encode(&Event::Finish { choice, finish: said.finish.clone() }, &mut out);
        }
        if into.overflown() {
            return None;
        }
        out.extend_from_slice(&into.end(usage));
        Some(out.freeze())
    }
}

/// How a part begins, if there is such a part of a stream.
fn begun(part: &Part) -> Option<PartStart> {
    Some(match &part.content {
        Content::Text(_) => PartStart::Text,
        Content::Thinking(_) => PartStart::Thinking,
        Content::Refusal(_) => PartStart::Refusal,
        Content::RedactedThinking => PartStart::RedactedThinking(part.opaque.clone()?),
        Content::ToolUse(call) => PartStart::ToolUse { id: call.id.clone(), name: call.name.clone() },
        Content::Image(media) => PartStart::Image(media.clone()),
        Content::Foreign { kind, value } => PartStart::Foreign { kind: kind.clone(), value: value.clone() },
        Content::Audio(_) | Content::File(_) | Content::ToolResult(_) => return None,
    })
}

fn deltas(part: &Part) -> impl Iterator<Item = Delta> {
    let said = match &part.content {
        Content::Text(text) => Some(Delta::Text(text.clone())),
        Content::Thinking(text) => Some(Delta::Thinking(text.clone())),
        Content::Refusal(text) => Some(Delta::Refusal(text.clone())),
        Content::ToolUse(call) => Some(Delta::Arguments(call.arguments.clone())),
        _ => None,
    };
    let opaque = part.opaque.clone().filter(|_| !matches!(part.content, Content::RedactedThinking));
    let logprobs = (!part.logprobs.is_empty()).then(|| Delta::Logprobs(part.logprobs.clone()));
    [said, logprobs, opaque.map(Delta::Opaque)].into_iter().flatten()
}
