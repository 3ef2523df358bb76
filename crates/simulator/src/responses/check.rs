//! Members of a body that was read whole, checked one by one, with OpenAI's words.

use serde_json::{Map, Value};

use crate::error::ApiError;

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub(crate) fn wrong_type(param: &str, expected: &str, got: &Value) -> ApiError {
    let message = format!("Invalid type for '{param}': expected {expected}, but got {} instead.", kind(got));
    ApiError::invalid(param, "invalid_type", message)
}

pub(crate) fn invalid_value(param: &str, value: &str, supported: &[&str]) -> ApiError {
    let supported: Vec<_> = supported.iter().map(|s| format!("'{s}'")).collect();
    let message = format!("Invalid value: '{value}'. Supported values are: {}.", supported.join(", "));
    ApiError::invalid(param, "invalid_value", message)
}

/// A member that must be there.
pub(crate) fn text<'a>(from: &'a Value, name: &str, param: &str) -> Result<&'a str, ApiError> {
    match from.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_type(param, "a string", other)),
        None => Err(ApiError::missing(param)),
    }
}

/// Members that may be absent or null.
pub(crate) struct Members<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Members<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.get(name)
            .map(|value| value.as_str().ok_or_else(|| wrong_type(name, "a string", value)))
            .transpose()
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.get(name)
            .map(|value| value.as_bool().ok_or_else(|| wrong_type(name, "a boolean", value)))
            .transpose()
    }

    pub(crate) fn array(&self, name: &str) -> Result<&'a [Value], ApiError> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(wrong_type(name, "an array", other)),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Members<'a>>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Members(members))),
            Some(other) => Err(wrong_type(name, "an object", other)),
        }
    }

    pub(crate) fn integer(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(number) = value.as_i64() else { return Err(wrong_type(name, "an integer", value)) };
        let (side, code, bound) = match u64::try_from(number) {
            Ok(number) if number > most => ("above maximum", "integer_above_max_value", format!("<= {most}")),
            Ok(number) if number >= least => return Ok(Some(number)),
            _ => ("below minimum", "integer_below_min_value", format!(">= {least}")),
        };
        let message = format!(
            "Invalid '{name}': integer {side} value. Expected a value {bound}, but got {number} instead."
        );
        Err(ApiError::invalid(name, code, message))
    }

    pub(crate) fn decimal(&self, name: &str, most: f64) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(number) = value.as_f64() else { return Err(wrong_type(name, "a decimal", value)) };
        let (side, code, bound) = match number {
            number if number < 0.0 => ("below minimum", "decimal_below_min_value", ">= 0".to_owned()),
            number if number > most => ("above maximum", "decimal_above_max_value", format!("<= {most}")),
            _ => return Ok(Some(number)),
        };
        let message = format!(
            "Invalid '{name}': decimal {side} value. Expected a value {bound}, but got {number} instead."
        );
        Err(ApiError::invalid(name, code, message))
    }
}
