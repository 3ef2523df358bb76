//! Query strings: each parameter known, of its type, and once unless it is a list.

use percent_encoding::percent_decode_str;
use prost_reflect::{DynamicMessage, Value};
use weir_error::{Code, Error};

use crate::{
    shape::{Field, MAX_ITEMS, Many},
    value,
};

/// # Errors
/// `InvalidArgument`, `InvalidType` and `MissingParameter` naming the parameter.
pub(crate) fn fill(known: &[&Field], query: &str, message: &mut DynamicMessage) -> Result<(), Error> {
    for (name, text) in pairs(query)? {
        let Some(field) = known.iter().find(|f| f.name == name) else {
            return Err(Error::invalid(name, unknown(known)));
        };
        let value = value::from_text(field, &text)?;
        match field.many {
            Many::One if message.has_field(&field.field) => {
                return Err(Error::invalid(name, "given twice"));
            }
            Many::One => message.set_field(&field.field, value),
            Many::List | Many::Map => {
                let max = field.rules.max_items.unwrap_or(MAX_ITEMS) as usize;
                if let Value::List(values) = message.get_field_mut(&field.field) {
                    if values.len() >= max {
                        return Err(Error::invalid(name, format!("must be given at most {max} times")));
                    }
                    values.push(value);
                }
            }
        }
    }
    match known.iter().find(|f| f.rules.required && !message.has_field(&f.field)) {
        Some(field) => Err(Error::new(Code::MissingParameter, "must be given").with_param(&field.name)),
        None => Ok(()),
    }
}

fn unknown(known: &[&Field]) -> String {
    if known.is_empty() {
        return "unknown parameter: there are none".to_owned();
    }
    let names: Vec<_> = known.iter().map(|f| f.name.as_str()).collect();
    format!("unknown parameter: there are {}", names.join(", "))
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, Error> {
    let text = |raw: &str| {
        let spaced = raw.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().map(|text| text.into_owned());
        decoded.map_err(|_| Error::invalid("query", "the query string is not UTF-8"))
    };
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(k, v)| Ok((text(k)?, text(v)?)))
        .collect()
}
