//! Messages as JSON Schema: what is read and what is written differ, so a message used both ways has two.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use weir_proto::api::Format;

use super::object;
use crate::shape::{Field, Kind, MAX_ITEMS, Many, Shape, ShapeId, Shapes, words};

const MONEY: &str = r"^-?[0-9]+(\.[0-9]{1,9})?$";
const SPAN: &str = r"^-?[0-9]+(\.[0-9]{1,9})?s$";
/// Not only white space, and no control characters.
const LINE: &str =
    r"^[^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u001F\u007F-\u009F]*$";

/// Who writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Side {
    Input,
    Output,
}

/// The schemas that were asked for, and those they need.
pub(super) struct Schemas<'a> {
    shapes: &'a Shapes,
    made: BTreeMap<(ShapeId, Side), Value>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(shapes: &'a Shapes) -> Self {
        Self { shapes, made: BTreeMap::new() }
    }

    /// By name.
    pub(super) fn finish(self) -> BTreeMap<String, Value> {
        let shapes = self.shapes;
        self.made
            .into_iter()
            .map(|((id, side), schema)| (name(shapes, shapes.get(id), side), schema))
            .collect()
    }

    pub(super) fn reference(&mut self, id: ShapeId, side: Side) -> Value {
        if !self.made.contains_key(&(id, side)) {
            // Before its fields: it may contain itself.
            self.made.insert((id, side), Value::Null);
            let schema = self.of(self.shapes.get(id), side, &[]);
            self.made.insert((id, side), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{}", name(self.shapes, self.shapes.get(id), side)) })
    }

    pub(super) fn input_without(&mut self, shape: &Shape, taken: &[String]) -> Value {
        self.of(shape, Side::Input, taken)
    }

    fn of(&mut self, shape: &Shape, side: Side, taken: &[String]) -> Value {
        let fields: Vec<_> = shape.fields.iter().filter(|f| !taken.contains(&f.name)).collect();
        let required = fields.iter().filter(|f| side == Side::Output || f.rules.required);
        let required: Vec<_> = required.map(|f| f.name.as_str()).collect();
        let required = (!required.is_empty()).then(|| json!(required));
        let properties: Map<_, _> = fields.iter().map(|f| (f.name.clone(), self.property(f, side))).collect();
        object([
            ("type", Some("object".into())),
            ("description", (!shape.doc.is_empty()).then(|| shape.doc.clone().into())),
            ("required", required),
            ("properties", Some(properties.into())),
            ("additionalProperties", (side == Side::Input).then(|| false.into())),
        ])
    }

    fn property(&mut self, field: &Field, side: Side) -> Value {
        let element = match field.kind {
            Kind::Message(id) => self.reference(id, side),
            _ => plain(field, side),
        };
        let mut schema = match field.many {
            Many::One => element,
            Many::List => list(field, element),
            Many::Map => json!({
                "type": "object",
                "additionalProperties": element,
                "maxProperties": field.rules.max_items.unwrap_or(MAX_ITEMS),
            }),
        };
        let nullable = match side {
            Side::Input => !field.rules.required,
            Side::Output => field.nullable(),
        };
        if nullable {
            schema = or_null(schema);
        }
        describe(field, &mut schema);
        schema
    }

    /// A value in a path or a query, which has no null.
    #[expect(clippy::unused_self, reason = "all schemas are asked for here")]
    pub(super) fn parameter(&self, field: &Field) -> Value {
        let element = match field.kind {
            Kind::TimeMs => json!({
                "description": "RFC 3339, or Unix seconds.",
                "anyOf": [{ "type": "string", "format": "date-time" }, { "type": "integer", "minimum": 1 }],
            }),
            _ => plain(field, Side::Input),
        };
        let mut schema = if field.many == Many::List { list(field, element) } else { element };
        if let Ok(default) = serde_json::from_str::<Value>(&field.rules.default) {
            schema["default"] = default;
        }
        schema
    }
}

fn name(shapes: &Shapes, shape: &Shape, side: Side) -> String {
    let name = shapes.name(shape);
    // What ends in Request is only ever read.
    if side == Side::Input && !name.ends_with("Request") { format!("{name}Input") } else { name }
}

fn list(field: &Field, element: Value) -> Value {
    object([
        ("type", Some("array".into())),
        ("items", Some(element)),
        ("minItems", field.rules.min_items.map(Into::into)),
        ("maxItems", field.rules.max_items.map(Into::into)),
    ])
}

/// Type, form and bounds of one value.
fn plain(field: &Field, side: Side) -> Value {
    let (kind, format) = match &field.kind {
        Kind::Bool => ("boolean", None),
        Kind::I32 => ("integer", Some("int32")),
        Kind::U32 | Kind::I64 | Kind::U64 => ("integer", Some("int64")),
        Kind::F32 => ("number", Some("float")),
        Kind::F64 => ("number", Some("double")),
        Kind::TimeMs | Kind::Timestamp => ("string", Some("date-time")),
        Kind::Text if field.format() == Format::Uuid => ("string", Some("uuid")),
        Kind::Object => ("object", None),
        _ => ("string", None),
    };
    let mut schema = object([("type", Some(kind.into())), ("format", format.map(Into::into))]);
    match &field.kind {
        Kind::Enum(of) => {
            let words: Vec<_> = words(of).map(|(word, _)| word).collect();
            schema["enum"] = words.into();
        }
        Kind::Bytes => schema["contentEncoding"] = "base64".into(),
        Kind::Usd => schema["pattern"] = MONEY.into(),
        Kind::Duration => schema["pattern"] = SPAN.into(),
        Kind::U32 | Kind::U64 => schema["minimum"] = 0.into(),
        _ => {}
    }
    if side == Side::Input {
        bounds(field, &mut schema);
    }
    schema
}

fn bounds(field: &Field, schema: &mut Value) {
    let rules = &field.rules;
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            schema[name] = value;
        }
    };
    set("minimum", rules.min.map(Into::into));
    set("maximum", rules.max.map(Into::into));
    if field.kind == Kind::Text {
        set("minLength", rules.min_len.map(Into::into));
        set("maxLength", rules.max_len.map(Into::into));
        set("pattern", (field.format() == Format::Line).then(|| LINE.into()));
        set("pattern", (!rules.pattern.is_empty()).then(|| rules.pattern.clone().into()));
        set("enum", (!rules.one_of.is_empty()).then(|| rules.one_of.clone().into()));
    }
}

