//! Opaque state of vendors as it travels with clients of OpenAI's dialect, under the names that others brought up:
//! Anthropic's in `thinking_blocks` (`LiteLLM`), Google's in `extra_content` (its own endpoint of this dialect), OpenAI's in
//! `reasoning_details` (`OpenRouter`). Each is read back from all of them.

use std::{borrow::Cow, collections::HashMap};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weir_error::Error;

use super::lenient;
use crate::{
    canonical::{Content, Opaque, Part, Vendor},
    members::{Members, string},
};

/// OpenRouter's word for whose reasoning it is.
const FORMAT: &str = "openai-responses-v1";

/// As Anthropic has it: it goes back unchanged. Streamed it has its place: OpenAI's own clients put the pieces of any list
/// together by it.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Thought<'a> {
    Thinking {
        thinking: &'a str,
        signature: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        index: Option<usize>,
    },
    RedactedThinking {
        data: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        index: Option<usize>,
    },
}

/// OpenAI's reasoning: a summary of it, and what it wants back. Both have one index.
#[derive(Debug, Serialize)]
#[serde(tag = "type")]
pub(super) enum Detail<'a> {
    #[serde(rename = "reasoning.summary")]
    Summary { summary: &'a str, id: Option<&'a str>, format: &'static str, index: usize },
    #[serde(rename = "reasoning.encrypted")]
    Encrypted { data: &'a str, id: Option<&'a str>, format: &'static str, index: usize },
}

impl<'a> Thought<'a> {
    /// `None`: one that nobody may read.
    pub(super) fn new(text: Option<&'a str>, opaque: &'a Opaque) -> Self {
        let sealed = opaque.seal(Vendor::Anthropic);
        match text {
            Some(thinking) => Self::Thinking { thinking, signature: sealed, index: None },
            None => Self::RedactedThinking { data: sealed, index: None },
        }
    }
}

/// What there is of one item of OpenAI's reasoning, after so many others.
pub(super) fn details<'a>(
    text: Option<&'a str>,
    opaque: &'a Opaque,
    before: usize,
) -> impl Iterator<Item = Detail<'a>> {
    let summary = text.filter(|t| !t.is_empty()).map(|text| Detail::summary(text, opaque, before));
    summary.into_iter().chain([Detail::encrypted(opaque, before)])
}

impl<'a> Detail<'a> {
    pub(super) fn encrypted(opaque: &'a Opaque, index: usize) -> Self {
        Self::Encrypted { data: &opaque.data, id: opaque.id.as_deref(), format: FORMAT, index }
    }

    fn summary(summary: &'a str, opaque: &'a Opaque, index: usize) -> Self {
        Self::Summary { summary, id: opaque.id.as_deref(), format: FORMAT, index }
    }
}

/// `{"google":{"thought_signature":…}}`
#[derive(Debug, Serialize)]
pub(super) struct Extra<'a> {
    google: ExtraGoogle<'a>,
}

#[derive(Debug, Serialize)]
struct ExtraGoogle<'a> {
    thought_signature: Cow<'a, str>,
}

impl<'a> Extra<'a> {
    pub(super) fn new(opaque: &'a Opaque) -> Self {
        Self { google: ExtraGoogle { thought_signature: opaque.seal(Vendor::Google) } }
    }
}

#[derive(Deserialize)]
pub(super) struct WireExtra {
    #[serde(default)]
    google: Option<WireGoogle>,
}

#[derive(Deserialize)]
struct WireGoogle {
    #[serde(default)]
    thought_signature: Option<String>,
}

impl WireExtra {
    pub(super) fn opaque(self) -> Option<Opaque> {
        let signature = self.google?.thought_signature.filter(|s| !s.is_empty())?;
        Some(Opaque::open(&signature, Vendor::Google))
    }
}

/// Takes `extra_content` out of a message or a call.
pub(super) fn extra(from: &mut Members<'_>) -> Option<Opaque> {
    let raw = from.raw("extra_content")?;
    serde_json::from_str::<WireExtra>(raw.get()).ok()?.opaque()
}

