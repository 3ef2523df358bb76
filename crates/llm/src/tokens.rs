//! Token counts, for when a provider sends none and for limits before a call.
//!
//! The tokenizers are `bpe-openai`'s, whose run time is linear in the text whatever the text is: `o200k_base`, exact for
//! OpenAI's current models and an estimate for others', and `cl100k_base` for those of OpenAI's that read it.

pub mod audio;
pub mod image;
mod tokenizer;

use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Deserialize;
use serde_json::value::RawValue;

pub use tokenizer::Tokenizer;

/// Per message and per answer, as OpenAI's cookbook "How to count tokens with tiktoken" gives them.
const PER_MESSAGE: u64 = 3;
const PER_NAME: u64 = 1;
const PRIMING: u64 = 3;
/// A family whose tokenizer reads for embeddings.
const EMBEDDING: &str = "text-embedding-";
/// Bytes a token on average in English, for estimates before a call.
const BYTES_PER_TOKEN: usize = 4;

/// Longer texts are counted on a thread of their own.
const QUICK: usize = 64 * 1024;
/// Whether the tokenizer's tables are built.
static BUILT: AtomicBool = AtomicBool::new(false);

/// Whether so many bytes are counted quickly enough for a thread that others wait for. The first count of a process
/// never is: it builds the tokenizer's tables, which takes more than 100 ms.
#[must_use]
pub fn is_quick(bytes: usize) -> bool {
    bytes <= QUICK && BUILT.load(Ordering::Relaxed)
}

/// Tokens of a text by itself.
#[must_use]
pub fn count_text(text: &str) -> u64 {
    if text.is_empty() {
        return 0;
    }
    o200k().count(text) as u64
}

fn o200k() -> &'static bpe_openai::Tokenizer {
    let tokenizer = bpe_openai::o200k_base();
    BUILT.store(true, Ordering::Relaxed);
    tokenizer
}

/// Tokens of a text as OpenAI's models for embeddings read it.
#[must_use]
pub fn count_embedded(text: &str) -> u64 {
    Tokenizer::of(EMBEDDING).count(text)
}

/// The text that such tokens stand for; `None` where they stand for none.
#[must_use]
pub fn text_of_embedded(ids: &[u32]) -> Option<String> {
    Tokenizer::of(EMBEDDING).decode(ids)
}

/// A cheap guess from a size in bytes, for admission before a call.
#[must_use]
pub fn estimate(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN) as u64
}

#[derive(Deserialize)]
struct Prompt<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    functions: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

/// Tokens of an OpenAI chat body's messages and tools. What is odd enough not to be read (a member twice, say) is
/// estimated from its size, so that oddness is not free. Zero for what is no object.
#[must_use]
pub fn count_prompt(body: &[u8]) -> u64 {
    if !body.trim_ascii_start().starts_with(b"{") {
        return 0;
    }
    let Ok(prompt) = serde_json::from_slice::<Prompt<'_>>(body) else { return estimate(body.len()) };
    let model = string(prompt.model).unwrap_or_default();
    prompt.count(&model)
}

/// The same for a model that the body may name otherwise. `None` for what can't be read.
#[must_use]
pub fn count_chat(body: &[u8], model: &str) -> Option<u64> {
    serde_json::from_slice::<Prompt<'_>>(body).ok().map(|prompt| prompt.count(model))
}

impl Prompt<'_> {
    fn count(&self, model: &str) -> u64 {
        let reader = Reader { tokenizer: Tokenizer::of(model), model };
        let messages: u64 = self.messages.iter().map(|message| reader.message(message)).sum();
        messages + reader.raw(self.tools) + reader.raw(self.functions) + PRIMING
    }
}

/// A body's model, and how it reads.
struct Reader<'a> {
    tokenizer: Tokenizer,
    model: &'a str,
}

