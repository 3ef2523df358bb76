//! JSON bodies as messages, in one pass: unknown and doubled fields, wrong types and broken rules are refused by the
//! JSON pointer of the field, before anything is built of what follows.

use std::{cell::RefCell, collections::HashMap, fmt};

use prost_reflect::{DynamicMessage, MapKey, Value};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use weir_error::{Code, Error};

use crate::{
    shape::{Field, Kind, MAX_ITEMS, Many, Shape, ShapeId, Shapes},
    value,
};

/// Whole numbers up to here are exact as floating point, too.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The message that a body stands for. `hidden` are fields that the path has taken.
///
/// # Errors
/// `InvalidJson`; `InvalidType`, `InvalidArgument`, `MissingParameter` naming the field.
pub(crate) fn object(
    shapes: &Shapes,
    shape: ShapeId,
    hidden: &[String],
    body: &[u8],
) -> Result<DynamicMessage, Error> {
    let reader = Reader { shapes, failure: RefCell::default(), pointer: RefCell::default() };
    let mut json = serde_json::Deserializer::from_slice(body);
    let seed = Object { reader: &reader, shape: shapes.get(shape), hidden };
    let read = seed.deserialize(&mut json).and_then(|message| json.end().map(|()| message));
    read.map_err(|error| reader.failure.take().unwrap_or_else(|| malformed(&error)))
}

fn malformed(error: &serde_json::Error) -> Error {
    match error.classify() {
        Category::Data => Error::new(Code::InvalidType, "the body must be a JSON object"),
        _ => Error::new(Code::InvalidJson, format!("the body is not valid JSON: {error}")),
    }
}

struct Reader<'a> {
    shapes: &'a Shapes,
    /// The first that went wrong; serde's own error carries only text.
    failure: RefCell<Option<Error>>,
    /// Where we are, RFC 6901.
    pointer: RefCell<String>,
}

impl Reader<'_> {
    fn fail<E: serde::de::Error>(&self, error: Error) -> E {
        self.failure.borrow_mut().get_or_insert(error);
        E::custom("refused")
    }

    fn at(&self) -> String {
        self.pointer.borrow().clone()
    }

    /// Works one level deeper.
    fn below<T>(&self, key: &str, work: impl FnOnce() -> T) -> T {
        let before = self.pointer.borrow().len();
        *self.pointer.borrow_mut() += &format!("/{}", key.replace('~', "~0").replace('/', "~1"));
        let done = work();
        self.pointer.borrow_mut().truncate(before);
        done
    }

    fn refuse<T, E: serde::de::Error>(&self, code: Code, key: &str, text: &str) -> Result<T, E> {
        self.below(key, || Err(self.fail(Error::new(code, text).with_param(self.at()))))
    }
}

#[derive(Clone, Copy)]
struct Object<'a> {
    reader: &'a Reader<'a>,
    shape: &'a Shape,
    hidden: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = DynamicMessage;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<DynamicMessage, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = DynamicMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut json: A) -> Result<DynamicMessage, A::Error> {
        let Self { reader, shape, hidden } = self;
        let mut message = DynamicMessage::new(shape.message.clone());
        let mut seen = vec![false; shape.fields.len()];
        while let Some(key) = json.next_key::<String>()? {
            let known = shape.fields.iter().zip(&mut seen).find(|(field, _)| field.name == key);
            let Some((field, seen)) = known.filter(|_| !hidden.contains(&key)) else {
                return reader.refuse(Code::InvalidArgument, &key, "unknown field");
            };
            if std::mem::replace(seen, true) {
                return reader.refuse(Code::InvalidArgument, &key, "given twice");
            }
            let value = reader.below(&key, || json.next_value_seed(Slot { reader, field, element: false }));
            match value? {
                Some(value) => set(reader, &mut message, field, value)?,
                None if field.rules.required => {
                    return reader.refuse(Code::MissingParameter, &key, "must be given");
                }
                None => {}
            }
        }
        for (field, seen) in shape.fields.iter().zip(seen) {
            if field.rules.required && !seen && !hidden.contains(&field.name) {
                return reader.refuse(Code::MissingParameter, &field.name, "must be given");
            }
        }
        Ok(message)
    }
}

/// Of a `oneof` only one may be given.
fn set<E: serde::de::Error>(
    reader: &Reader<'_>,
    message: &mut DynamicMessage,
    field: &Field,
    value: Value,
) -> Result<(), E> {
    if let Some(group) = field.field.containing_oneof()
        && group.fields().any(|other| message.has_field(&other))
    {
        let text = format!("only one of {} may be given", group.name());
        return reader.refuse(Code::InvalidArgument, &field.name, &text);
    }
    message.try_set_field(&field.field, value).map_err(E::custom)
}

/// The place of a value: a field's, or one element of its list or map.
#[derive(Clone, Copy)]
struct Slot<'a> {
    reader: &'a Reader<'a>,
    field: &'a Field,
    element: bool,
}

