//! Answers: every field, in the contract's order and forms.

use prost_reflect::{MapKey, ReflectMessage as _, Value};
use serde_json::json;

use super::*;
use crate::write;

fn shown(api: &Api, change: impl FnOnce(&mut DynamicMessage)) -> String {
    let operation = &api.operations()[0];
    let mut message = DynamicMessage::new(operation.method.output());
    change(&mut message);
    let object = write::Object { shapes: &api.shapes, shape: operation.output, message: Some(&message) };
    serde_json::to_string(&object).unwrap()
}

#[test]
fn what_is_absent_is_null_or_its_default() {
    assert_eq!(
        shown(&shop(), |_| {}),
        concat!(
            r#"{"id":"","shop":"","colour":null,"price_usd":"0.00","made_at":"1970-01-01T00:00:00Z","#,
            r#""sold_at":null,"warranty":null,"labels":{},"picture":"","parts":[],"stock":null,"weight":0.0,"#,
            r#""size":{"width":0,"offset":0},"new":false,"owner":null,"extra":null}"#,
        )
    );
}

#[test]
fn what_is_there_has_its_form() {
    let api = shop();
    let text = shown(&api, |message| {
        let set = |message: &mut DynamicMessage, name: &str, value| message.set_field_by_name(name, value);
        set(message, "colour", Value::EnumNumber(2));
        set(message, "price_nano_usd", Value::I64(-1_250_000_001));
        set(message, "made_ms", Value::I64(1_700_000_000_250));
        set(message, "stock", Value::U64(u64::MAX));
        set(message, "weight", Value::F64(f64::NAN));
        set(message, "picture", Value::Bytes("hi".into()));
        let labels =
            [("b", "2"), ("a", "1")].map(|(k, v)| (MapKey::String(k.into()), Value::String(v.into())));
        set(message, "labels", Value::Map(labels.into()));
        set(message, "extra", Value::String(r#"{"a": [1, 2.50]}"#.into()));
        let part = DynamicMessage::new(message.descriptor());
        set(message, "parts", Value::List(vec![Value::Message(part)]));
    });
    let back: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(back["colour"], "dark_blue");
    assert_eq!(
        (&back["price_usd"], &back["made_at"]),
        (&json!("-1.250000001"), &json!("2023-11-14T22:13:20.250Z"))
    );
    assert_eq!(back["stock"].as_u64(), Some(u64::MAX));
    assert_eq!((&back["weight"], &back["picture"]), (&json!(null), &json!("aGk=")));
    assert!(text.contains(r#""extra":{"a": [1, 2.50]}"#));
    assert!(text.contains(r#""labels":{"a":"1","b":"2"}"#));
    assert_eq!(back["parts"][0]["parts"], json!([]));
}

#[test]
fn an_object_that_is_none_is_null() {
    let text = shown(&shop(), |message| message.set_field_by_name("extra", Value::String("{".into())));
    assert!(text.contains(r#""extra":null"#));
}

#[test]
fn a_value_of_a_later_version_is_null() {
    let text = shown(&shop(), |message| message.set_field_by_name("colour", Value::EnumNumber(99)));
    assert!(text.contains(r#""colour":null"#));
}
