//! The body for a provider of the same dialect: the client's bytes, but for the model's name, and without thoughts
//! that no provider would take back.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{MessagesView, state::worthless};
use crate::{
    canonical::{Losses, SEAL},
    edits::Edits,
};

/// `body` with the provider's name of the model. Shares the bytes when nothing changes. Thoughts that go are named.
#[must_use]
pub fn upstream_body(view: &MessagesView, body: &Bytes, provider_model: &str, losses: &mut Losses) -> Bytes {
    let mut edits = Edits::of(body);
    if provider_model != view.model {
        edits.replace(view.model_at.clone(), serde_json::Value::from(provider_model).to_string());
    }
    let given = body.get(view.messages_at.clone()).unwrap_or_default();
    let signed = if has_doubtful_state(body) { signed_only(given, losses) } else { None };
    if let Some(budget) = view.budget_at.clone()
        && calls_without_thoughts(signed.as_ref().map_or(given, |signed| signed.as_bytes()))
    {
        // Another vendor's model made the call, or a client dropped its thoughts: it would be refused.
        losses.dropped("thinking");
        edits.replace(budget, r#"{"type":"disabled"}"#.to_owned());
    }
    if let Some(messages) = signed {
        edits.replace(view.messages_at.clone(), messages);
    }
    edits.apply_to(body)
}

/// Whether the turn that goes on begins with calls and no thought.
fn calls_without_thoughts(messages: &[u8]) -> bool {
    if memchr::memmem::find(messages, b"\"tool_use\"").is_none() {
        return false;
    }
    let Ok(messages) = serde_json::from_slice::<Vec<Message<'_>>>(messages) else { return false };
    let Some(last) = messages.iter().rfind(|message| message.role == "assistant") else { return false };
    let blocks: Vec<Block<'_>> = serde_json::from_str(last.content.get()).unwrap_or_default();
    let has = |kinds: &[&str]| blocks.iter().any(|block| kinds.contains(&block.kind.as_str()));
    has(&["tool_use"]) && !has(&["thinking", "redacted_thinking"])
}

/// Whether any signature is empty, cut or another vendor's. Inside a text its quotes would be escaped.
fn has_doubtful_state(body: &[u8]) -> bool {
    const NAME: &[u8] = b"\"signature\"";
    let find = Finder::new(NAME);
    let doubtful = |at: usize| {
        let rest = body.get(at + NAME.len()..).unwrap_or_default().trim_ascii_start();
        let value = rest.strip_prefix(b":").unwrap_or_default().trim_ascii_start();
        let inner = value.strip_prefix(b"\"").and_then(|v| v.get(..memchr::memchr(b'"', v)?));
        inner.and_then(|v| std::str::from_utf8(v).ok()).is_some_and(worthless)
    };
    find.find_iter(body).any(doubtful) || memchr::memmem::find(body, SEAL.as_bytes()).is_some()
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(borrow, default)]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<Cow<'a, str>>,
}

/// The messages without thoughts that Anthropic did not sign: another vendor's model thought them, or a client cut
/// them, and Anthropic refuses the whole request over one. A message that held nothing else goes too. `None` when
/// there are no such thoughts. Those that anybody signed are named.
fn signed_only(messages: &[u8], losses: &mut Losses) -> Option<String> {
    let messages: Vec<&RawValue> = serde_json::from_slice(messages).ok()?;
    let mut changed = false;
    let mut kept = Vec::with_capacity(messages.len());
    for raw in messages {
        let message: Message<'_> = serde_json::from_str(raw.get()).ok()?;
        let Ok(blocks) = serde_json::from_str::<Vec<&RawValue>>(message.content.get()) else {
            kept.push(raw.get().to_owned());
            continue;
        };
        let signed = blocks.iter().map(|b| b.get()).filter(|b| !is_unsigned(b, losses));
        let signed: Vec<&str> = signed.collect();
        if signed.len() == blocks.len() {
            kept.push(raw.get().to_owned());
            continue;
        }
        changed = true;
        if !signed.is_empty() {
            let at = crate::edits::place(raw.get().as_bytes(), message.content);
            let (before, after) = (raw.get().get(..at.start)?, raw.get().get(at.end..)?);
            kept.push(format!("{before}[{}]{after}", signed.join(",")));
        }
    }
    changed.then(|| format!("[{}]", kept.join(",")))
}

