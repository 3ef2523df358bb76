//! Aliases as an operator writes them: the lowest layer, there before any database.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::app::{AUTO, MAX_NAME_CHARS};

/// Section `router`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Names that stand for others. A target may be an alias again.
    pub aliases: BTreeMap<String, AliasTarget>,
    /// What `auto` means; may be an alias.
    pub default_model: String,
}

/// What an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliasTarget {
    pub model: String,
    /// Only this provider; `model` is then that provider's own name and not looked up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

impl AliasTarget {
    /// A model at whichever provider serves it.
    #[must_use]
    pub fn model(name: &str) -> Self {
        Self { model: name.to_owned(), provider: None }
    }
}

impl Default for Config {
    fn default() -> Self {
        let aliases = [("smart-model", "gpt-4o"), ("fast-model", "gpt-4o-mini")];
        Self {
            aliases: aliases.map(|(name, target)| (name.to_owned(), AliasTarget::model(target))).into(),
            default_model: "gpt-4o-mini".to_owned(),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{key}: a name has 1 to {MAX_NAME_CHARS} characters")]
    Name { key: String },
    #[error("{key}: `auto` is set by default_model")]
    Reserved { key: String },
    #[error("{key}: a cycle of aliases: {}", path.join(" → "))]
    Cycle { key: String, path: Vec<String> },
}

impl ConfigError {
    /// The key to blame, within the section.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Name { key } | Self::Reserved { key } | Self::Cycle { key, .. } => key,
        }
    }
}

impl Config {
    /// # Errors
    /// Naming the first key that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (name, target) in &self.aliases {
            let key = || format!("aliases.{name}");
            if name == AUTO {
                return Err(ConfigError::Reserved { key: key() });
            }
            let provider = target.provider.as_deref();
            if !fits(name) || !fits(&target.model) || provider.is_some_and(|p| !fits(p)) {
                return Err(ConfigError::Name { key: key() });
            }
        }
        if !fits(&self.default_model) {
            return Err(ConfigError::Name { key: "default_model".to_owned() });
        }
        for name in self.aliases.keys() {
            self.follow(name, &format!("aliases.{name}"))?;
        }
        self.follow(AUTO, "default_model")
    }

    /// To the end of the chain, if it has one.
    fn follow(&self, start: &str, key: &str) -> Result<(), ConfigError> {
        let mut path = vec![start];
        let mut name = start;
        loop {
            let next = match self.aliases.get(name) {
                _ if name == AUTO => self.default_model.as_str(),
                Some(AliasTarget { model, provider: None }) => model.as_str(),
                Some(_) | None => return Ok(()),
            };
            let seen = path.contains(&next);
            path.push(next);
            if seen {
                let path = path.into_iter().map(str::to_owned).collect();
                return Err(ConfigError::Cycle { key: key.to_owned(), path });
            }
            name = next;
        }
    }
}

pub(crate) fn fits(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= MAX_NAME_CHARS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(default_model: &str, aliases: &[(&str, &str, Option<&str>)]) -> Config {
        let target =
            |m: &str, p: Option<&str>| AliasTarget { model: m.to_owned(), provider: p.map(str::to_owned) };
        Config {
            aliases: aliases.iter().map(|(n, m, p)| ((*n).to_owned(), target(m, *p))).collect(),
            default_model: default_model.to_owned(),
        }
    }

    fn decided(config: Config, name: &str) -> crate::Decision {
        config.check().unwrap();
        crate::catalogue::Catalogue::new(config).decide(None, name).unwrap()
    }

    #[test]
    fn the_defaults_are_sound() {
        for (name, model) in
            [("smart-model", "gpt-4o"), ("fast-model", "gpt-4o-mini"), ("auto", "gpt-4o-mini")]
        {
            assert_eq!(decided(Config::default(), name).model, model);
        }
    }

    #[test]
    fn chains_end_at_a_model_or_at_a_provider() {
        let config = config(
            "best",
            &[
                ("best", "good", None),
                ("good", "gpt-4o", Some("azure")),
                ("gpt-4o", "gpt-4o", Some("openai")),
            ],
        );
        let auto = decided(config.clone(), "auto");
        assert_eq!((auto.model.as_str(), auto.provider.as_deref()), ("gpt-4o", Some("azure")));
        assert_eq!(auto.reasons, ["auto: default model", "alias best", "alias good"]);
        // A target with a provider is final, so a name may stand for itself there.
        assert_eq!(decided(config, "gpt-4o").provider.as_deref(), Some("openai"));
    }

    #[test]
    fn an_unsound_configuration_is_refused_by_key() {
        let long = "x".repeat(MAX_NAME_CHARS + 1);
        for (config, key) in [
            (config("m", &[("a", "b", None), ("b", "a", None)]), "aliases.a"),
            (config("m", &[("a", "a", None)]), "aliases.a"),
            (config("m", &[("z", "y", None), ("y", "auto", None)]), "ok"),
            (config("y", &[("y", "auto", None)]), "aliases.y"),
            (config("auto", &[]), "default_model"),
            (config("", &[]), "default_model"),
            (config("m", &[("", "b", None)]), "aliases."),
            (config("m", &[("a", "", None)]), "aliases.a"),
            (config("m", &[("a", "b", Some(""))]), "aliases.a"),
            (config("m", &[("a", &long, None)]), "aliases.a"),
            (config("m", &[("auto", "b", None)]), "aliases.auto"),
        ] {
            let found = config.check().err().map_or("ok".to_owned(), |e| e.key().to_owned());
            assert_eq!(found, key, "{config:?}");
        }
        let cycle = config("m", &[("a", "b", None), ("b", "a", None)]).check().unwrap_err();
        assert_eq!(cycle.to_string(), "aliases.a: a cycle of aliases: a → b → a");
    }
}
