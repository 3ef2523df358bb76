//! A whole answer: what it used, and its text for counting when it doesn't say.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{lenient, whole::Counts};
use crate::{Usage, prices::Tier, tokens::count_text};

#[derive(Deserialize)]
pub(super) struct WireUsage {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default, deserialize_with = "lenient::read")]
    total_tokens: u64,
    /// Some have it here.
    #[serde(default, deserialize_with = "lenient::read")]
    reasoning_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize, Default)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
    #[serde(default)]
    image_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
}

impl WireUsage {
    /// `None` for numbers that can't be: they are counted here instead.
    pub(super) fn believable(self) -> Option<Usage> {
        let prompt = self.prompt_tokens_details.unwrap_or_default();
        let completion = self.completion_tokens_details.unwrap_or_default();
        let reasoning =
            completion.reasoning_tokens.filter(|n| *n > 0).or(self.reasoning_tokens).unwrap_or_default();
        // Some of xAI's models count reasoning apart: the sum tells.
        let apart = [self.prompt_tokens, self.completion_tokens, reasoning]
            .into_iter()
            .try_fold(0_u64, u64::checked_add)
            .is_some_and(|sum| sum == self.total_tokens && reasoning > 0);
        let usage = Usage {
            input_tokens: self.prompt_tokens,
            output_tokens: self.completion_tokens + if apart { reasoning } else { 0 },
            cache_read_tokens: prompt.cached_tokens.unwrap_or_default(),
            cache_write_tokens: prompt.cache_write_tokens.unwrap_or_default(),
            reasoning_tokens: reasoning,
            input_audio_tokens: prompt.audio_tokens.unwrap_or_default(),
            input_image_tokens: prompt.image_tokens.unwrap_or_default(),
            output_audio_tokens: completion.audio_tokens.unwrap_or_default(),
            ..Usage::default()
        };
        usage.believable()
    }
}

/// The usage chunk for a client that asked for it, when the provider sent none: with the id, time and model of
/// `sample`, an event of the same stream.
#[must_use]
pub fn usage_chunk(sample: &[u8], usage: Usage) -> Bytes {
    #[derive(Deserialize, Default)]
    struct Sample<'a> {
        #[serde(borrow, default, deserialize_with = "lenient::text")]
        id: Option<Cow<'a, str>>,
        #[serde(default, deserialize_with = "lenient::read")]
        created: i64,
        #[serde(borrow, default, deserialize_with = "lenient::text")]
        model: Option<Cow<'a, str>>,
    }
    #[derive(Serialize)]
    struct Chunk<'a> {
        id: &'a str,
        object: &'static str,
        created: i64,
        model: &'a str,
        choices: [(); 0],
        usage: Counts,
    }
    let data = crate::sse::data(sample).unwrap_or_default();
    let sample: Sample<'_> = serde_json::from_slice(&data).unwrap_or_default();
    let chunk = Chunk {
        id: sample.id.as_deref().unwrap_or_default(),
        object: "chat.completion.chunk",
        created: sample.created,
        model: sample.model.as_deref().unwrap_or_default(),
        choices: [],
        usage: usage.into(),
    };
    // Serializing numbers and strings into memory can't fail.
    let json = serde_json::to_vec(&chunk).unwrap_or_default();
    [b"data: ", &*json, b"\n\n"].concat().into()
}

/// What a message or a delta says, in every field that costs tokens.
#[derive(Deserialize, Default)]
pub(super) struct Said<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    reasoning_content: Option<Cow<'a, str>>,
    /// The same, as others name it.
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    tool_calls: Vec<ToolCall<'a>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
    #[serde(borrow, default)]
    custom: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    arguments: Option<Cow<'a, str>>,
    /// The same, of a custom tool.
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    input: Option<Cow<'a, str>>,
}

impl Said<'_> {
    pub(super) fn append_to(&self, text: &mut String) {
        let calls = self.tool_calls.iter().flat_map(|c| [c.function.as_ref(), c.custom.as_ref()]).flatten();
        let calls = calls.flat_map(|f| [f.name.as_ref(), f.arguments.as_ref(), f.input.as_ref()]);
        let thought = self.reasoning_content.as_ref().filter(|t| !t.is_empty()).or(self.reasoning.as_ref());
        let said = [thought, self.content.as_ref(), self.refusal.as_ref()];
        for piece in said.into_iter().chain(calls).flatten() {
            text.push_str(piece);
        }
    }
}

/// The provider's own numbers, when a whole answer carries them.
pub(super) fn usage_of_answer(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(default, deserialize_with = "lenient::read")]
        usage: Option<WireUsage>,
        #[serde(borrow, default, deserialize_with = "lenient::text")]
        service_tier: Option<Cow<'a, str>>,
    }
    let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
    let tier = answer.service_tier.map_or(Tier::Standard, |tier| Tier::named(&tier));
    answer.usage.and_then(WireUsage::believable).map(|usage| Usage { tier, ..usage })
}

/// Tokens of a whole answer's text, counted here.
pub(super) fn count_answer(body: &[u8]) -> u64 {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow, default, deserialize_with = "lenient::list")]
        choices: Vec<Choice<'a>>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow, default)]
        message: Said<'a>,
    }
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(body) else { return 0 };
    let count = |choice: &Choice<'_>| {
        let mut text = String::new();
        choice.message.append_to(&mut text);
        count_text(&text)
    };
    answer.choices.iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_with_its_details_or_not_at_all() {
        let body = br#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,
            "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}"#;
        let expected = Usage {
            input_tokens: 10,
            output_tokens: 5,
            cache_read_tokens: 4,
            reasoning_tokens: 3,
            ..Usage::default()
        };
        assert_eq!(usage_of_answer(body), Some(expected));
        for without in [
            "{}",
            r#"{"usage":null}"#,
            r#"{"usage":{"prompt_tokens":-1}}"#,
            r#"{"usage":{"prompt_tokens":4294967296}}"#,
            "x",
        ] {
            assert_eq!(usage_of_answer(without.as_bytes()), None, "{without}");
        }
    }

    #[test]
    fn reasoning_that_is_counted_apart_is_output() {
        let of = |usage: &str| {
            let body = format!(r#"{{"choices":[],"usage":{usage}}}"#);
            let event = format!("data: {body}\n\n");
            let mut tap = super::super::StreamTap::new(1);
            tap.observe(event.as_bytes());
            let usage = usage_of_answer(body.as_bytes());
            assert_eq!(tap.usage(), usage);
            usage.map(|u| (u.output_tokens, u.reasoning_tokens))
        };
        for (usage, expected) in [
            (
                r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":361,"reasoning_tokens":320}"#,
                (329, 320),
            ),
            (
                r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":361,"completion_tokens_details":{"reasoning_tokens":320}}"#,
                (329, 320),
            ),
            (
                r#"{"prompt_tokens":32,"completion_tokens":329,"total_tokens":361,"completion_tokens_details":{"reasoning_tokens":320}}"#,
                (329, 320),
            ),
            (r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":null}"#, (9, 0)),
            (r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":41,"reasoning_tokens":0}"#, (9, 0)),
        ] {
            assert_eq!(of(usage), Some(expected), "{usage}");
        }
    }

    #[test]
    fn an_answer_without_usage_is_counted() {
        let body = br#"{"choices":[{"message":{"content":" two words"}},{"message":{"content":null,
            "tool_calls":[{"function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}"#;
        assert_eq!(count_answer(body), count_text(" two words") + count_text("f{\"a\":1}"));
    }
}
