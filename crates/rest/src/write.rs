//! Messages as JSON: every field is there, absent ones as null, in the order of the contract.

use prost_reflect::{DynamicMessage, EnumDescriptor, MapKey, Value};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};

use crate::{
    shape::{Field, Kind, Many, ShapeId, Shapes, words},
    value::{show_time, show_usd},
};

/// A message, or with `None` one whose every field is at its default.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a> {
    pub(crate) shapes: &'a Shapes,
    pub(crate) shape: ShapeId,
    pub(crate) message: Option<&'a DynamicMessage>,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let shape = self.shapes.get(self.shape);
        let mut object = json.serialize_map(Some(shape.fields.len()))?;
        for field in &shape.fields {
            let given = self.message.filter(|m| m.has_field(&field.field));
            let value = given.map(|m| m.get_field(&field.field));
            if value.is_none() && field.nullable() {
                object.serialize_entry(&field.name, &())?;
                continue;
            }
            let value = value.as_deref();
            object.serialize_entry(&field.name, &Slot { shapes: self.shapes, field, value })?;
        }
        object.end()
    }
}

struct Slot<'a> {
    shapes: &'a Shapes,
    field: &'a Field,
    /// `None`: the default.
    value: Option<&'a Value>,
}

impl Serialize for Slot<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let Self { shapes, field, value } = *self;
        let element = |value| Element { shapes, kind: &field.kind, value };
        match (field.many, value) {
            (Many::List, value) => {
                let values = value.and_then(Value::as_list).unwrap_or_default();
                let mut list = json.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&element(Some(value)))?;
                }
                list.end()
            }
            (Many::Map, value) => {
                let mut values: Vec<_> = value.and_then(Value::as_map).into_iter().flatten().collect();
                values.sort_by_key(|(key, _)| text(key));
                let mut map = json.serialize_map(Some(values.len()))?;
                for (key, value) in values {
                    map.serialize_entry(text(key), &element(Some(value)))?;
                }
                map.end()
            }
            (Many::One, value) => element(value).serialize(json),
        }
    }
}

fn text(key: &MapKey) -> &str {
    key.as_str().unwrap_or_default()
}

struct Element<'a> {
    shapes: &'a Shapes,
    kind: &'a Kind,
    value: Option<&'a Value>,
}

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let value = self.value;
        match self.kind {
            Kind::Bool => json.serialize_bool(value.and_then(Value::as_bool).unwrap_or_default()),
            Kind::I32 => json.serialize_i32(value.and_then(Value::as_i32).unwrap_or_default()),
            Kind::I64 => json.serialize_i64(value.and_then(Value::as_i64).unwrap_or_default()),
            Kind::U32 => json.serialize_u32(value.and_then(Value::as_u32).unwrap_or_default()),
            Kind::U64 => json.serialize_u64(value.and_then(Value::as_u64).unwrap_or_default()),
            Kind::F32 => json.serialize_f32(value.and_then(Value::as_f32).unwrap_or_default()),
            Kind::F64 => json.serialize_f64(value.and_then(Value::as_f64).unwrap_or_default()),
            Kind::Text => json.serialize_str(value.and_then(Value::as_str).unwrap_or_default()),
            Kind::Bytes => {
                use base64::{Engine as _, engine::general_purpose::STANDARD};
                let bytes = value.and_then(Value::as_bytes).map(|b| b.as_ref()).unwrap_or_default();
                json.serialize_str(&STANDARD.encode(bytes))
            }
            Kind::Enum(of) => word(of, value).serialize(json),
            Kind::Message(shape) => {
                let message = value.and_then(Value::as_message);
                Object { shapes: self.shapes, shape: *shape, message }.serialize(json)
            }
            Kind::Timestamp => known::<prost_types::Timestamp>(value).to_string().serialize(json),
            Kind::Duration => known::<prost_types::Duration>(value).to_string().serialize(json),
            Kind::TimeMs => show_time(value.and_then(Value::as_i64).unwrap_or_default()).serialize(json),
            Kind::Usd => show_usd(value.and_then(Value::as_i64).unwrap_or_default()).serialize(json),
            Kind::Object => {
                let text = value.and_then(Value::as_str).unwrap_or("{}");
                serde_json::from_str::<&serde_json::value::RawValue>(text).ok().serialize(json)
            }
        }
    }
}

/// A value that this version does not know is null.
fn word(of: &EnumDescriptor, value: Option<&Value>) -> Option<String> {
    let number = value.and_then(Value::as_enum_number)?;
    words(of).find(|(_, n)| *n == number).map(|(word, _)| word)
}

fn known<T: prost::Message + Default>(value: Option<&Value>) -> T {
    value.and_then(Value::as_message).and_then(|m| m.transcode_to().ok()).unwrap_or_default()
}
