//! Configuration: a TOML file, then the environment, then the names the environment has by tradition.
//!
//! Everything is checked on load. An error names the key and where its value came from, never the value itself,
//! which may be a secret.
//!
//! Small and our own, because the kept library for this (figment 0.10) gives a variable its type before it knows the
//! target, so that a key of digits becomes a number, and prints values in its errors.

mod de;
mod error;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod units;

pub use error::{ConfigError, Invalid};
pub use source::{Alias, Loaded, Override, Settings, Sources, load, load_checked};
pub use units::{ByteSize, Ranged, duration};
