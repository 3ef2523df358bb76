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
    pub aliases: Vec<Alias>,
    /// What the program itself was told, as by a flag: it wins over everything else.
    pub overrides: Vec<Override>,
}

/// A value that the program was told otherwise than by file or variable.
#[derive(Clone)]
pub struct Override {
    /// Dotted.
    pub key: String,
    /// As a variable would have it.
    pub value: String,
    /// What told it, as in `--port`.
    pub origin: &'static str,
}

impl Sources {
    /// The process's environment: the one place that reads it. A variable that is not Unicode is not seen.
    #[must_use]
    pub fn from_process() -> Self {
        let text = |s: std::ffi::OsString| s.into_string().ok();
        let env = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        Self { env, ..Self::default() }
    }

    #[must_use]
    pub fn with_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Adds an [`Override`]; of two for one key the later wins.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>, origin: &'static str) {
        self.overrides.push(Override { key: key.into(), value: value.into(), origin });
    }

    /// [`Sources::set`].
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>, origin: &'static str) -> Self {
        self.set(key, value, origin);
        self
    }

    /// Adds to the table.
    #[must_use]
    pub fn with_aliases(mut self, aliases: &[Alias]) -> Self {
        self.aliases.extend(aliases);
        self
    }
}

// Names only: values may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("env", &self.env.keys())
            .field("overrides", &self.overrides.iter().map(|o| &o.key).collect::<Vec<_>>())
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
    let settings = Settings::load(sources)?;
    let config: T = read_at(&settings.root, "")?;
    check(&config).map_err(|Invalid { key, message }| settings.refuse(&key, message))?;
    Ok(Loaded { config, origins: settings.origins(), fingerprint: settings.fingerprint() })
}

/// A configuration that is read section by section, each by whom it belongs to.
pub struct Settings {
    root: Node,
}

impl Settings {
    /// Merges the sources. Types are checked when a section is read.
    ///
    /// # Errors
    /// A file that cannot be read, a variable that is not of its form.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        merge(sources).map(|root| Self { root })
    }

    /// A top-level section; its default when nothing sets any of it.
    ///
    /// # Errors
    /// An unknown key, a wrong type or a value out of range, by key and source.
    pub fn section<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, ConfigError> {
        self.root.find([name].into_iter()).map_or_else(|| Ok(T::default()), |node| read_at(node, name))
    }

    /// Refuses sections that nobody reads.
    ///
    /// # Errors
    /// The first section that is not among `names`, with its source.
    pub fn only(&self, names: &[&str]) -> Result<(), ConfigError> {
        let Value::Table(table) = &self.root.value else { return Ok(()) };
        match table.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, node)) => Err(ConfigError::Value {
                key: name.clone(),
                origin: node.origin.to_string(),
                message: format!("is not a known section: expected one of {}", names.join(", ")),
            }),
        }
    }

    /// A text that belongs to somebody else's section.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.root.find(key.split('.'))?.value {
            Value::Text(text) | Value::Raw(text) => Some(text),
            _ => None,
        }
    }

    /// Where a dotted key's value came from; `None` when it has its default.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<String> {
        self.root.find(key.split('.')).map(|node| node.origin.to_string())
    }

    /// The error of a value that has the right type and still cannot be. `message` goes on from the key.
    #[must_use]
    pub fn refuse(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let origin = self.origin(key).unwrap_or_else(|| "default".to_owned());
        ConfigError::Value { key: key.to_owned(), origin, message: message.into() }
    }

    /// [`Loaded::origins`].
    #[must_use]
    pub fn origins(&self) -> BTreeMap<String, String> {
        let mut origins = BTreeMap::new();
        self.root.origins("", &mut origins);
        origins
    }

    /// [`Loaded::fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.root.fingerprint()
    }
}

// Keys only: values may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.origins()).finish()
    }
}

fn read_at<T: DeserializeOwned>(node: &Node, key: &str) -> Result<T, ConfigError> {
    read(node, key).map_err(|error| {
        let (key, origin) = error.at.unwrap_or_default();
        ConfigError::Value { key, origin, message: error.message }
    })
}

fn merge(sources: &Sources) -> Result<Node, ConfigError> {
    let mut root = match &sources.file {
        Some(path) => parse(path, &read_file(path)?)?,
        None => Node { value: Value::Table(Table::new()), origin: Origin("the environment".into()) },
    };
    for (name, key) in &sources.aliases {
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
    for Override { key, value, origin } in &sources.overrides {
        set(&mut root, &key.split('.').collect::<Vec<_>>(), value, origin)?;
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
