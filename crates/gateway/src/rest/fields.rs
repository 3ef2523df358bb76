//! A JSON object read field by field: wrong types and unknown fields are refused by their name.

use serde_json::{Map, Value};
use weir_error::{Code, Error};

pub(crate) struct Fields {
    /// The path to this object, with a trailing dot; empty for the whole body.
    path: String,
    left: Map<String, Value>,
}

impl Fields {
    /// # Errors
    /// `InvalidJson`, or `InvalidArgument` when it is no object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Error> {
        let value = serde_json::from_slice(body)
            .map_err(|e| Error::new(Code::InvalidJson, format!("the body is not valid JSON: {e}")))?;
        match value {
            Value::Object(left) => Ok(Self { path: String::new(), left }),
            _ => Err(Error::new(Code::InvalidArgument, "the body must be a JSON object")),
        }
    }

    /// Takes a field; `null` is absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, expected: &str) -> Error {
        Error::invalid(format!("{}{name}", self.path), format!("must be {expected}"))
    }

    /// Empty when absent.
    pub(crate) fn text(&mut self, name: &str) -> Result<String, Error> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }

    pub(crate) fn required_text(&mut self, name: &str) -> Result<String, Error> {
        let text = self.text(name)?;
        if text.is_empty() { Err(self.wrong(name, "given")) } else { Ok(text) }
    }

    pub(crate) fn count(&mut self, name: &str) -> Result<Option<u64>, Error> {
        let value = self.take(name);
        value.map(|v| v.as_u64().ok_or_else(|| self.wrong(name, "a whole number, zero or more"))).transpose()
    }

    /// Unix milliseconds.
    pub(crate) fn time_ms(&mut self, name: &str) -> Result<Option<i64>, Error> {
        let value = self.take(name);
        value.map(|v| v.as_i64().ok_or_else(|| self.wrong(name, "a time in Unix milliseconds"))).transpose()
    }

    /// Empty when absent.
    pub(crate) fn texts(&mut self, name: &str) -> Result<Vec<String>, Error> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let Value::Array(values) = value else { return Err(self.wrong(name, "an array of strings")) };
        let text = |(at, value)| match value {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong(&format!("{name}[{at}]"), "a string")),
        };
        values.into_iter().enumerate().map(text).collect()
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(left)) => Ok(Some(Self { path: format!("{}{name}.", self.path), left })),
            Some(_) => Err(self.wrong(name, "an object")),
        }
    }

    /// # Errors
    /// `InvalidArgument` naming the first field that nobody took.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format!("{}{name}", self.path), "unknown field")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param<T>(result: Result<T, Error>) -> Option<String> {
        result.err().and_then(|e| e.param().map(str::to_owned))
    }

    #[test]
    fn mistakes_are_named() {
        let mut fields =
            Fields::parse(br#"{"a":1,"b":"x","c":{"d":-1,"z":0},"e":["x",2],"n":null,"t":1.5}"#).unwrap();
        assert_eq!(param(fields.text("a")).as_deref(), Some("a"));
        assert_eq!(param(fields.required_text("n")).as_deref(), Some("n"));
        assert_eq!(param(fields.time_ms("t")).as_deref(), Some("t"));
        assert_eq!(param(fields.texts("e")).as_deref(), Some("e[1]"));
        let mut inner = fields.object("c").unwrap().unwrap();
        assert_eq!(param(inner.count("d")).as_deref(), Some("c.d"));
        assert_eq!(param(inner.finish()).as_deref(), Some("c.z"));
        assert_eq!(param(fields.finish()).as_deref(), Some("b"));
    }

    #[test]
    fn what_is_right_is_read() {
        let mut fields = Fields::parse(br#"{"a":"x","n":7,"l":["p","q"]}"#).unwrap();
        assert_eq!(fields.required_text("a").unwrap(), "x");
        assert_eq!(fields.count("n").unwrap(), Some(7));
        assert_eq!(fields.count("absent").unwrap(), None);
        assert_eq!(fields.texts("l").unwrap(), ["p", "q"]);
        assert!(fields.finish().is_ok());
    }

    #[test]
    fn only_objects_are_bodies() {
        assert_eq!(Fields::parse(b"[1]").err().map(|e| e.code()), Some(Code::InvalidArgument));
        assert_eq!(Fields::parse(b"{").err().map(|e| e.code()), Some(Code::InvalidJson));
        assert_eq!(Fields::parse(b"").err().map(|e| e.code()), Some(Code::InvalidJson));
    }
}
