//! Structured output: a client's JSON Schema as each provider takes it, and answers held against the original.

mod check;
mod compile;
mod flavor;
#[cfg(test)]
mod tests;
mod tree;

use serde_json::value::RawValue;

pub use check::{Check, Invalid, instruction};
pub use flavor::Flavor;

use crate::canonical::Raw;

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

/// A schema for a provider. To say less than the original (objects closed that were open) is no alteration: what
/// fits the one fits the other.
#[must_use]
pub fn compile(schema: &RawValue, flavor: Flavor) -> Compiled {
    compile::compile(schema, flavor)
}
