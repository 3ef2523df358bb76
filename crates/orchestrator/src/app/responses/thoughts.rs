//! Encrypted reasoning is readable to the account that made it, and to no other, be it of the same vendor's.

use bytes::Bytes;

use super::json::{Object, Raw};

/// What such a provider says of it.
pub(in crate::app) const UNREADABLE: &str = "invalid_encrypted_content";

/// A Responses body without reasoning, and without the ids by which its provider would miss it. `None`: there is none.
pub(in crate::app) fn without_thoughts(body: &[u8]) -> Option<Bytes> {
    let mut body = Object::parse(body)?;
    let items: Vec<Raw> = body.read("input")?;
    let all = items.len();
    let left: Vec<Raw> = items.into_iter().filter_map(without).collect();
    if left.len() == all {
        return None;
    }
    body.set("input", &left);
    Some(body.to_vec().into())
}

fn without(item: Raw) -> Option<Raw> {
    let Some(mut object) = Object::of(&item) else { return Some(item) };
    match object.read::<String>("type").as_deref() {
        Some("reasoning") => None,
        Some("message" | "function_call" | "custom_tool_call") => {
            object.remove("id");
            Some(object.into_raw())
        }
        _ => Some(item),
    }
}
