//! A body as it came, but for what another model wants otherwise.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::members::{Members, camel};

/// Objects within objects that are looked into.
const DEPTH: usize = 2;

/// `body` with what differs between two writings of what it means: members that the newer lacks go, others become what
/// they are there, and what neither writes stays as the client wrote it.
#[must_use]
pub fn adapted(body: &Bytes, old: &[u8], new: &[u8]) -> Bytes {
    let raw = |bytes| serde_json::from_slice::<&RawValue>(bytes).ok();
    let (Some(own), Some(old), Some(new)) = (raw(body), raw(old), raw(new)) else { return body.clone() };
    changed(own, old, new, DEPTH).map_or_else(|| body.clone(), Into::into)
}

/// `None`: nothing differs.
fn changed(own: &RawValue, old: &RawValue, new: &RawValue, depth: usize) -> Option<String> {
    if old.get() == new.get() {
        return None;
    }
    let object = |raw| Members::of(raw, "").ok().filter(|_| depth > 0).map(Members::all);
    let (Some(own), Some(old), Some(new)) = (object(own), object(old), object(new)) else {
        return Some(new.get().to_owned());
    };
    // Google takes either way of writing a name.
    let by_name = |members: Vec<(String, _)>| -> BTreeMap<String, (String, &RawValue)> {
        members.into_iter().map(|(name, raw)| (camel(&name), (name, raw))).collect()
    };
    let (old, mut new) = (by_name(old.collect()), by_name(new.collect()));
    let mut out = Vec::new();
    let mut write =
        |name: String, value: &str| out.push(format!("{}:{value}", serde_json::Value::from(name)));
    for (name, raw) in own {
        let key = camel(&name);
        match (old.get(&key), new.remove(&key)) {
            (Some(_), None) => {}
            (Some((_, old)), Some((_, new))) => {
                let value = changed(raw, old, new, depth - 1);
                write(name, value.as_deref().unwrap_or(raw.get()));
            }
            (None, Some((_, new))) => write(name, new.get()),
            (None, None) => write(name, raw.get()),
        }
    }
    let differs = |key: &String, raw: &RawValue| old.get(key).is_none_or(|(_, old)| old.get() != raw.get());
    for (key, (name, raw)) in new {
        if differs(&key, raw) {
            write(name, raw.get());
        }
    }
    Some(format!("{{{}}}", out.join(",")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Dialect, Target, canonical::Losses};

    fn to(dialect: Dialect, body: &Value, old: &str, new: &str) -> Value {
        let body = Bytes::from(body.to_string());
        let meant = dialect.decode_request(&body, &mut Losses::default()).unwrap();
        let write = |model| dialect.encode_request(&meant, &Target::known(model), &mut Losses::default());
        serde_json::from_slice(&adapted(&body, &write(old), &write(new))).unwrap()
    }

    #[test]
    fn a_newer_model_gets_all_but_what_it_wants_otherwise() {
        let schema =
            json!({"name": "n", "schema": {"type": "array", "items": {"type": "integer", "minimum": 3}}});
        let body = json!({"model": "gpt-4-1106-preview", "max_tokens": 50, "logit_bias": {"1": 1}, "store": true,
            "metadata": {"a": "b"}, "prediction": {"type": "content", "content": "x"}, "vendor_thing": [1.50],
            "response_format": {"type": "json_schema", "json_schema": schema},
            "messages": [{"role": "user", "content": "x", "name": "n"}]});
        let mut expected = body.clone();
        let members = expected.as_object_mut().unwrap();
        let bound = members.remove("max_tokens").unwrap();
        members.insert("max_completion_tokens".to_owned(), bound);
        members.insert("model".to_owned(), "gpt-5.6-sol".into());
        assert_eq!(to(Dialect::OpenAi, &body, "gpt-4-1106-preview", "gpt-5.6-sol"), expected);
    }

    #[test]
    fn what_does_not_differ_is_not_touched() {
        let body = Bytes::from_static(br#"{ "a" : 1.0e3, "b":{"x":null} }"#);
        assert_eq!(adapted(&body, b"{\"a\":1}", b"{\"a\":1}").as_ptr(), body.as_ptr());
        assert_eq!(
            adapted(&body, b"{\"b\":{\"x\":1,\"y\":2}}", b"{\"b\":{\"y\":2,\"z_z\":3}}"),
            r#"{"a":1.0e3,"b":{"z_z":3}}"#
        );
        assert_eq!(
            adapted(
                &Bytes::from_static(br#"{"gen_c":{"a":1}}"#),
                b"{\"genC\":{\"a\":1}}",
                b"{\"genC\":{\"a\":2}}"
            ),
            r#"{"gen_c":{"a":2}}"#
        );
    }
}
