//! The smallest value a JSON schema allows, for tool arguments and structured answers.

use serde::Serialize as _;
use serde_json::{Map, Number, Value, ser::Formatter};

/// Nesting after which a value is null: only schemas that recur without an end need more.
const DEEPEST: usize = 24;
const LONGEST_STRING: usize = 4_096;
const LONGEST_ARRAY: usize = 64;
/// Values a schema may make us build.
const MOST_VALUES: usize = 4_096;

/// A value that fits the schema, with nothing it doesn't require. Patterns other than by `format`, and what `not` or
/// `if` ask for, are not looked at.
pub(crate) fn minimal(schema: &Value) -> Value {
    Builder { root: schema, left: MOST_VALUES }.value(schema, 0)
}

/// A value that does not fit the schema, if anything doesn't.
pub(crate) fn broken(schema: &Value) -> Value {
    match minimal(schema) {
        Value::Object(mut members) => {
            let required = first(schema.get("required")).and_then(Value::as_str);
            if required.is_some_and(|name| members.remove(name).is_some()) {
                return Value::Object(members);
            }
            Value::Array(Vec::new())
        }
        Value::String(_) => Value::from(0),
        _ => Value::from("off"),
    }
}

/// The value as a model writes JSON: with spaces, where the text is later cut into pieces.
pub(crate) fn written(value: &Value) -> String {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Spaced);
    // Neither the vector nor a value can fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8(out).unwrap_or_default()
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

struct Builder<'a> {
    root: &'a Value,
    left: usize,
}

impl<'a> Builder<'a> {
    fn value(&mut self, schema: &'a Value, depth: usize) -> Value {
        if depth > DEEPEST || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        let Value::Object(object) = schema else { return Value::Null };
        if let Some(target) = object.get("$ref").and_then(Value::as_str) {
            let target = self.resolve(target).unwrap_or(&Value::Null);
            return self.value(target, depth + 1);
        }
        if let Some(value) = object.get("const").or_else(|| object.get("default")) {
            return value.clone();
        }
        if let Some(value) = first(object.get("enum")) {
            return value.clone();
        }
        if let Some(any) = first(object.get("anyOf")).or_else(|| first(object.get("oneOf")))
            && !object.contains_key("properties")
        {
            return self.value(any, depth + 1);
        }
        if let Some(Value::Array(all)) = object.get("allOf") {
            return self.all_of(schema, all, depth);
        }
        match kind(object) {
            "object" => self.object(object, depth),
            "array" => self.array(object, depth),
            "string" => Value::String(string(object)),
            "integer" => number(object, true),
            "number" => number(object, false),
            "boolean" => Value::Bool(false),
            _ => Value::Null,
        }
    }

    /// Local references only: `#/$defs/Name`.
    fn resolve(&self, target: &str) -> Option<&'a Value> {
        self.root.pointer(target.strip_prefix('#')?)
    }

    /// Objects are joined; of others the first says it.
    fn all_of(&mut self, schema: &'a Value, all: &'a [Value], depth: usize) -> Value {
        let mut joined = Map::new();
        for part in all {
            match self.value(part, depth + 1) {
                Value::Object(part) => joined.extend(part),
                other => return other,
            }
        }
        if let Value::Object(own) = schema
            && own.contains_key("properties")
            && let Value::Object(own) = self.object(own, depth)
        {
            joined.extend(own);
        }
        Value::Object(joined)
    }

    fn object(&mut self, object: &'a Map<String, Value>, depth: usize) -> Value {
        let required = object.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut made = Map::new();
        for name in required.iter().filter_map(Value::as_str) {
            let schema = object.get("properties").and_then(|properties| properties.get(name));
            made.insert(name.to_owned(), self.value(schema.unwrap_or(&Value::Null), depth + 1));
        }
        Value::Object(made)
    }

    fn array(&mut self, object: &'a Map<String, Value>, depth: usize) -> Value {
        let least = size(object, "minItems").unwrap_or(0).min(LONGEST_ARRAY);
        let prefix = object.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let rest = object.get("items").unwrap_or(&Value::Null);
        (0..least).map(|at| self.value(prefix.get(at).unwrap_or(rest), depth + 1)).collect()
    }
}

