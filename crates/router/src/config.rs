//! Aliases as an operator writes them, and the table they resolve to when they are sound.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::app::{AUTO, Decision, MAX_NAME_CHARS, ReasonKind};

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
        self.clone().into_table().map(drop)
    }

    /// Every name that has a meaning of its own, chains followed to their end.
    pub(crate) fn into_table(self) -> Result<HashMap<String, Decision>, ConfigError> {
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
        let mut table = HashMap::with_capacity(self.aliases.len() + 1);
        for name in self.aliases.keys() {
            table.insert(name.clone(), self.follow(name, &format!("aliases.{name}"))?);
        }
        table.insert(AUTO.to_owned(), self.follow(AUTO, "default_model")?);
        Ok(table)
    }

    fn follow(&self, start: &str, key: &str) -> Result<Decision, ConfigError> {
        let kind = if start == AUTO { ReasonKind::Auto } else { ReasonKind::Alias };
        let (mut path, mut reasons) = (vec![start.to_owned()], Vec::new());
        let mut name = start;
        loop {
            let (next, provider) = if name == AUTO {
                reasons.push("auto: default model".to_owned());
                (self.default_model.as_str(), None)
            } else if let Some(target) = self.aliases.get(name) {
                reasons.push(format!("alias {name}"));
                (target.model.as_str(), target.provider.clone())
            } else {
                return Ok(Decision { model: name.to_owned(), provider: None, reasons, kind });
            };
            if provider.is_some() {
                return Ok(Decision { model: next.to_owned(), provider, reasons, kind });
            }
            let seen = path.iter().any(|p| p == next);
            path.push(next.to_owned());
            if seen {
                return Err(ConfigError::Cycle { key: key.to_owned(), path });
            }
            name = next;
        }
    }
}

fn fits(name: &str) -> bool {
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

    #[test]
    fn the_defaults_are_sound() {
        let table = Config::default().into_table().unwrap();
        assert_eq!(table["smart-model"].model, "gpt-4o");
        assert_eq!(table["fast-model"].model, "gpt-4o-mini");
        assert_eq!(table["auto"].model, "gpt-4o-mini");
    }

    #[test]
    fn chains_end_at_a_model_or_at_a_provider() {
        let table = config(
            "best",
            &[
                ("best", "good", None),
                ("good", "gpt-4o", Some("azure")),
                ("gpt-4o", "gpt-4o", Some("openai")),
            ],
        )
        .into_table()
        .unwrap();
        let auto = &table["auto"];
        assert_eq!((auto.model.as_str(), auto.provider.as_deref()), ("gpt-4o", Some("azure")));
        assert_eq!(auto.reasons, ["auto: default model", "alias best", "alias good"]);
        // A target with a provider is final, so a name may stand for itself there.
        assert_eq!(table["gpt-4o"].provider.as_deref(), Some("openai"));
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