fn is_unsigned(block: &str, losses: &mut Losses) -> bool {
    let Ok(block) = serde_json::from_str::<Block<'_>>(block) else { return false };
    let (state, unsigned) = match block.kind.as_str() {
        "thinking" => {
            let state = block.signature.unwrap_or_default();
            let unsigned = worthless(&state);
            (state, unsigned)
        }
        "redacted_thinking" => {
            // Only Anthropic knows what its own look like.
            let state = block.data.unwrap_or_default();
            let unsigned = state.starts_with(SEAL) && worthless(&state);
            (state, unsigned)
        }
        _ => return false,
    };
    if unsigned && !state.is_empty() {
        losses.dropped("thinking");
    }
    unsigned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{Opaque, Vendor};

    fn spliced(body: &str, model: &str) -> String {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let view = MessagesView::scan(&bytes).unwrap();
        String::from_utf8(upstream_body(&view, &bytes, model, &mut Losses::default()).to_vec()).unwrap()
    }

    #[test]
    fn bytes_pass_but_for_the_model() {
        let rest = r#""max_tokens": 1.0e0,"messages" : [{"role":"user","content":"\u00e9 \"signature\":\"\""}], "x": {"model": 1}"#;
        let rest = rest.replace("1.0e0", "1");
        let body = format!(r#"{{ "model":"m", {rest} }}"#);
        assert_eq!(spliced(&body, "m"), body);
        assert_eq!(spliced(&body, "n"), format!(r#"{{ "model":"n", {rest} }}"#));
        let bytes = Bytes::from(body);
        let view = MessagesView::scan(&bytes).unwrap();
        assert_eq!(upstream_body(&view, &bytes, "m", &mut Losses::default()).as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn thinking_is_off_for_a_turn_whose_calls_have_no_thoughts_of_claude_s() {
        let body = |thinking: &str, first: &str| {
            Bytes::from(format!(
                r#"{{"model":"m","max_tokens":2000,"thinking": {thinking},"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":[{first}{{"type":"tool_use","id":"1","name":"f","input":{{}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"1"}}]}}]}}"#
            ))
        };
        let sent = |body: &Bytes| {
            let (view, mut losses) = (MessagesView::scan(body).unwrap(), Losses::default());
            (upstream_body(&view, body, "m", &mut losses), losses.header())
        };
        let (on, off) = (r#"{"type":"enabled","budget_tokens":1024}"#, r#"{"type":"disabled"}"#);
        let sealed = Opaque::new(Vendor::Google, "g").seal(Vendor::Anthropic).into_owned();
        let foreign = format!(r#"{{"type":"thinking","thinking":"x","signature":"{sealed}"}},"#);
        for first in [foreign.as_str(), ""] {
            assert_eq!(sent(&body(on, first)), (body(off, ""), "dropped;thinking".to_owned()), "{first}");
        }
        let own = r#"{"type":"thinking","thinking":"x","signature":"c2lnbmF0dXJl"},"#;
        for kept in [body(on, own), body(r#"{"type":"adaptive"}"#, ""), body(off, "")] {
            assert_eq!(sent(&kept), (kept.clone(), String::new()));
        }
    }

    #[test]
    fn what_only_looks_like_a_thought_changes_nothing() {
        let body = r#"{"model":"m","max_tokens":1,"messages": [ {"role":"user","content":"weir1."} ,
            {"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{"signature": ""}}]}]}"#;
        assert_eq!(spliced(body, "m"), body);
    }

    #[test]
    fn thoughts_that_go_are_named() {
        let body = |signature: &str| {
            let thought = format!(r#"{{"type":"thinking","thinking":"x","signature":"{signature}"}}"#);
            let text = r#"{"type":"text","text":"y"}"#;
            Bytes::from(format!(
                r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":[{thought},{text}]}}]}}"#
            ))
        };
        let sealed = Opaque::new(Vendor::Google, "g").seal(Vendor::Anthropic).into_owned();
        // Nobody's state is lost with what nobody signed.
        for (signature, named) in [(sealed.as_str(), "dropped;thinking"), ("", ""), ("c2lnbmF0dXJl", "")] {
            let (body, mut losses) = (body(signature), Losses::default());
            let view = MessagesView::scan(&body).unwrap();
            drop(upstream_body(&view, &body, "m", &mut losses));
            assert_eq!(losses.header(), named);
        }
    }

    #[test]
    fn unsigned_thoughts_go_and_signed_ones_stay_byte_for_byte() {
        let body = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a"},
            {"content":[{"type":"thinking","thinking":"x","signature" : ""}, {"type":"thinking", "thinking":"é","signature":"s=="},{"type":"tool_use","id":"1","name":"f","input":{"signature":""}}],"role":"assistant"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":""}]}]}"#;
        let sealed = Opaque::new(Vendor::Google, "g").seal(Vendor::Anthropic).into_owned();
        let cut = "A".repeat(63);
        for foreign in [sealed.as_str(), cut.as_str()] {
            let body = body.replace(r#""signature" : """#, &format!(r#""signature" : "{foreign}""#));
            assert!(!spliced(&body, "m").contains(foreign));
        }
        let redacted = body.replace(
            r#""type":"thinking","thinking":"x","signature" : """#,
            &format!(r#""type":"redacted_thinking","data":"{sealed}""#),
        );
        assert!(!spliced(&redacted, "m").contains(&sealed));
        assert_eq!(
            spliced(body, "m"),
            r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a"},{"content":[{"type":"thinking", "thinking":"é","signature":"s=="},{"type":"tool_use","id":"1","name":"f","input":{"signature":""}}],"role":"assistant"}]}"#
        );
    }
}
