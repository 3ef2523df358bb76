//! What vendors refuse in a schema that they are to hold an answer to.

use serde_json::{Map, Value};

const DEEPEST: usize = 64;
/// <https://platform.openai.com/docs/guides/structured-outputs#supported-schemas>
const NOT_AT_OPENAI: &[&str] =
    &["allOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else", "patternProperties"];
/// <https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations>
const NOT_FOR_NUMBERS: &[&str] =
    &["exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"];
const NOT_FOR_STRINGS: &[&str] = &["maxLength", "minLength"];
const NOT_FOR_ARRAYS: &[&str] = &["contains", "maxContains", "maxItems", "minContains", "uniqueItems"];
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// What `OpenAI` has against a strict schema of `what`.
pub(crate) fn openai(schema: &Value, what: &str) -> Result<(), String> {
    let refused =
        |context: &str, why: &str| Err(format!("Invalid schema for {what}: In context={context}, {why}"));
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => {}
        kind => {
            let kind = kind.unwrap_or("None");
            let why = format!("schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'.");
            return Err(format!("Invalid schema for {what}: {why}"));
        }
    }
    walk(schema, &mut Vec::new(), &mut |schema, path| {
        let context = match path {
            [one] => format!("('{one}',)"),
            path => {
                format!("({})", path.iter().map(|step| format!("'{step}'")).collect::<Vec<_>>().join(", "))
            }
        };
        if let Some(name) = NOT_AT_OPENAI.iter().find(|name| schema.contains_key(**name)) {
            return refused(&context, &format!("'{name}' is not permitted."));
        }
        if !is(schema, "object") {
            return Ok(());
        }
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            return refused(&context, "'additionalProperties' is required to be supplied and to be false.");
        }
        let required =
            schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let properties = schema.get("properties").and_then(Value::as_object);
        let why =
            "'required' is required to be supplied and to be an array including every key in properties.";
        let names = || properties.into_iter().flat_map(Map::keys);
        if let Some(missing) = names().find(|name| required.iter().all(|r| r != name.as_str())) {
            return refused(&context, &format!("{why} Missing '{missing}'."));
        }
        match required.iter().filter_map(Value::as_str).find(|name| names().all(|known| known != name)) {
            Some(extra) => refused(&context, &format!("{why} Extra required key '{extra}' supplied.")),
            None => Ok(()),
        }
    })
}

/// What Anthropic has against a schema.
pub(crate) fn anthropic(schema: &Value) -> Result<(), String> {
    recursion(schema)?;
    walk(schema, &mut Vec::new(), &mut |schema, _| {
        if is(schema, "object") && schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            return Err("For 'object' type, 'additionalProperties' must be explicitly set to false".into());
        }
        for (kind, refused) in [
            ("integer", NOT_FOR_NUMBERS),
            ("number", NOT_FOR_NUMBERS),
            ("string", NOT_FOR_STRINGS),
            ("array", NOT_FOR_ARRAYS),
        ] {
            let found: Vec<_> = refused.iter().copied().filter(|name| schema.contains_key(*name)).collect();
            match found.as_slice() {
                _ if !is(schema, kind) => {}
                [] => {}
                [one] => return Err(format!("For '{kind}' type, property '{one}' is not supported")),
                several => {
                    return Err(format!(
                        "For '{kind}' type, properties {} are not supported",
                        several.join(", ")
                    ));
                }
            }
        }
        if schema.get("minItems").and_then(Value::as_u64).is_some_and(|least| least > 1) {
            return Err("For 'array' type, 'minItems' values other than 0 or 1 are not supported".into());
        }
        match schema.get("format").and_then(Value::as_str) {
            Some(format) if is(schema, "string") && !FORMATS.contains(&format) => {
                Err(format!("For 'string' type, format '{format}' is not supported"))
            }
            _ => Ok(()),
        }
    })
}

fn is(schema: &Map<String, Value>, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(told)) => told == kind,
        Some(Value::Array(told)) => told.iter().any(|told| told == kind),
        _ => kind == "object" && schema.contains_key("properties"),
    }
}

/// Every schema within, with the way to it.
fn walk<'a>(
    schema: &'a Value,
    path: &mut Vec<&'a str>,
    check: &mut impl FnMut(&Map<String, Value>, &[&str]) -> Result<(), String>,
) -> Result<(), String> {
    let Value::Object(members) = schema else { return Ok(()) };
    if path.len() > DEEPEST {
        return Err("the schema is nested too deeply".into());
    }
    check(members, path)?;
    for (name, value) in members {
        path.push(name);
        match (name.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(named)) => {
                for (name, schema) in named {
                    path.push(name);
                    walk(schema, path, check)?;
                    path.pop();
                }
            }
            ("items" | "additionalProperties", schema) => walk(schema, path, check)?,
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(all)) => {
                for schema in all {
                    walk(schema, path, check)?;
                }
            }
            _ => {}
        }
        path.pop();
    }
    Ok(())
}

/// Definitions that lead back to themselves.
fn recursion(root: &Value) -> Result<(), String> {
    fn references<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
        match schema {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let names = ["$defs", "definitions"].iter().filter_map(|of| Some((*of, root.get(of)?.as_object()?)));
    for (of, definitions) in names {
        for name in definitions.keys() {
            let start = format!("#/{of}/{name}");
            let (mut seen, mut open) = (Vec::new(), vec![start.clone()]);
            while let Some(target) = open.pop() {
                let mut found = Vec::new();
                references(root.pointer(target.trim_start_matches('#')).unwrap_or(&Value::Null), &mut found);
                for next in found {
                    if next == start || next == "#" {
                        return Err(format!("Circular reference detected in schema definitions: {name}"));
                    }
                    if !seen.contains(&next) {
                        seen.push(next);
                        open.push(next.to_owned());
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_vendor_refuses_its_own() {
        let closed = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"], "additionalProperties": false});
        assert_eq!(openai(&closed, "response_format 'x'"), Ok(()));
        assert_eq!(
            anthropic(&closed).unwrap_err(),
            "For 'integer' type, property 'minimum' is not supported"
        );
        let open = json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "object", "properties": {"b": {}}, "additionalProperties": false}}}, "required": ["l"], "additionalProperties": false});
        assert_eq!(
            openai(&open, "function 'f'").unwrap_err(),
            "Invalid schema for function 'f': In context=('properties', 'l', 'items'), 'required' is required to be \
             supplied and to be an array including every key in properties. Missing 'b'."
        );
        assert_eq!(anthropic(&open), Ok(()));
        assert!(
            openai(&json!({"type": "object"}), "x")
                .unwrap_err()
                .contains("In context=(), 'additionalProperties'")
        );
        assert!(openai(&json!({"type": "array"}), "x").unwrap_err().contains("got 'type: \"array\"'"));
        assert!(
            anthropic(&json!({"type": "array", "items": {"type": "object"}}))
                .unwrap_err()
                .contains("explicitly")
        );
        let endless = json!({"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"$ref": "#/$defs/m"}]}, "m": {"items": {"$ref": "#/$defs/n"}}}});
        assert!(anthropic(&endless).unwrap_err().contains("Circular"));
    }
}
