//! The body for a provider of the same dialect: the client's bytes, but for the model's name, and for what only
//! whoever keeps responses knows.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ENCRYPTED, ResponsesView, content::kind, tools::ADDED};
use crate::{
    canonical::{Losses, Opaque, Role, Vendor},
    edits::Edits,
    members::Members,
    openai::reasons,
};

/// Items that may do without an id; calls of hosted tools may not. A message need not say what it is.
const FREE: [&str; 4] = ["", "message", "function_call", "custom_tool_call"];

/// `body` with the provider's name of the model: not to be kept there, answered while we wait, and with reasoning that
/// can be sent again. Shares the bytes when nothing changes. Reasoning that goes is named.
#[must_use]
pub fn upstream_body(view: &ResponsesView, body: &Bytes, provider_model: &str, losses: &mut Losses) -> Bytes {
    let mut edits = Edits::of(body);
    if provider_model != view.model {
        let name = serde_json::Value::from(provider_model).to_string();
        edits.set("model", Some(view.model_at.clone()), name);
    }
    if view.store {
        edits.set("store", view.store_at.clone(), "false".to_owned());
    }
    if view.background {
        edits.set("background", view.background_at.clone(), "false".to_owned());
    }
    if view.previous_response_id.is_some() {
        edits.set("previous_response_id", view.previous_at.clone(), "null".to_owned());
    }
    let thinks = view.reasoning || reasons(provider_model);
    // Models that don't refuse to be asked for it.
    if !view.shows_encrypted() && thinks {
        let mut include = view.include.clone();
        include.push(ENCRYPTED.to_owned());
        edits.set("include", view.include_at.clone(), serde_json::Value::from(include).to_string());
    }
    own_input(view, body, thinks, &mut edits, losses);
    edits.apply_to(body)
}

/// The same for `/responses/compact`, which knows nothing of what is kept: all stays but the model's name, and reasoning
/// that can't be sent again.
#[must_use]
pub fn compact_body(view: &ResponsesView, body: &Bytes, provider_model: &str, losses: &mut Losses) -> Bytes {
    let mut edits = Edits::of(body);
    if provider_model != view.model {
        let name = serde_json::Value::from(provider_model).to_string();
        edits.set("model", Some(view.model_at.clone()), name);
    }
    own_input(view, body, view.reasoning || reasons(provider_model), &mut edits, losses);
    edits.apply_to(body)
}

fn own_input(view: &ResponsesView, body: &Bytes, thinks: bool, edits: &mut Edits, losses: &mut Losses) {
    if let Some(at) = &view.input_at
        && let Some(input) = body.get(at.clone()).and_then(|input| own_items(input, thinks, losses))
    {
        edits.set("input", Some(at.clone()), input);
    }
}

/// The input without what only others understand; `None` when there is none of it.
///
/// Reasoning goes whose state is not here, since nothing is kept there under its id, or is another vendor's. What such
/// reasoning led to is refused under its own id then: it goes on without.
fn own_items(input: &[u8], thinks: bool, losses: &mut Losses) -> Option<String> {
    if !input.starts_with(b"[") || !(thinks || has_reasoning(input) || has_extra(input)) {
        return None;
    }
    let items: Vec<&RawValue> = serde_json::from_slice(input).ok()?;
    let (mut changed, mut reasoned) = (false, false);
    let mut kept: Vec<Cow<'_, str>> = Vec::with_capacity(items.len());
    for item in items {
        let kind = kind(item);
        if kind == "reasoning" {
            let vendor = vendor(item);
            if vendor.is_some_and(|vendor| vendor != Vendor::OpenAi) {
                losses.dropped("thinking");
            }
            if vendor != Some(Vendor::OpenAi) {
                changed = true;
                continue;
            }
        }
        let said = speaker(item, &kind) == Role::Assistant;
        reasoned = said && (reasoned || kind == "reasoning");
        let bare =
            (said && thinks && !reasoned && FREE.contains(&kind.as_ref())).then(|| without(item, "id"));
        let bare = bare.flatten();
        let item = bare.as_deref().unwrap_or(item);
        let own = without_extra(item, true);
        if own.is_some() {
            losses.dropped("thinking");
        }
        changed |= own.is_some() || bare.is_some();
        kept.push(own.map_or_else(|| item.get().to_owned().into(), Into::into));
    }
    changed.then(|| format!("[{}]", kept.join(",")))
}

/// Whose turn an item belongs to.
pub(super) fn speaker(item: &RawValue, kind: &str) -> Role {
    #[derive(Deserialize)]
    struct Said<'a> {
        #[serde(borrow, default)]
        role: Option<Cow<'a, str>>,
    }
    match kind {
        "message" | "" => {
            let said = serde_json::from_str::<Said<'_>>(item.get()).ok().and_then(|said| said.role);
            match said.as_deref() {
                Some("assistant") => Role::Assistant,
                Some("system" | "developer") => Role::System,
                _ => Role::User,
            }
        }
        ADDED => Role::System,
        output if output.ends_with("_output") => Role::User,
        _ => Role::Assistant,
    }
}