/// A block or a piece of one.
#[derive(Deserialize)]
pub(super) struct WireThought {
    #[serde(default)]
    pub(super) thinking: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    data: Option<String>,
    /// Where it stood in a stream of ours.
    #[serde(default, deserialize_with = "lenient::read")]
    index: Option<u64>,
}

/// What stands under a thought.
pub(super) enum Proof {
    /// Of thoughts that may be read.
    Signature(Opaque),
    /// Of those that may not.
    Redacted(Opaque),
}

impl WireThought {
    pub(super) fn proof(&self) -> Option<Proof> {
        let filled = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        if let Some(data) = filled(&self.data) {
            return Some(Proof::Redacted(Opaque::open(&data, Vendor::Anthropic)));
        }
        Some(Proof::Signature(Opaque::open(&filled(&self.signature)?, Vendor::Anthropic)))
    }
}

/// Whether a client kept no more than the last piece of what it was streamed, as OpenAI's for Node does with all it does not
/// know: a block out of its place, or a proof without what it proves, of a turn that was seen to think.
fn torn(blocks: &[WireThought], thought: bool) -> bool {
    let displaced = (0..).zip(blocks).any(|(at, block)| block.index.is_some_and(|index| index != at));
    let said = blocks.iter().any(|block| block.thinking.as_ref().is_some_and(|text| !text.is_empty()));
    let proven = blocks.iter().any(|block| matches!(block.proof(), Some(Proof::Signature(_))));
    displaced || (thought && !said && proven && blocks.iter().any(|block| block.index.is_some()))
}

/// One of `reasoning_details`.
#[derive(Deserialize)]
pub(super) struct WireDetail {
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    index: Option<u64>,
}

impl WireDetail {
    pub(super) fn said(&self) -> Option<&str> {
        self.summary.as_deref().or(self.text.as_deref()).filter(|t| !t.is_empty())
    }

    pub(super) fn opaque(&self) -> Option<Opaque> {
        let filled = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let (signature, data) = (filled(&self.signature), filled(&self.data));
        let format = self.format.as_deref().unwrap_or_default();
        let vendor = match format.split('-').next() {
            Some("anthropic") => Vendor::Anthropic,
            Some("google") => Vendor::Google,
            _ if signature.is_some() => Vendor::Anthropic,
            _ => Vendor::OpenAi,
        };
        let opaque = Opaque::open(&signature.or(data)?, vendor);
        let id = self.id.clone().filter(|_| vendor == Vendor::OpenAi);
        Some(Opaque { id: opaque.id.or(id), ..opaque })
    }

    /// The id of whose state this is, where it may be a call's.
    pub(super) fn of_call(&self) -> Option<&String> {
        self.id.as_ref().filter(|_| self.signature.is_none())
    }
}

/// Pieces that are of one thought, in the order in which thoughts began: those of one index, or of one id where one of
/// them has no index. Clients write them: one pass over all.
fn groups(details: Vec<WireDetail>) -> Vec<Vec<WireDetail>> {
    let mut groups: Vec<Vec<WireDetail>> = Vec::new();
    let (mut by_index, mut by_id, mut by_id_alone) = (HashMap::new(), HashMap::new(), HashMap::new());
    for detail in details {
        let of = |ids: &HashMap<String, usize>| detail.id.as_ref().and_then(|id| ids.get(id)).copied();
        let known = match detail.index {
            Some(index) => by_index.get(&index).copied().into_iter().chain(of(&by_id_alone)).min(),
            None => of(&by_id),
        };
        if let Some(group) = known.and_then(|at: usize| groups.get_mut(at)) {
            group.push(detail);
            continue;
        }
        let at = groups.len();
        if let Some(index) = detail.index {
            by_index.insert(index, at);
        }
        if let Some(id) = &detail.id {
            by_id.entry(id.clone()).or_insert(at);
            if detail.index.is_none() {
                by_id_alone.insert(id.clone(), at);
            }
        }
        groups.push(vec![detail]);
    }
    groups
}

/// What a message says of its model's thinking.
#[derive(Default)]
pub(super) struct Thoughts {
    pub(super) parts: Vec<Part>,
    /// State of calls, by the calls' ids.
    of_calls: HashMap<String, Opaque>,
}

impl Thoughts {
    pub(super) fn of_call(&self, id: &str) -> Option<Opaque> {
        self.of_calls.get(id).cloned()
    }
}

