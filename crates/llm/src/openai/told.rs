//! How a request's client has calls told: as it declared what can be called.

use std::{collections::HashSet, sync::LazyLock};

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::lenient;

#[derive(Debug, Default)]
pub(super) struct Style {
    /// Names of custom tools: their calls have text.
    custom: HashSet<String>,
    /// `functions` are called by `function_call`, and by one.
    pub(super) older: bool,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    tools: Vec<Declared<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::read")]
    functions: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Declared<'a> {
    #[serde(default, rename = "type", deserialize_with = "lenient::read")]
    kind: String,
    #[serde(default, deserialize_with = "lenient::read")]
    name: String,
    #[serde(default, deserialize_with = "lenient::read")]
    custom: Option<Named>,
    /// As Anthropic has it, whose `custom` means a function.
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Whether answers to this body may have to be told otherwise than as calls of `tools` that are functions. It costs a
/// look.
#[must_use]
pub fn has_own_calls(body: &[u8]) -> bool {
    static NAMES: LazyLock<[Finder<'static>; 2]> =
        LazyLock::new(|| ["\"custom\"", "\"functions\""].map(Finder::new));
    NAMES.iter().any(|name| name.find(body).is_some())
}

impl Style {
    /// Of a whole request; of none if that is not at hand.
    pub(super) fn of_request(body: &[u8]) -> Self {
        if !has_own_calls(body) {
            return Self::default();
        }
        let Ok(Asked { tools, functions }) = serde_json::from_slice::<Asked<'_>>(body) else {
            return Self::default();
        };
        let older = tools.is_empty() && functions.is_some_and(|functions| !functions.is_empty());
        let custom = tools.into_iter().filter(|tool| tool.kind == "custom" && tool.input_schema.is_none());
        let custom = custom.map(|tool| tool.custom.map_or(tool.name, |custom| custom.name)).collect();
        Self { custom, older }
    }

    pub(super) fn is_custom(&self, name: &str) -> bool {
        self.custom.contains(name)
    }
}