/// An object without a member; `None` when it has none of that name.
fn without(item: &RawValue, name: &str) -> Option<Box<RawValue>> {
    let members = Members::of(item, "").ok()?;
    members.has(name).then_some(())?;
    let rest = members.all().filter(|(member, _)| member != name);
    let rest: Vec<String> =
        rest.map(|(name, raw)| format!("{}:{}", serde_json::Value::from(name), raw.get())).collect();
    RawValue::from_string(format!("{{{}}}", rest.join(","))).ok()
}

/// Whose state reasoning comes with.
fn vendor(item: &RawValue) -> Option<Vendor> {
    #[derive(Deserialize)]
    struct Thought {
        #[serde(default)]
        encrypted_content: Option<String>,
    }
    let thought: Option<Thought> = serde_json::from_str(item.get()).ok();
    let state = thought.and_then(|t| t.encrypted_content).filter(|text| !text.is_empty());
    state.map(|text| Opaque::open(&text, Vendor::OpenAi).vendor)
}

/// `"reasoning"` as a value; as a name it is the request's own member.
fn has_reasoning(input: &[u8]) -> bool {
    const WORD: &[u8] = b"\"reasoning\"";
    Finder::new(WORD).find_iter(input).any(|at| {
        let rest = input.get(at + WORD.len()..).unwrap_or_default().trim_ascii_start();
        !rest.starts_with(b":")
    })
}

fn has_extra(input: &[u8]) -> bool {
    memchr::memmem::find(input, b"\"extra_content\"").is_some()
}

