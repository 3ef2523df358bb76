//! What can be wrong with a configuration.

use std::{io, path::PathBuf};

/// Names the key and its source, never the value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}:{column}: not TOML: {message}", path.display())]
    Syntax { path: PathBuf, line: usize, column: usize, message: String },
    /// `origin` is `file:line` or the variable's name.
    #[error("{origin}: `{key}` {message}")]
    Value { key: String, origin: String, message: String },
    #[error("{name}: {message}")]
    Name { name: String, message: String },
}

/// A value that has the right type and still cannot be: made by a check over the whole configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {message}")]
pub struct Invalid {
    pub key: String,
    pub message: String,
}

impl Invalid {
    /// `key` is dotted; `message` goes on from it: "must be at least …".
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}
