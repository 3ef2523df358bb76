//! Single values: the forms they have in JSON and in URLs, and the rules of their fields.

use std::str::FromStr as _;

use prost_reflect::{DynamicMessage, Value};
use weir_error::{Code, Error};
use weir_proto::api::Format;

use crate::shape::{Field, Kind, words};

const NANOS_PER_USD: u64 = 1_000_000_000;

/// A value as a path or a query has it.
///
/// # Errors
/// `InvalidType` or `InvalidArgument`, naming the parameter.
pub(crate) fn from_text(field: &Field, text: &str) -> Result<Value, Error> {
    let number = |value: Option<Value>| value.ok_or_else(|| wrong_type(field, &field.name));
    let value = match &field.kind {
        Kind::Bool => number(match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        })?,
        Kind::I32 => number(digits(text).map(Value::I32))?,
        Kind::I64 => number(digits(text).map(Value::I64))?,
        Kind::U32 => number(digits(text).map(Value::U32))?,
        Kind::U64 => number(digits(text).map(Value::U64))?,
        Kind::F32 => number(text.parse().ok().filter(|f: &f32| f.is_finite()).map(Value::F32))?,
        Kind::F64 => number(text.parse().ok().filter(|f: &f64| f.is_finite()).map(Value::F64))?,
        Kind::TimeMs => {
            let seconds = digits::<i64>(text).and_then(|s| s.checked_mul(1_000)).filter(|ms| *ms > 0);
            let time = seconds.or_else(|| parse_time(text)).map(Value::I64);
            time.ok_or_else(|| Error::invalid(&field.name, "must be a time in RFC 3339 or in Unix seconds"))?
        }
        Kind::Text | Kind::Bytes | Kind::Enum(_) | Kind::Timestamp | Kind::Duration | Kind::Usd => {
            from_str(field, text, &field.name)?
        }
        Kind::Message(_) | Kind::Object => return Err(wrong_type(field, &field.name)),
    };
    check(field, &value, &field.name)?;
    Ok(value)
}

/// Signs but no plus, leading zeros or spaces, which some parsers take.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    let bare = text.strip_prefix('-').unwrap_or(text);
    let plain = bare.bytes().all(|b| b.is_ascii_digit()) && (bare == "0" || !bare.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// A JSON string as the field's value; its rules are checked by [`check`].
///
/// # Errors
/// `InvalidType` where the field takes no string, `InvalidArgument` where it takes another.
pub(crate) fn from_str(field: &Field, text: &str, at: &str) -> Result<Value, Error> {
    let must = |what: &str| Error::invalid(at, format!("must be {what}"));
    Ok(match &field.kind {
        Kind::Text => Value::String(text.to_owned()),
        Kind::Bytes => {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            Value::Bytes(STANDARD.decode(text).map_err(|_| must("base64"))?.into())
        }
        Kind::Enum(of) => match words(of).find(|(word, _)| word == text) {
            Some((_, number)) => Value::EnumNumber(number),
            None => {
                let known: Vec<_> = words(of).map(|(word, _)| word).collect();
                return Err(must(&format!("one of {}", known.join(", "))));
            }
        },
        Kind::TimeMs => Value::I64(parse_time(text).ok_or_else(|| must("a time in RFC 3339"))?),
        Kind::Timestamp => {
            let time = parse_timestamp(text).ok_or_else(|| must("a time in RFC 3339"))?;
            Value::Message(well_known(field, &time).ok_or_else(|| wrong_type(field, at))?)
        }
        Kind::Duration => {
            let duration = prost_types::Duration::from_str(text).map_err(|_| must("a duration: 1.5s"))?;
            Value::Message(well_known(field, &duration).ok_or_else(|| wrong_type(field, at))?)
        }
        Kind::Usd => Value::I64(parse_usd(text).ok_or_else(|| must("an amount in USD: 0.25"))?),
        _ => return Err(wrong_type(field, at)),
    })
}

fn well_known(field: &Field, message: &impl prost::Message) -> Option<DynamicMessage> {
    let prost_reflect::Kind::Message(of) = field.field.kind() else { return None };
    DynamicMessage::decode(of, message.encode_to_vec().as_slice()).ok()
}

/// What a field of this kind takes, in words.
pub(crate) fn expected(field: &Field) -> &'static str {
    match &field.kind {
        Kind::Bool => "true or false",
        Kind::I32 | Kind::I64 => "a whole number",
        Kind::U32 | Kind::U64 => "a whole number, zero or more",
        Kind::F32 | Kind::F64 => "a number",
        Kind::Text | Kind::Enum(_) => "a string",
        Kind::Bytes => "a string in base64",
        Kind::Message(_) | Kind::Object => "an object",
        Kind::Timestamp | Kind::TimeMs => "a time in RFC 3339",
        Kind::Duration => "a duration such as \"1.5s\"",
        Kind::Usd => "an amount in USD, as a string",
    }
}

pub(crate) fn wrong_type(field: &Field, at: &str) -> Error {
    Error::new(Code::InvalidType, format!("must be {}", expected(field))).with_param(at)
}

