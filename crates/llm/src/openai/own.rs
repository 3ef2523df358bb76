//! A request of the same dialect in whose conversation another vendor's model took part: what its own vendor alone takes
//! back goes to nobody else, and OpenAI's own models get no thoughts at all. All other bytes stay.

use std::{borrow::Cow, sync::LazyLock};

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    messages_out::carries,
    state::{Proof, WireDetail, WireExtra, WireThought},
};
use crate::{
    canonical::{Losses, SEAL, Vendor},
    edits::{place, without},
    models::{Maker, facts},
};

/// Members of messages that say what a model thought.
const THOUGHTS: [&str; 2] = ["reasoning_content", "reasoning"];
const BLOCKS: &str = "thinking_blocks";
const DETAILS: &str = "reasoning_details";
const EXTRA: &str = "extra_content";

/// Who takes state back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// OpenAI itself: nothing, and nothing that it does not know.
    Nothing,
    /// State of one vendor, or of none.
    Of(Option<Vendor>),
    /// Nobody knows: only what Weir sealed would be read by nobody.
    Unsealed,
}

impl Takes {
    fn of(model: &str, openai: bool, carried: bool) -> Self {
        let maker = facts(model).map(|facts| facts.maker);
        let own =
            openai || (maker == Some(Maker::OpenAi) && !model.contains('/') && !model.contains("gpt-oss"));
        match (own, carries(model), maker) {
            // It was seen to give state: it takes it.
            _ if carried => Self::Unsealed,
            (true, ..) => Self::Nothing,
            (_, Some(vendor), _) => Self::Of(Some(vendor)),
            (_, None, Some(_)) => Self::Of(None),
            (_, None, None) => Self::Unsealed,
        }
    }

    fn takes(self, vendor: Vendor) -> bool {
        match self {
            Self::Nothing => false,
            Self::Of(own) => own == Some(vendor),
            Self::Unsealed => true,
        }
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: &'a RawValue,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    thinking_blocks: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    extra_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    extra_content: Option<&'a RawValue>,
}

fn may_carry(body: &[u8]) -> bool {
    static NAMES: LazyLock<[Finder<'static>; 4]> = LazyLock::new(|| {
        ["\"thinking_blocks\"", "\"reasoning_details\"", "\"extra_content\"", "\"reasoning"].map(Finder::new)
    });
    NAMES.iter().any(|name| name.find(body).is_some())
}

/// The body as this model's provider takes it. `openai`: it is OpenAI's platform or Azure's, whatever the model's name;
/// `carried`: it was seen to give state to clients of this dialect. State that goes is named; thoughts that nobody
/// signed are nobody's.
#[must_use]
pub fn own_state(body: &Bytes, model: &str, openai: bool, carried: bool, losses: &mut Losses) -> Bytes {
    if !may_carry(body) {
        return body.clone();
    }
    let takes = Takes::of(model, openai, carried);
    mended(body, takes, losses).map_or_else(|| body.clone(), Bytes::from)
}

/// `None` when nothing is to be changed, or nothing can be told.
fn mended(body: &[u8], takes: Takes, losses: &mut Losses) -> Option<Vec<u8>> {
    let whole: Body<'_> = serde_json::from_slice(body).ok()?;
    let messages: Vec<&RawValue> = serde_json::from_str(whole.messages.get()).ok()?;
    let mut changed = false;
    let mut kept = Vec::with_capacity(messages.len());
    for raw in messages {
        let message = own_message(raw, takes, losses);
        changed |= message.is_some();
        kept.push(message.unwrap_or_else(|| raw.get().to_owned()));
    }
    if !changed {
        return None;
    }
    let at = place(body, whole.messages);
    let messages = format!("[{}]", kept.join(","));
    Some([body.get(..at.start)?, messages.as_bytes(), body.get(at.end..)?].concat())
}

