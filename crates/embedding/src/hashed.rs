//! `weir-hash-1`: a text's words, their pairs and their pieces, hashed into a vector with signs.
//!
//! Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009), with four places a feature (Kane and
//! Nelson's sparse embedding) and pieces as in fastText (Bojanowski et al., 2017). Nothing is learnt: texts are near that
//! share words, or words that share pieces, which is what typos, inflections and accents leave of a word.
//!
//! The same bytes on any machine: hashes are of code points, sums are of 64-bit floats in a fixed order, and of functions
//! there is only the square root, which IEEE 754 rounds exactly.

use unicode_normalization::char::decompose_canonical;

use crate::words;

/// Lengths of pieces, in characters, with a mark at each end of a word.
const PIECES: std::ops::RangeInclusive<usize> = 3..=5;
/// Characters of Unicode's private use, which mark where a word begins and ends.
const BEGIN: char = '\u{e000}';
const END: char = '\u{e001}';
/// Words that are counted together. Longer texts are the sums of such windows, so that memory is bounded.
const WINDOW: usize = 1_024;
/// Places in the vector that a feature has.
const PLACES: u32 = 4;
/// So that a feature of weight 1 is a vector of length 1: one over the square root of `PLACES`.
const SHARE: f64 = 0.5;

/// A word of so few letters is probably one that any text has.
const SHORT: usize = 4;

/// What a feature is. Its weight says how much it tells.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Kind {
    Word,
    ShortWord,
    /// A character that is a word.
    Character,
    Pair,
    /// Of short words.
    ShortPair,
    /// Two characters that are words: about what elsewhere is one.
    Characters,
    Piece,
    /// Of a short word.
    ShortPiece,
}

/// Of the kinds, in their order.
const WEIGHTS: [f64; 8] = [1.0, 0.5, 0.5, 0.5, 0.25, 1.0, 0.5, 0.25];
/// Bits of a feature that say its kind.
const KINDS: u64 = 7;

/// FNV-1a over code points, with `MurmurHash3`'s last step, which spreads each bit over all.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn with(self, value: u64) -> Self {
        Self((self.0 ^ value).wrapping_mul(0x0100_0000_01b3))
    }

    fn with_all(self, chars: &[char]) -> Self {
        chars.iter().fold(self, |hash, c| hash.with(u64::from(u32::from(*c))))
    }

    fn feature(self, kind: Kind) -> u64 {
        let kind = kind as u64;
        let mut h = self.with(kind).0;
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        (h ^ (h >> 33)) & !KINDS | kind
    }
}

/// The word before.
#[derive(Clone, Copy)]
struct Before {
    hash: Hash,
    alone: bool,
    short: bool,
}

struct Sketch {
    sums: Vec<f64>,
    /// The current window's features.
    features: Vec<u64>,
    words: usize,
    before: Option<Before>,
    /// The current word as its pieces are of it.
    bare: Vec<char>,
}

impl Sketch {
    fn word(&mut self, word: &[char], alone: bool) {
        if self.words == WINDOW {
            self.settle();
        }
        self.words += 1;
        self.bare(word);
        let (hash, short) = (Hash::new().with_all(word), !alone && self.bare.len() - 2 <= SHORT);
        let kind = match (alone, short) {
            (true, _) => Kind::Character,
            (_, true) => Kind::ShortWord,
            (_, false) => Kind::Word,
        };
        self.features.push(hash.feature(kind));
        if let Some(before) = self.before.replace(Before { hash, alone, short }) {
            let kind = match (alone && before.alone, short && before.short) {
                (true, _) => Kind::Characters,
                (_, true) => Kind::ShortPair,
                (_, false) => Kind::Pair,
            };
            self.features.push(Hash::new().with(before.hash.0).with(hash.0).feature(kind));
        }
        if !alone {
            self.pieces(if short { Kind::ShortPiece } else { Kind::Piece });
        }
    }

    /// A word without its accents, between its marks; a syllable of Hangul is its letters.
    fn bare(&mut self, word: &[char]) {
        self.bare.clear();
        self.bare.push(BEGIN);
        for c in word {
            decompose_canonical(*c, |c| {
                if !('\u{300}'..='\u{36f}').contains(&c) {
                    self.bare.push(c);
                }
            });
        }
        self.bare.push(END);
    }

    fn pieces(&mut self, kind: Kind) {
        for from in 0..self.bare.len() {
            let mut hash = Hash::new();
            for (length, c) in (1..=*PIECES.end()).zip(self.bare.iter().skip(from)) {
                hash = hash.with(u64::from(u32::from(*c)));
                if PIECES.contains(&length) {
                    self.features.push(hash.feature(kind));
                }
            }
        }
    }

    /// Adds the window's features to the vector: one that is there four times counts twice.
    fn settle(&mut self) {
        self.features.sort_unstable();
        for same in self.features.chunk_by(|a, b| a == b) {
            let feature = same.first().copied().unwrap_or_default();
            let kind = usize::try_from(feature & KINDS).unwrap_or_default();
            let weight = WEIGHTS.get(kind).copied().unwrap_or_default();
            let value = weight * SHARE * f64::from(u32::try_from(same.len()).unwrap_or(u32::MAX)).sqrt();
            for place in 0..PLACES {
                let lane = feature >> (16 * place);
                let (sign, at) = (lane & 0x8000 == 0, ((lane & 0x7fff) as usize * self.sums.len()) >> 15);
                if let Some(sum) = self.sums.get_mut(at) {
                    *sum += if sign { value } else { -value };
                }
            }
        }
        self.features.clear();
        self.words = 0;
    }

    fn squared(&self) -> f64 {
        self.sums.iter().map(|sum| sum * sum).sum()
    }
}

/// Of length 1. The text is not empty, and there is at least one dimension.
pub(crate) fn vector(text: &str, dimensions: u32) -> Vec<f32> {
    let mut sketch = Sketch {
        sums: vec![0.0; dimensions as usize],
        features: Vec::new(),
        words: 0,
        before: None,
        bare: Vec::new(),
    };
    words::each(text, |word, alone| sketch.word(word, alone));
    if sketch.words == 0 {
        words::runs(text, |run, alone| sketch.word(run, alone));
    }
    sketch.settle();
    // What takes itself away, or says nothing at all, still has a place.
    if sketch.squared() == 0.0
        && let Some(first) = sketch.sums.first_mut()
    {
        *first = 1.0;
    }
    let length = sketch.squared().sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "single precision is what vectors are given in")]
    sketch.sums.iter().map(|sum| (sum / length) as f32).collect()
}
