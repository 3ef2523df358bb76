//! Declared tools, and which of them a call is to end in.

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::fields::{Raw, items, object, text, wrong_type, wrong_value};
use crate::{error::ApiError, strict};

const MOST_TOOLS: usize = 128;

/// What the model may call.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// The JSON schema of its arguments; null if it has none.
    pub(crate) parameters: Value,
    /// It takes a text instead.
    pub(crate) custom: bool,
}

impl Tool {
    pub(crate) fn function(name: impl Into<String>, parameters: Value) -> Self {
        Self { name: name.into(), parameters, custom: false }
    }

    pub(crate) fn custom(name: impl Into<String>) -> Self {
        Self { name: name.into(), parameters: json!({"type": "string"}), custom: true }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    None,
    Auto,
    Required,
    Named(String),
}

#[derive(Deserialize)]
struct Declared {
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<Box<RawValue>>,
    custom: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Custom {
    name: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<Box<RawValue>>,
    #[serde(default)]
    parameters: Value,
    strict: Option<bool>,
}

pub(crate) fn tools(raw: Raw<'_>) -> Result<Vec<Tool>, ApiError> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let declared = items(raw, "tools")?;
    if declared.is_empty() || declared.len() > MOST_TOOLS {
        let message = format!(
            "Invalid 'tools': Expected an array with 1 to {MOST_TOOLS} items, but got {} instead.",
            declared.len()
        );
        let code = if declared.is_empty() { "empty_array" } else { "array_above_max_length" };
        return Err(ApiError::invalid("tools", code, message));
    }
    let mut tools = Vec::with_capacity(declared.len());
    for (at, raw) in declared.into_iter().enumerate() {
        let param = format!("tools[{at}]");
        let declared: Declared = object(raw, &param)?;
        match declared.kind.as_deref() {
            None => return Err(ApiError::missing(&format!("{param}.type"))),
            Some("custom") => {
                let custom = declared.custom.ok_or_else(|| ApiError::missing(&format!("{param}.custom")))?;
                let param = format!("{param}.custom");
                let Custom { name } = object(&custom, &param)?;
                tools.push(Tool::custom(tool_name(name, &param)?));
                continue;
            }
            Some("function") => {}
            Some(other) => return Err(wrong_value(&format!("{param}.type"), other, &["function", "custom"])),
        }
        let function = declared.function.ok_or_else(|| ApiError::missing(&format!("{param}.function")))?;
        tools.push(function_tool(&function, &format!("{param}.function"))?);
    }
    Ok(tools)
}

fn function_tool(raw: &RawValue, param: &str) -> Result<Tool, ApiError> {
    let function: Function = object(raw, param)?;
    let name = tool_name(function.name, param)?;
    if !function.parameters.is_null() && !function.parameters.is_object() {
        let message = format!("Invalid type for '{param}.parameters': expected an object.");
        return Err(ApiError::invalid(format!("{param}.parameters"), "invalid_type", message));
    }
    if function.strict == Some(true) {
        strict::openai(&function.parameters, &format!("function '{name}'")).map_err(|why| {
            ApiError::invalid(format!("{param}.parameters"), "invalid_function_parameters", why)
        })?;
    }
    Ok(Tool::function(name, function.parameters))
}

fn tool_name(name: Option<Box<RawValue>>, param: &str) -> Result<String, ApiError> {
    let field = format!("{param}.name");
    let name = name.ok_or_else(|| ApiError::missing(&field))?;
    let name = text(&name, &field)?.into_owned();
    if name.is_empty() || name.len() > 64 || !name.bytes().all(in_name) {
        let message = format!(
            "Invalid '{field}': string does not match pattern. Expected a string that matches the pattern \
             '^[a-zA-Z0-9_-]+$' of at most 64 characters."
        );
        return Err(ApiError::invalid(field, "invalid_value", message));
    }
    Ok(name)
}

fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<NamedTool>,
    custom: Option<NamedTool>,
    allowed_tools: Option<Allowed>,
}

#[derive(Deserialize)]
struct Allowed {
    mode: Option<String>,
    #[serde(default)]
    tools: Vec<Value>,
}

#[derive(Deserialize)]
struct NamedTool {
    name: Option<String>,
}

pub(crate) fn choice(raw: Raw<'_>, tools: &mut Vec<Tool>, any_declared: bool) -> Result<Choice, ApiError> {
    let Some(raw) = raw else { return Ok(Choice::Auto) };
    if !any_declared {
        let message =
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.";
        return Err(ApiError::invalid("tool_choice", "", message));
    }
    if raw.get().starts_with('"') {
        return mode(&text(raw, "tool_choice")?, "tool_choice");
    }
    if !raw.get().starts_with('{') {
        return Err(wrong_type("tool_choice", "one of a string or an object", raw));
    }
    let named: Named = object(raw, "tool_choice")?;
    match named.kind.as_deref() {
        Some("function" | "custom") => {}
        Some("allowed_tools") => {
            let missing = || ApiError::missing("tool_choice.allowed_tools");
            let allowed = named.allowed_tools.ok_or_else(missing)?;
            let is = |one: &Value, tool: &Tool| {
                one["function"]["name"] == tool.name || one["custom"]["name"] == tool.name
            };
            tools.retain(|tool| allowed.tools.iter().any(|one| is(one, tool)));
            return mode(allowed.mode.as_deref().unwrap_or("auto"), "tool_choice.allowed_tools.mode");
        }
        Some(other) => return Err(wrong_value("tool_choice.type", other, &["function", "custom"])),
        None => return Err(ApiError::missing("tool_choice.type")),
    }
    let custom = named.kind.as_deref() == Some("custom");
    let (tool, param) = if custom {
        (named.custom, "tool_choice.custom.name")
    } else {
        (named.function, "tool_choice.function.name")
    };
    let name = tool.and_then(|tool| tool.name).ok_or_else(|| ApiError::missing(param))?;
    if !tools.iter().any(|tool| tool.name == name && tool.custom == custom) {
        let message = format!("Tool choice '{name}' not found in 'tools' parameter.");
        return Err(ApiError::invalid("tool_choice", "", message));
    }
    Ok(Choice::Named(name))
}

fn mode(word: &str, param: &str) -> Result<Choice, ApiError> {
    match word {
        "none" => Ok(Choice::None),
        "auto" => Ok(Choice::Auto),
        "required" => Ok(Choice::Required),
        other => Err(wrong_value(param, other, &["none", "auto", "required"])),
    }
}

/// Where a text has the name as a word of its own: with the object that follows it, if one does.
pub(crate) fn mentioned<'a>(text: &'a str, name: &str) -> Vec<Option<&'a str>> {
    let found = text.match_indices(name).filter_map(|(at, _)| {
        let before = text[..at].bytes().next_back();
        let rest = &text[at + name.len()..];
        let whole = !before.is_some_and(in_name) && !rest.bytes().next().is_some_and(in_name);
        whole.then(|| object_after(rest))
    });
    found.collect()
}

