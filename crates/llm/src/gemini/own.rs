//! A request of the same dialect whose conversation another vendor's model took part in: what is not Google's goes, and
//! what Google misses is stood in for. All other bytes stay.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    has_calls,
    part::{NOT_GEMINIS, is_foreign},
    think::Version,
};
use crate::{
    canonical::Losses,
    edits::{place, without},
};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    contents: &'a RawValue,
}

#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(default)]
    role: Option<String>,
    #[serde(borrow, default)]
    parts: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default, rename = "functionCall", alias = "function_call")]
    call: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "functionResponse", alias = "function_response")]
    response: Option<&'a RawValue>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thought: Option<bool>,
    #[serde(default, rename = "thoughtSignature", alias = "thought_signature")]
    signature: Option<String>,
}

impl Said<'_> {
    fn is_signed(&self) -> bool {
        self.signature.as_ref().is_some_and(|signature| !signature.is_empty())
    }

    /// It is nothing without its signature.
    fn is_bare(&self) -> bool {
        self.thought == Some(true) || (self.call.is_none() && self.text.as_ref().is_none_or(String::is_empty))
    }
}

/// Another vendor's state in Base64. Whatever follows, its beginning is the same.
fn may_be_foreign(body: &[u8]) -> bool {
    static SEALED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"d2VpcjEu"));
    SEALED.find(body).is_some()
}

/// The body as this model of Google's takes it: without state that another vendor's model left, which goes by its name,
/// and, for Gemini 3, with a stand-in for the signature of a call that Gemini did not make.
#[must_use]
pub fn own_state(body: &Bytes, model: &str, losses: &mut Losses) -> Bytes {
    let signs = Version::of(model) >= Version::THREE && has_calls(body);
    if !signs && !may_be_foreign(body) {
        return body.clone();
    }
    mended(body, signs, losses).map_or_else(|| body.clone(), Bytes::from)
}

/// `None` when nothing is to be changed, or nothing can be told.
fn mended(body: &[u8], signs: bool, losses: &mut Losses) -> Option<Vec<u8>> {
    let whole: Body<'_> = serde_json::from_slice(body).ok()?;
    let contents: Vec<&RawValue> = serde_json::from_str(whole.contents.get()).ok()?;
    let turns: Vec<Turn<'_>> =
        contents.iter().map(|raw| serde_json::from_str(raw.get())).collect::<Result<_, _>>().ok()?;
    // Gemini 3 asks for signatures after the last that the user said.
    let asks = |turn: &Turn<'_>| {
        turn.role.as_deref() != Some("model") && !parts(turn).iter().any(|raw| is_response(raw))
    };
    let turn_at = turns.iter().rposition(asks).map_or(0, |at| at + 1);
    let mut step_signed = false;
    let (mut changed, mut kept) = (false, Vec::with_capacity(contents.len()));
    for (at, (raw, turn)) in contents.iter().zip(&turns).enumerate() {
        if turn.role.as_deref() != Some("model") {
            step_signed = false;
            kept.push(raw.get().to_owned());
            continue;
        }
        let Some(of) = turn.parts else {
            kept.push(raw.get().to_owned());
            continue;
        };
        let (mut own, lost) = without_foreign(&parts(turn));
        if lost {
            losses.dropped("thinking");
        }
        let mut edited = lost;
        // Contents of a row are one step, which is signed on its first call.
        if signs && at >= turn_at && !step_signed {
            for part in &mut own {
                let Ok(said) = serde_json::from_str::<Said<'_>>(part) else { continue };
                if said.call.is_none() {
                    continue;
                }
                step_signed = true;
                if !said.is_signed() {
                    losses.altered("thought_signature");
                    let bare = serde_json::from_str::<&RawValue>(part).ok();
                    let bare = bare.and_then(|raw| without(raw, &["thoughtSignature", "thought_signature"]));
                    let bare = bare.unwrap_or_else(|| part.clone());
                    *part = bare.replacen('{', &format!("{{\"thoughtSignature\":\"{NOT_GEMINIS}\","), 1);
                    edited = true;
                }
                break;
            }
        }
        changed |= edited;
        if !edited {
            kept.push(raw.get().to_owned());
        } else if !own.is_empty() {
            let at = place(raw.get().as_bytes(), of);
            let (before, after) = (raw.get().get(..at.start)?, raw.get().get(at.end..)?);
            kept.push(format!("{before}[{}]{after}", own.join(",")));
        }
    }
    if !changed {
        return None;
    }
    let at = place(body, whole.contents);
    let contents = format!("[{}]", kept.join(","));
    Some([body.get(..at.start)?, contents.as_bytes(), body.get(at.end..)?].concat())
}

fn parts<'a>(turn: &Turn<'a>) -> Vec<&'a RawValue> {
    let parts = turn.parts.map(|parts| serde_json::from_str(parts.get()));
    parts.and_then(Result::ok).unwrap_or_default()
}

fn is_response(raw: &RawValue) -> bool {
    serde_json::from_str::<Said<'_>>(raw.get()).is_ok_and(|said| said.response.is_some())
}

