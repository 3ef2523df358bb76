//! Where configuration comes from, and which source wins.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use crate::{
    ConfigError, Invalid,
    de::read,
    tree::{self, Node, Origin, Table, Value, parse},
};

const PREFIX: &str = "WEIR_";
const SEPARATOR: &str = "__";

/// A name the environment has by tradition (`REDIS_URL`) and the dotted key it stands for (`redis.url`). A name may
/// stand for several keys; where several names set one key, the last in the table wins.
pub type Alias = (&'static str, &'static str);

/// What to load from. An alias overrides the file, and the setting's own variable overrides both.
///
/// `WEIR_<SECTION>__<KEY>` sets `section.key`; further `__` go deeper, and numbers index arrays. Variables with the
/// prefix but without `__` are not configuration: Kubernetes sets such names for services (`WEIR_GATEWAY_PORT`).
/// An empty variable counts as not set, as Compose files produce them.
#[derive(Clone, Default)]
pub struct Sources {
    /// Must exist when given.
    pub file: Option<PathBuf>,
    pub env: BTreeMap<String, String>,
    pub aliases: &'static [Alias],
}

impl Sources {
    /// The process's environment: the one place that reads it. A variable that is not Unicode is not seen.
    #[must_use]
    pub fn from_process() -> Self {
        let text = |s: std::ffi::OsString| s.into_string().ok();
        let env = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        Self { file: None, env, aliases: &[] }
    }

    #[must_use]
    pub fn with_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    #[must_use]
    pub fn with_aliases(mut self, aliases: &'static [Alias]) -> Self {
        self.aliases = aliases;
        self
    }
}

// Names only: values may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// A configuration, and where each of its values came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    pub config: T,
    /// Dotted key → `file:line` or the variable's name. Keys that are not here have their default.
    pub origins: BTreeMap<String, String>,
    /// Tells whether two instances have the same settings. Keys named like secrets and addresses are left out.
    pub fingerprint: String,
}

/// Loads and checks a configuration.
///
/// # Errors
/// A file that cannot be read; an unknown key, a wrong type or a value out of range, by key and source.
pub fn load<T: DeserializeOwned + Default>(sources: &Sources) -> Result<T, ConfigError> {
    load_checked(sources, |_| Ok(())).map(|loaded| loaded.config)
}

/// Loads a configuration, applies a check over the whole, and tells where values came from.
///
/// # Errors
/// As [`load`], and what the check finds, with the key's source added.
pub fn load_checked<T: DeserializeOwned + Default>(
    sources: &Sources,
    check: impl FnOnce(&T) -> Result<(), Invalid>,
) -> Result<Loaded<T>, ConfigError> {
    let root = merge(sources)?;
    let config: T = read(&root).map_err(|error| {
        let (key, origin) = error.at.unwrap_or_default();
        ConfigError::Value { key, origin, message: error.message }
    })?;
    check(&config).map_err(|Invalid { key, message }| {
        let origin =
            root.find(key.split('.')).map_or_else(|| "default".to_owned(), |node| node.origin.to_string());
        ConfigError::Value { key, origin, message }
    })?;
    let mut origins = BTreeMap::new();
    root.origins("", &mut origins);
    Ok(Loaded { config, origins, fingerprint: root.fingerprint() })
}

fn merge(sources: &Sources) -> Result<Node, ConfigError> {
    let mut root = match &sources.file {
        Some(path) => parse(path, &read_file(path)?)?,
        None => Node { value: Value::Table(Table::new()), origin: Origin("the environment".into()) },
    };
    for (name, key) in sources.aliases {
        if let Some(text) = sources.env.get(*name).filter(|text| !text.is_empty()) {
            set(&mut root, &key.split('.').collect::<Vec<_>>(), text, name)?;
        }
    }
    for (name, text) in sources.env.iter().filter(|(_, text)| !text.is_empty()) {
        let Some(key) = name.strip_prefix(PREFIX).filter(|key| key.contains(SEPARATOR)) else { continue };
        let key = key.to_ascii_lowercase();
        let parts: Vec<&str> = key.split(SEPARATOR).collect();
        if parts.iter().any(|part| part.is_empty() || part.starts_with('_') || part.ends_with('_')) {
            let message = "not of the form WEIR_SECTION__KEY".to_owned();
            return Err(ConfigError::Name { name: name.clone(), message });
        }
        set(&mut root, &parts, text, name)?;
    }
    Ok(root)
}

fn set(root: &mut Node, parts: &[&str], text: &str, name: &str) -> Result<(), ConfigError> {
    tree::set(root, parts, text, &Origin(name.into()))
        .map_err(|message| ConfigError::Name { name: name.to_owned(), message })
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}