/// The rules for one value; lists have theirs for each element.
///
/// # Errors
/// `InvalidArgument` naming the bound.
pub(crate) fn check(field: &Field, value: &Value, at: &str) -> Result<(), Error> {
    let must = |what: String| Err(Error::invalid(at, format!("must {what}")));
    let rules = &field.rules;
    if rules.min.is_some() || rules.max.is_some() {
        let number = match value {
            Value::I32(n) => i128::from(*n),
            Value::I64(n) => i128::from(*n),
            Value::U32(n) => i128::from(*n),
            Value::U64(n) => i128::from(*n),
            _ => return Ok(()),
        };
        let below = rules.min.is_some_and(|min| number < i128::from(min));
        let above = rules.max.is_some_and(|max| number > i128::from(max));
        if below || above {
            return must(match (rules.min, rules.max) {
                (Some(min), Some(max)) => format!("be between {min} and {max}"),
                (Some(min), None) => format!("be {min} or more"),
                (_, max) => format!("be {} or less", max.unwrap_or_default()),
            });
        }
    }
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        _ => return Ok(()),
    };
    let unit = if field.kind == Kind::Bytes { "bytes" } else { "characters" };
    if rules.min_len.is_some_and(|min| length < min as usize) {
        return must(format!("have at least {} {unit}", rules.min_len.unwrap_or_default()));
    }
    if rules.max_len.is_some_and(|max| length > max as usize) {
        return must(format!("have at most {} {unit}", rules.max_len.unwrap_or_default()));
    }
    if let Value::String(text) = value { check_text(field, text, at) } else { Ok(()) }
}

fn check_text(field: &Field, text: &str, at: &str) -> Result<(), Error> {
    let must = |what: String| Err(Error::invalid(at, format!("must {what}")));
    let rules = &field.rules;
    // No database takes it, and no text means it.
    if text.contains('\0') {
        return must("not contain the character U+0000".to_owned());
    }
    if !rules.one_of.is_empty() && !rules.one_of.iter().any(|known| known == text) {
        return must(format!("be one of {}", rules.one_of.join(", ")));
    }
    match field.format() {
        Format::Uuid if uuid::Uuid::try_parse(text).is_err() => return must("be a UUID".to_owned()),
        Format::Line if text.chars().any(char::is_control) => {
            return must("have no control characters".to_owned());
        }
        Format::Line if text.trim().is_empty() => return must("be more than white space".to_owned()),
        _ => {}
    }
    match &field.pattern {
        Some(pattern) if !pattern.is_match(text) => must(format!("match {}", rules.pattern)),
        _ => Ok(()),
    }
}

fn parse_timestamp(text: &str) -> Option<prost_types::Timestamp> {
    // Its parser takes a bare date, too, which says too little about the zone.
    if !text.contains(['T', 't']) {
        return None;
    }
    // A plus sign in a query means a space, and everybody forgets to escape it.
    prost_types::Timestamp::from_str(&text.replace(' ', "+")).ok()
}

/// Unix milliseconds; zero and before stand for absent elsewhere, so they are no time.
fn parse_time(text: &str) -> Option<i64> {
    let time = parse_timestamp(text)?;
    time.seconds.checked_mul(1_000)?.checked_add(i64::from(time.nanos) / 1_000_000).filter(|ms| *ms > 0)
}

/// RFC 3339 in UTC, with milliseconds where there are any.
pub(crate) fn show_time(ms: i64) -> String {
    let nanos = i32::try_from(ms.rem_euclid(1_000) * 1_000_000).unwrap_or_default();
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos }.to_string()
}

/// Nano-USD, exactly; at most nine places.
fn parse_usd(text: &str) -> Option<i64> {
    let (sign, bare) = text.strip_prefix('-').map_or((1, text), |bare| (-1, bare));
    let (whole, part) = bare.split_once('.').unwrap_or((bare, "0"));
    let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(part) || part.len() > 9 {
        return None;
    }
    let nanos: i64 = format!("{part:0<9}").parse().ok()?;
    let units = i64::try_from(NANOS_PER_USD).ok()?;
    whole.parse::<i64>().ok()?.checked_mul(units)?.checked_add(nanos)?.checked_mul(sign)
}

pub(crate) fn show_usd(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, part) = (nanos.unsigned_abs() / NANOS_PER_USD, nanos.unsigned_abs() % NANOS_PER_USD);
    let text = format!("{sign}{whole}.{part:09}");
    // Two places stay: it is money.
    let keep = text.len() - 7;
    let short = text.trim_end_matches('0').len().max(keep);
    text.get(..short).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_zone() {
        assert_eq!(parse_time("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        assert_eq!(parse_time("2023-11-14T23:13:20.250+01:00"), Some(1_700_000_000_250));
        assert_eq!(parse_time("2023-11-14T23:13:20 01:00"), Some(1_700_000_000_000));
        for bad in ["x", "2023-11-14", "-5", "2023-13-14T00:00:00Z", ""] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
        assert_eq!(show_time(1_700_000_000_250), "2023-11-14T22:13:20.250Z");
        assert_eq!(show_time(1_700_000_000_000), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn money_is_exact() {
        for (text, nanos) in
            [("0.000000125", 125), ("12.50", 12_500_000_000), ("0.00", 0), ("-1.000125", -1_000_125_000)]
        {
            assert_eq!((parse_usd(text), show_usd(nanos).as_str()), (Some(nanos), text));
        }
        assert_eq!(parse_usd("3"), Some(3_000_000_000));
        assert_eq!(parse_usd(&show_usd(i64::MIN + 1)), Some(i64::MIN + 1));
        for bad in ["", ".", "1.", ".5", "1e3", "+1", "1.0000000001", "9223372037", "--1", "1,0"] {
            assert_eq!(parse_usd(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_have_one_form() {
        assert_eq!((digits("0"), digits("-12"), digits("12")), (Some(0), Some(-12), Some(12)));
        for bad in ["", "-", "+1", "01", " 1", "1 ", "0x1", "1.0", "1e3"] {
            assert_eq!(digits::<i64>(bad), None, "{bad:?}");
        }
        assert_eq!(digits::<u32>("4294967296"), None);
        assert_eq!(digits::<u32>("-1"), None);
    }
}
