//! The response object: <https://platform.openai.com/docs/api-reference/responses/object>.

use serde_json::json;
use weir_llm::responses;

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

/// The object of a response that has not begun.
pub(super) fn queued(shape: &Shape, request: &Object, created_s: i64) -> Object {
    let model: String = request.read("model").unwrap_or_default();
    let asked = request.without("input").to_vec();
    let object = responses::queued(&shape.id, &model, created_s, &asked);
    let mut object = Object::of(&object).unwrap_or_default();
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
    use serde_json::Value;

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
        for name in [
            "completed_at",
            "tools",
            "truncation",
            "parallel_tool_calls",
            "usage",
            "text",
            "error",
            "frequency_penalty",
            "presence_penalty",
            "service_tier",
        ] {
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
