//! Google's `Schema`, a part of `OpenAPI` 3.0, as JSON Schema: <https://ai.google.dev/api/caching#Schema>. Members keep
//! their order, which models answer in.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{canonical::Raw, members::string};

/// Members in their order.
struct Ordered<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Ordered<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members).map(Ordered)
    }
}

fn members(raw: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    raw.get().starts_with('{').then(|| serde_json::from_str::<Ordered<'_>>(raw.get()).ok())?.map(|o| o.0)
}

/// What is no schema stays what it is.
pub(super) fn json_schema(raw: &RawValue) -> Raw {
    RawValue::from_string(convert(raw)).unwrap_or_else(|_| raw.to_owned())
}

fn convert(raw: &RawValue) -> String {
    let Some(members) = members(raw) else { return raw.get().to_owned() };
    let nullable = members.iter().any(|(name, value)| name == "nullable" && value.get() == "true");
    let written = members.iter().filter_map(|(name, value)| member(name, value, nullable));
    object(written.collect())
}

fn member(name: &str, value: &RawValue, nullable: bool) -> Option<(String, String)> {
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
            object(properties.into_iter().map(|(name, schema)| (name, convert(schema))).collect())
        }
        "items" => convert(value),
        "anyOf" | "any_of" => {
            let mut schemas: Vec<String> =
                serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?.into_iter().map(convert).collect();
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