/// The parts without what others signed, and whether there was any. A thought may have been streamed in pieces, of which
/// the last is signed: all of them go.
fn without_foreign(parts: &[&RawValue]) -> (Vec<String>, bool) {
    let (mut kept, mut lost, mut thoughts) = (Vec::with_capacity(parts.len()), false, 0);
    for raw in parts {
        let Ok(said) = serde_json::from_str::<Said<'_>>(raw.get()) else {
            kept.push(raw.get().to_owned());
            thoughts = 0;
            continue;
        };
        let thought = said.thought == Some(true);
        if !said.signature.as_deref().is_some_and(is_foreign) {
            thoughts = if thought && !said.is_signed() { thoughts + 1 } else { 0 };
            kept.push(raw.get().to_owned());
            continue;
        }
        lost = true;
        if thought {
            kept.truncate(kept.len() - thoughts);
        } else if !said.is_bare() {
            kept.extend(without(raw, &["thoughtSignature", "thought_signature"]));
        }
        thoughts = 0;
    }
    (kept, lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{Opaque, Vendor};

    fn sealed() -> String {
        super::super::part::sealed(&Opaque::new(Vendor::Anthropic, "EqQB")).into_owned()
    }

    fn mended(body: &str, model: &str) -> (String, String) {
        let (body, mut losses) = (Bytes::copy_from_slice(body.as_bytes()), Losses::default());
        let out = own_state(&body, model, &mut losses);
        (String::from_utf8(out.to_vec()).unwrap(), losses.header())
    }

    #[test]
    fn a_body_without_anothers_state_keeps_its_bytes() {
        let signed = r#"{ "contents" : [{"role":"user","parts":[{"text":"d2VpcjEu"}]},
            {"role":"model","parts":[{"thought":true,"text":"hm"},{"functionCall":{"name":"f"},"thoughtSignature":"CiQB"},{"functionCall":{"name":"g"}}]},
            {"role":"user","parts":[{"functionResponse":{"name":"f","response":{}}},{"functionResponse":{"name":"g","response":{}}}]}]}"#;
        assert_eq!(mended(signed, "gemini-3-pro-preview"), (signed.to_owned(), String::new()));
        let unsigned = signed.replace(r#","thoughtSignature":"CiQB""#, "");
        assert_eq!(mended(&unsigned, "gemini-2.5-flash"), (unsigned.clone(), String::new()));
        // Turns that are over are not asked for signatures.
        let over = unsigned.replace(
            "}]}]}",
            r#"}]},{"role":"model","parts":[{"text":"ok"}]},{"parts":[{"text":"go on"}]}]}"#,
        );
        assert_ne!(over, unsigned);
        assert_eq!(mended(&over, "gemini-3-pro-preview"), (over.clone(), String::new()));
    }

    #[test]
    fn state_of_another_vendor_goes_and_is_named() {
        let body = format!(
            r#"{{"contents":[{{"role":"user","parts":[{{"text":"a"}}]}},
            {{"role":"model","parts":[{{"thought":true,"text":"h"}},{{"text":"","thought":true,"thoughtSignature":"{0}"}},{{"text":"b" ,"thoughtSignature":"{0}"}},{{"text":"","thought_signature":"{0}"}}]}},
            {{"role":"model","parts":[{{"thought":true,"thoughtSignature":"{0}"}}]}},
            {{"parts":[{{"text":"c"}}]}}],"x":1.50}}"#,
            sealed()
        );
        let expected = r#"{"contents":[{"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[{"text":"b"}]},{"parts":[{"text":"c"}]}],"x":1.50}"#;
        for model in ["gemini-2.5-flash", "gemini-3-pro-preview", "gemma-3-27b-it"] {
            assert_eq!(mended(&body, model), (expected.to_owned(), "dropped;thinking".to_owned()));
        }
    }

    #[test]
    fn a_call_that_gemini_did_not_make_gets_a_stand_in_where_it_is_asked_for() {
        let body = |first: &str| {
            format!(
                r#"{{"contents":[{{"parts":[{{"text":"a"}}]}},{{"role":"model","parts":[{{"functionCall":{{"name":"o"}}}}]}},{{"parts":[{{"functionResponse":{{"name":"o"}}}}]}},{{"parts":[{{"text":"b"}}]}},{{"role":"model","parts":[{{"text":"c"}},{first}]}},{{"role":"model","parts":[{{"functionCall":{{"name":"g"}}}}]}},{{"parts":[{{"functionResponse":{{"name":"f"}}}}]}},{{"role":"model","parts":[{{"function_call":{{"name":"h"}},"thought_signature":"own+"}}]}},{{"parts":[{{"functionResponse":{{"name":"h"}}}}]}}]}}"#
            )
        };
        let stand_in = format!(r#"{{"thoughtSignature":"{NOT_GEMINIS}","functionCall":{{"name":"f"}}}}"#);
        let unsigned = r#"{"functionCall":{"name":"f"}}"#;
        let foreign = format!(r#"{{"functionCall":{{"name":"f"}},"thoughtSignature":"{}"}}"#, sealed());
        let altered = "altered;thought_signature";
        let out = mended(&body(unsigned), "gemini-3-pro-preview");
        assert_eq!(out, (body(&stand_in), altered.to_owned()));
        let out = mended(&body(&foreign), "gemini-3-pro-preview");
        assert_eq!(out, (body(&stand_in), format!("{altered}, dropped;thinking")));
        let out = mended(&body(&foreign), "gemini-2.5-pro");
        assert_eq!(out, (body(unsigned), "dropped;thinking".to_owned()));
    }
}
