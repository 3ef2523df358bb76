//! What a side decoder keeps of a stream's deltas, for counting them should the provider never say how many tokens
//! they were. They are parsed and counted when they exceed a bound, or when the stream breaks.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::tokens::count_text;

/// Kept deltas are parsed and counted at this size.
const KEPT: usize = 48 * 1024;
/// Text without a word border is counted at this size even so.
const CARRIED: usize = 16 * 1024;

/// The name of the member that every dialect has its deltas in.
pub(crate) const DELTA: &[u8] = b"\"delta\":";
/// Prepared once: preparing a searcher costs more than searching an event with it.
pub(crate) static FIND_DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(DELTA));

/// Adds a delta's text: the JSON begins with the delta, and goes on after it.
type Append = fn(&[u8], &mut String);

#[derive(Debug)]
pub(crate) struct Kept {
    append: Append,
    /// From each event's `"delta":` on, a line each.
    lines: Vec<u8>,
    /// Text not counted yet: its last word may go on.
    carry: String,
    counted: u64,
}

impl Kept {
    pub(crate) fn new(append: Append) -> Self {
        Self { append, lines: Vec::new(), carry: String::new(), counted: 0 }
    }

    /// Keeps an event from its `"delta":` on.
    pub(crate) fn keep(&mut self, deltas: &[u8]) {
        let start = self.lines.len();
        self.lines.extend_from_slice(deltas);
        // One event's data has no line feed unless it came in several lines; JSON takes a space instead.
        if memchr::memchr(b'\n', deltas).is_some() {
            self.lines.iter_mut().skip(start).filter(|b| **b == b'\n').for_each(|b| *b = b' ');
        }
        self.lines.push(b'\n');
        if self.lines.len() > KEPT {
            append_texts(&self.lines, self.append, &mut self.carry);
            self.lines.clear();
            let border =
                word_border(&self.carry).or((self.carry.len() > CARRIED).then_some(self.carry.len()));
            if let Some(border) = border {
                let rest = self.carry.split_off(border);
                self.counted += count_text(&self.carry);
                self.carry = rest;
            }
        }
    }

    /// Tokens of all that was kept.
    pub(crate) fn count(&self) -> u64 {
        let mut text = self.carry.clone();
        append_texts(&self.lines, self.append, &mut text);
        self.counted + count_text(&text)
    }

    /// Bytes held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.lines.len() + self.carry.len()
    }

    #[cfg(test)]
    pub(crate) const MOST: usize = KEPT + CARRIED;
}

/// The texts of all deltas in kept lines.
fn append_texts(lines: &[u8], append: Append, text: &mut String) {
    for line in lines.split(|b| *b == b'\n') {
        for at in FIND_DELTA.find_iter(line) {
            append(line.get(at + DELTA.len()..).unwrap_or_default(), text);
        }
    }
}

/// The last place where the tokenizer surely starts anew: a space between a letter or digit and a letter.
fn word_border(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (1..bytes.len().saturating_sub(1)).rev().find(|&i| {
        let at = |i: usize| bytes.get(i).copied().unwrap_or_default();
        at(i) == b' ' && at(i - 1).is_ascii_alphanumeric() && at(i + 1).is_ascii_alphabetic()
    })
}
