//! Custom tools: a model gives them text, not JSON. Only OpenAI has them; to others they are functions of one text.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canonical::{Function, Raw};

/// The only argument of the function.
const INPUT: &str = "input";

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

    /// The text in a call's arguments; the arguments themselves where a model kept to nothing.
    pub(super) fn input(arguments: &str) -> Cow<'_, str> {
        #[derive(Deserialize)]
        struct Given {
            input: String,
        }
        match serde_json::from_str::<Given>(arguments) {
            Ok(given) => given.input.into(),
            Err(_) => arguments.into(),
        }
    }

    /// The arguments of a call whose text is this.
    pub(super) fn arguments(input: &str) -> String {
        serde_json::json!({ INPUT: input }).to_string()
    }

    /// The function that stands for a custom tool; `format` is its grammar, if it has one.
    pub(super) fn function(name: String, description: Option<String>, format: Option<&RawValue>) -> Function {
        let grammar = format.and_then(|raw| serde_json::from_str::<Grammar>(raw.get()).ok());
        let said = match grammar.filter(|g| g.kind == "grammar") {
            Some(Grammar { syntax, definition, .. }) => {
                format!("The input as a text that this {syntax} grammar accepts:\n{definition}")
            }
            None => "The input, as text.".to_owned(),
        };
        let schema = serde_json::json!({
            "type": "object",
            "properties": { INPUT: { "type": "string", "description": said } },
            "required": [INPUT],
            "additionalProperties": false,
        });
        let schema: Option<Raw> = serde_json::value::to_raw_value(&schema).ok();
        Function { name, description, schema, strict: None, cache: None }
    }
}

#[derive(Deserialize)]
struct Grammar {
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
