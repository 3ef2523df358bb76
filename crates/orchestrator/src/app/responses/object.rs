//! The response object: <https://platform.openai.com/docs/api-reference/responses/object>.

use serde_json::{Value, json};

use super::json::{Object, Raw, array_bytes};

/// What clients have to ask for to see it, in `include`.
pub(super) const ENCRYPTED: &str = "reasoning.encrypted_content";
const ENCRYPTED_CONTENT: &str = "encrypted_content";

/// What is ours to say in a response object, whoever made it.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) id: String,
    pub(super) previous: Option<String>,
    pub(super) store: bool,
    pub(super) background: bool,
    /// The client asked for encrypted reasoning.
    pub(super) shows_encrypted: bool,
}

impl Shape {
    /// Makes a provider's object ours. What clients may not see stays in it.
    pub(super) fn claim(&self, object: &mut Object) {
        object.set("id", &self.id);
        object.set("previous_response_id", &self.previous);
        object.set("store", &self.store);
        object.set("background", &self.background);
    }

    /// An item as clients see it.
    pub(super) fn shown(&self, item: &Raw) -> Raw {
        if self.shows_encrypted { item.clone() } else { hidden(item) }
    }

    pub(super) fn shown_all(&self, items: &[Raw]) -> Vec<Raw> {
        items.iter().map(|item| self.shown(item)).collect()
    }
}

/// An item without its encrypted reasoning.
pub(super) fn hidden(item: &Raw) -> Raw {
    if !item.get().contains(ENCRYPTED_CONTENT) {
        return item.clone();
    }
    match Object::of(item) {
        Some(mut object) if object.read::<String>("type").as_deref() == Some("reasoning") => {
            object.remove(ENCRYPTED_CONTENT);
            object.into_raw()
        }
        _ => item.clone(),
    }
}

/// Reasoning that no provider could do anything with.
pub(super) fn is_mute(item: &Raw) -> bool {
    let Some(object) = Object::of(item) else { return true };
    object.read::<String>("type").as_deref() == Some("reasoning") && object.get(ENCRYPTED_CONTENT).is_none()
}

/// The items of an object's output; the object keeps none.
pub(super) fn take_output(object: &mut Object) -> Vec<Raw> {
    let items = object.read("output").unwrap_or_default();
    object.set("output", &[(); 0]);
    items
}

/// Members of the answer that repeat the request, with what they are when it doesn't say.
const ECHOED: [&str; 22] = [
    "frequency_penalty",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "model",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
    "metadata",
    "prompt_cache_retention",
];

fn default(name: &str) -> Option<Value> {
    Some(match name {
        "instructions" | "max_output_tokens" | "max_tool_calls" | "prompt_cache_key"
        | "safety_identifier" | "user" => Value::Null,
        "parallel_tool_calls" => json!(true),
        "reasoning" => json!({"effort": null, "summary": null}),
        "service_tier" => json!("default"),
        "tool_choice" => json!("auto"),
        "frequency_penalty" | "presence_penalty" => json!(0),
        "temperature" | "top_p" => json!(1.0),
        "text" => json!({"format": {"type": "text"}}),
        "tools" => json!([]),
        "top_logprobs" => json!(0),
        "truncation" => json!("disabled"),
        "metadata" => json!({}),
        _ => return None,
    })
}

/// The object of a response that has not begun.
pub(super) fn queued(shape: &Shape, request: &Object, created_s: i64) -> Object {
    let mut object = Object::default();
    object.set("id", &shape.id);
    object.set("object", "response");
    object.set("created_at", &created_s);
    object.set("status", "queued");
    for name in ["completed_at", "error", "incomplete_details"] {
        object.set(name, &Value::Null);
    }
    for name in ECHOED {
        match (request.get(name), default(name)) {
            (Some(raw), _) => object.set(name, raw),
            (None, Some(value)) => object.set(name, &value),
            (None, None) => {}
        }
    }
    object.set("output", &[(); 0]);
    object.set("usage", &Value::Null);
    shape.claim(&mut object);
    object
}

/// Ends an object before its answer did. `error` is the code and the message.
pub(super) fn end(object: &mut Object, status: &str, error: Option<(&str, &str)>) {
    object.set("status", status);
    object.set("error", &error.map(|(code, message)| json!({"code": code, "message": message})));
}

/// The object as clients get it.
pub(super) fn with_output(object: &mut Object, items: &[Raw]) {
    object.set("output", items);
}

pub(super) fn bytes(items: &[Raw]) -> Vec<u8> {
    array_bytes(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(value: &Value) -> Raw {
        serde_json::value::to_raw_value(value).unwrap()
    }

    fn shape() -> Shape {
        Shape { id: "resp_1".into(), previous: None, store: true, background: true, shows_encrypted: false }
    }

    #[test]
    fn a_queued_response_has_every_member() {
        let request =
            Object::parse(br#"{"model":"m","temperature":0.2,"metadata":{"a":"b"},"input":"x"}"#).unwrap();
        let object: Value = serde_json::from_slice(&queued(&shape(), &request, 7).to_vec()).unwrap();
        for name in ["completed_at", "tools", "truncation", "parallel_tool_calls", "usage", "text", "error"] {
            assert!(object.get(name).is_some(), "{name}");
        }
        assert_eq!((&object["model"], &object["temperature"]), (&json!("m"), &json!(0.2)));
        assert_eq!((&object["metadata"], object.get("input")), (&json!({"a": "b"}), None));
        assert_eq!((&object["status"], &object["background"]), (&json!("queued"), &json!(true)));
    }

    #[test]
    fn encrypted_reasoning_is_shown_to_those_who_ask() {
        let item =
            raw(&json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"}));
        let other = raw(&json!({"type": "message", "content": "encrypted_content"}));
        assert!(!shape().shown(&item).get().contains("xyz"));
        assert_eq!(shape().shown(&other).get(), other.get());
        let asks = Shape { shows_encrypted: true, ..shape() };
        assert_eq!(asks.shown(&item).get(), item.get());
        assert!(!is_mute(&item) && !is_mute(&other) && is_mute(&hidden(&item)));
    }
}
