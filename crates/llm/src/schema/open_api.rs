//! The part of `OpenAPI` 3.0 that Google takes.

use serde_json::Value;

use super::tree::Node;

/// Types in capitals and one each, null as `nullable`, values of enums as strings, items of arrays. Whether that says
/// less than it said.
pub(super) fn rewrite(schema: &mut Node) -> bool {
    let mut altered = false;
    if let Some(Node::Array(types)) = schema.get("type").cloned() {
        let null = types.iter().any(|t| t.as_str() == Some("null"));
        let mut types: Vec<_> = types.into_iter().filter(|t| t.as_str() != Some("null")).collect();
        if null {
            schema.set("nullable", Node::Leaf(true.into()));
        }
        match types.len() {
            0 | 1 => schema.set("type", types.pop().unwrap_or_else(|| Node::text("string"))),
            _ => {
                schema.take("type");
                let items = schema.take("items");
                let any = types.into_iter().map(|t| {
                    let mut any = Node::object([("type", t)]);
                    if let Some(items) = items.clone().filter(|_| is_array(&any)) {
                        any.set("items", items);
                    }
                    altered |= with_items(&mut any);
                    capital(&mut any);
                    any
                });
                let any = any.collect();
                schema.set("anyOf", Node::Array(any));
            }
        }
    }
    if let Some(Node::Array(any)) = schema.get("anyOf").cloned() {
        let is_null =
            |n: &Node| n.get("type").and_then(Node::as_str).is_some_and(|t| t.eq_ignore_ascii_case("null"));
        let (null, mut rest): (Vec<_>, Vec<_>) = any.into_iter().partition(is_null);
        if !null.is_empty() {
            schema.set("nullable", Node::Leaf(true.into()));
            match rest.len() {
                1 => {
                    schema.take("anyOf");
                    let only = rest.pop().unwrap_or_else(|| Node::Object(Vec::new()));
                    for (keyword, value) in only.members() {
                        schema.set(keyword, value.clone());
                    }
                }
                _ => schema.set("anyOf", Node::Array(rest)),
            }
        }
    }
    if let Some(values) = schema.take("enum") {
        let (null, values): (Vec<_>, Vec<_>) =
            values.items().iter().cloned().partition(|v| *v == Node::Leaf(Value::Null));
        if !null.is_empty() {
            schema.set("nullable", Node::Leaf(true.into()));
        }
        let texts: Vec<_> = values.iter().filter(|v| v.as_str().is_some()).cloned().collect();
        if texts.len() == values.len() {
            schema.set("type", Node::text("string"));
            schema.set("enum", Node::Array(texts));
        } else {
            altered = true;
            let said = serde_json::to_string(&values).unwrap_or_default();
            let described = schema.get("description").and_then(Node::as_str).map(|d| format!("{d}\n\n"));
            let text = format!("{}{{enum: {said}}}", described.unwrap_or_default());
            schema.set("description", Node::text(text));
        }
    }
    altered |= with_items(schema);
    capital(schema);
    altered
}

/// Arrays must say of what they are: `{}` is anything. Whether it was nothing.
fn with_items(schema: &mut Node) -> bool {
    if !is_array(schema) || matches!(schema.get("items"), Some(Node::Object(_))) {
        return false;
    }
    let none = schema.get("items").and_then(Node::as_bool) == Some(false);
    schema.set("items", Node::Object(Vec::new()));
    none
}

fn is_array(schema: &Node) -> bool {
    schema.get("type").and_then(Node::as_str) == Some("array")
}

fn capital(schema: &mut Node) {
    if let Some(kind) = schema.get("type").and_then(Node::as_str) {
        let kind = kind.to_ascii_uppercase();
        schema.set("type", Node::text(kind));
    }
}
