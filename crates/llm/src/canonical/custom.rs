//! Custom tools: a model gives them text, not JSON. OpenAI's dialects alone have them; to others they are functions of
//! one text.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Function, Raw};

/// The only argument of the function.
const INPUT: &str = "input";

/// What makes a function a custom tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Custom {
    /// What its text must be; `None`: any.
    pub grammar: Option<Grammar>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grammar {
    /// `lark` or `regex`.
    pub syntax: String,
    pub definition: String,
}

impl Custom {
    /// The tool, as the function that stands for it where there are no custom tools.
    #[must_use]
    pub fn function(self, name: String, description: Option<String>) -> Function {
        let said = match &self.grammar {
            Some(Grammar { syntax, definition }) => {
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
        Function { name, description, schema, strict: None, cache: None, custom: Some(self) }
    }

    /// The text in a call's arguments; the arguments themselves where a model kept to nothing.
    #[must_use]
    pub fn input(arguments: &str) -> Cow<'_, str> {
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
    #[must_use]
    pub fn arguments(input: &str) -> String {
        serde_json::json!({ INPUT: input }).to_string()
    }
}

/// The arguments of a call whose text comes in pieces: this, the pieces as JSON has them within a string, and the end.
pub(crate) const OPENING: &str = "{\"input\":\"";
pub(crate) const CLOSING: &str = "\"}";

/// A piece of a text, as JSON has it within a string.
pub(crate) fn escaped(piece: &str) -> String {
    let quoted = serde_json::Value::from(piece).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_in_and_comes_out() {
        let text = "*** Begin \"Patch\"\n\u{e9}\\";
        assert_eq!(Custom::input(&Custom::arguments(text)), text);
        assert_eq!(Custom::input("plain"), "plain");
        let pieces: String = text.chars().map(|c| escaped(&c.to_string())).collect();
        assert_eq!(Custom::input(&format!("{OPENING}{pieces}{CLOSING}")), text);
    }
}
