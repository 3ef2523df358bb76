//! Answers held against the schema that the client asked for, whatever its provider was told.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use jsonschema::{PatternOptions, Validator};
use serde_json::{Value, value::RawValue};

use super::{
    MAX_BYTES,
    bounds::{self, MAX_DEPTH},
    compile::WRAPPED,
    tree::Node,
};
use crate::canonical::{Format, Raw, Request};

/// Errors that are told, and how much of each.
const MAX_ERRORS: usize = 8;
const MAX_ERROR: usize = 240;
/// Errors hold copies of what was not met: so many visits of so large schemas could make many.
const MAX_ERROR_BYTES: usize = 64 * 1024 * 1024;
/// References that lead to references.
const MAX_REFERENCES: usize = 16;
/// Schemas that are looked at for nulls, over all of an answer.
const MAX_NULL_STEPS: usize = 100_000;
/// All patterns of a schema, compiled; and one of them.
const PATTERNS_BYTES: usize = 16 * 1024 * 1024;
const PATTERN_BYTES: std::ops::RangeInclusive<usize> = 64 * 1024..=256 * 1024;
const PATTERN_CACHE: usize = 64 * 1024;
/// What JSON is asked for as such.
const ANY: &str = r#"{"type":["object","array"]}"#;
/// A small schema, with a small answer to it, takes less time than another thread.
const LIGHT: usize = 4 * 1024;

/// What an answer must be.
#[derive(Clone)]
pub struct Check(Arc<Asked>);

struct Asked {
    schema: Raw,
    /// A text is wanted that the schema has in an object.
    bare: bool,
    /// `None` where nothing can be held against it.
    built: OnceLock<Option<Built>>,
}

struct Built {
    schema: Value,
    validator: Validator,
}

/// Why an answer is not what was asked for, in words that a model understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub Vec<String>);

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.0.schema).finish()
    }
}

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
    /// `None` of schemas that are too long to be looked into.
    #[must_use]
    pub fn new(format: &Format) -> Option<Self> {
        match format {
            Format::Schema { schema, .. } if schema.get().len() <= MAX_BYTES => {
                let asked = Asked { schema: schema.clone(), bare: false, built: OnceLock::new() };
                Some(Self(Arc::new(asked)))
            }
            Format::Schema { .. } => None,
            Format::Json => {
                let schema = RawValue::from_string(ANY.to_owned()).unwrap_or_default();
                Some(Self(Arc::new(Asked { schema, bare: false, built: OnceLock::new() })))
            }
        }
    }

    /// As [`Check::new`], of a whole request.
    #[must_use]
    pub fn of(request: &Request) -> Option<Self> {
        let Self(asked) = Self::new(request.format.as_ref()?)?;
        let asked = Asked { schema: asked.schema.clone(), bare: request.bare, built: OnceLock::new() };
        Some(Self(Arc::new(asked)))
    }

    /// An object that has what fits this schema as its `value`.
    pub(crate) fn wrap(schema: &RawValue) -> Raw {
        let json = format!(
            r#"{{"type":"object","properties":{{"{WRAPPED}":{}}},"required":["{WRAPPED}"],"additionalProperties":false}}"#,
            schema.get()
        );
        RawValue::from_string(json).unwrap_or_default()
    }

    /// The text that was asked for: models may say it without the object, or the quotes.
    fn bare(&self, text: &str) -> Result<Option<String>, Invalid> {
        let bare = unfenced(text);
        let value: Value = serde_json::from_str(bare).unwrap_or_else(|_| bare.into());
        let value = match value {
            Value::Object(mut members) => members.remove(WRAPPED).unwrap_or_default(),
            value => value,
        };
        let said = match &value {
            Value::String(said) => said.clone(),
            _ => bare.to_owned(),
        };
        let wrapped = serde_json::json!({ (WRAPPED): value });
        self.whole(&wrapped.to_string()).map(|_| Some(said).filter(|said| said != text))
    }

    /// Whether [`Check::answer`] takes no time to speak of; else it belongs on a thread that may be busy. References
    /// and patterns can make much of little, and escapes can hide them.
    #[must_use]
    pub fn is_light(&self, text: &str) -> bool {
        let schema = self.0.schema.get();
        schema.len() + text.len() <= LIGHT && !schema.contains(['$', '\\']) && !schema.contains("pattern")
    }

    /// `Ok(Some(_))`: the answer without what its provider's schema brought into it. A schema that is none, whose
    /// references lead elsewhere, or that would take too long can't be held against anything: what comes is let through.
    ///
    /// # Errors
    /// The answer is not what was asked for.
    pub fn answer(&self, text: &str) -> Result<Option<String>, Invalid> {
        if self.0.bare { self.bare(text) } else { self.whole(text) }
    }

    fn whole(&self, text: &str) -> Result<Option<String>, Invalid> {
        let asked = &*self.0;
        let Some(built) = asked.built.get_or_init(|| Built::new(&asked.schema)) else { return Ok(None) };
        let bare = unfenced(text);
        let mut value: Value =
            serde_json::from_str(bare).map_err(|e| Invalid(vec![format!("It is not JSON: {e}.")]))?;
        let Some(mut visits) = bounds::visits(&built.schema, &value) else { return Ok(None) };
        if built.validator.is_valid(&value) {
            return Ok((bare.len() != text.trim().len()).then(|| bare.to_owned()));
        }
        if let Ok(mut node) = serde_json::from_str::<Node>(bare) {
            if built.schema.get("type").and_then(Value::as_str) != Some("object")
                && node.members().len() == 1
                && let Some(inner) = node.take(WRAPPED)
            {
                node = inner;
            }
            let mut nulls = Nulls { root: &built.schema, left: MAX_NULL_STEPS };
            if nulls.take_out(&mut node, &built.schema, 0).is_none() {
                return Ok(None);
            }
            let mended = serde_json::to_string(&node).unwrap_or_default();
            value = serde_json::from_str(&mended).unwrap_or(value);
            let Some(more) = bounds::visits(&built.schema, &value) else { return Ok(None) };
            visits = visits.max(more);
            if built.validator.is_valid(&value) {
                return Ok(Some(mended));
            }
        }
        if visits.saturating_mul(asked.schema.get().len()) > MAX_ERROR_BYTES {
            return Err(Invalid(vec!["It does not fit the schema.".to_owned()]));
        }
        let errors = built.validator.iter_errors(&value).take(MAX_ERRORS).map(|error| {
            let text = format!("at `{}`: {error}", error.instance_path());
            text.chars().take(MAX_ERROR).collect()
        });
        Err(Invalid(errors.collect()))
    }
}

