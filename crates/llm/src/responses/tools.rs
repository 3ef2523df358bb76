//! What a request's tools are called by those who have neither custom tools nor namespaces.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::content::kind;
use crate::{
    canonical::{Custom, Function, Grammar},
    ids, lenient,
};

/// An item of the input that brings tools.
pub(super) const ADDED: &str = "additional_tools";
/// Longest name that every provider takes.
const MAX_NAME: usize = 64;

/// A tool as its client knows it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) custom: bool,
}

/// A request's tools. Those of a namespace are called `namespace__name` elsewhere.
#[derive(Debug, Default)]
pub(super) struct ToolNames {
    known: HashMap<String, Known>,
    /// By namespace and name.
    flat: HashMap<String, HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Declared<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "lenient::text")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    tools: Vec<Member<'a>>,
}

#[derive(Deserialize)]
struct Member<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "lenient::text")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
}

impl ToolNames {
    /// Of a request's `tools`, and of those that its `input` brings.
    pub(super) fn of(tools: Option<&RawValue>, input: Option<&RawValue>) -> Self {
        let added =
            input.filter(|input| memchr::memmem::find(input.get().as_bytes(), ADDED.as_bytes()).is_some());
        let added = added.map(list).unwrap_or_default().into_iter().filter(|item| kind(item) == ADDED);
        let added = added.filter_map(|item| serde_json::from_str::<Added<'_>>(item.get()).ok());
        let all = tools.map(list).unwrap_or_default().into_iter().chain(added.flat_map(|added| added.tools));
        let all: Vec<Declared<'_>> = all.filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect();
        let mut names = Self::default();
        for tool in &all {
            if let (Some(kind @ ("function" | "custom")), Some(name)) =
                (tool.kind.as_deref(), tool.name.as_deref())
            {
                let known = Known { namespace: None, name: name.to_owned(), custom: kind == "custom" };
                names.known.insert(name.to_owned(), known);
            }
        }
        for tool in all.iter().filter(|tool| tool.kind.as_deref() == Some("namespace")) {
            let Some(namespace) = tool.name.as_deref() else { continue };
            tool.tools.iter().for_each(|member| names.add(namespace, member));
        }
        names
    }

    /// Of a whole request.
    pub(super) fn of_request(body: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        struct Asked<'a> {
            #[serde(borrow, default)]
            tools: Option<&'a RawValue>,
            #[serde(borrow, default)]
            input: Option<&'a RawValue>,
        }
        let asked: Asked<'_> = serde_json::from_slice(body).unwrap_or_default();
        Self::of(asked.tools, asked.input)
    }

    fn add(&mut self, namespace: &str, member: &Member<'_>) {
        let (Some(kind @ ("function" | "custom")), Some(name)) =
            (member.kind.as_deref(), member.name.as_deref())
        else {
            return;
        };
        let Entry::Vacant(place) = self.flat.entry(namespace.to_owned()).or_default().entry(name.to_owned())
        else {
            return;
        };
        let mut flat = joined(namespace, name);
        if self.known.contains_key(&flat) {
            flat = hashed(namespace, name);
        }
        place.insert(flat.clone());
        let (namespace, name) = (Some(namespace.to_owned()), name.to_owned());
        self.known.insert(flat, Known { namespace, name, custom: kind == "custom" });
    }

    /// What a tool is called elsewhere.
    pub(super) fn flat<'a>(&'a self, namespace: Option<&str>, name: &'a str) -> Cow<'a, str> {
        let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else { return name.into() };
        match self.flat.get(namespace).and_then(|members| members.get(name)) {
            Some(flat) => flat.into(),
            None => joined(namespace, name).into(),
        }
    }

    /// The namespace of what is called so elsewhere.
    pub(super) fn namespace(&self, flat: &str) -> Option<&str> {
        self.known.get(flat)?.namespace.as_deref()
    }

    /// Whose name elsewhere this is. What nobody declared is called what it is called.
    pub(super) fn known(&self, flat: &str) -> Known {
        let undeclared = || Known { name: flat.to_owned(), ..Known::default() };
        self.known.get(flat).cloned().unwrap_or_else(undeclared)
    }
}

/// An item of the input that brings tools.
#[derive(Deserialize)]
struct Added<'a> {
    #[serde(borrow, default)]
    tools: Vec<&'a RawValue>,
}

fn list(raw: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// One name of two.
pub(super) fn joined(namespace: &str, name: &str) -> String {
    let between = if namespace.ends_with("__") { "" } else { "__" };
    let joined = format!("{namespace}{between}{name}");
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if joined.len() <= MAX_NAME && joined.bytes().all(fits) { joined } else { hashed(namespace, name) }
}

/// One that no other pair has.
fn hashed(namespace: &str, name: &str) -> String {
    let mut hash = Context::new(&SHA256);
    hash.update(&(namespace.len() as u64).to_be_bytes());
    hash.update(namespace.as_bytes());
    hash.update(name.as_bytes());
    let digest: String = hash.finish().as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let plain: String = ids::plain(name).chars().take(MAX_NAME - 3 - digest.len()).collect();
    format!("n_{plain}_{digest}")
}

/// A custom tool; `format` is its grammar, if it has one.
pub(super) fn custom(name: String, description: Option<String>, format: Option<&RawValue>) -> Function {
    let told = format.and_then(|raw| serde_json::from_str::<Format>(raw.get()).ok());
    let grammar = told
        .filter(|told| told.kind == "grammar")
        .map(|Format { syntax, definition, .. }| Grammar { syntax, definition });
    Custom { grammar }.function(name, description)
}

#[derive(Deserialize)]
struct Format {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    syntax: String,
    #[serde(default)]
    definition: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn names(tools: &Value) -> ToolNames {
        ToolNames::of_request(json!({ "tools": tools }).to_string().as_bytes())
    }

    #[test]
    fn a_tool_is_known_by_the_name_it_has_elsewhere() {
        let long = "x".repeat(80);
        let names = names(
            &json!([{"type": "custom", "name": "a"}, {"type": "function", "name": "mcp__b__c"}, 3, {"type": "local_shell"},
            {"type": "namespace", "name": "mcp__b", "tools": [{"type": "function", "name": "c"}, {"type": "custom", "name": "d"}, 7]},
            {"type": "namespace", "name": "mcp__b__", "tools": [{"type": "function", "name": "d"}]},
            {"type": "namespace", "name": "n.s", "tools": [{"type": "function", "name": long}, {"type": "function", "name": "é"}]}]),
        );
        assert!(names.known("a").custom && !names.known("mcp__b__c").custom && !names.known("").custom);
        assert_eq!(names.known("mcp__b__c").namespace, None);
        let all = [("mcp__b", "c"), ("mcp__b", "d"), ("mcp__b__", "d"), ("n.s", &long), ("n.s", "é")];
        let mut flat: Vec<_> = all.iter().map(|(ns, name)| names.flat(Some(ns), name).into_owned()).collect();
        for ((ns, name), flat) in all.iter().zip(&flat) {
            let known = names.known(flat);
            assert_eq!((known.namespace.as_deref(), known.name.as_str()), (Some(*ns), *name), "{flat}");
            assert!(
                flat.len() <= MAX_NAME
                    && flat.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
            );
        }
        assert_eq!(flat[1], "mcp__b__d");
        flat.sort();
        flat.dedup();
        assert_eq!(flat.len(), all.len());
        // Of an earlier turn, whose tools are gone.
        assert_eq!((names.flat(Some("x"), "y"), names.flat(None, "y")), ("x__y".into(), "y".into()));
    }
}