/// An item, or a part of its content, without the `extra_content` that we gave it.
fn without_extra(item: &RawValue, whole: bool) -> Option<String> {
    if !has_extra(item.get().as_bytes()) {
        return None;
    }
    let mut members = Members::of(item, "").ok()?;
    let found = members.raw("extra_content").is_some();
    let content = members.peek("content").filter(|_| whole).and_then(|raw| {
        let parts: Vec<&RawValue> = serde_json::from_str(raw.get()).ok()?;
        let parts: Vec<String> = parts
            .into_iter()
            .map(|p| without_extra(p, false).unwrap_or_else(|| p.get().to_owned()))
            .collect();
        RawValue::from_string(format!("[{}]", parts.join(","))).ok()
    });
    let nested = content.as_ref().is_some_and(|c| !has_extra(c.get().as_bytes()));
    if !found && !nested {
        return None;
    }
    let mut all: Vec<(String, &RawValue)> = members.all().collect();
    if let Some(content) = &content {
        all.iter_mut().filter(|(name, _)| name == "content").for_each(|(_, raw)| *raw = content);
    }
    let members: Vec<String> = all
        .iter()
        .map(|(name, raw)| format!("{}:{}", serde_json::Value::from(name.as_str()), raw.get()))
        .collect();
    Some(format!("{{{}}}", members.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(body: &str, model: &str) -> String {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let view = ResponsesView::scan(&bytes).unwrap();
        String::from_utf8(upstream_body(&view, &bytes, model, &mut Losses::default()).to_vec()).unwrap()
    }

    #[test]
    fn bytes_pass_but_for_the_model_and_what_is_kept_here() {
        let rest = r#""input" : [{"role":"user","content":"\u00e9 \"model\": 1"}],  "vendor" : {"x": 1.0e3}"#;
        assert_eq!(
            spliced(&format!(r#"{{ "model" : "m", {rest} }}"#), "n"),
            format!(r#"{{"store":false, "model" : "n", {rest} }}"#)
        );
        assert_eq!(
            spliced(
                &format!(
                    r#"{{"model":"m","store":true,"background":true,"previous_response_id":"resp_1",{rest}}}"#
                ),
                "m"
            ),
            format!(r#"{{"model":"m","store":false,"background":false,"previous_response_id":null,{rest}}}"#)
        );
        let unkept = format!(r#"{{"model":"m","store":false,{rest}}}"#);
        let bytes = Bytes::from(unkept);
        let view = ResponsesView::scan(&bytes).unwrap();
        assert_eq!(upstream_body(&view, &bytes, "m", &mut Losses::default()).as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn those_who_reason_are_asked_for_the_state_that_goes_back() {
        let state = r#""include":["reasoning.encrypted_content"]"#;
        assert_eq!(
            spliced(r#"{"model":"gpt-5","store":false,"input":"x"}"#, "gpt-5"),
            format!(r#"{{{state},"model":"gpt-5","store":false,"input":"x"}}"#)
        );
        assert_eq!(
            spliced(
                r#"{"model":"m","store":false,"include":["a"],"reasoning":{"effort":"low"},"input":"x"}"#,
                "m"
            ),
            r#"{"model":"m","store":false,"include":["a","reasoning.encrypted_content"],"reasoning":{"effort":"low"},"input":"x"}"#
        );
        let asked = format!(r#"{{"model":"o3","store":false,{state},"input":"x"}}"#);
        assert_eq!(spliced(&asked, "o3"), asked);
    }

    #[test]
    fn thoughts_that_are_not_openai_s_go_and_its_own_stay_byte_for_byte() {
        let own = r#"{"type":"reasoning","id":"rs_1", "summary":[],"encrypted_content":"gAAA=="}"#;
        let hi = r#"{"role":"user","content":"a \"reasoning\" b"}"#;
        let call = r#"{"type":"function_call","call_id":"c","name":"f","arguments":"{}""#;
        let body = format!(
            r#"{{"model":"m","store":false,"input":[{hi},{{"type":"reasoning","id":"rs_0","summary":[]}},{own},{{"type":"reasoning","summary":[],"encrypted_content":"weir1.anthropic..cz09"}},{call},"extra_content":{{"google":{{"thought_signature":"s"}}}}}}]}}"#
        );
        let out = spliced(&body, "m");
        let out: serde_json::Value = serde_json::from_str(&out).unwrap();
        let input = out["input"].as_array().unwrap();
        assert_eq!(input.len(), 3);
        assert_eq!(input[1]["encrypted_content"], "gAAA==");
        assert!(input[2].get("extra_content").is_none() && input[2]["name"] == "f");
        let only = format!(r#"{{"model":"m","store":false,"input":[{hi},{own}]}}"#);
        assert_eq!(spliced(&only, "m"), only);
        // Nobody's state is lost with what has none.
        let stateless = format!(
            r#"{{"model":"m","store":false,"input":[{hi},{{"type":"reasoning","id":"rs_0","summary":[]}}]}}"#
        );
        for (body, named) in [(body, "dropped;thinking"), (only, ""), (stateless, "")] {
            let (body, mut losses) = (Bytes::from(body), Losses::default());
            drop(upstream_body(&ResponsesView::scan(&body).unwrap(), &body, "m", &mut losses));
            assert_eq!(losses.header(), named);
        }
    }

    #[test]
    fn a_compaction_is_asked_for_in_the_client_s_own_bytes() {
        let compacted = r#"{"type":"compaction","id":"cmp_1", "encrypted_content":"gAAA=="}"#;
        let thought = r#"{"type":"reasoning","summary":[],"encrypted_content":"weir1.anthropic..cz09"}"#;
        let rest = r#" "prompt_cache_key" : "k", "store" : true, "tools":[{"type":"function"}]"#;
        let asked = |input: &str, model: &str| {
            let body = Bytes::from(format!(r#"{{"model":"{model}","input":[{input}],{rest}}}"#));
            let view = ResponsesView::scan(&body).unwrap();
            let mut losses = Losses::default();
            let out = compact_body(&view, &body, "gpt-5", &mut losses);
            (String::from_utf8(out.to_vec()).unwrap(), losses.header())
        };
        let passed = format!(r#"{{"model":"gpt-5","input":[{compacted}],{rest}}}"#);
        assert_eq!(asked(compacted, "m"), (passed.clone(), String::new()));
        assert_eq!(
            asked(&format!("{compacted},{thought}"), "gpt-5"),
            (passed, "dropped;thinking".to_owned())
        );
        // As it does in what is no compaction of it.
        let create = format!(
            r#"{{"model":"gpt-4o","store":false,"context_management":[{{"type":"compaction","compact_threshold":1000}}],"input":[{compacted}]}}"#
        );
        assert_eq!(spliced(&create, "gpt-4o"), create);
    }

    #[test]
    fn what_lost_its_reasoning_goes_on_without_its_id() {
        let call = |id: &str| {
            format!(r#"{{"type":"function_call",{id}"call_id":"c","name":"f","arguments":"{{}}"}}"#)
        };
        let own = r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"g"}"#;
        let body = |items: &[&str]| {
            let include = r#""include":["reasoning.encrypted_content"]"#;
            format!(r#"{{"model":"gpt-5","store":false,{include},"input":[{}]}}"#, items.join(","))
        };
        let (user, known) = (r#"{"role":"user","id":"msg_0","content":"x"}"#, call(r#""id":"fc_1","#));
        let out: serde_json::Value = serde_json::from_str(&spliced(&body(&[user, &known]), "gpt-5")).unwrap();
        assert_eq!((out["input"][0].get("id").is_some(), out["input"][1].get("id")), (true, None));
        let hosted = r#"{"type":"web_search_call","id":"ws_1","status":"completed"}"#;
        for whole in [body(&[user, own, &known]), body(&[user, &call("")]), body(&[user, hosted])] {
            assert_eq!(spliced(&whole, "gpt-5"), whole);
        }
        let elsewhere = body(&[user, &known]).replace("gpt-5", "gpt-4o");
        assert_eq!(spliced(&elsewhere, "gpt-4o"), elsewhere);
    }
}
