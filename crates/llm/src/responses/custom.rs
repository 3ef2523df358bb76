//! Custom tools: a model gives them text, not JSON. Only OpenAI has them; to others they are functions of one text.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canonical::{Custom, Function, Grammar};

/// Names of a request's custom tools.
#[derive(Debug, Default)]
pub(super) struct CustomTools(Vec<String>);

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(default)]
    name: String,
}

impl CustomTools {
    /// Of a request's `tools`.
    pub(super) fn of(tools: Option<&RawValue>) -> Self {
        let tools: Vec<&RawValue> =
            tools.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let named = tools.into_iter().filter_map(|raw| serde_json::from_str::<Named<'_>>(raw.get()).ok());
        Self(named.filter(|tool| tool.kind == "custom").map(|tool| tool.name).collect())
    }

    /// Of a whole request.
    pub(super) fn of_request(body: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        struct Asked<'a> {
            #[serde(borrow, default)]
            tools: Option<&'a RawValue>,
        }
        Self::of(serde_json::from_slice::<Asked<'_>>(body).unwrap_or_default().tools)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }

    /// As [`Custom::input`].
    pub(super) fn input(arguments: &str) -> Cow<'_, str> {
        Custom::input(arguments)
    }

    /// As [`Custom::arguments`].
    pub(super) fn arguments(input: &str) -> String {
        Custom::arguments(input)
    }

    /// A custom tool; `format` is its grammar, if it has one.
    pub(super) fn function(name: String, description: Option<String>, format: Option<&RawValue>) -> Function {
        let told = format.and_then(|raw| serde_json::from_str::<Format>(raw.get()).ok());
        let grammar = told
            .filter(|told| told.kind == "grammar")
            .map(|Format { syntax, definition, .. }| Grammar { syntax, definition });
        Custom { grammar }.function(name, description)
    }
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
    use super::*;

    #[test]
    fn text_goes_in_and_comes_out() {
        let text = "*** Begin \"Patch\"\n\u{e9}";
        assert_eq!(CustomTools::input(&CustomTools::arguments(text)), text);
        assert_eq!(CustomTools::input("plain"), "plain");
        let tools = RawValue::from_string(
            r#"[{"type":"custom","name":"a"},{"type":"function","name":"b"},3,{"type":"local_shell"}]"#
                .into(),
        );
        let custom = CustomTools::of(Some(&tools.unwrap()));
        assert!(custom.has("a") && !custom.has("b") && !custom.has(""));
    }
}
