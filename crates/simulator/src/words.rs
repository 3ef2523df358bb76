//! The vocabulary: words and sentences of them. Every word with its leading space is one token, which a test checks,
//! so that nothing is counted while answering.

pub(crate) const ADJECTIVES: &[&str] = &[
    " quiet",
    " small",
    " bright",
    " early",
    " steady",
    " simple",
    " deep",
    " northern",
    " clear",
    " narrow",
    " patient",
    " wide",
    " careful",
    " ancient",
    " gentle",
    " broad",
    " distant",
    " common",
    " hidden",
    " warm",
];

pub(crate) const NOUNS: &[&str] = &[
    " river",
    " garden",
    " signal",
    " bridge",
    " letter",
    " engine",
    " harbor",
    " window",
    " forest",
    " market",
    " teacher",
    " pattern",
    " valley",
    " message",
    " library",
    " machine",
    " road",
    " island",
    " song",
    " story",
    " question",
    " number",
    " storm",
    " winter",
    " village",
    " traveler",
    " table",
    " mountain",
    " field",
    " morning",
];

pub(crate) const VERBS: &[&str] = &[
    " follows",
    " carries",
    " shapes",
    " meets",
    " changes",
    " holds",
    " reaches",
    " joins",
    " finds",
    " keeps",
    " shows",
    " brings",
    " covers",
    " supports",
    " explains",
    " crosses",
];

pub(crate) const ADVERBS: &[&str] = &[
    " slowly",
    " often",
    " gladly",
    " again",
    " together",
    " carefully",
    " always",
    " nearly",
    " quickly",
    " rarely",
];

pub(crate) const PREPOSITIONS: &[&str] = &[
    " near", " behind", " beyond", " under", " across", " before", " after", " beside", " along", " through",
];

/// A place in a sentence.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slot {
    Word(&'static str),
    Any(&'static [&'static str]),
}

use Slot::{Any, Word};

/// Each begins with a word that has a capital and ends with a full stop.
pub(crate) const SENTENCES: &[&[Slot]] = &[
    &[
        Word(" The"),
        Any(ADJECTIVES),
        Any(NOUNS),
        Any(VERBS),
        Word(" the"),
        Any(NOUNS),
        Any(PREPOSITIONS),
        Word(" the"),
        Any(ADJECTIVES),
        Any(NOUNS),
        Word("."),
    ],
    &[
        Word(" A"),
        Any(NOUNS),
        Any(VERBS),
        Any(ADVERBS),
        Word(","),
        Word(" and"),
        Word(" the"),
        Any(NOUNS),
        Any(VERBS),
        Word(" the"),
        Any(NOUNS),
        Word("."),
    ],
    &[
        Word(" In"),
        Word(" the"),
        Any(NOUNS),
        Word(","),
        Word(" every"),
        Any(NOUNS),
        Any(VERBS),
        Word(" the"),
        Any(ADJECTIVES),
        Any(NOUNS),
        Word("."),
    ],
    &[
        Word(" This"),
        Any(NOUNS),
        Any(VERBS),
        Any(PREPOSITIONS),
        Word(" the"),
        Any(NOUNS),
        Word(" because"),
        Word(" the"),
        Any(NOUNS),
        Any(VERBS),
        Any(ADVERBS),
        Word("."),
    ],
    &[
        Word(" Some"),
        Any(ADJECTIVES),
        Any(NOUNS),
        Any(ADVERBS),
        Any(VERBS),
        Word(" what"),
        Word(" the"),
        Any(NOUNS),
        Any(VERBS),
        Word("."),
    ],
];

#[cfg(test)]
mod tests {
    use crate::tokens::count_text;

    use super::*;

    #[test]
    fn every_word_is_one_token_also_at_the_start() {
        for slot in SENTENCES.iter().copied().flatten() {
            let words = match slot {
                Word(word) => std::slice::from_ref(word),
                Any(words) => words,
            };
            for word in words {
                assert_eq!(count_text(word), 1, "{word:?}");
            }
        }
        for sentence in SENTENCES {
            let Some(Word(first)) = sentence.first() else { panic!("a sentence begins with a word") };
            assert_eq!(count_text(first.trim_start()), 1, "{first:?}");
            assert!(matches!(sentence.last(), Some(Word("."))));
        }
    }
}
