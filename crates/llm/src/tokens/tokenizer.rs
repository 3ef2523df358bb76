//! Which tokenizer reads for which model, and how far off it is where it isn't the model's own.

use bpe_openai::cl100k_base;

use super::o200k;

/// Names of models that read `o200k_base`, after <https://github.com/openai/tiktoken/blob/main/tiktoken/model.py>.
const O200K: [&str; 12] = [
    "gpt-4o",
    "gpt-4.1",
    "gpt-4.5",
    "gpt-5",
    "gpt-6",
    "gpt-oss",
    "gpt-audio",
    "chatgpt-4o",
    "o1",
    "o3",
    "o4",
    "ft:gpt-4o",
];
/// The same of `cl100k_base`.
const CL100K: [&str; 5] = ["gpt-4", "gpt-3.5", "gpt-35", "text-embedding-", OWN];
/// Weir's own models, whose inputs are counted as those of OpenAI's are.
const OWN: &str = "weir-hash-";
/// Claude's tokenizer is not published. Anthropic says that the one since Opus 4.7 makes up to 1.35 times the tokens of
/// the one before, which made about as many as this: <https://platform.claude.com/docs/en/about-claude/models/migration-guide>.
const CLAUDE_ERROR: u32 = 35;
/// Others' vocabularies are of this one's size or smaller.
const OTHER_ERROR: u32 = 25;

/// What counts the tokens of a model's texts.
#[derive(Clone, Copy)]
pub struct Tokenizer {
    bpe: &'static bpe_openai::Tokenizer,
    /// `o200k_base`, `cl100k_base`
    pub name: &'static str,
    /// By how much it may be wrong about a text, in percent; 0: it is the model's own.
    pub error_percent: u32,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// By the model's name, of which a vendor's prefix (`openai/gpt-4o`) is no part.
    #[must_use]
    pub fn of(model: &str) -> Self {
        let model = model.rsplit('/').next().unwrap_or(model);
        let is = |families: &[&str]| families.iter().any(|family| model.starts_with(family));
        if is(&O200K) {
            Self::o200k(0)
        } else if is(&CL100K) {
            Self { bpe: cl100k_base(), name: "cl100k_base", error_percent: 0 }
        } else if model.contains("claude") {
            Self::o200k(CLAUDE_ERROR)
        } else {
            Self::o200k(OTHER_ERROR)
        }
    }

    fn o200k(error_percent: u32) -> Self {
        Self { bpe: o200k(), name: "o200k_base", error_percent }
    }

    /// It is the model's own.
    #[must_use]
    pub fn own(&self) -> bool {
        self.error_percent == 0
    }

    #[must_use]
    pub fn count(&self, text: &str) -> u64 {
        if text.is_empty() { 0 } else { self.bpe.count(text) as u64 }
    }

    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.bpe.encode(text)
    }

    /// The text of each, of which a character may need several: then none of them is the whole of it.
    #[must_use]
    pub fn strs(&self, tokens: &[u32]) -> Vec<String> {
        let text = |token: &u32| String::from_utf8_lossy(self.bpe.bpe.token_bytes(*token)).into_owned();
        tokens.iter().map(text).collect()
    }

    /// The text that tokens stand for; `None` where they stand for none.
    #[must_use]
    pub fn decode(&self, tokens: &[u32]) -> Option<String> {
        let known = |id: &u32| usize::try_from(*id).is_ok_and(|id| id < self.bpe.bpe.num_tokens());
        if tokens.iter().all(known) { self.bpe.decode(tokens) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_their_tokenizers() {
        for (model, name, own) in [
            ("gpt-4o-mini", "o200k_base", true),
            ("openai/gpt-5.4", "o200k_base", true),
            ("o3-mini", "o200k_base", true),
            ("gpt-4-turbo", "cl100k_base", true),
            ("gpt-4.1", "o200k_base", true),
            ("text-embedding-3-small", "cl100k_base", true),
            ("claude-opus-5", "o200k_base", false),
            ("llama3.2", "o200k_base", false),
        ] {
            let tokenizer = Tokenizer::of(model);
            assert_eq!((tokenizer.name, tokenizer.own()), (name, own), "{model}");
        }
    }

    /// The numbers are tiktoken's.
    #[test]
    fn tokens_are_tiktoken_s() {
        let tokens = Tokenizer::of("gpt-4o").encode("hello world");
        assert_eq!(tokens, [24_912, 2_375]);
        assert_eq!(Tokenizer::of("gpt-4").encode("hello world"), [15_339, 1_917]);
        let tokenizer = Tokenizer::of("gpt-4o");
        assert_eq!(tokenizer.strs(&tokens), ["hello", " world"]);
        assert_eq!(tokenizer.decode(&tokens).as_deref(), Some("hello world"));
        assert_eq!(tokenizer.decode(&[u32::MAX]), None);
    }
}