fn own_message(raw: &RawValue, takes: Takes, losses: &mut Losses) -> Option<String> {
    let message: Message<'_> = serde_json::from_str(raw.get()).ok()?;
    let mut gone: Vec<&str> = Vec::new();
    let mut edits: Vec<(&RawValue, String)> = Vec::new();
    let lists = [
        (BLOCKS, message.thinking_blocks, block as fn(&str) -> _),
        (DETAILS, message.reasoning_details, detail),
    ];
    for (name, list, whose) in lists {
        let Some(list) = list.filter(|list| list.get() != "null") else { continue };
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else { continue };
        let mut own: Vec<Cow<'_, str>> = Vec::with_capacity(items.len());
        let mut changed = false;
        for item in items {
            if !keeps(item.get(), whose(item.get()), takes, losses) {
                changed = true;
                continue;
            }
            let placed = (name == BLOCKS).then(|| unplaced(item)).flatten();
            changed |= placed.is_some();
            own.push(placed.map_or(item.get().into(), Cow::Owned));
        }
        if own.is_empty() {
            gone.push(name);
        } else if changed {
            edits.push((list, format!("[{}]", own.join(","))));
        }
    }
    if message.extra_content.is_some_and(|extra| !keeps(extra.get(), google(extra.get()), takes, losses)) {
        gone.push(EXTRA);
    }
    if takes == Takes::Nothing {
        let said = [message.reasoning_content, message.reasoning];
        gone.extend(THOUGHTS.iter().zip(said).filter(|(_, said)| said.is_some()).map(|(name, _)| *name));
    }
    if let Some(calls) = message.tool_calls {
        edits.extend(own_calls(calls, takes, losses).map(|own| (calls, own)));
    }
    if gone.is_empty() && edits.is_empty() {
        return None;
    }
    // The lists are changed first: what goes after them takes no notice of where they stand.
    let mut text = raw.get().to_owned();
    edits.sort_by_key(|(of, _)| std::cmp::Reverse(place(raw.get().as_bytes(), of).start));
    for (of, own) in edits {
        text.replace_range(place(raw.get().as_bytes(), of), &own);
    }
    if gone.is_empty() {
        return Some(text);
    }
    without(serde_json::from_str(&text).ok()?, &gone)
}

fn own_calls(calls: &RawValue, takes: Takes, losses: &mut Losses) -> Option<String> {
    let mut changed = false;
    let mut kept = Vec::new();
    for raw in serde_json::from_str::<Vec<&RawValue>>(calls.get()).ok()? {
        let call: Call<'_> = serde_json::from_str(raw.get()).ok()?;
        let own = match call.extra_content {
            Some(extra) if !keeps(extra.get(), google(extra.get()), takes, losses) => without(raw, &[EXTRA]),
            _ => None,
        };
        changed |= own.is_some();
        kept.push(own.unwrap_or_else(|| raw.get().to_owned()));
    }
    changed.then(|| format!("[{}]", kept.join(",")))
}

/// Whether an item goes along. State that does not is named.
fn keeps(item: &str, vendor: Option<Vendor>, takes: Takes, losses: &mut Losses) -> bool {
    let keeps = match (takes, vendor) {
        (Takes::Nothing, _) => false,
        (Takes::Unsealed, _) => !item.contains(SEAL),
        (Takes::Of(_), vendor) => vendor.is_none_or(|vendor| takes.takes(vendor)),
    };
    if !keeps && vendor.is_some() {
        losses.dropped("thinking");
    }
    keeps
}

/// A block without the place it had in a stream of ours: Anthropic refuses it, and who passes blocks on to it does not know.
fn unplaced(item: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Placed {
        #[serde(default)]
        index: Option<IgnoredAny>,
    }
    serde_json::from_str::<Placed>(item.get()).ok()?.index?;
    without(item, &["index"])
}

fn block(item: &str) -> Option<Vendor> {
    match serde_json::from_str::<WireThought>(item).ok()?.proof()? {
        Proof::Signature(opaque) | Proof::Redacted(opaque) => Some(opaque.vendor),
    }
}

