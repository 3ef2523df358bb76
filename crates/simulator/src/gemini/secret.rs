//! Thought signatures: what the client is to bring back, and what is made of it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::seed::{hash, id};

const KEY: u64 = 0x7468_6f75_6768_7473;
/// What Google lets stand for a signature that was never there.
const SKIPPED: [&str; 2] = ["skip_thought_signature_validator", "context_engineering_is_the_way_to_go"];

fn sign(what: &str) -> String {
    id("", 88, hash(KEY, what.as_bytes()))
}

/// Of a call: of its name and its arguments, however they are written.
pub(super) fn of_call(name: &str, args: &Value) -> String {
    let args = if args.is_null() { "{}".to_owned() } else { args.to_string() };
    STANDARD.encode(sign(&format!("call {name} {args}")))
}

/// Of an answer that ends in text, which may be joined or cut meanwhile: of the answer's id.
pub(super) fn of_text(answer: &str) -> String {
    STANDARD.encode(format!("{answer}|{}", sign(answer)))
}

pub(super) fn is_of_call(signature: &str, name: &str, args: &Value) -> bool {
    is_skipped(signature) || signature == of_call(name, args)
}

pub(super) fn is_of_text(signature: &str) -> bool {
    let opened = STANDARD.decode(signature).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    is_skipped(signature)
        || opened
            .is_some_and(|opened| opened.split_once('|').is_some_and(|(answer, mark)| mark == sign(answer)))
}

fn is_skipped(signature: &str) -> bool {
    SKIPPED.iter().any(|word| *word == signature || STANDARD.encode(word) == signature)
}
