//! Answers held against the schema that the client asked for, whatever its provider was told.

use std::fmt;

use serde_json::{Value, value::RawValue};

use super::{compile::WRAPPED, tree::Node};
use crate::canonical::{Format, Raw};

/// Errors that are told, and how much of each.
const MAX_ERRORS: usize = 8;
const MAX_ERROR: usize = 240;
/// References that lead to references.
const MAX_REFERENCES: usize = 16;

/// What an answer must be.
#[derive(Debug, Clone)]
pub struct Check(Raw);

/// Why an answer is not what was asked for, in words that a model understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub Vec<String>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Invalid {
    /// What the model is told when it gets another try.
    #[must_use]
    pub fn repair(&self) -> String {
        format!(
            "Your last answer does not fit the JSON schema that was asked for:\n- {}\n\
             Answer again, with the corrected JSON value and nothing else.",
            self.0.join("\n- ")
        )
    }
}

/// How a schema is asked for where the provider can't enforce it.
#[must_use]
pub fn instruction(schema: &RawValue) -> String {
    format!(
        "Answer with a single JSON value that fits the following JSON schema, and nothing else: no text around it, no \
         code fence.\n\n{}",
        schema.get()
    )
}

impl Check {
    /// `None` where any JSON will do.
    #[must_use]
    pub fn new(format: &Format) -> Option<Self> {
        match format {
            Format::Schema { schema, .. } => Some(Self(schema.clone())),
            Format::Json => None,
        }
    }

    /// `Ok(Some(_))`: the answer without what its provider's schema brought into it. A schema that is none, or whose
    /// references lead elsewhere, can't be held against anything: what comes is let through.
    ///
    /// # Errors
    /// The answer is not what was asked for.
    pub fn answer(&self, text: &str) -> Result<Option<String>, Invalid> {
        let Ok(schema) = serde_json::from_str::<Value>(self.0.get()) else { return Ok(None) };
        // Linear in time, as a client's patterns must be; and nothing is fetched.
        let options = jsonschema::options()
            .with_pattern_options(jsonschema::PatternOptions::regex())
            .should_validate_formats(true);
        let Ok(validator) = options.build(&schema) else { return Ok(None) };
        let bare = unfenced(text);
        let value: Value =
            serde_json::from_str(bare).map_err(|e| Invalid(vec![format!("It is not JSON: {e}.")]))?;
        if validator.is_valid(&value) {
            return Ok((bare.len() != text.trim().len()).then(|| bare.to_owned()));
        }
        let mut value = value;
        if let Ok(mut node) = serde_json::from_str::<Node>(bare) {
            if schema.get("type").and_then(Value::as_str) != Some("object")
                && node.members().len() == 1
                && let Some(inner) = node.take(WRAPPED)
            {
                node = inner;
            }
            without_nulls(&mut node, &schema, &schema);
            let mended = serde_json::to_string(&node).unwrap_or_default();
            value = serde_json::from_str(&mended).unwrap_or(value);
            if validator.is_valid(&value) {
                return Ok(Some(mended));
            }
        }
        let errors = validator.iter_errors(&value).take(MAX_ERRORS).map(|error| {
            let text = format!("at `{}`: {error}", error.instance_path());
            text.chars().take(MAX_ERROR).collect()
        });
        Err(Invalid(errors.collect()))
    }
}

/// The text within a code fence, if that is what the answer is.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else { return text };
    inner.split_once('\n').map_or(inner, |(_, inner)| inner).trim()
}

/// Takes out nulls that stand for what may be absent: some providers want every member there.
fn without_nulls(node: &mut Node, schema: &Value, root: &Value) {
    let Some(schema) = resolved(schema, root) else { return };
    for list in ["allOf", "anyOf", "oneOf"] {
        for branch in schema.get(list).and_then(Value::as_array).into_iter().flatten() {
            without_nulls(node, branch, root);
        }
    }
    match node {
        Node::Object(members) => {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
            let required = schema.get("required").and_then(Value::as_array);
            let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|r| r == name));
            members.retain(|(name, value)| {
                let property = properties.get(name).filter(|_| !is_required(name));
                *value != Node::Leaf(Value::Null) || property.is_none_or(|p| takes_null(p, root))
            });
            for (name, value) in members {
                if let Some(property) = properties.get(name) {
                    without_nulls(value, property, root);
                }
            }
        }
        Node::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            items.iter_mut().for_each(|item| without_nulls(item, schema, root));
        }
        Node::Leaf(_) => {}
    }
}

fn takes_null(schema: &Value, root: &Value) -> bool {
    let Some(schema) = resolved(schema, root) else { return true };
    let null = |value: &Value| value.is_null() || value == "null";
    if let Some(kind) = schema.get("type") {
        return null(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(null));
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().any(Value::is_null);
    }
    let list = ["anyOf", "oneOf"].iter().find_map(|list| schema.get(list)?.as_array());
    schema.get("const").is_none_or(Value::is_null)
        && list.is_none_or(|list| list.iter().any(|branch| takes_null(branch, root)))
}

fn resolved<'a>(mut schema: &'a Value, root: &'a Value) -> Option<&'a Value> {
    for _ in 0..MAX_REFERENCES {
        let Some(name) = schema.get("$ref").and_then(Value::as_str) else { return Some(schema) };
        schema = root.pointer(name.strip_prefix('#')?)?;
    }
    None
}
