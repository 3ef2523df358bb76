//! What work a schema makes. Clients write them, and a few bytes can stand for more work than there is time.

use serde_json::Value;

/// Schemas within schemas, and references that lead to references: as deep goes nobody who means well.
pub(super) const MAX_DEPTH: usize = 128;
/// So many schemas are held against so many values of one answer.
const MAX_STEPS: usize = 1_000_000;
const MAX_PATTERNS: usize = 256;
/// A pattern costs so much for a byte that it is matched with.
const PATTERN_STEPS: usize = 16;
/// Values of an enum that are compared for one step.
const COMPARED: usize = 16;
/// Bytes that are read (by a format, to tell items apart) for one step.
const READ: usize = 4;
/// Bytes that are compared for one step.
const ALIKE: usize = 64;
/// So deep are branches looked into for what tells them apart, when a validator is built.
const PINS_DEPTH: usize = 16;

/// Bounds that hold before a validator is built: how many patterns it has. `None`: it is not to be built. The cost of
/// what refers to other documents, or by the names of a scope, is not known beforehand.
pub(super) fn patterns(schema: &Value) -> Option<usize> {
    let mut scan = Scan { root: schema, patterns: 0, steps: MAX_STEPS, old: false, old_ids: false };
    scan.value(schema, true)?;
    (scan.patterns <= MAX_PATTERNS && !(scan.old && scan.old_ids)).then_some(scan.patterns)
}

/// How many schemas are held at most against how much of a value. `None`: it would take too many steps, or go too deep.
pub(super) fn visits(schema: &Value, value: &Value) -> Option<usize> {
    let mut walk = Walk { root: schema, left: MAX_STEPS, visits: 0 };
    walk.hold(schema, value, 0)?;
    Some(walk.visits)
}

/// What a reference within a document names. Escapes beyond a pointer's own are nobody's habit.
pub(super) fn target<'a>(root: &'a Value, schema: &Value) -> Option<&'a Value> {
    let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    root.pointer(pointer).filter(|_| !pointer.contains('%'))
}

struct Scan<'a> {
    root: &'a Value,
    patterns: usize,
    steps: usize,
    /// Of a draft in which `id` is what `$id` is since.
    old: bool,
    old_ids: bool,
}

impl Scan<'_> {
    fn value(&mut self, value: &Value, root: bool) -> Option<()> {
        match value {
            Value::Object(members) => {
                for (keyword, inner) in members {
                    match (keyword.as_str(), inner) {
                        // References below it mean another document.
                        ("$id", Value::String(_)) if !root => return None,
                        ("id", Value::String(_)) => self.old_ids |= !root,
                        ("$schema", Value::String(name)) => {
                            self.old |= name.contains("draft-03") || name.contains("draft-04");
                        }
                        ("$dynamicRef" | "$recursiveRef", Value::String(_))
                        | ("unevaluatedItems" | "unevaluatedProperties", Value::Bool(_)) => return None,
                        ("pattern", Value::String(_)) => self.patterns += 1,
                        ("patternProperties", Value::Object(patterns)) => self.patterns += patterns.len(),
                        ("anyOf" | "oneOf", Value::Array(branches)) => {
                            branches.iter().try_for_each(|branch| self.pins(branch, 0))?;
                        }
                        _ => {}
                    }
                    self.value(inner, false)?;
                }
                Some(())
            }
            Value::Array(items) => items.iter().try_for_each(|item| self.value(item, false)),
            _ => Some(()),
        }
    }

    fn pins(&mut self, schema: &Value, depth: usize) -> Option<()> {
        self.steps = self.steps.checked_sub(1)?;
        if depth > PINS_DEPTH {
            return Some(());
        }
        if let Some(target) = target(self.root, schema) {
            self.pins(target, depth + 1)?;
        }
        let all = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        all.into_iter().try_for_each(|part| self.pins(part, depth + 1))
    }
}

/// Goes at least wherever a validator goes.
struct Walk<'a> {
    root: &'a Value,
    left: usize,
    visits: usize,
}