fn or_null(mut schema: Value) -> Value {
    if schema.get("$ref").is_some() {
        return json!({ "anyOf": [schema, { "type": "null" }] });
    }
    if let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.push(Value::Null);
    }
    schema
}

fn describe(field: &Field, schema: &mut Value) {
    if !field.doc.is_empty() {
        schema["description"] = field.doc.clone().into();
    }
    if field.deprecated() {
        schema["deprecated"] = true.into();
    }
    if let Ok(example) = serde_json::from_str::<Value>(&field.rules.example) {
        schema["examples"] = json!([example]);
    }
    if let Ok(default) = serde_json::from_str::<Value>(&field.rules.default) {
        schema["default"] = default;
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::{
        DescriptorPool,
        prost_types::{DescriptorProto, FileDescriptorProto},
    };

    use super::*;

    #[test]
    fn messages_that_are_called_alike_are_told_apart() {
        let mut pool = DescriptorPool::new();
        for (package, names) in [("weir.one.v1", vec!["Part", "Own"]), ("weir.two.v1", vec!["Part"])] {
            let message = |name: &str| DescriptorProto { name: Some(name.to_owned()), ..Default::default() };
            let file = FileDescriptorProto {
                name: Some(format!("{package}.proto")),
                package: Some(package.to_owned()),
                message_type: names.into_iter().map(message).collect(),
                syntax: Some("proto3".to_owned()),
                ..Default::default()
            };
            pool.add_file_descriptor_proto(file).unwrap();
        }
        let mut shapes = Shapes::default();
        let ids = ["weir.one.v1.Part", "weir.two.v1.Part", "weir.one.v1.Own"]
            .map(|name| shapes.add(&pool.get_message_by_name(name).unwrap()).unwrap());
        let names = ids.map(|id| name(&shapes, shapes.get(id), Side::Input));
        assert_eq!(names, ["OnePartInput", "TwoPartInput", "OwnInput"]);
    }
}