fn first(values: Option<&Value>) -> Option<&Value> {
    values.and_then(Value::as_array).and_then(|values| values.first())
}

/// The type to make: of several the first that isn't null; without one, by the other keywords.
fn kind(object: &Map<String, Value>) -> &str {
    match object.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|k| *k != "null").unwrap_or("null")
        }
        _ if object.contains_key("properties") || object.contains_key("required") => "object",
        _ if object.contains_key("items") => "array",
        _ => "string",
    }
}

fn size(object: &Map<String, Value>, name: &str) -> Option<usize> {
    bound(object, name).filter(|n| *n >= 0.0).map(|n| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative, and saturates"
        )]
        let n = n as usize;
        n
    })
}

/// A bound that the schema sets, or asks for in its description, as clients write what a vendor's schemas can't say.
fn bound(object: &Map<String, Value>, name: &str) -> Option<f64> {
    if let Some(value) = object.get(name) {
        return value.as_f64();
    }
    let description = object.get("description")?.as_str()?;
    let whole = |at: usize| !description[..at].ends_with(|c: char| c.is_alphanumeric());
    let (at, _) = description.match_indices(name).find(|(at, _)| whole(*at))?;
    let rest = description[at + name.len()..].trim_start_matches(['"', '`', '\'', ':', '=', ' ']);
    let number = rest.split(|c: char| !c.is_ascii_digit() && c != '-' && c != '.').next()?;
    number.trim_end_matches('.').parse().ok()
}

