//! A JSON object taken apart member by member: what nobody took is left over, and can be named.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use weir_error::{Code, Error};

use crate::canonical::Part;

#[derive(Debug)]
pub(crate) struct Members<'a> {
    /// Where the object stands, as `messages[0]`; empty for the body itself.
    path: String,
    map: BTreeMap<String, &'a RawValue>,
}

impl<'a> Members<'a> {
    /// # Errors
    /// `InvalidJson` or `InvalidType`.
    pub(crate) fn of_body(body: &'a [u8]) -> Result<Self, Error> {
        let raw: &RawValue = serde_json::from_slice(body)
            .map_err(|e| Error::new(Code::InvalidJson, "The body is not valid JSON.").with_source(e))?;
        Self::of(raw, "")
    }

    /// # Errors
    /// `InvalidType` naming the path.
    pub(crate) fn of(raw: &'a RawValue, path: &str) -> Result<Self, Error> {
        let map = raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()));
        match map {
            Some(Ok(map)) => Ok(Self { path: path.to_owned(), map }),
            _ => Err(wrong(path, "an object")),
        }
    }

    /// Members may be named in snake case, too, as Google's are; extensions (`x_…`) keep their names.
    pub(crate) fn camel(self) -> Self {
        Self { map: self.map.into_iter().map(|(name, raw)| (camel(&name), raw)).collect(), ..self }
    }

    pub(crate) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Members that nothing depends on here.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        names.iter().for_each(|name| {
            self.map.remove(*name);
        });
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    pub(crate) fn peek(&self, name: &str) -> Option<&'a RawValue> {
        self.map.get(name).copied()
    }

    /// `null` is absence.
    pub(crate) fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        self.map.remove(name).filter(|raw| raw.get() != "null")
    }

    /// # Errors
    /// `InvalidType` naming the member.
    pub(crate) fn take<T: Deserialize<'a>>(&mut self, name: &str) -> Result<Option<T>, Error> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|_| {
            Error::new(Code::InvalidType, format!("Invalid type for '{}'.", self.at(name)))
                .with_param(self.at(name))
        })
    }

    /// # Errors
    /// As [`Members::take`]; `MissingParameter`.
    pub(crate) fn need<T: Deserialize<'a>>(&mut self, name: &str) -> Result<T, Error> {
        self.take(name)?.ok_or_else(|| {
            let at = self.at(name);
            Error::new(Code::MissingParameter, format!("Missing required parameter: '{at}'.")).with_param(at)
        })
    }

    /// An object's own members; none when it is not there.
    ///
    /// # Errors
    /// `InvalidType`.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, Error> {
        let at = self.at(name);
        self.raw(name).map(|raw| Self::of(raw, &at)).transpose()
    }

    /// A message's content: a string, or an array of parts, each at the path that `index` gives it; nothing for null.
    pub(crate) fn parts(
        &mut self,
        name: &str,
        expected: &str,
        index: impl Fn(&str, usize) -> String,
        mut part: impl FnMut(&'a RawValue, &str) -> Result<Part, Error>,
    ) -> Result<Vec<Part>, Error> {
        let at = self.at(name);
        let Some(raw) = self.raw(name) else { return Ok(Vec::new()) };
        if let Some(text) = string(raw) {
            return Ok(vec![Part::text(text)]);
        }
        let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| wrong(&at, expected))?;
        items.into_iter().enumerate().map(|(i, item)| part(item, &index(&at, i))).collect()
    }

    /// What nobody took.
    pub(crate) fn all(self) -> impl Iterator<Item = (String, &'a RawValue)> {
        self.map.into_iter()
    }

    /// What nobody took and says something. What an extension (`x_…`) says, nobody here knows.
    pub(crate) fn rest(self) -> impl Iterator<Item = (String, &'a RawValue)> {
        let empty = |raw: &RawValue| matches!(raw.get(), "null" | "false" | "{}" | "[]");
        self.map.into_iter().filter(move |(name, raw)| name.starts_with("x_") || !empty(raw))
    }
}

/// `inline_data` as `inlineData`.
pub(crate) fn camel(name: &str) -> String {
    if name.starts_with("x_") {
        return name.to_owned();
    }
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

pub(crate) fn wrong(path: &str, expected: &str) -> Error {
    let text = format!("Invalid type for '{path}': expected {expected}.");
    Error::new(Code::InvalidType, text).with_param(path)
}

/// A text that a JSON string holds; `None` when it is no string.
pub(crate) fn string(raw: &RawValue) -> Option<String> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}