/// The object of `({…})`, `: {…}` or `{…}`.
fn object_after(rest: &str) -> Option<&str> {
    let rest = rest.trim_start().trim_start_matches(['(', ':']).trim_start();
    let read = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>().next();
    Some(read?.ok()?.get()).filter(|json| json.starts_with('{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn tools_are_checked() {
        for (json, param) in [
            ("{}", "tools"),
            ("[]", "tools"),
            ("[[]]", "tools[0]"),
            (r#"[{"function":{"name":"a"}}]"#, "tools[0].type"),
            (r#"[{"type":"magic"}]"#, "tools[0].type"),
            (r#"[{"type":"function"}]"#, "tools[0].function"),
            (r#"[{"type":"function","function":{}}]"#, "tools[0].function.name"),
            (r#"[{"type":"function","function":{"name":"a b"}}]"#, "tools[0].function.name"),
            (
                r#"[{"type":"function","function":{"name":"a","parameters":[]}}]"#,
                "tools[0].function.parameters",
            ),
        ] {
            assert_eq!(tools(Some(&raw(json))).unwrap_err().param.as_deref(), Some(param), "{json}");
        }
    }

    #[test]
    fn a_choice_must_be_of_a_declared_tool() {
        let choose = |json: &str| {
            let mut tools = vec![Tool::function("a", Value::Null)];
            choice(Some(&raw(json)), &mut tools, true)
        };
        let named = choose(r#"{"type":"function","function":{"name":"a"}}"#).unwrap();
        assert_eq!(named, Choice::Named("a".into()));
        assert!(choose(r#"{"type":"function","function":{"name":"b"}}"#).is_err());
        assert!(choose(r#""sometimes""#).is_err());
        assert!(choice(Some(&raw(r#""auto""#)), &mut Vec::new(), false).is_err());
    }

    #[test]
    fn a_name_is_a_word_of_its_own_and_may_bring_arguments() {
        let mentions = |text| mentioned(text, "get_weather");
        assert_eq!(mentions("please use get_weather."), [None]);
        assert!(mentions("please use get_weather_now").is_empty());
        assert_eq!(mentions("forget_weather, get_weather"), [None]);
        let two = r#"get_weather({"city": "Köln", "x": "}"}) and get_weather : {}, not get_weather [1]"#;
        assert_eq!(mentions(two), [Some(r#"{"city": "Köln", "x": "}"}"#), Some("{}"), None]);
    }
}