impl Walk<'_> {
    fn spend(&mut self, steps: usize) -> Option<()> {
        self.left = self.left.checked_sub(steps)?;
        Some(())
    }

    fn hold(&mut self, schema: &Value, value: &Value, depth: usize) -> Option<()> {
        self.spend(1)?;
        self.visits += 1;
        if depth > MAX_DEPTH {
            return None;
        }
        let Value::Object(keywords) = schema else { return Some(()) };
        for (keyword, inner) in keywords {
            match (keyword.as_str(), inner) {
                ("$ref", _) => self.hold(target(self.root, schema)?, value, depth + 1)?,
                ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => {
                    all.iter().try_for_each(|branch| self.hold(branch, value, depth + 1))?;
                }
                ("not" | "if" | "then" | "else", _) => self.hold(inner, value, depth + 1)?,
                ("dependentSchemas" | "dependencies", Value::Object(all)) => {
                    all.values().try_for_each(|branch| self.hold(branch, value, depth + 1))?;
                }
                ("required", Value::Array(all)) => self.spend(all.len() / COMPARED)?,
                ("enum", Value::Array(all)) => {
                    self.spend(all.len() / COMPARED)?;
                    all.iter().try_for_each(|one| self.compare(one, value))?;
                }
                ("const", one) => self.compare(one, value)?,
                ("format", Value::String(format)) => {
                    let text = value.as_str().map_or(0, str::len);
                    self.spend(if format == "regex" { text * PATTERN_STEPS } else { text / READ })?;
                }
                ("minLength" | "maxLength", _) => self.spend(value.as_str().map_or(0, str::len) / ALIKE)?,
                ("pattern", _) => self.spend(value.as_str().map_or(0, |text| text.len() * PATTERN_STEPS))?,
                _ => self.within(keyword, inner, value, depth + 1)?,
            }
        }
        Some(())
    }

    /// Keywords about what a value holds.
    fn within(&mut self, keyword: &str, inner: &Value, value: &Value, depth: usize) -> Option<()> {
        match (keyword, inner, value) {
            ("properties", Value::Object(all), Value::Object(members)) => {
                self.spend(all.len().min(members.len()))?;
                for (name, member) in members {
                    if let Some(property) = all.get(name) {
                        self.hold(property, member, depth)?;
                    }
                }
            }
            ("patternProperties", Value::Object(all), Value::Object(members)) => {
                for (name, member) in members {
                    self.spend(all.len() * name.len() * PATTERN_STEPS)?;
                    all.values().try_for_each(|property| self.hold(property, member, depth))?;
                }
            }
            ("additionalProperties" | "unevaluatedProperties", _, Value::Object(members)) => {
                members.values().try_for_each(|member| self.hold(inner, member, depth))?;
            }
            ("propertyNames", _, Value::Object(members)) => {
                for name in members.keys() {
                    self.hold(inner, &Value::String(name.clone()), depth)?;
                }
            }
            ("prefixItems" | "items", Value::Array(all), Value::Array(items)) => {
                all.iter().zip(items).try_for_each(|(schema, item)| self.hold(schema, item, depth))?;
            }
            ("items" | "contains" | "additionalItems" | "unevaluatedItems", _, Value::Array(items)) => {
                items.iter().try_for_each(|item| self.hold(inner, item, depth))?;
            }
            ("uniqueItems", Value::Bool(true), Value::Array(items)) => {
                items.iter().try_for_each(|item| self.read(item))?;
            }
            _ => {}
        }
        Some(())
    }

    /// As far as the two are alike.
    fn compare(&mut self, one: &Value, other: &Value) -> Option<()> {
        match (one, other) {
            (Value::String(one), Value::String(other)) if one.len() == other.len() => {
                self.spend(one.len() / ALIKE)
            }
            (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
                self.spend(one.len())?;
                one.iter().zip(other).try_for_each(|(one, other)| self.compare(one, other))
            }
            (Value::Object(one), Value::Object(other)) if one.len() == other.len() => {
                self.spend(one.len())?;
                one.iter().try_for_each(|(name, one)| match other.get(name) {
                    Some(other) => self.compare(one, other),
                    None => Some(()),
                })
            }
            _ => Some(()),
        }
    }

    fn read(&mut self, value: &Value) -> Option<()> {
        self.spend(1)?;
        match value {
            Value::String(text) => self.spend(text.len() / READ),
            Value::Array(items) => items.iter().try_for_each(|item| self.read(item)),
            Value::Object(members) => members.iter().try_for_each(|(name, member)| {
                self.spend(name.len() / READ)?;
                self.read(member)
            }),
            _ => Some(()),
        }
    }
}
