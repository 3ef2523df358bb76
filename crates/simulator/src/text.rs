//! Answers as pieces: a word, or a mark, at a time, with its tokens.
//!
//! Counts add up because the tokenizer never joins across a space, nor a mark to the word before it.

use std::borrow::Cow;

use crate::tokens::count_text;

use crate::{
    request::Conversation,
    seed::Rng,
    words::{ADJECTIVES, ADVERBS, SENTENCES, Slot},
};

/// Prompt words an answer quotes.
const QUOTES: usize = 4;
/// Prompt words that are looked at for that.
const CANDIDATES: usize = 24;
/// Quoted words are at most this long, in bytes.
const LONGEST_QUOTE: usize = 20;
/// A quoted tool result may say numbers, which take more tokens.
const RESULT_QUOTES: usize = 12;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: Cow<'static, str>,
    pub(crate) tokens: u64,
}

impl Piece {
    fn word(word: &'static str) -> Self {
        Self { text: Cow::Borrowed(word), tokens: 1 }
    }

    fn counted(text: String) -> Self {
        Self { tokens: count_text(&text), text: Cow::Owned(text) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// So many tokens.
    Exact(u64),
    /// Whole sentences, at least so many tokens.
    About(u64),
}

/// The pieces an answer begins with: words of the question, or of the tools' results.
pub(crate) fn opening(conversation: &Conversation) -> Vec<Piece> {
    if conversation.results.is_empty() {
        let quotes = quotes(&conversation.question);
        return match quotes.is_empty() {
            true => Vec::new(),
            false => framed(&["About"], quotes),
        };
    }
    let said = conversation.results.iter().flat_map(|result| words(result)).take(RESULT_QUOTES);
    let quotes: Vec<_> = said.map(|word| Piece::counted(format!(" {word}"))).collect();
    match quotes.is_empty() {
        true => Vec::new(),
        false => framed(&["The", " result", " says"], quotes),
    }
}

fn framed(before: &[&'static str], quotes: Vec<Piece>) -> Vec<Piece> {
    let before = before.iter().map(|word| Piece::word(word));
    before.chain(quotes).chain([Piece::word(":")]).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| (1..=LONGEST_QUOTE).contains(&word.len()))
}

/// Words of letters that are one token each, so that answers can have any length to the token.
fn quotes(question: &str) -> Vec<Piece> {
    words(question)
        .filter(|word| word.len() > 2 && word.chars().all(char::is_alphabetic))
        .take(CANDIDATES)
        .map(|word| Piece::counted(format!(" {word}")))
        .filter(|piece| piece.tokens == 1)
        .take(QUOTES)
        .collect()
}

/// Sentences after the opening.
pub(crate) fn generate(rng: &mut Rng, opening: &[Piece], length: Length) -> Vec<Piece> {
    let (Length::Exact(goal) | Length::About(goal)) = length;
    let mut pieces = Vec::with_capacity(usize::try_from(goal).unwrap_or(0).saturating_add(16));
    let mut tokens = 0;
    if opening.iter().map(|piece| piece.tokens).sum::<u64>() < goal {
        pieces.extend_from_slice(opening);
        tokens = opening.iter().map(|piece| piece.tokens).sum();
    }
    while tokens < goal {
        for slot in rng.pick(SENTENCES) {
            if tokens == goal && matches!(length, Length::Exact(_)) {
                break;
            }
            let word = match slot {
                Slot::Word(word) => *word,
                Slot::Any(words) => rng.pick(words),
            };
            // A text begins without a space.
            pieces.push(Piece::word(if pieces.is_empty() { word.trim_start() } else { word }));
            tokens += 1;
        }
    }
    if matches!(length, Length::Exact(_)) {
        end_sentence(rng, &mut pieces);
    }
    pieces
}

/// What was cut to its length still ends as a sentence does. Two marks in a row could be one token: a word replaces
/// the first.
fn end_sentence(rng: &mut Rng, pieces: &mut [Piece]) {
    if let [.., before, last] = pieces
        && last.tokens == 1
    {
        if !before.text.ends_with(char::is_alphanumeric) {
            *before = Piece::word(rng.pick(ADVERBS));
        }
        *last = Piece::word(".");
    }
}

/// The text up to the first stop sequence, which is not part of it, and is told.
pub(crate) fn stop_at(pieces: &mut Vec<Piece>, stops: &[Cow<'_, str>]) -> Option<String> {
    let text: String = pieces.iter().map(|piece| &*piece.text).collect();
    let found =
        stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| Some((text.find(&**stop)?, stop)));
    let (end, stop) = found.min_by_key(|(at, _)| *at)?;
    let mut from = 0;
    for at in 0..pieces.len() {
        let len = pieces[at].text.len();
        if from + len > end {
            let kept = pieces[at].text[..end - from].to_owned();
            pieces.truncate(at);
            if !kept.is_empty() {
                pieces.push(Piece::counted(kept));
            }
            break;
        }
        from += len;
    }
    Some(stop.to_string())
}

/// Cuts a text of words to so many tokens, exactly. Whether anything was cut.
pub(crate) fn limit(rng: &mut Rng, pieces: &mut Vec<Piece>, most: u64) -> bool {
    if !limit_within(pieces, most) {
        return false;
    }
    let left = most - pieces.iter().map(|piece| piece.tokens).sum::<u64>();
    // A piece of several tokens did not fit.
    pieces.extend((0..left).map(|_| Piece::word(rng.pick(ADJECTIVES))));
    true
}

/// Cuts to at most so many tokens. Whether anything was cut.
pub(crate) fn limit_within(pieces: &mut Vec<Piece>, most: u64) -> bool {
    let mut tokens = 0;
    let fits = pieces.iter().position(|piece| {
        tokens += piece.tokens;
        tokens > most
    });
    fits.inspect(|at| pieces.truncate(*at)).is_some()
}

/// Any text in pieces whose tokens add up: cut before each run of spaces.
pub(crate) fn split(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut from, mut space) = (0, true);
    for (at, c) in text.char_indices() {
        if c == ' ' && !space && at > from {
            pieces.push(Piece::counted(text[from..at].to_owned()));
            from = at;
        }
        space = c.is_whitespace();
    }
    if from < text.len() {
        pieces.push(Piece::counted(text[from..].to_owned()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[Piece]) -> String {
        pieces.iter().map(|piece| &*piece.text).collect()
    }

    fn tokens(pieces: &[Piece]) -> u64 {
        pieces.iter().map(|piece| piece.tokens).sum()
    }

    fn asked(question: &str) -> Conversation {
        Conversation { question: question.into(), ..Conversation::default() }
    }

    #[test]
    fn tokens_of_the_pieces_are_those_of_the_text() {
        let results = vec![r#"{"temp_c": 21, "sky":"naïve 東京"}"#.to_owned()];
        let told = Conversation { results, ..Conversation::default() };
        for conversation in
            [asked("Please compare the weather in Zürich, Ουλμ and 東京!"), asked("42 ?"), told]
        {
            let opening = opening(&conversation);
            for seed in 0..50 {
                for length in [Length::Exact(seed + 1), Length::About(30)] {
                    let pieces = generate(&mut Rng::new(seed), &opening, length);
                    assert_eq!(count_text(&joined(&pieces)), tokens(&pieces), "{:?}", joined(&pieces));
                    if let Length::Exact(goal) = length {
                        assert_eq!(tokens(&pieces), goal);
                    }
                }
            }
        }
    }

    #[test]
    fn answers_quote_the_question_or_the_tools_results() {
        let text = |conversation: &Conversation| {
            joined(&generate(&mut Rng::new(1), &opening(conversation), Length::About(30)))
        };
        assert!(text(&asked("Which weather in Berlin?")).starts_with("About Which weather Berlin: "));
        let results = vec![r#"{"temp":21}"#.to_owned()];
        assert!(text(&Conversation { results, ..asked("x") }).starts_with("The result says temp 21: "));
        let plain = text(&asked(""));
        assert!(plain.starts_with(char::is_uppercase) && plain.ends_with('.'), "{plain}");
    }

    #[test]
    fn limits_are_exact_to_the_token() {
        let results = vec!["1234567 7654321".to_owned()];
        let opening = opening(&Conversation { results, ..Conversation::default() });
        let whole = generate(&mut Rng::new(1), &opening, Length::About(40));
        for most in 0..tokens(&whole) {
            let mut pieces = whole.clone();
            assert!(limit(&mut Rng::new(2), &mut pieces, most));
            assert_eq!(
                (tokens(&pieces), count_text(&joined(&pieces))),
                (most, most),
                "{:?}",
                joined(&pieces)
            );
        }
        let mut pieces = whole.clone();
        assert!(!limit(&mut Rng::new(2), &mut pieces, tokens(&whole)));
        assert_eq!(pieces, whole);
    }

    #[test]
    fn a_stop_sequence_ends_the_text_before_itself() {
        let mut whole = generate(&mut Rng::new(9), &[], Length::About(60));
        let text = joined(&whole);
        for stop in [".", " the", "e", "n r", &text[..1]] {
            let mut pieces = whole.clone();
            let found = stop_at(&mut pieces, &[Cow::Borrowed("never in it"), Cow::Borrowed(stop)]);
            assert_eq!(found.as_deref(), text.contains(stop).then_some(stop));
            assert_eq!(joined(&pieces), text.split(stop).next().unwrap());
            assert_eq!(count_text(&joined(&pieces)), tokens(&pieces));
        }
        assert!(stop_at(&mut whole, &[Cow::Borrowed("")]).is_none());
    }

    #[test]
    fn any_text_splits_into_pieces_that_add_up() {
        for text in [
            r#"{"city": "New  York", "n": 17, "list": [1, 2.5, true], "s": "  x\n y   z "}"#,
            "",
            " ",
            "   leading",
            "a \n b \r\n c\t d",
            "日本語 と english 123 456",
        ] {
            let pieces = split(text);
            assert_eq!(joined(&pieces), text);
            assert_eq!(tokens(&pieces), count_text(text), "{text:?}");
        }
    }
}
