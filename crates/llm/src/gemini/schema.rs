//! Google's `Schema`, a part of `OpenAPI` 3.0, as JSON Schema: <https://ai.google.dev/api/caching#Schema>. Members keep
//! their order, which models answer in.

use serde_json::value::RawValue;

use crate::{canonical::Raw, edits::members, members::string};

/// Schemas within schemas, as deep as Google takes them: nobody who means well goes deeper.
const MAX_DEPTH: usize = 32;

/// What is no schema, or too deep within one, stays what it is.
pub(super) fn json_schema(raw: &RawValue) -> Raw {
    RawValue::from_string(convert(raw, 0)).unwrap_or_else(|_| raw.to_owned())
}

fn convert(raw: &RawValue, depth: usize) -> String {
    let members = if depth < MAX_DEPTH { members(raw) } else { None };
    let Some(members) = members else { return raw.get().to_owned() };
    let nullable = members.iter().any(|(name, value)| name == "nullable" && value.get() == "true");
    let written = members.iter().filter_map(|(name, value)| member(name, value, nullable, depth + 1));
    object(written.collect())
}

fn member(name: &str, value: &RawValue, nullable: bool, depth: usize) -> Option<(String, String)> {
    let same = || value.get().to_owned();
    let value = match name {
        "nullable" | "propertyOrdering" | "property_ordering" => return None,
        "type" => {
            let kind = string(value).map(|kind| kind.to_ascii_lowercase());
            if kind.as_deref() == Some("type_unspecified") {
                return None;
            }
            match kind {
                Some(kind) if nullable && kind != "null" => format!("[{},\"null\"]", quoted(&kind)),
                Some(kind) => quoted(&kind),
                None => same(),
            }
        }
        "properties" => {
            let properties = members(value)?;
            object(properties.into_iter().map(|(name, schema)| (name, convert(schema, depth))).collect())
        }
        "items" => convert(value, depth),
        "anyOf" | "any_of" => {
            let schemas = serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?;
            let mut schemas: Vec<_> = schemas.into_iter().map(|schema| convert(schema, depth)).collect();
            if nullable {
                schemas.push(r#"{"type":"null"}"#.to_owned());
            }
            format!("[{}]", schemas.join(","))
        }
        "enum" if nullable => same().trim_end().strip_suffix(']').map(|list| format!("{list},null]"))?,
        // 64-bit numbers travel as strings.
        _ if is_number(name) => string(value).unwrap_or_else(same),
        "example" => format!("[{}]", value.get()),
        _ => same(),
    };
    Some((camel(name), value))
}

fn is_number(name: &str) -> bool {
    ["min", "max"].iter().any(|start| name.starts_with(start))
}

fn camel(name: &str) -> String {
    match name {
        "example" => "examples".to_owned(),
        _ => crate::members::camel(name),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn object(members: Vec<(String, String)>) -> String {
    let members: Vec<_> =
        members.into_iter().map(|(name, value)| format!("{}:{value}", quoted(&name))).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(schema: &str) -> String {
        json_schema(serde_json::from_str(schema).unwrap()).get().to_owned()
    }

    #[test]
    fn types_are_lowered_and_null_is_one_and_the_order_stays() {
        assert_eq!(
            converted(
                r#"{"type":"OBJECT","properties":{"z":{"type":"STRING","nullable":true,"enum":["a"]},
                    "a":{"type":"ARRAY","items":{"type":"INTEGER","format":"int32"},"maxItems":"5"},
                    "nullable":{"anyOf":[{"type":"STRING"},{"type":"NUMBER"}],"nullable":true}},
                    "required":["z"],"propertyOrdering":["z","a"]}"#
            ),
            concat!(
                r#"{"type":"object","properties":{"z":{"type":["string","null"],"enum":["a",null]},"#,
                r#""a":{"type":"array","items":{"type":"integer","format":"int32"},"maxItems":5},"#,
                r#""nullable":{"anyOf":[{"type":"string"},{"type":"number"},{"type":"null"}]}},"required":["z"]}"#
            )
        );
        for same in
            ["true", r#"{"type":"string"}"#, "[1]", r#"{"type":"object","additionalProperties":false}"#]
        {
            assert_eq!(converted(same), same);
        }
    }
}
