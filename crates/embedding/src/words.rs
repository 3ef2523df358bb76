//! A text's words, whatever its script.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// A longer run of letters is several words: what has no spaces (Thai, Base64) is no one word.
pub(crate) const LONGEST: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Goes on with a word.
    Letter,
    /// A word by itself: scripts without spaces whose characters mean something, and symbols.
    Alone,
    /// Of a letter before it.
    Mark,
    /// Not there for the eye.
    Unseen,
    Gap,
}

fn kind(c: char) -> Kind {
    match c {
        // Kana, CJK's own numbers and repetition marks, Han.
        '\u{3005}'..='\u{3007}'
        | '\u{3041}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Kind::Alone,
        '\u{ad}' | '\u{200d}' | '\u{2060}' | '\u{feff}' => Kind::Unseen,
        c if is_combining_mark(c) => Kind::Mark,
        c if c.is_alphanumeric() => Kind::Letter,
        // Punctuation for several scripts.
        '\u{2e00}'..='\u{2e7f}' | '\u{3000}'..='\u{303f}' | '\u{fe10}'..='\u{fe6f}' => Kind::Gap,
        c if c >= '\u{2190}' && !c.is_whitespace() => Kind::Alone,
        _ => Kind::Gap,
    }
}

/// Compatible forms and cases are one: NFKC, lower case, and the two letters that case folding changes besides.
fn plain(text: &str) -> impl Iterator<Item = char> {
    text.chars().stream_safe().nfkc().flat_map(char::to_lowercase).flat_map(|c| match c {
        'ß' => ['s', 's'].into_iter().take(2),
        'ς' => ['σ', 'σ'].into_iter().take(1),
        c => [c, c].into_iter().take(1),
    })
}

/// Tells the words in their order, and of each whether it is a character that stands alone.
pub(crate) fn each(text: &str, mut tell: impl FnMut(&[char], bool)) {
    let mut word = Vec::with_capacity(LONGEST);
    for c in plain(text) {
        let kind = kind(c);
        if !word.is_empty() && (matches!(kind, Kind::Gap | Kind::Alone) || word.len() >= LONGEST) {
            tell(&word, false);
            word.clear();
        }
        match kind {
            Kind::Letter => word.push(c),
            Kind::Mark if !word.is_empty() => word.push(c),
            Kind::Alone => tell(&[c], true),
            Kind::Mark | Kind::Unseen | Kind::Gap => {}
        }
    }
    if !word.is_empty() {
        tell(&word, false);
    }
}

/// All characters in runs, for texts without words.
pub(crate) fn runs(text: &str, mut tell: impl FnMut(&[char], bool)) {
    let mut run = Vec::with_capacity(LONGEST);
    for c in plain(text) {
        run.push(c);
        if run.len() >= LONGEST {
            tell(&run, false);
            run.clear();
        }
    }
    if !run.is_empty() {
        tell(&run, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        each(text, |word, _| words.push(word.iter().collect()));
        words
    }

    #[test]
    fn words_are_found_in_any_script() {
        for (text, expected) in [
            ("Hello, WORLD! x-ray", vec!["hello", "world", "x", "ray"]),
            ("Straße ﬁne ①", vec!["strasse", "fine", "1"]),
            ("ΟΔΟΣ οδός", vec!["οδοσ", "οδόσ"]),
            ("e\u{301}te\u{301}", vec!["été"]),
            ("東京tower 2", vec!["東", "京", "tower", "2"]),
            ("ｶﾀｶﾅ、です。", vec!["カ", "タ", "カ", "ナ", "で", "す"]),
            ("नमस्ते दुनिया", vec!["नमस्ते", "दुनिया"]),
            ("학교에 갑니다", vec!["학교에", "갑니다"]),
            ("so\u{ad}ft", vec!["soft"]),
            ("ok 👍\u{fe0f}!", vec!["ok", "👍"]),
            (" …?! ", vec![]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
        let lengths: Vec<_> = words(&"a".repeat(150)).iter().map(String::len).collect();
        assert_eq!(lengths, [64, 64, 22]);
    }
}