impl Slot<'_> {
    fn wrong<T, E: serde::de::Error>(self) -> Result<T, E> {
        let at = self.reader.at();
        let what = match self.many() {
            Many::One => return Err(self.reader.fail(value::wrong_type(self.field, &at))),
            Many::List => "a list",
            Many::Map => "an object",
        };
        Err(self.reader.fail(Error::new(Code::InvalidType, format!("must be {what}")).with_param(at)))
    }

    fn many(self) -> Many {
        if self.element { Many::One } else { self.field.many }
    }

    fn done<E: serde::de::Error>(self, value: Value) -> Result<Option<Value>, E> {
        match value::check(self.field, &value, &self.reader.at()) {
            Ok(()) => Ok(Some(value)),
            Err(error) => Err(self.reader.fail(error)),
        }
    }

    fn whole<E: serde::de::Error>(self, number: i128) -> Result<Option<Value>, E> {
        if self.many() != Many::One {
            return self.wrong();
        }
        #[expect(clippy::cast_precision_loss, reason = "floating point is what the field holds")]
        let value = match self.field.kind {
            Kind::I32 => i32::try_from(number).ok().map(Value::I32),
            Kind::U32 => u32::try_from(number).ok().map(Value::U32),
            Kind::I64 => i64::try_from(number).ok().map(Value::I64),
            Kind::U64 => u64::try_from(number).ok().map(Value::U64),
            Kind::F32 => Some(Value::F32(number as f32)),
            Kind::F64 => Some(Value::F64(number as f64)),
            _ => None,
        };
        match value {
            Some(value) => self.done(value),
            None => self.wrong(),
        }
    }

    fn bounds<E: serde::de::Error>(self, count: usize) -> Result<(), E> {
        let rules = &self.field.rules;
        let (min, max) = (rules.min_items.unwrap_or(0), rules.max_items.unwrap_or(MAX_ITEMS));
        let text = if count > max as usize {
            format!("must have at most {max} elements")
        } else if count < min as usize {
            format!("must have at least {min} elements")
        } else {
            return Ok(());
        };
        Err(self.reader.fail(Error::invalid(self.reader.at(), text)))
    }
}

impl<'de> DeserializeSeed<'de> for Slot<'_> {
    /// `None`: null.
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<Value>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Slot<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(value::expected(self.field))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Option<Value>, E> {
        if self.element { self.wrong() } else { Ok(None) }
    }

    fn visit_bool<E: serde::de::Error>(self, b: bool) -> Result<Option<Value>, E> {
        match (self.many(), &self.field.kind) {
            (Many::One, Kind::Bool) => self.done(Value::Bool(b)),
            _ => self.wrong(),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Option<Value>, E> {
        self.whole(i128::from(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Option<Value>, E> {
        self.whole(i128::from(number))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Option<Value>, E> {
        match (self.many(), &self.field.kind) {
            #[expect(clippy::cast_possible_truncation, reason = "a shorter form of the same number")]
            (Many::One, Kind::F32) => self.done(Value::F32(number as f32)),
            (Many::One, Kind::F64) => self.done(Value::F64(number)),
            // `1.0` is a whole number in JSON Schema's eyes.
            #[expect(clippy::cast_possible_truncation, reason = "whole and small enough")]
            _ if number.fract() == 0.0 && number.abs() < EXACT => self.whole(number as i128),
            _ => self.wrong(),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Option<Value>, E> {
        if self.many() != Many::One {
            return self.wrong();
        }
        match value::from_str(self.field, text, &self.reader.at()) {
            Ok(value) => self.done(value),
            Err(error) => Err(self.reader.fail(error)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut json: A) -> Result<Option<Value>, A::Error> {
        if self.many() != Many::List {
            return self.wrong();
        }
        let mut values = Vec::new();
        let element = Self { element: true, ..self };
        let mut key = "0".to_owned();
        while let Some(value) = self.reader.below(&key, || json.next_element_seed(element))? {
            values.extend(value);
            if values.len() > self.field.rules.max_items.unwrap_or(MAX_ITEMS) as usize {
                break;
            }
            key = values.len().to_string();
        }
        self.bounds(values.len())?;
        Ok(Some(Value::List(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut json: A) -> Result<Option<Value>, A::Error> {
        let Self { reader, field, .. } = self;
        match (self.many(), &field.kind) {
            (Many::Map, _) => {}
            (Many::One, Kind::Message(shape)) => {
                let object = Object { reader, shape: reader.shapes.get(*shape), hidden: &[] };
                return object.visit_map(json).map(|message| Some(Value::Message(message)));
            }
            _ => return self.wrong(),
        }
        let mut values = HashMap::new();
        while let Some(key) = json.next_key::<String>()? {
            let slot = Self { element: true, ..self };
            let Some(value) = reader.below(&key, || json.next_value_seed(slot))? else { continue };
            if values.insert(MapKey::String(key.clone()), value).is_some() {
                return reader.refuse(Code::InvalidArgument, &key, "given twice");
            }
            self.bounds(values.len())?;
        }
        self.bounds(values.len())?;
        Ok(Some(Value::Map(values)))
    }
}
