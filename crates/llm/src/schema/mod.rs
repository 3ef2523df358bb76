//! Structured output: a client's JSON Schema as each provider takes it, and answers held against the original.

mod bounds;
mod check;
mod compile;
mod flavor;
mod open_api;
#[cfg(test)]
mod tests;
mod tree;

use serde_json::value::RawValue;

pub use check::{Check, Invalid, instruction};
pub use flavor::Flavor;

use tree::Node;

use crate::canonical::Raw;

/// What any value takes, however short.
const OVERHEAD: usize = 8;

/// A schema as a provider takes it.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The bytes it came in, if nothing had to change.
    pub schema: Raw,
    /// An answer that fits it may not fit the original: what it can't say is left out, or said in descriptions.
    pub altered: bool,
    /// The provider can enforce it. Else it would refuse the schema, or it would mean something else: it is to be
    /// asked for in words ([`instruction`]), which is to be named as emulated.
    pub supported: bool,
}

/// Longer schemas are sent as they are, if at all, and no answer is held against them.
const MAX_BYTES: usize = 256 * 1024;
/// Bytes, nearly, that all schemas of a request may grow by: a reference may have to be replaced by what it names.
const MAX_COPIED: usize = 1024 * 1024;

/// A schema for a provider. To say less than the original (objects closed that were open) is no alteration: what
/// fits the one fits the other.
#[must_use]
pub fn compile(schema: &RawValue, flavor: Flavor) -> Compiled {
    Room::default().compile(schema, flavor)
}

/// What is left for copies in the schemas of one request's tools.
#[derive(Debug)]
pub struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(MAX_COPIED)
    }
}

impl Room {
    /// As [`compile`], for one of several.
    #[must_use]
    pub fn compile(&mut self, schema: &RawValue, flavor: Flavor) -> Compiled {
        compile::compile(schema, flavor, self)
    }

    /// Whether there is room for a copy. Once there is none, there is none for anything.
    fn spend(&mut self, node: &Node) -> bool {
        let own = match node {
            Node::Object(members) => members.iter().map(|(name, _)| OVERHEAD + name.len()).sum(),
            Node::Array(items) => items.len() * OVERHEAD,
            Node::Leaf(value) => value.as_str().map_or(OVERHEAD, str::len),
        };
        self.0 = self.0.saturating_sub(own);
        self.0 > 0
            && match node {
                Node::Object(members) => members.iter().all(|(_, inner)| self.spend(inner)),
                Node::Array(items) => items.iter().all(|inner| self.spend(inner)),
                Node::Leaf(_) => true,
            }
    }

    fn is_spent(&self) -> bool {
        self.0 == 0
    }
}