fn detail(item: &str) -> Option<Vendor> {
    Some(serde_json::from_str::<WireDetail>(item).ok()?.opaque()?.vendor)
}

fn google(item: &str) -> Option<Vendor> {
    Some(serde_json::from_str::<WireExtra>(item).ok()?.opaque()?.vendor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::Opaque;

    fn body(more: &str, of_call: &str) -> Bytes {
        Bytes::from(format!(
            r#"{{ "model":"m","messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":null{more},"tool_calls":[{{"id":"1","type":"function","function":{{"name":"f","arguments":"{{}}"}}{of_call}}}]}},{{"role":"tool","tool_call_id":"1","content":"b"}}], "x": 1.50}}"#
        ))
    }

    fn sent(body: &Bytes, model: &str, openai: bool, carried: bool) -> (Bytes, String) {
        let mut losses = Losses::default();
        (own_state(body, model, openai, carried, &mut losses), losses.header())
    }

    #[test]
    fn state_goes_to_its_own_vendor_alone_and_openai_gets_no_thoughts() {
        let signature = "EqQB".repeat(10);
        let own = format!(r#"{{"type":"thinking","thinking":"x","signature":"{signature}"}}"#);
        let sealed = Opaque::new(Vendor::Google, "g").seal(Vendor::Anthropic).into_owned();
        let sealed = format!(r#"{{"type":"thinking","thinking":"y","signature":"{sealed}"}}"#);
        let blocks =
            |items: &[&str]| format!(r#","reasoning_content":"x","thinking_blocks":[{}]"#, items.join(","));
        let google = r#","extra_content":{"google":{"thought_signature":"CiQB"}}"#;
        let all = body(&blocks(&[&own, &sealed]), google);
        let lost = "dropped;thinking";
        let bare = body("", "");
        for (model, openai) in [("gpt-5-mini", false), ("gpt-4o-mini", false), ("my-deployment", true)] {
            assert_eq!(sent(&all, model, openai, false), (bare.clone(), lost.to_owned()), "{model}");
            assert_eq!(sent(&bare, model, openai, false).0.as_ptr(), bare.as_ptr());
        }
        let claude = body(&blocks(&[&own]), "");
        assert_eq!(sent(&all, "claude-sonnet-4-5", false, false), (claude, lost.to_owned()));
        let gemini = body(r#","reasoning_content":"x""#, google);
        assert_eq!(sent(&all, "gemini-2.5-pro", false, false).1, lost);
        assert!(sent(&all, "gemini-2.5-pro", false, false).0.windows(4).any(|w| w == b"CiQB"));
        assert_eq!(sent(&gemini, "gemini-2.5-pro", false, false), (gemini.clone(), String::new()));
        // Whoever nobody knows gets all that Weir did not seal, as it came.
        let unsealed = body(&blocks(&[&own]), google);
        for (model, carried) in [("my-model", false), ("gpt-5-mini", true)] {
            assert_eq!(sent(&all, model, false, carried), (unsealed.clone(), lost.to_owned()), "{model}");
            assert_eq!(sent(&unsealed, model, false, carried), (unsealed.clone(), String::new()));
        }
        // Where a block stood in a stream is nobody's business.
        let placed = own.replacen('{', r#"{"index":0,"#, 1);
        for model in ["my-model", "claude-sonnet-4-5"] {
            let sent = sent(&body(&blocks(&[&placed]), ""), model, false, false);
            assert_eq!(sent, (body(&blocks(&[&own]), ""), String::new()), "{model}");
        }
        let unsigned = body(r#","reasoning_content":"x""#, "");
        assert_eq!(sent(&unsigned, "gpt-oss-120b", false, false), (unsigned.clone(), String::new()));
        assert_eq!(sent(&unsigned, "gpt-4o", false, false), (bare, String::new()));
    }
}
