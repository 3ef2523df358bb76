//! Gemini's schemas: a part of OpenAPI's, in which anything else is an error.

use serde_json::{Map, Value};

use super::{
    invalid,
    request::{get, known},
};
use crate::error::ApiError;

const MEMBERS: &[&str] = &[
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "anyOf",
    "propertyOrdering",
    "default",
    "items",
    "minimum",
    "maximum",
];
const TYPES: [&str; 7] = ["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"];
const DEEPEST: usize = 32;

/// The same as JSON Schema.
pub(super) fn json_schema(schema: &Value, at: &str, depth: usize) -> Result<Value, ApiError> {
    let Value::Object(members) = schema else {
        return Err(invalid(
            at,
            format!(
                "Invalid value at '{at}' (type.googleapis.com/google.ai.generativelanguage.v1beta.Schema)"
            ),
        ));
    };
    if depth > DEEPEST {
        return Err(invalid(
            at,
            "A schema in GenerateContentRequest exceeds the maximum allowed nesting depth.",
        ));
    }
    known(members, at, MEMBERS)?;
    let mut made = Map::new();
    for (name, value) in members {
        // As JSON names them.
        let name = MEMBERS.iter().find(|known| snake(known) == snake(name)).copied().unwrap_or(name);
        let within = |rest: &str| format!("{at}.{rest}");
        let value = match name {
            "type" => Value::from(kind(value, &within("type"))?),
            "items" => json_schema(value, &within("items"), depth + 1)?,
            "properties" => properties(value, at, depth)?,
            "anyOf" => {
                let all = value.as_array().map(Vec::as_slice).unwrap_or_default().iter().enumerate();
                let all = all.map(|(i, of)| json_schema(of, &within(&format!("any_of[{i}]")), depth + 1));
                Value::Array(all.collect::<Result<_, _>>()?)
            }
            // Written as strings, since they are 64 bits wide.
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                let number = value.as_str().and_then(|text| text.parse::<u64>().ok()).or(value.as_u64());
                number.map_or(Value::Null, Value::from)
            }
            "nullable" | "propertyOrdering" => continue,
            _ => value.clone(),
        };
        made.insert(name.to_owned(), value);
    }
    check(&made, at)?;
    Ok(Value::Object(made))
}

fn properties(value: &Value, at: &str, depth: usize) -> Result<Value, ApiError> {
    let mut made = Map::new();
    for (i, (name, of)) in value.as_object().into_iter().flatten().enumerate() {
        made.insert(name.clone(), json_schema(of, &format!("{at}.properties[{i}].value"), depth + 1)?);
    }
    Ok(Value::Object(made))
}

fn kind(value: &Value, at: &str) -> Result<String, ApiError> {
    match value {
        Value::String(kind) if TYPES.contains(&kind.to_ascii_uppercase().as_str()) => {
            Ok(kind.to_ascii_lowercase())
        }
        Value::Array(_) => {
            let text = "Invalid JSON payload received. Unknown name \"type\"";
            let at = at.strip_suffix(".type").unwrap_or(at);
            Err(invalid(at, format!("{text} at '{at}': Proto field is not repeating, cannot start list.")))
        }
        other => {
            let kind = "type.googleapis.com/google.ai.generativelanguage.v1beta.Type";
            Err(invalid(at, format!("Invalid value at '{at}' ({kind}), {other}")))
        }
    }
}

/// What Google says of a schema that can be read.
fn check(schema: &Map<String, Value>, at: &str) -> Result<(), ApiError> {
    let says = |name: &str, what: &str| {
        Err(invalid(&format!("{at}.{name}"), format!("* GenerateContentRequest.{at}.{name}: {what}\n")))
    };
    let kind = schema.get("type").and_then(Value::as_str);
    if kind == Some("array") && !schema.contains_key("items") {
        return says("items", "missing field.");
    }
    if schema.contains_key("enum") && kind.is_some_and(|kind| kind != "string") {
        return says("enum", "only allowed for STRING type");
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (i, name) in required.iter().filter_map(Value::as_str).enumerate() {
        if !properties.is_some_and(|properties| properties.contains_key(name)) {
            return says(&format!("required[{i}]"), "property is not defined");
        }
    }
    Ok(())
}

/// `maxItems` as protocol buffers have it: `max_items`.
pub(super) fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// A function's parameters, in whichever of the two ways.
pub(super) fn parameters(function: &Value, at: &str) -> Result<Value, ApiError> {
    match (get(function, "parameters"), get(function, "parametersJsonSchema")) {
        (Some(_), Some(_)) => {
            Err(invalid(at, "parameters and parameters_json_schema are mutually exclusive."))
        }
        (Some(schema), None) => json_schema(schema, &format!("{at}.parameters"), 0),
        (None, json) => Ok(json.cloned().unwrap_or_default()),
    }
}
