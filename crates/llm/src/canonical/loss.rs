//! What a translation could not say.

use std::collections::BTreeSet;

use crate::Client;

/// Longer lists are cut: a header has its bounds.
const MAX_NAMED: usize = 32;
const MAX_NAME: usize = 64;

/// Fields that a translation dropped, altered or emulated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses(BTreeSet<(&'static str, String)>);

impl Losses {
    /// The provider has nothing like it.
    pub fn dropped(&mut self, field: &str) {
        self.note("dropped", field);
    }

    /// Said as nearly as the provider can.
    pub fn altered(&mut self, field: &str) {
        self.note("altered", field);
    }

    /// Done by other means than the provider's own.
    pub fn emulated(&mut self, field: &str) {
        self.note("emulated", field);
    }

    /// Part of an answer, by its kind, that its client's dialect has no place for.
    pub(crate) fn unsaid(&mut self, kind: &str) {
        self.dropped(&format!("answer.{kind}"));
    }

    fn note(&mut self, how: &'static str, field: &str) {
        if self.0.len() >= MAX_NAMED {
            return;
        }
        // Names may come from a client's JSON, and go into a header.
        let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
        self.0.insert((how, field.chars().take(MAX_NAME).map(plain).collect()));
    }

    /// Whether this field is said otherwise than it was meant.
    #[must_use]
    pub fn is_inexact(&self, field: &str) -> bool {
        self.0.iter().any(|(how, named)| named == field && *how != "dropped")
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In a client's own words.
    #[must_use]
    pub fn told(&self, client: &dyn Client) -> Self {
        Self(self.0.iter().map(|(how, field)| (*how, client.field(field).to_owned())).collect())
    }

    /// `dropped;logit_bias, emulated;response_format`
    #[must_use]
    pub fn header(&self) -> String {
        self.0.iter().map(|(how, field)| format!("{how};{field}")).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_named_once_and_fit_a_header() {
        let mut losses = Losses::default();
        assert!(losses.is_empty());
        losses.emulated("response_format");
        losses.dropped("logit_bias");
        losses.dropped("logit_bias");
        losses.dropped("a\r\nb: c");
        assert_eq!(losses.header(), "dropped;a__b__c, dropped;logit_bias, emulated;response_format");
        (0..100).for_each(|n| losses.altered(&n.to_string().repeat(100)));
        assert!(losses.header().len() < 4_000);
    }
}
