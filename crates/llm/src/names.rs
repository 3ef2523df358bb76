//! Names of functions as a provider takes them. Google's clients write `db.query`, which nobody else takes: such names go
//! as others, the same ones wherever they stand in a request, and come back as they were.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use crate::{
    Dialect,
    canonical::{Answer, Content, Event, PartStart, Request, Tool, ToolChoice},
};

/// How a provider lets functions be named: beside letters, digits, `_` and `-`.
struct Rule {
    longest: usize,
    besides: &'static [u8],
    /// It begins with a letter or `_`.
    begins: bool,
}

impl Rule {
    /// `None`: anything goes.
    fn of(provider: Dialect) -> Option<Self> {
        let plain = |longest| Self { longest, besides: b"", begins: false };
        Some(match provider {
            Dialect::OpenAi | Dialect::Responses | Dialect::Mistral | Dialect::Bedrock => plain(64),
            Dialect::Anthropic => plain(128),
            Dialect::Gemini => Self { longest: 64, besides: b".:", begins: true },
            Dialect::Ollama => return None,
        })
    }

    fn has(&self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || self.besides.contains(&byte)
    }

    fn fits(&self, name: &str) -> bool {
        let begins = |b: u8| !self.begins || b.is_ascii_alphabetic() || b == b'_';
        name.len() <= self.longest
            && name.bytes().all(|b| self.has(b))
            && name.bytes().next().is_some_and(begins)
    }

    /// As near to the name as the rule lets it be.
    fn near(&self, name: &str) -> String {
        let fits = |c: char| u8::try_from(c).is_ok_and(|byte| self.has(byte));
        let mut near: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
        if !near.is_empty() && near.len() <= self.longest && !self.fits(&near) {
            near.insert(0, '_');
        }
        if near.is_empty() || near.len() > self.longest { self.marked(name, &near) } else { near }
    }

    /// With a mark that another name has not.
    fn marked(&self, name: &str, near: &str) -> String {
        let mark = format!("_{:08x}", crc32fast::hash(name.as_bytes()));
        let room = self.longest.saturating_sub(mark.len());
        let near = near.get(..near.len().min(room)).unwrap_or_default();
        let first =
            if self.begins && !near.starts_with(|c: char| c.is_ascii_alphabetic()) { "_" } else { "" };
        let near = near.get(..near.len().min(room - first.len())).unwrap_or_default();
        format!("{first}{near}{mark}")
    }
}

/// What a request's functions are called by the client, and by what its provider was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(HashMap<String, String>);

impl Names {
    /// Those that a provider would refuse.
    #[must_use]
    pub fn of(request: &Request, provider: Dialect) -> Self {
        let Some(rule) = Rule::of(provider) else { return Self::default() };
        let all = || {
            let declared = request.tools.iter().filter_map(|tool| match tool {
                Tool::Function(function) => Some(function.name.as_str()),
                Tool::Foreign { .. } => None,
            });
            let parts = request.messages.iter().flat_map(|message| &message.parts);
            let called = parts.filter_map(|part| match &part.content {
                Content::ToolUse(call) => Some(call.name.as_str()),
                _ => None,
            });
            declared.chain(called)
        };
        if all().all(|name| rule.fits(name)) {
            return Self::default();
        }
        let mut taken: HashSet<String> = all().filter(|name| rule.fits(name)).map(str::to_owned).collect();
        let mut told = HashMap::new();
        for name in all().filter(|name| !rule.fits(name)) {
            if !told.contains_key(name) {
                let near = rule.near(name);
                let near = if taken.contains(&near) { rule.marked(name, &near) } else { near };
                taken.insert(near.clone());
                told.insert(name.to_owned(), near);
            }
        }
        Self(told)
    }

    /// The request with the names that its provider takes.
    pub(crate) fn told<'a>(&self, request: &'a Request) -> Cow<'a, Request> {
        if self.0.is_empty() {
            return Cow::Borrowed(request);
        }
        let mut request = request.clone();
        let tell = |name: &mut String| {
            if let Some(told) = self.0.get(name) {
                name.clone_from(told);
            }
        };
        for tool in &mut request.tools {
            if let Tool::Function(function) = tool {
                tell(&mut function.name);
            }
        }
        for part in request.messages.iter_mut().flat_map(|message| &mut message.parts) {
            if let Content::ToolUse(call) = &mut part.content {
                tell(&mut call.name);
            }
        }
        if let Some(ToolChoice::Named(name)) = &mut request.tool_choice {
            tell(name);
        }
        Cow::Owned(request)
    }

    fn give_back(&self, name: &mut String) {
        if let Some((given, _)) = self.0.iter().find(|(_, told)| *told == name) {
            name.clone_from(given);
        }
    }

    /// The client's own names in an answer.
    pub(crate) fn in_answer(&self, answer: &mut Answer) {
        if self.0.is_empty() {
            return;
        }
        for part in answer.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
            if let Content::ToolUse(call) = &mut part.content {
                self.give_back(&mut call.name);
            }
        }
    }

    /// The same in steps of one.
    pub(crate) fn in_steps(&self, steps: &mut [Event]) {
        if self.0.is_empty() {
            return;
        }
        for step in steps {
            if let Event::PartStart { part: PartStart::ToolUse { name, .. }, .. } = step {
                self.give_back(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::canonical::Losses;

    fn names(declared: &[&str], provider: Dialect) -> Vec<String> {
        let functions: Vec<_> = declared.iter().map(|name| json!({ "name": name })).collect();
        let body =
            json!({"contents": [{"parts": [{"text": "x"}]}], "tools": [{"functionDeclarations": functions}]});
        let request =
            Dialect::Gemini.decode_request(body.to_string().as_bytes(), &mut Losses::default()).unwrap();
        let names = Names::of(&request, provider);
        let told = names.told(&request);
        let name = |tool: &Tool| match tool {
            Tool::Function(function) => function.name.clone(),
            Tool::Foreign { .. } => unreachable!(),
        };
        let told: Vec<String> = told.tools.iter().map(name).collect();
        for (told, given) in told.iter().zip(declared) {
            let mut name = told.clone();
            names.give_back(&mut name);
            assert_eq!(name, *given);
        }
        told
    }

    #[test]
    fn names_go_as_others_that_stay_apart_and_come_back() {
        let long = format!("{}.x", "n".repeat(80));
        let all = ["db.query", "db_query", "db:query", "plain-1", "1st", "\u{e9}t\u{e9}", &long];
        for provider in [
            Dialect::OpenAi,
            Dialect::Responses,
            Dialect::Anthropic,
            Dialect::Gemini,
            Dialect::Mistral,
            Dialect::Ollama,
            Dialect::Bedrock,
        ] {
            let told = names(&all, provider);
            assert_eq!(told.iter().collect::<HashSet<_>>().len(), all.len(), "{provider:?}: {told:?}");
            if let Some(rule) = Rule::of(provider) {
                assert!(told.iter().all(|name| rule.fits(name)), "{provider:?}: {told:?}");
            }
            assert_eq!(told[1], "db_query");
        }
        assert_eq!(names(&["db.query", "f"], Dialect::Anthropic), ["db_query", "f"]);
        assert_eq!(names(&["db.query", "1st"], Dialect::Gemini), ["db.query", "_1st"]);
        assert_eq!(names(&["db.query"], Dialect::Ollama), ["db.query"]);
    }
}