/// Thoughts of a message, of whomever, first those that Anthropic's blocks say. Without proof few take them back.
pub(super) fn thoughts(from: &mut Members<'_>) -> Result<Thoughts, Error> {
    let mut parts = Vec::new();
    let blocks = from.take::<Vec<&RawValue>>("thinking_blocks")?.unwrap_or_default();
    let mut blocks: Vec<WireThought> =
        blocks.into_iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect();
    let thought = from.peek("reasoning_content").and_then(string).is_some_and(|text| !text.is_empty());
    if torn(&blocks, thought) {
        // It is as if the client had dropped them: whoever kept them knows the turn again.
        blocks.clear();
    }
    for mut block in blocks {
        let opaque = match block.proof() {
            Some(Proof::Redacted(opaque)) => {
                parts.push(Part::from(Content::RedactedThinking).with_opaque(Some(opaque)));
                continue;
            }
            Some(Proof::Signature(opaque)) => Some(opaque),
            None => None,
        };
        let text = block.thinking.take().or_else(|| opaque.as_ref().map(|_| String::new()));
        let text = text.filter(|text| opaque.is_some() || !text.is_empty());
        parts.extend(text.map(|text| Part::from(Content::Thinking(text)).with_opaque(opaque)));
    }
    let details: Vec<WireDetail> = from
        .take::<Vec<&RawValue>>("reasoning_details")?
        .unwrap_or_default()
        .into_iter()
        .filter_map(|raw| serde_json::from_str(raw.get()).ok())
        .collect();
    // Both say the same of Anthropic's.
    let said_before = !parts.is_empty();
    let mut of_calls = HashMap::new();
    for group in groups(details) {
        let Some(opaque) = group.iter().find_map(WireDetail::opaque) else { continue };
        if said_before && opaque.vendor == Vendor::Anthropic {
            continue;
        }
        if let (Vendor::Google, Some(call)) =
            (opaque.vendor, group.first().and_then(|first| first.id.as_ref()))
        {
            of_calls.entry(call.clone()).or_insert(opaque);
            continue;
        }
        let text: String = group.iter().filter_map(WireDetail::said).collect();
        let content = if text.is_empty() { Content::RedactedThinking } else { Content::Thinking(text) };
        parts.push(Part::from(content).with_opaque(Some(opaque)));
    }
    Ok(Thoughts { parts, of_calls })
}

/// A call's arguments: text, unless the provider took the trouble to parse them.
pub(super) fn arguments(raw: &RawValue) -> String {
    match lenient::string(raw) {
        Some(text) => text.into_owned(),
        None if raw.get() == "null" => String::new(),
        None => raw.get().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn detail((index, id): (Option<u64>, Option<u8>), said: usize) -> WireDetail {
        let json =
            serde_json::json!({"index": index, "id": id.map(|id| id.to_string()), "text": said.to_string()});
        serde_json::from_value(json).unwrap()
    }

    /// Each goes with the first that it goes with.
    fn slowly(mut details: Vec<WireDetail>) -> Vec<Vec<WireDetail>> {
        let mut groups = Vec::new();
        while !details.is_empty() {
            let first = details.remove(0);
            let goes = |d: &WireDetail| match (d.index, first.index) {
                (Some(a), Some(b)) => a == b,
                _ => d.id.is_some() && d.id == first.id,
            };
            let (with, rest): (Vec<_>, Vec<_>) = details.into_iter().partition(goes);
            details = rest;
            groups.push(std::iter::once(first).chain(with).collect());
        }
        groups
    }

    proptest! {
        #[test]
        fn pieces_are_grouped_as_by_looking_at_each_pair(all in vec((option::of(0..4_u64), option::of(0..4_u8)), 0..12)) {
            let details = || all.iter().enumerate().map(|(n, of)| detail(*of, n)).collect();
            let said = |groups: Vec<Vec<WireDetail>>| -> Vec<Vec<Option<String>>> {
                groups.into_iter().map(|group| group.into_iter().map(|d| d.text).collect()).collect()
            };
            prop_assert_eq!(said(groups(details())), said(slowly(details())));
        }
    }
}
