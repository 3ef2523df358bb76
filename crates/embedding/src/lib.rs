//! Texts as vectors by models that are part of Weir: no key, no network, no file.

mod hashed;
mod words;

use std::ops::RangeInclusive;

/// A model that runs here. Its vectors never change: what would change them is another model, under another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Model {
    /// `weir-hash-1`: what a text says, not what it means.
    Hash1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    #[error("an input cannot be empty")]
    Empty,
    #[error("expected {least} to {most} dimensions")]
    Dimensions { least: u32, most: u32 },
}

impl Model {
    pub const ALL: [Self; 1] = [Self::Hash1];

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.name() == name)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hash1 => "weir-hash-1",
        }
    }

    /// When it was made, in Unix seconds.
    #[must_use]
    pub fn created(self) -> i64 {
        match self {
            // 2026-11-21
            Self::Hash1 => 1_795_219_200,
        }
    }

    /// How long a vector is that nobody says the length of.
    #[must_use]
    pub fn dimensions(self) -> u32 {
        match self {
            Self::Hash1 => 384,
        }
    }

    /// How long it may be.
    #[must_use]
    pub fn lengths(self) -> RangeInclusive<u32> {
        match self {
            Self::Hash1 => 8..=4_096,
        }
    }

    /// How long a vector will be that is asked for with this length, or none.
    ///
    /// # Errors
    /// There is none of this length.
    pub fn length(self, asked: Option<u32>) -> Result<u32, EmbedError> {
        let (length, lengths) = (asked.unwrap_or(self.dimensions()), self.lengths());
        if !lengths.contains(&length) {
            return Err(EmbedError::Dimensions { least: *lengths.start(), most: *lengths.end() });
        }
        Ok(length)
    }

    /// The vector of a text, of length 1. Takes time in proportion to the text, and memory that is bounded.
    ///
    /// # Errors
    /// There is no text, or no vector of this length.
    pub fn embed(self, text: &str, dimensions: Option<u32>) -> Result<Vec<f32>, EmbedError> {
        let dimensions = self.length(dimensions)?;
        if text.is_empty() {
            return Err(EmbedError::Empty);
        }
        match self {
            Self::Hash1 => Ok(hashed::vector(text, dimensions)),
        }
    }
}

#[cfg(test)]
mod tests;
