//! The merged configuration before it has types: each value knows where it came from.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::ConfigError;

pub(crate) type Table = BTreeMap<String, Node>;

/// Where a value came from: `weir.toml:12`, or a variable's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin(pub(crate) Arc<str>);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// No `Debug`: it would print secrets.
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

pub(crate) enum Value {
    Table(Table),
    Array(Vec<Node>),
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// From a variable: means what its target takes it for.
    Raw(String),
}

impl Node {
    pub(crate) fn raw(text: &str, origin: &Origin) -> Self {
        Self { value: Value::Raw(text.to_owned()), origin: origin.clone() }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Table(_) => "a table",
            Value::Array(_) => "an array",
            Value::Text(_) | Value::Raw(_) => "text",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Bool(_) => "a boolean",
        }
    }

    /// The value of a dotted key's parts, or what stands in its way.
    pub(crate) fn find<'a>(&self, mut parts: impl Iterator<Item = &'a str>) -> Option<&Self> {
        let Some(part) = parts.next() else { return Some(self) };
        match &self.value {
            Value::Table(table) => table.get(part)?.find(parts),
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?.find(parts),
            _ => None,
        }
    }

    /// Every value's dotted key and origin.
    pub(crate) fn origins(&self, key: &str, found: &mut BTreeMap<String, String>) {
        let join =
            |part: &dyn fmt::Display| if key.is_empty() { part.to_string() } else { format!("{key}.{part}") };
        match &self.value {
            Value::Table(table) => {
                for (name, node) in table {
                    node.origins(&join(name), found);
                }
            }
            Value::Array(items) => {
                for (i, node) in items.iter().enumerate() {
                    node.origins(&join(&i), found);
                }
            }
            _ => drop(found.insert(key.to_owned(), self.origin.to_string())),
        }
    }
}

/// Last parts of keys whose values are, or hold, secrets.
const SECRET: [&str; 8] = ["url", "password", "secret", "token", "key", "api_key", "credential", "identity"];

impl Node {
    /// 16 hexadecimal digits over keys and values, but for [`SECRET`] ones: a digest could be searched for those.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.digest(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    fn digest(&self, hasher: &mut DefaultHasher) {
        match &self.value {
            Value::Table(table) => {
                for (name, node) in table.iter().filter(|(name, _)| !SECRET.iter().any(|s| name.ends_with(s)))
                {
                    name.hash(hasher);
                    node.digest(hasher);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| item.digest(hasher)),
            Value::Text(text) | Value::Raw(text) => text.hash(hasher),
            Value::Integer(n) => n.to_string().hash(hasher),
            Value::Float(n) => n.to_string().hash(hasher),
            Value::Bool(b) => b.to_string().hash(hasher),
        }
    }
}

/// Sets a variable's value at a dotted key, over what the file has there.
pub(crate) fn set(root: &mut Node, parts: &[&str], text: &str, origin: &Origin) -> Result<(), String> {
    let Some((part, rest)) = parts.split_first() else {
        *root = Node::raw(text, origin);
        return Ok(());
    };
    let (standing, kind) = (root.origin.clone(), root.kind());
    let child = match &mut root.value {
        Value::Table(table) => table
            .entry((*part).to_owned())
            .or_insert_with(|| Node { value: Value::Table(Table::new()), origin: origin.clone() }),
        Value::Array(items) => {
            let count = items.len();
            let item = part.parse::<usize>().ok().and_then(|i| items.get_mut(i));
            item.ok_or_else(|| format!("`{part}` is not an index of the array of {count} in {standing}"))?
        }
        _ => return Err(format!("sets a key inside of what is {kind} in {standing}")),
    };
    set(child, rest, text, origin)
}

/// A TOML file's text.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Node, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let (line, column) = place(text, error.span().map_or(0, |s| s.start));
        // The error's own Display quotes the line, secrets and all.
        ConfigError::Syntax { path: path.to_owned(), line, column, message: error.message().to_owned() }
    })?;
    let name = path.display().to_string();
    let origin = |at: usize| Origin(format!("{name}:{}", place(text, at).0).into());
    let root = origin(0);
    Ok(Node { value: Value::Table(convert_table(table.into_inner(), &origin)?), origin: root })
}

/// A value written as TOML inside a variable (an array, an inline table).
pub(crate) fn parse_inline(text: &str, origin: &Origin) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    convert(value, &|_| origin.clone()).ok()
}

fn convert_table(table: DeTable<'_>, origin: &dyn Fn(usize) -> Origin) -> Result<Table, ConfigError> {
    table
        .into_iter()
        .map(|(key, value)| Ok((key.into_inner().into_owned(), convert(value, origin)?)))
        .collect()
}

fn convert(value: Spanned<DeValue<'_>>, origin: &dyn Fn(usize) -> Origin) -> Result<Node, ConfigError> {
    let at = origin(value.span().start);
    let bad = |message: &str| ConfigError::Name { name: at.to_string(), message: message.to_owned() };
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(n) => {
            let n = i64::from_str_radix(n.as_str(), n.radix());
            Value::Integer(n.map_err(|_| bad("a whole number too large for 64 bits"))?)
        }
        DeValue::Float(n) => Value::Float(n.as_str().parse().map_err(|_| bad("not a number"))?),
        DeValue::Boolean(b) => Value::Bool(b),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.into_iter().map(|item| convert(item, origin)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Table(convert_table(table, origin)?),
    };
    Ok(Node { value, origin: at })
}

/// Line and column of a byte, from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