impl Built {
    fn new(schema: &RawValue) -> Option<Self> {
        let schema: Value = serde_json::from_str(schema.get()).ok()?;
        let patterns = bounds::patterns(&schema)?;
        let most = (PATTERNS_BYTES / patterns.max(1)).clamp(*PATTERN_BYTES.start(), *PATTERN_BYTES.end());
        // Linear in time, as a client's patterns must be; and nothing is fetched.
        let options = jsonschema::options()
            .with_pattern_options(PatternOptions::regex().size_limit(most).dfa_size_limit(PATTERN_CACHE))
            .should_validate_formats(true);
        let validator = options.build(&schema).ok()?;
        Some(Self { schema, validator })
    }
}

/// The text within a code fence, if that is what the answer is.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else { return text };
    inner.split_once('\n').map_or(inner, |(_, inner)| inner).trim()
}

/// Takes out nulls that stand for what may be absent: some providers want every member there. `None`: it would take too
/// long, or goes too deep.
struct Nulls<'a> {
    root: &'a Value,
    left: usize,
}

impl<'a> Nulls<'a> {
    fn enter(&mut self, schema: &'a Value, depth: usize) -> Option<Option<&'a Value>> {
        self.left = self.left.checked_sub(1)?;
        (depth <= MAX_DEPTH).then(|| self.resolved(schema))
    }

    fn resolved(&self, mut schema: &'a Value) -> Option<&'a Value> {
        for _ in 0..MAX_REFERENCES {
            if schema.get("$ref").is_none() {
                return Some(schema);
            }
            schema = bounds::target(self.root, schema)?;
        }
        None
    }

    fn take_out(&mut self, node: &mut Node, schema: &'a Value, depth: usize) -> Option<()> {
        let Some(schema) = self.enter(schema, depth)? else { return Some(()) };
        for list in ["allOf", "anyOf", "oneOf"] {
            for branch in schema.get(list).and_then(Value::as_array).into_iter().flatten() {
                self.take_out(node, branch, depth + 1)?;
            }
        }
        match node {
            Node::Object(members) => {
                let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
                    return Some(());
                };
                let required = schema.get("required").and_then(Value::as_array);
                let mut kept = Vec::with_capacity(members.len());
                for (name, mut value) in std::mem::take(members) {
                    let Some(property) = properties.get(&name) else {
                        kept.push((name, value));
                        continue;
                    };
                    if value == Node::Leaf(Value::Null) {
                        self.left = self.left.checked_sub(required.map_or(0, Vec::len))?;
                        let is_required = required.is_some_and(|all| all.iter().any(|r| r == &name));
                        if !is_required && !self.takes_null(property, depth + 1)? {
                            continue;
                        }
                    }
                    self.take_out(&mut value, property, depth + 1)?;
                    kept.push((name, value));
                }
                *members = kept;
            }
            Node::Array(items) => {
                let Some(schema) = schema.get("items") else { return Some(()) };
                items.iter_mut().try_for_each(|item| self.take_out(item, schema, depth + 1))?;
            }
            Node::Leaf(_) => {}
        }
        Some(())
    }

    fn takes_null(&mut self, schema: &'a Value, depth: usize) -> Option<bool> {
        let Some(schema) = self.enter(schema, depth)? else { return Some(true) };
        let null = |value: &Value| value.is_null() || value == "null";
        if let Some(kind) = schema.get("type") {
            return Some(null(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(null)));
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return Some(values.iter().any(Value::is_null));
        }
        if !schema.get("const").is_none_or(Value::is_null) {
            return Some(false);
        }
        let Some(list) = ["anyOf", "oneOf"].iter().find_map(|list| schema.get(list)?.as_array()) else {
            return Some(true);
        };
        for branch in list {
            if self.takes_null(branch, depth + 1)? {
                return Some(true);
            }
        }
        Some(false)
    }
}