impl Reader<'_> {
    fn text(&self, raw: Option<&RawValue>) -> Option<u64> {
        string(raw).map(|text| self.tokenizer.count(&text))
    }

    /// JSON, as it is written.
    fn raw(&self, raw: Option<&RawValue>) -> u64 {
        raw.map(RawValue::get).filter(|t| *t != "null").map_or(0, |text| self.tokenizer.count(text))
    }

    fn message(&self, message: &Message<'_>) -> u64 {
        let name = self.text(message.name).map_or(0, |name| name + PER_NAME);
        let role = self.text(message.role).unwrap_or_default();
        PER_MESSAGE + role + name + self.raw(message.tool_calls) + self.content(message.content)
    }

    fn content(&self, content: Option<&RawValue>) -> u64 {
        if let Some(text) = self.text(content) {
            return text;
        }
        let Some(raw) = content.filter(|raw| raw.get() != "null") else { return 0 };
        let Ok(parts) = serde_json::from_str::<Vec<Part<'_>>>(raw.get()) else {
            return estimate(raw.get().len());
        };
        let part = |part: &Part<'_>| {
            self.text(part.text).unwrap_or_default()
                + part.image_url.map_or(0, |image| self.image(image))
                + part.input_audio.map_or(0, sound)
                // Its pages are not looked at: its bytes stand for them.
                + part.file.map_or(0, |file| estimate(file.get().len()))
        };
        parts.iter().map(part).sum()
    }

    fn image(&self, raw: &RawValue) -> u64 {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Image<'a> {
            #[serde(borrow)]
            url: Cow<'a, str>,
            #[serde(borrow)]
            detail: Cow<'a, str>,
        }
        let image: Image<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
        let size = image::size(&image.url).unwrap_or(image::UNSEEN);
        image::openai(self.model, size, image.detail == "low")
    }
}

fn string(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    file: Option<&'a RawValue>,
}

fn sound(raw: &RawValue) -> u64 {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Sound<'a> {
        #[serde(borrow)]
        data: Cow<'a, str>,
    }
    let sound: Sound<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
    audio::seconds(&sound.data) * audio::OPENAI_A_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_leading_spaces_add_up() {
        let words = [" deterministic", " answers", " about", " Zürich", " 42", ".", " Then"];
        let whole: u64 = words.iter().map(|w| count_text(w)).sum();
        assert_eq!(count_text(&words.concat()), whole);
    }

    #[test]
    fn a_prompt_counts_messages_names_tools_and_parts() {
        let count = |text: &str| count_prompt(text.as_bytes());
        let hello = count(r#"{"messages":[{"role":"user","content":"Hello"}]}"#);
        assert_eq!(hello, PER_MESSAGE + 1 + 1 + PRIMING);
        assert_eq!(
            count(r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Hello"}]}]}"#),
            hello
        );
        assert!(count(r#"{"messages":[{"role":"user","name":"x","content":"Hello"}]}"#) > hello);
        assert!(
            count(r#"{"tools":[{"type":"function"}],"messages":[{"role":"user","content":"Hello"}]}"#)
                > hello
        );
        assert_eq!(
            count(r#"{"x_sim":{"status":500},"messages":[{"role":"user","content":"Hello"}]}"#),
            hello
        );
        let part = |part: &str| count(&format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#));
        let none = part("");
        assert_eq!(
            part(r#"{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}"#),
            none + 765
        );
        assert_eq!(part(r#"{"type":"image_url","image_url":{"url":"x","detail":"low"}}"#), none + 85);
        assert_eq!(part(r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"mp3"}}"#), none + 10);
        assert!(part(r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA"}}"#) > none);
        assert_eq!(count("[]"), 0);
        let long = "word ".repeat(1_000);
        for odd in [
            format!(r#"{{"messages":[{{"role":"user","content":"{long}","name":"x","name":"x"}}]}}"#),
            format!(r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"{long}"}},7]}}]}}"#),
        ] {
            assert!(count(&odd) >= 1_000, "{}", count(&odd));
        }
    }
}