fn string(object: &Map<String, Value>) -> String {
    let form = match object.get("format").and_then(Value::as_str) {
        Some("date-time") => "2025-01-01T00:00:00Z",
        Some("date") => "2025-01-01",
        Some("time") => "00:00:00Z",
        Some("duration") => "PT1S",
        Some("email") => "user@example.com",
        Some("hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("uri" | "uri-reference" | "url") => "https://example.com/",
        _ => "",
    };
    if !form.is_empty() {
        return form.to_owned();
    }
    let least = size(object, "minLength").unwrap_or(0).min(LONGEST_STRING);
    let most = size(object, "maxLength").unwrap_or(usize::MAX);
    let mut text: String = "text".chars().cycle().take(least.max(4)).collect();
    text.truncate(most);
    text
}

fn number(object: &Map<String, Value>, whole: bool) -> Value {
    let get = |name: &str| bound(object, name);
    let step = get("multipleOf").filter(|step| *step > 0.0);
    let grain = step.unwrap_or(if whole { 1.0 } else { 0.5 });
    let least = get("minimum").into_iter().chain(get("exclusiveMinimum")).reduce(f64::max);
    let most = get("maximum").into_iter().chain(get("exclusiveMaximum")).reduce(f64::min);
    let mut value: f64 = match (least, most) {
        (Some(least), _) if least >= 0.0 => least,
        (Some(_), Some(most)) | (None, Some(most)) if most < 0.0 => most,
        _ => 0.0,
    };
    // To the grid, and off an excluded bound.
    let up = least.is_some_and(|least| least >= 0.0);
    value = if up { (value / grain).ceil() } else { (value / grain).floor() } * grain;
    if get("exclusiveMinimum").is_some_and(|bound| value <= bound) {
        value = if step.is_none() && !whole { middle(value, most) } else { value + grain };
    }
    if get("exclusiveMaximum").is_some_and(|bound| value >= bound) {
        value -= grain;
    }
    if !whole
        && step.is_none()
        && least.is_some_and(|least| least >= 0.0)
        && most.is_some_and(|most| value > most)
    {
        value = middle(least.unwrap_or(0.0), most);
    }
    as_json(value)
}

/// Between a bound and the other, or half above it.
fn middle(least: f64, most: Option<f64>) -> f64 {
    most.map_or(least + 0.5, |most| f64::midpoint(least, most))
}

fn as_json(value: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be a whole number that a double holds exactly"
    )]
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_required_is_made() {
        let schema = json!({"type":"object","properties":{
            "city":{"type":"string","minLength":6}, "unit":{"enum":["c","f"]}, "days":{"type":"integer","minimum":1},
            "tags":{"type":"array","items":{"type":"string"},"minItems":2}, "note":{"type":["null","string"]},
            "when":{"type":"string","format":"date"}, "extra":{"type":"string"}, "flag":{"type":"boolean"}},
            "required":["city","unit","days","tags","note","when","flag"]});
        assert_eq!(
            minimal(&schema),
            json!({"city":"textte","unit":"c","days":1,"tags":["text","text"],"note":"text","when":"2025-01-01","flag":false})
        );
    }

    #[test]
    fn references_unions_and_joins_are_followed() {
        let schema = json!({"$defs":{"Node":{"type":"object","properties":{"next":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/Node"}]}},
            "required":["next"]}}, "$ref":"#/$defs/Node"});
        assert_eq!(minimal(&schema), json!({"next":null}));
        let all = json!({"allOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"properties":{"b":{"const":2}},"required":["b"]}]});
        assert_eq!(minimal(&all), json!({"a":1,"b":2}));
        assert_eq!(minimal(&Value::Null), Value::Null);
        assert_eq!(minimal(&json!({"type":"object"})), json!({}));
    }

    #[test]
    fn a_schema_without_an_end_has_one() {
        let endless = json!({"$defs":{"N":{"type":"object","properties":{"a":{"$ref":"#/$defs/N"},"b":{"$ref":"#/$defs/N"}},
            "required":["a","b"]}}, "$ref":"#/$defs/N"});
        assert!(minimal(&endless).is_object());
        assert_eq!(minimal(&json!({"$ref":"#"})), Value::Null);
    }

    #[test]
    fn numbers_keep_to_their_bounds() {
        for (schema, expected) in [
            (json!({"type":"integer"}), json!(0)),
            (json!({"type":"integer","minimum":2.5}), json!(3)),
            (json!({"type":"integer","exclusiveMinimum":3}), json!(4)),
            (json!({"type":"integer","maximum":-7}), json!(-7)),
            (json!({"type":"integer","exclusiveMaximum":-7}), json!(-8)),
            (json!({"type":"integer","exclusiveMaximum":0}), json!(-1)),
            (json!({"type":"integer","minimum":-5,"maximum":-2}), json!(-2)),
            (json!({"type":"integer","minimum":10,"multipleOf":7}), json!(14)),
            (json!({"type":"number","exclusiveMinimum":0,"maximum":1}), json!(0.5)),
            (json!({"type":"number","minimum":0.1,"maximum":0.2}), json!(0.15000000000000002)),
            (json!({"type":"number","minimum":-1,"maximum":1}), json!(0)),
        ] {
            assert_eq!(minimal(&schema.clone()), expected, "{schema}");
        }
    }

    #[test]
    fn bounds_are_taken_from_descriptions() {
        for (schema, expected) in [
            (json!({"type":"integer","description":"How many.\n\n{minimum: 3, maximum: 7}"}), json!(3)),
            (json!({"type":"integer","description":"`exclusiveMinimum`: 3."}), json!(4)),
            (
                json!({"type":"array","items":{"type":"boolean"},"description":"{\"minItems\": 2}"}),
                json!([false, false]),
            ),
            (json!({"type":"string","description":"with minLength=6"}), json!("textte")),
            (json!({"type":"integer","description":"of the minimum wage"}), json!(0)),
        ] {
            assert_eq!(minimal(&schema.clone()), expected, "{schema}");
        }
    }

    #[test]
    fn it_is_written_with_spaces() {
        assert_eq!(written(&json!({"a":[1,"x"],"b":{}})), r#"{"a": [1, "x"], "b": {}}"#);
    }
}
