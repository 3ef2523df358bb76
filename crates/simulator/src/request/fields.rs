//! Fields of a body, checked one by one, so that an error names the field.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::ApiError;

const LONGEST_IDENTIFIER: usize = 64;

pub(crate) type Raw<'a> = Option<&'a RawValue>;

/// What a JSON text is, as OpenAI's messages say it.
pub(crate) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ if raw.get().bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) => "a decimal",
        _ => "an integer",
    }
}

pub(crate) fn wrong_type(param: &str, expected: &str, raw: &RawValue) -> ApiError {
    let message = format!("Invalid type for '{param}': expected {expected}, but got {} instead.", kind(raw));
    ApiError::invalid(param, "invalid_type", message)
}

pub(crate) fn wrong_value(param: &str, value: &str, supported: &[&str]) -> ApiError {
    let supported: Vec<_> = supported.iter().map(|s| format!("'{s}'")).collect();
    let message = format!("Invalid value: '{value}'. Supported values are: {}.", supported.join(", "));
    ApiError::invalid(param, "invalid_value", message)
}

/// A JSON object read as `T`. A derived `Deserialize` would also take an array.
pub(crate) fn object<T: DeserializeOwned>(raw: &RawValue, param: &str) -> Result<T, ApiError> {
    let wrong = || wrong_type(param, "an object", raw);
    if raw.get().starts_with('{') {
        serde_json::from_str(raw.get()).map_err(|_| wrong())
    } else {
        Err(wrong())
    }
}

/// The items of an array.
pub(crate) fn items<'a>(raw: &'a RawValue, param: &str) -> Result<Vec<&'a RawValue>, ApiError> {
    serde_json::from_str(raw.get()).map_err(|_| wrong_type(param, "an array", raw))
}

pub(crate) fn text<'a>(raw: &'a RawValue, param: &str) -> Result<Cow<'a, str>, ApiError> {
    let json = raw.get();
    // Without escapes the text is its JSON but for the quotes.
    if let Some(inner) = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'))
        && !inner.contains('\\')
    {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str(json).map(Cow::Owned).map_err(|_| wrong_type(param, "a string", raw))
}

/// An identifier, which is not long.
pub(crate) fn identifier(value: &str, param: &str) -> Result<(), ApiError> {
    let length = value.chars().count();
    if length <= LONGEST_IDENTIFIER {
        return Ok(());
    }
    let message = format!(
        "Invalid '{param}': string too long. Expected a string with maximum length {LONGEST_IDENTIFIER}, but got a \
         string with length {length} instead."
    );
    Err(ApiError::invalid(param, "string_above_max_length", message))
}

pub(crate) fn boolean(raw: Raw<'_>, param: &str) -> Result<Option<bool>, ApiError> {
    raw.map(|raw| serde_json::from_str(raw.get()).map_err(|_| wrong_type(param, "a boolean", raw)))
        .transpose()
}

pub(crate) fn integer(raw: Raw<'_>, param: &str, least: i64, most: i64) -> Result<Option<i64>, ApiError> {
    let Some(raw) = raw else { return Ok(None) };
    let value: i64 = serde_json::from_str(raw.get()).map_err(|_| wrong_type(param, "an integer", raw))?;
    match bound(value < least, value > most) {
        None => Ok(Some(value)),
        Some(Bound::Below) => {
            Err(outside(param, "integer", "below minimum", ">=", least, value, "integer_below_min_value"))
        }
        Some(Bound::Above) => {
            Err(outside(param, "integer", "above maximum", "<=", most, value, "integer_above_max_value"))
        }
    }
}

pub(crate) fn decimal(raw: Raw<'_>, param: &str, least: f64, most: f64) -> Result<Option<f64>, ApiError> {
    let Some(raw) = raw else { return Ok(None) };
    let value: f64 = serde_json::from_str(raw.get()).map_err(|_| wrong_type(param, "a decimal", raw))?;
    match bound(value < least, value > most) {
        None => Ok(Some(value)),
        Some(Bound::Below) => {
            Err(outside(param, "decimal", "below minimum", ">=", least, value, "decimal_below_min_value"))
        }
        Some(Bound::Above) => {
            Err(outside(param, "decimal", "above maximum", "<=", most, value, "decimal_above_max_value"))
        }
    }
}

enum Bound {
    Below,
    Above,
}

fn bound(below: bool, above: bool) -> Option<Bound> {
    match (below, above) {
        (true, _) => Some(Bound::Below),
        (_, true) => Some(Bound::Above),
        _ => None,
    }
}

fn outside<T: std::fmt::Display>(
    param: &str,
    what: &str,
    side: &str,
    sign: &str,
    limit: T,
    got: T,
    code: &'static str,
) -> ApiError {
    let message = format!(
        "Invalid '{param}': {what} {side} value. Expected a value {sign} {limit}, but got {got} instead."
    );
    ApiError::invalid(param, code, message)
}
